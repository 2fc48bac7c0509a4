// What the page does with this pack's nodes besides drawing regions, in the classic canvas and in Nodes 2.0.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import test from "node:test";

import { ComfyPage, EXAMPLES } from "./comfy_page.mjs";

const EXAMPLE_NAMES = readdirSync(EXAMPLES).filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));

const VIDEO = { width: 128, height: 128, length: 9 };

for (const vueNodes of [false, true]) {
  test(`the page and the nodes, ${vueNodes ? "Nodes 2.0" : "classic canvas"}`, async (t) => {
    const comfy = await ComfyPage.open({ vueNodes });
    t.after(() => comfy.close());
    const step = (name, work) => t.test(name, () => comfy.pictured(name, work));
    const mask = async () => {
      await comfy.clear();
      return comfy.add("CCVD_RegionMask", [40, 60], VIDEO);
    };
    /** Click a node's title. */
    const clickTitle = async (id) => {
      const [x, y] = await comfy.run((id) => {
        const { left, top } = app.canvas.canvas.getBoundingClientRect();
        const { pos } = app.graph.getNodeById(id);
        const { offset, scale } = app.canvas.ds;
        return [left + (pos[0] + 120 + offset[0]) * scale, top + (pos[1] - 14 + offset[1]) * scale];
      }, id);
      await comfy.page.mouse.click(x, y);
      await comfy.settle(300);
    };

    await step("the panel of properties leaves the editor in the node", async () => {
      const id = await mask();
      const size = async () => {
        const { width, height } = await (await comfy.editor(id).part("canvas")).boundingBox();
        return [width, height];
      };
      const before = await size();
      await comfy.run(() => app.extensionManager.setting.set("Comfy.RightSidePanel.IsOpen", true));
      await clickTitle(id);
      await comfy.until(() => document.querySelector("[data-testid='properties-panel']"));
      await comfy.settle(800);
      await comfy.screenshot("9 panel of properties");
      assert.equal(await comfy.editor(id).mounted(), 1);
      const after = await size();
      assert.ok(after.every((side, at) => Math.abs(side - before[at]) < 2), `${before} -> ${after}`);
      await comfy.run(() => app.extensionManager.setting.set("Comfy.RightSidePanel.IsOpen", false));
    });

    await step("after drawing, the node itself is copied and pasted", async () => {
      const id = await mask();
      await comfy.editor(id).drag([0.13, 0.26], [0.38, 0.74]);
      await clickTitle(id);
      await comfy.page.keyboard.press("Control+c");
      await comfy.settle(200);
      await comfy.page.keyboard.press("Control+v");
      await comfy.until(() => app.graph.nodes.length === 2);
      const layouts = await comfy.run(() => app.graph.nodes.map((node) => node.widgets.find((one) => one.name === "layout").value));
      assert.deepEqual(layouts.map((text) => JSON.parse(text).regions.length), [1, 1]);
    });

    await step("the editor's own copying still means regions", async () => {
      const id = await mask();
      const editor = comfy.editor(id);
      await editor.drag([0.13, 0.26], [0.38, 0.74]);
      await editor.press("Control+c");
      await editor.press("Control+v");
      assert.equal((await editor.layout()).regions.length, 2);
      assert.equal(await comfy.run(() => app.graph.nodes.length), 1);
    });

    await step("Escape in a prompt leaves full screen, or the prompt", async () => {
      const id = await mask();
      const editor = comfy.editor(id);
      await editor.drag([0.13, 0.26], [0.38, 0.74]);
      const prompt = () => comfy.run(() => document.activeElement.className);
      await (await editor.part("textarea.prompt")).click();
      await comfy.page.keyboard.press("Escape");
      assert.equal(await prompt(), "ccvd-regions-keys");
      await editor.press("f");
      await (await editor.part("textarea.prompt")).click();
      await comfy.page.keyboard.type("a <rex>");
      await comfy.page.keyboard.press("Escape");
      assert.equal(await comfy.page.locator(".ccvd-regions-overlay").count(), 0);
      assert.equal((await editor.layout()).regions[0].prompt, "a <rex>");
    });

    await step("a new node with the id of a deleted one has its own values", async () => {
      const first = await mask();
      const again = await comfy.run(() => {
        app.graph.clear();
        const node = LiteGraph.createNode("CCVD_RegionMask");
        node.id = 1;
        app.graph.add(node);
        return [node.id, ...["width", "height", "length"].map((name) => node.widgets.find((one) => one.name === name).value)];
      });
      assert.equal(String(again[0]), String(first));
      assert.deepEqual(again.slice(1), [832, 480, 81]);
    });

    await step("a line break in a connected picture's name is no error", async () => {
      const id = await mask();
      const load = await comfy.add("LoadImage", [700, 60]);
      await comfy.setWidget(load, "image", "a\nb.png [input]");
      await comfy.connect(load, "IMAGE", id, "background");
      await comfy.settle(300);
      assert.deepEqual(comfy.errors, []);
    });

    await step("what an artist types into the search leads to the nodes", async () => {
      await comfy.clear();
      for (const words of ["lora", "train", "dreambooth", "character"]) {
        await comfy.run(() => app.extensionManager.command.execute("Workspace.SearchBox.Toggle"));
        const field = comfy.page.locator("[role=dialog] input, .comfy-vue-node-search-container input").first();
        await field.fill(words);
        await comfy.settle(500);
        await comfy.screenshot(`10 search ${words}`);
        await comfy.until(() => /Learn Concept/.test(document.body.innerText));
        await comfy.page.keyboard.press("Escape");
        await comfy.settle(300);
      }
    });

    await step("the example workflows need no hint", async () => {
      for (const name of EXAMPLE_NAMES) {
        await comfy.loadExample(name);
        await comfy.settle(500);
        assert.deepEqual(await comfy.run(() => [...document.querySelectorAll(".ccvd-notices p")].map((one) => one.textContent)), [], name);
      }
    });

    await step("nothing went wrong unseen", () => assert.deepEqual(comfy.errors, []));
  });
}

test("in Chinese, empty text fields of the classic canvas say in Chinese what belongs there", async (t) => {
  const comfy = await ComfyPage.open({ settings: { "Comfy.Locale": "zh" } });
  t.after(() => comfy.close());
  await comfy.clear();
  const placeholder = async (type, name) => {
    const id = await comfy.add(type, [40, 60]);
    return comfy.run(([id, name]) => app.graph.getNodeById(id).widgets.find((one) => one.name === name).element.placeholder, [id, name]);
  };
  assert.equal(await placeholder("CCVD_AggregateAdapters", "prompt"), "提示词");
  assert.equal(await placeholder("CCVD_LearnConcept", "captions"), "描述");
  assert.deepEqual(comfy.errors, []);
});
