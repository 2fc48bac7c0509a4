import assert from "node:assert/strict";
import test from "node:test";

import { Gesture, cursorAt, topmost } from "../../js/region_editor_gestures.js";
import { pressKey } from "../../js/region_editor_keys.js";
import { RegionModel } from "../../js/region_editor_model.js";
import { MAX_REGIONS, parseLayout } from "../../js/region_layout.js";

const LEFT = [0.125, 0.25, 0.25, 0.5];
const RIGHT = [0.625, 0.25, 0.25, 0.5];
const REACH = { reach: [0.02, 0.02], slack: [0.01, 0.01] };

function editor(boxes = [LEFT, RIGHT], frames = 9) {
  const regions = boxes.map((box, at) => ({ name: "ab"[at] ?? `${at}`, keyframes: [{ t: 0, box }] }));
  const model = new RegionModel(JSON.stringify({ version: 1, width: 128, height: 128, regions }));
  model.setVideo(128, 128, frames);
  return model;
}
const boxes = (model) => parseLayout(model.text).regions.map(({ keyframes }) => keyframes[0].box);
const names = (model) => parseLayout(model.text).regions.map(({ name }) => name).join("");
const drag = (model, from, to, keys = {}) => {
  const gesture = new Gesture(model, from, { ...REACH, ...keys });
  gesture.move(to);
  gesture.end(to);
};
const press = (model, key, keys = {}) => pressKey(model, { key, ...keys }, {});

test("an untouched value is the very text it came in", () => {
  const text = ' { "version": 1, "width": 64, "height": 64, "regions": [], "comment": "mine" } ';
  const model = new RegionModel(text);
  model.setVideo(832, 480, 81);
  model.setFrame(3);
  assert.equal(model.text, text);
});

test("a damaged value shows an empty editor, a message, and stays until an edit", () => {
  for (const [value, text] of [['{"version": 1,', '{"version": 1,'], [7, "7"], [null, "null"], [undefined, ""]]) {
    const model = editor();
    model.load(value);
    assert.equal(model.text, text);
    assert.equal(model.regions.length, 0);
    assert.equal(model.damaged === null, text === "");
    model.setFrame(2);
    model.select([0]);
    assert.equal(model.text, text);
    model.add(LEFT);
    assert.equal(model.damaged, null);
    assert.deepEqual(boxes(model), [LEFT]);
  }
});

test("what could not be read again is not written, and the editor says why", () => {
  const keyframes = Array.from({ length: 1000 }, (_, at) => ({ t: at / 2000, box: LEFT }));
  const model = new RegionModel(JSON.stringify({ version: 1, width: 128, height: 128, regions: [{ keyframes }] }));
  model.setVideo(128, 128, 2001);
  const before = model.text;
  model.select([0]);
  model.setFrame(2000);
  drag(model, [0.2, 0.5], [0.3, 0.6]);
  assert.match(model.refused, /keyframes: expected at most 1000; got 1001/);
  assert.equal(model.text, before);
  assert.equal(model.regions[0].keyframes.length, 1000);
  model.toggleKeyframe();
  assert.match(model.refused, /at most 1000/);
  for (const prompt of ["x".repeat(2_000_000), "🦊".repeat(1_000_000)]) {
    model.set({ prompt });
    assert.match(model.refused, /characters; got/);
    assert.equal(model.text, before);
  }
  assert.equal(model.canUndo, false);
  model.set({ prompt: "a <rex>" });
  assert.equal(model.refused, "");
  assert.equal(parseLayout(model.text).regions[0].prompt, "a <rex>");
});

test("a size that no video has is not written either", () => {
  const model = editor();
  for (const [size, written] of [[[NaN, -5, 0], [1, 1]], [[99999, 64.4, 9], [16384, 64]]]) {
    model.setVideo(...size);
    model.select([0]);
    model.nudge(0.01, 0);
    const { width, height } = parseLayout(model.text);
    assert.deepEqual([width, height], written);
  }
});

test("start afresh clears a damaged value", () => {
  const model = new RegionModel("[1]");
  model.startAfresh();
  assert.deepEqual(parseLayout(model.text).regions, []);
});

test("an edit takes over the size of the video", () => {
  const model = editor();
  model.setVideo(832, 480, 81);
  model.select([0]);
  model.set({ prompt: "a <rex>" });
  const layout = parseLayout(model.text);
  assert.deepEqual([layout.width, layout.height, layout.regions[0].prompt], [832, 480, "a <rex>"]);
});

test("drawing, moving and resizing with the mouse; each is one step", () => {
  const model = editor([]);
  drag(model, [0.13, 0.26], [0.38, 0.74]);
  assert.deepEqual(boxes(model), [LEFT]);
  drag(model, [0.25, 0.5], [0.5, 0.5]);
  drag(model, [0.625, 0.75], [0.75, 0.9]);
  assert.deepEqual(boxes(model), [[0.375, 0.25, 0.375, 0.625]]);
  for (const expected of [[[0.375, 0.25, 0.25, 0.5]], [LEFT], []]) {
    model.undo();
    assert.deepEqual(boxes(model), expected);
  }
  for (let count = 0; count < 3; count += 1) model.redo();
  assert.deepEqual(boxes(model), [[0.375, 0.25, 0.375, 0.625]]);
});

test("a click selects and changes nothing", () => {
  const model = editor();
  const before = model.text;
  drag(model, [0.25, 0.5], [0.255, 0.505]);
  assert.deepEqual(model.selection, [0]);
  drag(model, [0.75, 0.5], [0.75, 0.5], { shift: true });
  assert.deepEqual(model.selection, [0, 1]);
  drag(model, [0.5, 0.9], [0.5, 0.9]);
  assert.deepEqual([model.selection, model.text, model.canUndo], [[], before, false]);
});

test("a given up drag leaves everything as it was", () => {
  const model = editor();
  const gesture = new Gesture(model, [0.25, 0.5], REACH);
  gesture.move([0.6, 0.5]);
  assert.notDeepEqual(model.boxOf(0), LEFT);
  gesture.cancel();
  assert.deepEqual([model.boxOf(0), model.canUndo], [LEFT, false]);
});

test("Shift and a frame select; together they move", () => {
  const model = editor();
  drag(model, [0.02, 0.02], [0.98, 0.98], { shift: true });
  assert.deepEqual(model.selection, [0, 1]);
  drag(model, [0.25, 0.5], [0.25, 0.63]);
  assert.deepEqual(boxes(model), [[0.125, 0.375, 0.25, 0.5], [0.625, 0.375, 0.25, 0.5]]);
});

test("Alt draws over another region, and so does drawing mode, once", () => {
  const model = editor();
  drag(model, [0.13, 0.3], [0.37, 0.6], { alt: true });
  model.setDrawing(true);
  drag(model, [0.13, 0.3], [0.37, 0.6]);
  assert.equal(model.regions.length, 4);
  assert.equal(model.drawing, false);
  assert.equal(topmost(model, [0.2, 0.5]), 3);
});

test("a locked region is neither changed nor in the way", () => {
  const model = editor([[0, 0, 1, 1]]);
  model.select([0]);
  model.setLocked(true);
  const before = model.text;
  assert.equal(cursorAt(model, [0.5, 0.5], REACH.reach), "crosshair");
  for (const key of ["Delete", "ArrowLeft", "k"]) press(model, key);
  model.set({ name: "other" });
  assert.equal(model.text, before);
  drag(model, [0.13, 0.26], [0.38, 0.74]);
  assert.equal(model.regions.length, 2);
  model.select([0]);
  press(model, "l");
  press(model, "Delete");
  assert.equal(model.regions.length, 1);
});

test("typing is one step, and so are arrow keys in a row", () => {
  const model = editor();
  model.select([0]);
  for (const prompt of ["a", "a ", "a <"]) model.set({ prompt }, "prompt 0");
  model.endTyping();
  for (let count = 0; count < 3; count += 1) press(model, "ArrowRight");
  assert.deepEqual(boxes(model)[0], [0.5, 0.25, 0.25, 0.5]);
  press(model, "z", { ctrlKey: true });
  assert.deepEqual(boxes(model)[0], LEFT);
  press(model, "z", { metaKey: true });
  assert.equal(model.regions[0].prompt, "");
  press(model, "z", { ctrlKey: true });
  assert.ok(!model.canUndo);
});

test("keys move by a cell, by a pixel, and resize", () => {
  const model = editor();
  model.select([0]);
  press(model, "ArrowDown", { shiftKey: true });
  assert.deepEqual(boxes(model)[0], [0.125, 0.257813, 0.25, 0.5]);
  press(model, "ArrowRight", { altKey: true });
  assert.deepEqual(boxes(model)[0].slice(2), [0.375, 0.5]);
  assert.equal(press(model, "q"), false);
});

test("copy and paste reach another editor; duplicates lie aside, also in the corner", () => {
  const model = editor([[0.75, 0.5, 0.25, 0.5]]);
  press(model, "a", { ctrlKey: true });
  press(model, "c", { ctrlKey: true });
  press(model, "d", { ctrlKey: true });
  assert.equal(names(model), "aa 2");
  assert.notDeepEqual(boxes(model)[1], boxes(model)[0]);
  const other = editor([]);
  press(other, "v", { ctrlKey: true });
  assert.equal(names(other), "a");
});

test("there are never more regions than a layout may have", () => {
  const model = editor(Array(MAX_REGIONS - 1).fill(LEFT));
  press(model, "a", { ctrlKey: true });
  press(model, "d", { ctrlKey: true });
  model.add(LEFT);
  assert.equal(model.regions.length, MAX_REGIONS);
  parseLayout(model.text);
});

test("time: a drag at another time makes the box move", () => {
  const model = editor();
  model.setFrame(99);
  assert.equal(model.frame, 8);
  drag(model, [0.25, 0.5], [0.5, 0.5]);
  assert.deepEqual(model.regions[0].keyframes.map(({ t }) => t), [0, 1]);
  assert.ok(model.onKeyframe);
  model.setFrame(4);
  assert.ok(!model.onKeyframe);
  model.setVideo(128, 128, 3);
  assert.equal(model.frame, 2);
});

test("time: a keyframe is dragged in one step, and the moment shown goes with it", () => {
  const model = editor();
  model.setFrame(8);
  drag(model, [0.25, 0.5], [0.5, 0.5]);
  const frames = () => model.regions[0].keyframes.map(({ t }) => t * 8);
  for (const frame of [6, 3, 5]) model.dragKeyframe(0, 1, frame);
  assert.deepEqual([frames(), model.frame], [[0, 5], 5]);
  model.cancelDrag(8);
  assert.deepEqual([frames(), model.frame, model.canRedo], [[0, 8], 8, false]);
  for (const frame of [6, 3]) model.dragKeyframe(0, 1, frame);
  model.drop();
  assert.deepEqual(frames(), [0, 3]);
  model.undo();
  assert.deepEqual(frames(), [0, 8]);
});

test("what has changed is told: edits, complete steps, and the rest", () => {
  const model = editor();
  const told = [];
  model.listen((kind) => told.push(kind));
  model.select([0]);
  assert.deepEqual(told.splice(0), ["view"]);
  drag(model, [0.25, 0.5], [0.5, 0.5]);
  assert.deepEqual([told.includes("edit"), told.at(-1)], [true, "step"]);
  told.length = 0;
  model.set({ name: "x" }, "name 0");
  assert.deepEqual(told.splice(0), ["edit"]);
  model.endTyping();
  assert.deepEqual(told, ["step"]);
});
