// The region editor under the mouse and the keyboard, in the classic canvas and in Nodes 2.0.

import assert from "node:assert/strict";
import test from "node:test";

import { ComfyPage } from "./comfy_page.mjs";

const near = (got, expected, within) => {
  assert.equal(got.length, expected.length);
  got.forEach((number, at) => assert.ok(Math.abs(number - expected[at]) <= within, `[${got}] is not near [${expected}]`));
};
/** 128 x 128, so that a cell is 1/8. */
const VIDEO = { width: 128, height: 128, length: 9 };
const LEFT = [0.125, 0.25, 0.25, 0.5];
const RIGHT = [0.625, 0.25, 0.25, 0.5];

for (const vueNodes of [false, true]) {
  test(`region editor, ${vueNodes ? "Nodes 2.0" : "classic canvas"}`, async (t) => {
    const comfy = await ComfyPage.open({ vueNodes });
    t.after(() => comfy.close());
    let id;
    let editor;
    const step = (name, work) => t.test(name, () => comfy.pictured(name, work));
    const boxes = async () => (await editor.layout()).regions.map((region) => region.keyframes[0].box);
    const names = async () => (await editor.layout()).regions.map((region) => region.name);
    /** A node with two regions, `LEFT` and `RIGHT`, alone in the graph. */
    const begin = async (regions = [["one", LEFT], ["two", RIGHT]]) => {
      await comfy.clear();
      const layout = {
        version: 1,
        ...VIDEO,
        regions: regions.map(([name, box]) => ({ name, prompt: "", color: "#4fc3f7", keyframes: [{ t: 0, box }] })),
      };
      delete layout.length;
      id = await comfy.add("CCVD_RegionMask", [40, 40], { layout: JSON.stringify(layout), ...VIDEO });
      editor = comfy.editor(id);
    };

    await step("two boxes are drawn with the mouse", async () => {
      await comfy.clear();
      id = await comfy.add("CCVD_RegionMask", [40, 40], VIDEO);
      editor = comfy.editor(id);
      assert.equal(await comfy.widget(id, "layout"), "{}");
      await editor.drag([0.13, 0.26], [0.38, 0.74]);
      await editor.drag([0.88, 0.74], [0.62, 0.26]);
      const layout = await editor.layout();
      assert.deepEqual([layout.version, layout.width, layout.height], [1, 128, 128]);
      assert.deepEqual(await boxes(), [LEFT, RIGHT]);
      assert.notEqual(layout.regions[0].color, layout.regions[1].color);
    });

    await step("two concepts are chosen by name, and a prompt is typed", async () => {
      for (const [at, name] of ["rex", "kit"].entries()) {
        const learner = await comfy.add("CCVD_LearnConcept", [800 + 420 * at, 40], { name });
        await comfy.run((learner) => {
          app.graph.getNodeById(learner).mode = 2;
        }, learner);
      }
      await editor.click([0.25, 0.5]);
      await editor.chooseConcept("rex");
      await editor.click([0.75, 0.5]);
      await editor.chooseConcept("kit");
      await editor.fill("textarea.prompt", "a <kit> moving up");
      const [one, two] = (await editor.layout()).regions;
      assert.deepEqual([one.name, one.prompt], ["rex", "a <rex>"]);
      assert.deepEqual([two.name, two.prompt], ["kit", "a <kit> moving up"]);
      await comfy.screenshot("1 two concepts");
    });

    await step("the boxes are there after the page is loaded again", async () => {
      const before = await comfy.widget(id, "layout");
      await comfy.settle(1200);
      await comfy.reload();
      id = await comfy.run(() => app.graph.nodes.find((node) => node.type === "CCVD_RegionMask").id);
      editor = comfy.editor(id);
      assert.equal(await comfy.widget(id, "layout"), before);
      assert.equal(await editor.mounted(), 1);
      await editor.click([0.25, 0.5]);
      assert.equal(await (await editor.part("input.name")).inputValue(), "rex");
    });

    await step("a box is moved, resized and kept inside the frame", async () => {
      await begin();
      await editor.drag([0.25, 0.5], [0.25, 0.63]);
      await editor.drag([0.375, 0.875], [0.5, 0.75]);
      assert.deepEqual(await boxes(), [[0.125, 0.375, 0.375, 0.375], RIGHT]);
      await editor.drag([0.75, 0.5], [1.4, 1.4]);
      assert.deepEqual((await boxes())[1], [0.75, 0.5, 0.25, 0.5]);
    });

    await step("at any zoom of the graph the mouse hits what it points at", async () => {
      await begin();
      await comfy.run(() => {
        app.canvas.ds.scale = 0.6;
        app.canvas.setDirty(true, true);
      });
      await comfy.settle(300);
      await editor.drag([0.25, 0.5], [0.25, 0.38]);
      assert.deepEqual((await boxes())[0], [0.125, 0.125, 0.25, 0.5]);
    });

    await step("a box that is moved at another time gets a keyframe", async () => {
      await begin();
      await editor.click([0.25, 0.5]);
      await editor.goTo(8);
      await editor.drag([0.25, 0.5], [0.5, 0.5]);
      await editor.goTo(4);
      await comfy.screenshot("2 keyframes");
      const { keyframes } = (await editor.layout()).regions[0];
      assert.deepEqual(keyframes, [{ t: 0, box: LEFT }, { t: 1, box: [0.375, 0.25, 0.25, 0.5] }]);
      await editor.button("keyframe");
      near((await editor.layout()).regions[0].keyframes[1].box, [0.25, 0.25, 0.25, 0.5], 1e-6);
      await editor.button("still");
      assert.equal((await editor.layout()).regions[0].keyframes.length, 1);
    });

    await step("a keyframe is dragged along the time line", async () => {
      await begin();
      await editor.click([0.25, 0.5]);
      await editor.goTo(8);
      await editor.drag([0.25, 0.5], [0.5, 0.5]);
      const times = async () => (await editor.layout()).regions[0].keyframes.map(({ t }) => t);
      await editor.dragKeyframe(1, 4);
      assert.deepEqual(await times(), [0, 0.5]);
      await editor.dragKeyframe(0, 7);
      assert.deepEqual(await times(), [0.375, 0.5]);
      await editor.dragKeyframe(1, 8, true);
      assert.deepEqual(await times(), [0.375, 0.5]);
      assert.equal(await (await editor.part("input[type=range]")).inputValue(), "4");
      await (await editor.part('.mark[data-at="0"]')).click();
      await editor.press("k");
      assert.deepEqual(await times(), [0.5]);
      await editor.press("Control+z");
      assert.deepEqual(await times(), [0.375, 0.5]);
      await editor.press("Control+z");
      await editor.press("Control+z");
      assert.deepEqual(await times(), [0, 1]);
    });

    await step("keys: select, move, duplicate, order, lock, delete, undo and redo", async () => {
      await begin();
      await editor.click([0.25, 0.5]);
      await editor.press("ArrowRight");
      await editor.press("Shift+ArrowDown");
      near((await boxes())[0], [0.25, 0.25 + 1 / 128, 0.25, 0.5], 1e-6);
      await editor.press("Control+z");
      assert.deepEqual(await boxes(), [LEFT, RIGHT]);
      await editor.press("Control+d");
      assert.deepEqual(await names(), ["one", "two", "one 2"]);
      await editor.press("[");
      assert.deepEqual(await names(), ["one", "one 2", "two"]);
      await editor.press("Delete");
      assert.deepEqual(await names(), ["one", "two"]);
      await editor.press("Control+z");
      await editor.press("Control+Shift+z");
      assert.deepEqual(await names(), ["one", "two"]);
      await editor.press("Control+a");
      await editor.press("l");
      assert.ok((await editor.layout()).regions.every((region) => region.locked));
      await editor.press("Delete");
      assert.deepEqual(await names(), ["one", "two"]);
      assert.equal(await comfy.run(() => app.graph.nodes.length), 1);
    });

    await step("several are selected and moved together, copied and pasted", async () => {
      await begin();
      await editor.click([0.25, 0.5]);
      await editor.click([0.75, 0.5], ["Shift"]);
      await editor.drag([0.25, 0.5], [0.25, 0.63]);
      assert.deepEqual(await boxes(), [[0.125, 0.375, 0.25, 0.5], [0.625, 0.375, 0.25, 0.5]]);
      await editor.press("Control+c");
      await editor.press("Control+v");
      assert.equal((await editor.layout()).regions.length, 4);
    });

    await step("full screen and back", async () => {
      await begin();
      await editor.click([0.25, 0.5]);
      await editor.press("f");
      assert.equal(await comfy.page.locator(".ccvd-regions-overlay canvas").count(), 1);
      await editor.drag([0.25, 0.5], [0.25, 0.63]);
      await comfy.screenshot("3 full screen");
      await editor.press("Escape");
      await editor.press("Escape");
      assert.equal(await comfy.page.locator(".ccvd-regions-overlay").count(), 0);
      assert.deepEqual((await boxes())[0], [0.125, 0.375, 0.25, 0.5]);
      assert.equal(await editor.mounted(), 1);
    });

    await step("undo of ComfyUI brings the boxes back, and they can be drawn on", async () => {
      await begin();
      await editor.drag([0.25, 0.5], [0.25, 0.63]);
      await comfy.run(() => document.activeElement?.blur());
      await comfy.page.keyboard.press("Control+z");
      await comfy.settle(1200);
      assert.deepEqual(await boxes(), [LEFT, RIGHT]);
      assert.equal(await editor.mounted(), 1);
      await comfy.run(() => document.activeElement?.blur());
      await comfy.page.keyboard.press("Control+y");
      await comfy.settle(1200);
      assert.deepEqual((await boxes())[0], [0.125, 0.375, 0.25, 0.5]);
      assert.equal(await editor.mounted(), 1);
      await editor.drag([0.25, 0.63], [0.25, 0.38]);
      assert.deepEqual((await boxes())[0], [0.125, 0.125, 0.25, 0.5]);
    });

    await step("a copy of the node has regions of its own", async () => {
      await begin();
      const copy = await comfy.run((id) => {
        app.canvas.copyToClipboard([app.graph.getNodeById(id)]);
        app.canvas.graph_mouse = [700, 60];
        app.canvas.pasteFromClipboard();
        return app.graph.nodes.find((node) => node.id !== id).id;
      }, id);
      await comfy.run((copy) => {
        app.graph.getNodeById(copy).pos = [660, 40];
        app.canvas.deselectAll();
        app.graph.setDirtyCanvas(true, true);
      }, copy);
      await comfy.settle(600);
      const second = comfy.editor(copy);
      assert.equal(await second.mounted(), 2);
      await second.drag([0.75, 0.5], [0.75, 0.63]);
      assert.deepEqual(await boxes(), [LEFT, RIGHT]);
      assert.deepEqual((await second.layout()).regions[1].keyframes[0].box, [0.625, 0.375, 0.25, 0.5]);
    });

    await step("in a subgraph the regions stay", async () => {
      await begin();
      const inside = await comfy.run(async (id) => {
        const { node, subgraph } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
        app.canvas.openSubgraph(subgraph ?? node.subgraph, node);
        return (subgraph ?? node.subgraph).nodes.find((one) => one.type === "CCVD_RegionMask").id;
      }, id);
      await comfy.settle(800);
      const found = await comfy.run((inside) => {
        const widget = app.canvas.graph.getNodeById(inside).widgets.find((one) => one.name === "layout");
        return [widget.value, widget.element.isConnected];
      }, inside);
      assert.deepEqual(JSON.parse(found[0]).regions.map((region) => region.name), ["one", "two"]);
      assert.ok(found[1]);
      await comfy.run(() => app.canvas.setGraph(app.rootGraph ?? app.graph));
    });

    await step("a damaged value gives a message, and stays until something is drawn", async () => {
      await begin();
      const text = '{"version": 1, "regions": [';
      const workflow = await comfy.serialize();
      const at = workflow.nodes[0].widgets_values.findIndex((value) => typeof value === "string" && value.includes("regions"));
      workflow.nodes[0].widgets_values[at] = text;
      await comfy.load(workflow);
      await comfy.screenshot("4 damaged");
      assert.ok(await (await editor.part(".ccvd-regions-damaged")).isVisible());
      assert.equal(await comfy.widget(id, "layout"), text);
      assert.equal((await comfy.serialize()).nodes[0].widgets_values[at], text);
      await assert.rejects(comfy.queue(), /The region layout is damaged/);
      await editor.drag([0.13, 0.05], [0.38, 0.3]);
      assert.equal((await editor.layout()).regions.length, 1);
      assert.ok(!(await (await editor.part(".ccvd-regions-damaged")).isVisible()));
    });

    await step("a run gives masks, a preview and the background's frames", async () => {
      await begin();
      const picture = await comfy.add("EmptyImage", [700, 40], { width: 128, height: 128, batch_size: 9, color: 0x336644 });
      const shown = await comfy.add("PreviewImage", [700, 320]);
      await comfy.connect(picture, "IMAGE", id, "background");
      await comfy.connect(id, "preview", shown, "images");
      const { outputs } = await comfy.queue();
      assert.equal(outputs[id].ccvd_background.length, 9);
      assert.equal(outputs[shown].images.length, 1);
      await comfy.until((id) => {
        const canvas = app.graph.getNodeById(id).widgets.find((one) => one.name === "layout").element.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
        // The frames come as JPEGs, which round colours.
        return [0x33, 0x66, 0x44].every((value, at) => Math.abs(data[at] - value) <= 3);
      }, id);
      await comfy.screenshot("5 after a run");
    });

    await step("switching to the other kind of nodes keeps the regions", async () => {
      await begin();
      await comfy.run((other) => app.extensionManager.setting.set("Comfy.VueNodes.Enabled", other), !vueNodes);
      await comfy.settle(1500);
      assert.deepEqual(await names(), ["one", "two"]);
      assert.equal(await editor.mounted(), 1);
      await editor.drag([0.25, 0.5], [0.25, 0.63]);
      assert.deepEqual((await boxes())[0], [0.125, 0.375, 0.25, 0.5]);
    });

    await step("nothing went wrong unseen", async () => {
      assert.deepEqual(comfy.errors, []);
    });
  });
}
