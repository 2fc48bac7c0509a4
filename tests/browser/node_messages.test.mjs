// Errors and hints at the nodes, in the classic canvas and in Nodes 2.0.

import assert from "node:assert/strict";
import test from "node:test";

import { ComfyPage } from "./comfy_page.mjs";

/** Texts of the notices that the page shows, by kind. */
const shown = (comfy, kind) => comfy.run(
  (kind) => [...document.querySelectorAll(`.ccvd-notices .${kind} span`)]
    .filter((text) => text.checkVisibility()).map((text) => text.textContent),
  kind,
);
const until = (comfy, kind, count) => comfy.until(
  ([kind, count]) => document.querySelectorAll(`.ccvd-notices .${kind}`).length === count, [kind, count],
);
const toasts = (comfy) => comfy.run(() => [...document.querySelectorAll(".p-toast-message-error")].map((one) => one.textContent));

for (const vueNodes of [false, true]) {
  test(`messages at nodes, ${vueNodes ? "Nodes 2.0" : "classic canvas"}`, async (t) => {
    const comfy = await ComfyPage.open({ vueNodes });
    t.after(() => comfy.close());
    const step = (name, work) => t.test(name, () => comfy.pictured(name, work));
    /** Demo model, a one-step lesson of <mimi>, Aggregate Adapters, a sampler that is wired as it should be. */
    let model, learn, aggregate, sampler;
    await comfy.clear();
    model = await comfy.add("CCVD_DemoModel", [20, 300]);
    learn = await comfy.add("CCVD_LearnConcept", [380, 240], {
      name: "mimi", class_words: "cat", library: `notices_${comfy.mode}`, steps: 2, preview_every: 1, megapixels_percent: 1, still_frames: 1,
    });
    aggregate = await comfy.add("CCVD_AggregateAdapters", [820, 300], { prompt: "a <mimy> on grass" });
    sampler = await comfy.add("KSampler", [1250, 200]);
    const picture = await comfy.add("EmptyImage", [20, 600], { width: 64, height: 64, color: 0x336644 });
    const text = await comfy.add("PreviewAny", [1250, 550]);
    await comfy.connect(picture, "IMAGE", learn, "images");
    for (const [output, input] of [["MODEL", "model"], ["CLIP", "clip"], ["VAE", "vae"]]) await comfy.connect(model, output, learn, input);
    for (const [output, input] of [["MODEL", "model"], ["CLIP", "clip"]]) await comfy.connect(model, output, aggregate, input);
    await comfy.connect(learn, "library", aggregate, "library");
    await comfy.connect(aggregate, "relevance_text", text, "source");
    await comfy.connect(aggregate, "conditioning", sampler, "positive");
    await comfy.connect(aggregate, "model", sampler, "model");

    await step("an error shows at its node and in a toast, says what was meant, and goes with the next run", async () => {
      await assert.rejects(comfy.queue());
      await until(comfy, "error", 1);
      const [message] = await shown(comfy, "error");
      assert.match(message, /^The prompt names <mimy>.* Did you mean <mimi>\? Known concepts: <mimi>\.$/);
      await comfy.page.waitForSelector(".p-toast-message-error");
      const [toast] = await toasts(comfy);
      assert.ok(toast.includes("Aggregate Adapters") && toast.includes(message), toast);
      await comfy.screenshot("6 error at its node");
      const [notice, node] = await comfy.run((id) => {
        const { left, bottom } = document.querySelector(".ccvd-notices .error").getBoundingClientRect();
        const { pos } = app.graph.getNodeById(id);
        const canvas = app.canvas.canvas.getBoundingClientRect();
        const [x, y] = [0, 1].map((axis) => (pos[axis] + app.canvas.ds.offset[axis]) * app.canvas.ds.scale);
        return [[left, bottom], [x + canvas.left, y - LiteGraph.NODE_TITLE_HEIGHT + canvas.top]];
      }, aggregate);
      assert.ok(Math.abs(notice[0] - node[0]) < 3 && node[1] - notice[1] >= 0 && node[1] - notice[1] < 40, `${notice} ${node}`);
      await comfy.setWidget(aggregate, "prompt", "a <mimi> on grass");
      await comfy.queue();
      await until(comfy, "error", 0);
      await comfy.until(() => !document.querySelector(".p-toast-message-error"));
    });

    await step("what a lesson shows is a picture", async () => {
      await comfy.show(learn);
      const source = await comfy.run((id) => app.nodeOutputs[id].images[0].filename, learn);
      if (vueNodes) {
        await comfy.until(([id, source]) => [...document.querySelectorAll(`[data-node-id="${id}"] img`)].some(
          (one) => one.src.includes(source) && one.naturalWidth > 0,
        ), [learn, source]);
        assert.equal(await comfy.page.locator(`[data-node-id="${learn}"] video`).count(), 0);
        assert.equal(await comfy.page.getByText("Video failed to load").count(), 0);
      } else {
        await comfy.until(([id, source]) => app.graph.getNodeById(id).imgs?.[0]?.src.includes(source), [learn, source]);
      }
      // And not the last live preview besides.
      const pictures = await comfy.run(([id, vueNodes]) => (
        vueNodes ? [...document.querySelectorAll(`[data-node-id="${id}"] img`)] : app.graph.getNodeById(id).imgs
      ).map((one) => one.src), [learn, vueNodes]);
      assert.ok(pictures.length === 1 && pictures[0].includes(source), `${pictures}`);
      await comfy.screenshot("7 lesson's picture");
    });

    await step("a graph that is refused says why at the node", async () => {
      const mask = await comfy.add("CCVD_RegionMask", [20, 900], { layout: '{"version": 1,' });
      await assert.rejects(comfy.queue());
      await until(comfy, "error", 1);
      assert.match((await shown(comfy, "error"))[0] ?? "", /^The region layout is damaged/);
      assert.ok((await toasts(comfy))[0].includes("The region layout is damaged"));
      await comfy.run((id) => app.graph.remove(app.graph.getNodeById(id)), mask);
      await comfy.queue();
      await until(comfy, "error", 0);
    });

    await step("a sampler that is wired past Aggregate Adapters gets a hint until it is mended", async () => {
      await comfy.connect(model, "MODEL", sampler, "model");
      await comfy.run(() => app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState());
      await until(comfy, "hint", 1);
      await comfy.show(sampler);
      assert.match((await shown(comfy, "hint"))[0], /Connect “model” of the same Aggregate Adapters/);
      await comfy.screenshot("8 hint");
      await comfy.connect(aggregate, "model", sampler, "model");
      await comfy.run(() => app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState());
      await until(comfy, "hint", 0);
    });

    await step("a concept that is typed without brackets gets a hint while one types; it can be closed", async () => {
      await comfy.show(aggregate);
      const field = await comfy.run(([id, vueNodes]) => {
        const [widget] = app.graph.getNodeById(id).widgets.filter((one) => one.name === "prompt");
        const element = vueNodes ? document.querySelector(`[data-node-id="${id}"] textarea`) : widget.element;
        element.id = "the-prompt";
        return element.id;
      }, [aggregate, vueNodes]);
      const type = async (words) => {
        await comfy.page.click(`#${field}`);
        await comfy.page.keyboard.press("Control+a");
        await comfy.page.keyboard.type(words);
      };
      await type("a mimi on grass");
      await until(comfy, "hint", 1);
      assert.match((await shown(comfy, "hint"))[0], /Write <mimi> to use it/);
      await type("a <mimi> on grass");
      await until(comfy, "hint", 0);
      await type("a mimi");
      await until(comfy, "hint", 1);
      await comfy.page.click(".ccvd-notices .hint button");
      await until(comfy, "hint", 0);
    });

    await step("nothing went wrong unseen", () => assert.deepEqual(comfy.errors, []));
  });
}
