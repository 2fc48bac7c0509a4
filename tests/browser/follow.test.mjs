// Following an object through the background video, in the classic canvas and in Nodes 2.0.

import assert from "node:assert/strict";
import test from "node:test";

import { ComfyPage } from "./comfy_page.mjs";

const SIDE = 128;
const FRAMES = 9;
const SPRITE = 40;
/** Left edge of the sprite, in pixels, in a frame. */
const leftAt = (frame) => 8 + 9 * frame;
const TOP = 48;
const VIDEO = { width: SIDE, height: SIDE, length: FRAMES };
/** The sprite as a box of fractions. */
const boxAt = (frame) => [leftAt(frame), TOP, SPRITE, SPRITE].map((pixels) => pixels / SIDE);
const overlap = (a, b) => {
  const both = [0, 1].map((at) => Math.max(0, Math.min(a[at] + a[at + 2], b[at] + b[at + 2]) - Math.max(a[at], b[at])));
  const shared = both[0] * both[1];
  return shared / (a[2] * a[3] + b[2] * b[3] - shared);
};
const between = ({ keyframes }, t) => {
  const before = keyframes.filter((keyframe) => keyframe.t <= t).at(-1) ?? keyframes[0];
  const after = keyframes.find((keyframe) => keyframe.t >= t) ?? keyframes.at(-1);
  const share = after.t > before.t ? (t - before.t) / (after.t - before.t) : 0;
  return before.box.map((number, at) => number + (after.box[at] - number) * share);
};

/** Nodes that make a clip of a square in a square moving right over grey, gone after `seen` frames; returns the last one's id. */
function addClip(comfy, seen) {
  return comfy.run(({ side, frames, sprite, top, lefts, seen }) => {
    let row = 0;
    const add = (type, values, ...inputs) => {
      const node = LiteGraph.createNode(type);
      app.graph.add(node);
      node.pos = [900 + 260 * (row % 8), 40 + 320 * Math.floor(row / 8)];
      row += 1;
      for (const [name, value] of Object.entries(values)) node.widgets.find((one) => one.name === name).value = value;
      for (const [name, source] of inputs) source.connect(0, node, node.inputs.findIndex((one) => one.name === name));
      return node;
    };
    const plain = (width, height, color) => add("EmptyImage", { width, height, batch_size: 1, color });
    const ground = plain(side, side, 0x8a8a70);
    const put = (under, over, x, y) => add(
      "ImageCompositeMasked", { x, y, resize_source: false }, ["destination", under], ["source", over],
    );
    const half = plain(sprite / 2, sprite / 2, 0x2040c0);
    const actor = put(plain(sprite, sprite, 0xe04020), half, 4, 6);
    let clip = null;
    for (let frame = 0; frame < frames; frame += 1) {
      const picture = frame < seen ? put(ground, actor, lefts[frame], top) : ground;
      clip = clip ? add("ImageBatch", {}, ["image1", clip], ["image2", picture]) : picture;
    }
    return clip.id;
  }, { side: SIDE, frames: FRAMES, sprite: SPRITE, top: TOP, lefts: Array.from({ length: FRAMES }, (_, at) => leftAt(at)), seen });
}

for (const vueNodes of [false, true]) {
  test(`following an object, ${vueNodes ? "Nodes 2.0" : "classic canvas"}`, async (t) => {
    const comfy = await ComfyPage.open({ vueNodes });
    t.after(() => comfy.close());
    let id;
    let editor;
    const step = (name, work) => t.test(name, () => comfy.pictured(name, work));
    const begin = async (seen) => {
      await comfy.clear();
      id = await comfy.add("CCVD_RegionMask", [40, 40], VIDEO);
      editor = comfy.editor(id);
      if (seen) await comfy.connect(await addClip(comfy, seen), "IMAGE", id, "background");
    };
    const note = async () => (await editor.part(".ccvd-regions-note")).textContent();
    const pressed = async () => (await editor.part('[data-action="follow"]')).getAttribute("aria-pressed");
    /** Press the button, or the key, and wait until it is done. */
    const follow = async (key) => {
      await (key ? editor.press(key) : editor.button("follow"));
      assert.notEqual(await note(), "");
      await comfy.until((id) => {
        const root = app.graph.getNodeById(id).widgets.find((one) => one.name === "layout").element;
        return root.querySelector('[data-action="follow"]').getAttribute("aria-pressed") === "false";
      }, id);
      await comfy.settle(100);
    };
    /** Draw a box around the sprite where it is in a frame; it snaps to nothing. */
    const drawAround = async (frame) => {
      await editor.goTo(frame);
      await editor.button("snap");
      const [x, y, width, height] = boxAt(frame);
      await editor.drag([x, y], [x + width, y + height], "Alt");
    };
    const region = async () => (await editor.layout()).regions[0];

    await step("what has to be done first is said", async () => {
      await begin(0);
      await editor.drag([0.1, 0.4], [0.4, 0.7]);
      await follow();
      assert.match(await note(), /Connect a video to “background” first/);
      await begin(FRAMES);
      await editor.drag([0.1, 0.4], [0.4, 0.7]);
      await follow();
      assert.match(await note(), /Queue this node once first/);
      assert.equal((await region()).keyframes.length, 1);
    });

    await step("a box on a moving sprite gets keyframes that sit on it, and one undo takes them back", async () => {
      await begin(FRAMES);
      await comfy.queue();
      await comfy.show(id);
      await drawAround(4);
      const drawn = await region();
      assert.equal(drawn.keyframes.length, 1);
      await follow();
      const followed = await region();
      assert.match(await note(), /followed through the whole clip/);
      assert.equal(await pressed(), "false");
      assert.ok(followed.keyframes.length >= 2 && followed.keyframes.length <= 4, JSON.stringify(followed.keyframes));
      for (let frame = 0; frame < FRAMES; frame += 1) {
        const shared = overlap(between(followed, frame / (FRAMES - 1)), boxAt(frame));
        assert.ok(shared > 0.75, `frame ${frame + 1}: ${shared}`);
      }
      await editor.goTo(7);
      await comfy.screenshot("6 followed");
      await editor.press("Control+z");
      assert.deepEqual((await region()).keyframes, drawn.keyframes);
    });

    await step("what is lost is told, and its keyframes stop there", async () => {
      await begin(6);
      await comfy.queue();
      await comfy.show(id);
      await drawAround(0);
      await follow("t");
      assert.match(await note(), /Lost after frame 6: it is covered/);
      const followed = await region();
      assert.equal(followed.keyframes.at(-1).t, 0.625);
      assert.ok(overlap(followed.keyframes.at(-1).box, boxAt(5)) > 0.75);
      await comfy.screenshot("7 lost");
    });

    await step("nothing went wrong unseen", async () => {
      assert.deepEqual(comfy.errors, []);
    });
  });
}
