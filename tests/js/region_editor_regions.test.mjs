import assert from "node:assert/strict";
import test from "node:test";

import {
  assignConcept, copiesFor, frameOf, mentions, moveKeyframe, neighbours, newRegion, placeBox, reorder, standStill, timeOf, toggleKeyframe,
} from "../../js/region_editor_regions.js";

const A = [0, 0, 0.25, 0.25];
const B = [0.5, 0.5, 0.25, 0.25];
const region = (name, keyframes = [{ t: 0, box: A }]) => ({
  name, prompt: "", color: "#4fc3f7", strength: 1, keyframes, locked: false,
});
const letters = (text) => [...text].map((name) => region(name));
const spelled = ({ regions }) => regions.map(({ name }) => name).join("");

test("new regions have free names and colours of their own", () => {
  const regions = [];
  for (let count = 0; count < 9; count += 1) regions.push(newRegion(regions, A, 0));
  assert.equal(new Set(regions.map(({ name }) => name)).size, 9);
  assert.equal(new Set(regions.slice(0, 8).map(({ color }) => color)).size, 8);
  assert.equal(newRegion([region("region 2")], A, 0).name, "region 3");
});

test("frames and times, also of a single frame", () => {
  for (const frames of [2, 9, 81, 10_000]) {
    for (const frame of [0, 1, frames - 1]) assert.equal(frameOf(timeOf(frame, frames), frames), frame);
  }
  assert.equal(timeOf(0, 1), 0);
  assert.equal(frameOf(0.7, 1), 0);
});

test("a box at another time is a keyframe, at the same time a correction", () => {
  const moved = placeBox(region("a"), B, 8, 9);
  assert.deepEqual(moved.keyframes, [{ t: 0, box: A }, { t: 1, box: B }]);
  assert.deepEqual(placeBox(moved, A, 8, 9).keyframes, [{ t: 0, box: A }, { t: 1, box: A }]);
  assert.deepEqual(placeBox(region("a", [{ t: 1, box: A }]), B, 0, 9).keyframes.map(({ t }) => t), [0, 1]);
});

test("a keyframe is moved in time, never past its neighbours", () => {
  const moving = region("a", [{ t: 0, box: A }, { t: 0.5, box: B }, { t: 1, box: A }]);
  const frames = (at, frame) => moveKeyframe(moving, at, frame, 9).keyframes.map(({ t }) => frameOf(t, 9));
  assert.deepEqual(frames(1, 6), [0, 6, 8]);
  assert.deepEqual(frames(1, 99), [0, 7, 8]);
  assert.deepEqual(frames(1, -5), [0, 1, 8]);
  assert.deepEqual(frames(0, 99), [3, 4, 8]);
  assert.deepEqual(frames(2, 5), [0, 4, 5]);
  assert.deepEqual(moveKeyframe(moving, 1, 6, 9).keyframes.map(({ box }) => box), [A, B, A]);
  assert.equal(moveKeyframe(moving, 1, 4, 9), moving);
  // Three keyframes in a clip of two frames: there is nowhere to go.
  assert.equal(moveKeyframe(moving, 1, 0, 2), moving);
});

test("a keyframe is set where the box is, and removed again; the last one stays", () => {
  const moving = region("a", [{ t: 0, box: A }, { t: 1, box: B }]);
  const three = toggleKeyframe(moving, 4, 9);
  assert.deepEqual(three.keyframes[1], { t: 0.5, box: [0.25, 0.25, 0.25, 0.25] });
  assert.deepEqual(toggleKeyframe(three, 4, 9), moving);
  assert.equal(toggleKeyframe(region("a"), 0, 9).keyframes.length, 1);
});

test("standing still keeps the box of this moment", () => {
  const moving = region("a", [{ t: 0, box: A }, { t: 1, box: B }]);
  assert.deepEqual(standStill(moving, 4, 9).keyframes, [{ t: 0, box: [0.25, 0.25, 0.25, 0.25] }]);
});

test("ghosts are the keyframes before and after", () => {
  const moving = region("a", [{ t: 0, box: A }, { t: 0.5, box: B }, { t: 1, box: A }]);
  assert.deepEqual(neighbours(moving, 4, 9).map((keyframe) => keyframe.t), [0, 1]);
  assert.deepEqual(neighbours(moving, 0, 9).map((keyframe) => keyframe?.t), [undefined, 0.5]);
});

test("a concept goes into the prompt and names a region that nobody has named", () => {
  const fresh = assignConcept(region("region 1"), "rex");
  assert.deepEqual([fresh.prompt, fresh.name], ["a <rex>", "rex"]);
  const other = assignConcept({ ...fresh, prompt: "a <rex> moving up" }, "kit");
  assert.deepEqual([other.prompt, other.name], ["a <kit> moving up", "kit"]);
  const named = assignConcept({ ...region("hero"), prompt: "big " }, "$&");
  assert.deepEqual([named.prompt, named.name], ["big <$&>", "hero"]);
  assert.deepEqual(mentions({ prompt: "<a> and <b>, 1 < 2 > 0" }), ["a", "b"]);
});

test("order: one step and all the way, a group together", () => {
  assert.equal(spelled(reorder(letters("abcd"), [0], 1, false)), "bacd");
  assert.equal(spelled(reorder(letters("abcd"), [0, 1], 1, false)), "cabd");
  assert.equal(spelled(reorder(letters("abcd"), [2, 3], 1, false)), "abcd");
  assert.equal(spelled(reorder(letters("abcd"), [1, 3], -1, false)), "badc");
  assert.equal(spelled(reorder(letters("abcd"), [0, 2], 1, true)), "bdac");
  assert.deepEqual(reorder(letters("abcd"), [1, 3], -1, true).indices, [0, 1]);
});

test("copies have free names, are unlocked, and share nothing with the original", () => {
  const original = { ...region("a"), locked: true };
  const [copy, next] = copiesFor([original], [original, original], (box) => box);
  assert.deepEqual([copy.name, next.name, copy.locked], ["a 2", "a 3", false]);
  assert.notEqual(copy.keyframes[0], original.keyframes[0]);
});
