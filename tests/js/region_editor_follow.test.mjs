import assert from "node:assert/strict";
import test from "node:test";

import { Follower, framesWithin, withPath } from "../../js/region_editor_follow.js";
import { pressKey } from "../../js/region_editor_keys.js";
import { RegionModel } from "../../js/region_editor_model.js";
import { textsFor } from "../../js/region_editor_text.js";
import { parseLayout } from "../../js/region_layout.js";

const LEFT = [0.125, 0.25, 0.25, 0.5];
const RIGHT = [0.625, 0.25, 0.25, 0.5];
const ALL = { keyframes: [{ t: 0, box: LEFT }, { t: 1, box: RIGHT }], range: [0, 1], lost: { before: "", after: "" } };
const texts = textsFor("en");

function editor(boxes = [LEFT], frames = 9) {
  const regions = boxes.map((box, at) => ({ name: "ab"[at], keyframes: [{ t: 0.5, box }] }));
  const model = new RegionModel(JSON.stringify({ version: 1, width: 128, height: 128, regions }));
  model.setVideo(128, 128, frames);
  model.select(boxes.keys());
  return model;
}

/** A follower whose server answers `path`, or throws it; `asked` are the requests. */
function following(model, path = ALL, source = {}) {
  const asked = [];
  const ask = async (request) => {
    asked.push(request);
    if (path instanceof Error) throw path;
    return structuredClone(path);
  };
  const names = ["one.jpg", "two.jpg", "three.jpg"];
  const whole = { connected: () => true, pictures: () => names, ask, ...source };
  return { follower: new Follower(model, texts, whole, () => {}), asked, names };
}
const times = (model, at = 0) => parseLayout(model.text).regions[at].keyframes.map(({ t }) => t);

test("what is asked is the selected box at the time shown; the answer's keyframes are one step to undo", async () => {
  const model = editor();
  model.setFrame(2);
  const steps = [];
  model.listen((kind) => kind === "step" && steps.push(kind));
  const { follower, asked, names } = following(model);
  await follower.press();
  assert.deepEqual(asked, [{ pictures: names, box: LEFT, t: 0.25, frames: 9 }]);
  assert.deepEqual(parseLayout(model.text).regions[0].keyframes, ALL.keyframes);
  assert.equal(steps.length, 1);
  assert.equal(follower.note, texts.followDone("a", 2));
  model.undo();
  assert.deepEqual(times(model), [0.5]);
  assert.equal(model.canUndo, false);
});

test("several selected boxes are followed, locked ones are not, all in one step", async () => {
  const model = editor([LEFT, RIGHT, LEFT]);
  model.select([2]);
  model.setLocked(true);
  model.select([0, 1, 2]);
  const { follower, asked } = following(model);
  await follower.press();
  assert.deepEqual(asked.map(({ box }) => box), [LEFT, RIGHT]);
  assert.deepEqual([times(model, 0), times(model, 1), times(model, 2)], [[0, 1], [0, 1], [0.5]]);
  model.undo();
  assert.deepEqual([times(model, 0), times(model, 1)], [[0.5], [0.5]]);
});

test("keyframes within the followed part are replaced, those outside stay", () => {
  const region = { keyframes: [0, 0.25, 0.5, 0.75, 1].map((t) => ({ t, box: LEFT })) };
  const path = { keyframes: [{ t: 0.25, box: RIGHT }, { t: 0.625, box: RIGHT }], range: [0.25, 0.625] };
  const followed = withPath(region, path, 9).keyframes;
  assert.deepEqual(followed.map(({ t }) => t), [0, 0.25, 0.625, 0.75, 1]);
  assert.deepEqual(followed.map(({ box }) => box), [LEFT, RIGHT, RIGHT, LEFT, LEFT]);
  assert.equal(region.keyframes.length, 5);
});

test("frames within a range of times", () => {
  assert.deepEqual(framesWithin([0, 1], 81), [0, 80]);
  assert.deepEqual(framesWithin([1 / 3, 2 / 3], 10), [3, 6]);
  assert.deepEqual(framesWithin([0.34, 0.66], 10), [4, 5]);
});

test("a lost object is told with the frame, the reason and what to do", async () => {
  const model = editor();
  const lost = { ...ALL, range: [0.25, 0.75], lost: { before: "left", after: "hidden" } };
  const { follower } = following(model, { ...lost, keyframes: [{ t: 0.25, box: LEFT }, { t: 0.75, box: RIGHT }] });
  await follower.press();
  assert.match(follower.note, /Lost before frame 3: it leaves the frame\. Lost after frame 7: it is covered/);
  assert.match(follower.note, /keyframes stop there.*follow once more/);
  assert.deepEqual(times(model), [0.25, 0.75]);
});

test("what is missing is said, and nothing is asked", async () => {
  const unselected = editor();
  unselected.select([]);
  const cases = [
    [unselected, {}, texts.followSelect],
    [editor(), { connected: () => false }, texts.followConnect],
    [editor(), { pictures: () => [] }, texts.followRun],
    [editor(), { pictures: () => ["one.jpg"] }, texts.followStill],
    [editor([LEFT], 1), {}, texts.followStill],
  ];
  for (const [model, source, note] of cases) {
    const { follower, asked } = following(model, ALL, source);
    const before = model.text;
    await follower.press();
    assert.equal(follower.note, note);
    assert.equal(asked.length, 0);
    assert.equal(model.text, before);
  }
});

test("an error of the server is shown, and nothing is changed", async () => {
  const model = editor();
  const before = model.text;
  const { follower } = following(model, Error("Needs OpenCV."));
  await follower.press();
  assert.equal(follower.note, "Not followed. Needs OpenCV.");
  assert.equal(model.text, before);
  assert.equal(follower.busy, false);
});

/** A server that answers when it is told to. */
function slowly() {
  let finish;
  const ask = (_, signal) => new Promise((resolve, reject) => {
    finish = resolve;
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  return { ask, finish: (path) => finish(path) };
}

test("pressed again it gives up", async () => {
  const model = editor();
  const { follower } = following(model, ALL, { ask: slowly().ask });
  const before = model.text;
  const running = follower.press();
  assert.equal(follower.busy, true);
  assert.equal(follower.note, texts.following);
  await follower.press();
  await running;
  assert.deepEqual([follower.busy, follower.note, model.text], [false, "", before]);
});

test("a region that was moved or removed meanwhile is left alone; one that was renamed or sorted gets its path", async () => {
  const meanwhile = {
    moved: [(model) => model.nudge(0.1, 0), texts.followChanged],
    removed: [(model) => model.remove(), texts.followChanged],
    locked: [(model) => model.setLocked(true), texts.followChanged],
    renamed: [(model) => model.set({ name: "rex" }), texts.followDone("a", 2)],
    reordered: [(model) => model.order(1), texts.followDone("a", 2)],
  };
  for (const [what, [change, note]] of Object.entries(meanwhile)) {
    const model = editor([LEFT, RIGHT]);
    model.select([0]);
    const server = slowly();
    const { follower } = following(model, ALL, { ask: server.ask });
    const running = follower.press();
    change(model);
    const before = model.text;
    server.finish(structuredClone(ALL));
    await running;
    assert.equal(follower.note, note, what);
    if (note === texts.followChanged) assert.equal(model.text, before, what);
    else assert.deepEqual(parseLayout(model.text).regions.find(({ keyframes }) => keyframes.length === 2)?.keyframes, ALL.keyframes, what);
  }
});

test("a note goes with the next edit or another selection, and stays while one looks through the clip", async () => {
  for (const [change, stays] of [
    [(model) => model.setFrame(5), true],
    [(model) => model.select([1]), false],
    [(model) => model.nudge(0.1, 0), false],
    [(model) => model.undo(), false],
  ]) {
    const model = editor([LEFT, RIGHT]);
    model.select([0]);
    const { follower } = following(model);
    await follower.press();
    change(model);
    assert.equal(follower.note !== "", stays, String(change));
  }
});

test("more keyframes than a layout takes are refused by the model, which says so", async () => {
  const model = editor([LEFT], 4000);
  const keyframes = Array.from({ length: 1001 }, (_, at) => ({ t: at / 2000, box: LEFT }));
  const { follower } = following(model, { ...ALL, keyframes });
  await follower.press();
  assert.match(model.refused, /keyframes: expected at most 1000; got 1001/);
  assert.equal(follower.note, "");
  assert.deepEqual(times(model), [0.5]);
});

test("T follows", () => {
  let followed = 0;
  assert.ok(pressKey(editor(), { key: "t" }, { follow: () => { followed += 1; } }));
  assert.equal(followed, 1);
});
