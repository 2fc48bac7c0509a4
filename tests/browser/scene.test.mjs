// What an artist does with the example workflow of regions, from the first box to the video, and after coming back.

import assert from "node:assert/strict";
import test from "node:test";

import { ComfyPage } from "./comfy_page.mjs";

/** Both modes ask for the same lessons: what the first has learned, the second uses. */
const QUICK = { steps: 5, preview_every: 0, megapixels_percent: 1, library: "scene" };

for (const vueNodes of [false, true]) {
  test(`a scene is drawn, made and found again, ${vueNodes ? "Nodes 2.0" : "classic canvas"}`, async (t) => {
    const comfy = await ComfyPage.open({ vueNodes });
    t.after(() => comfy.close());
    await comfy.loadExample("2 Two concepts in one scene");
    await comfy.setOfType("CCVD_LearnConcept", QUICK);
    await comfy.setOfType("CCVD_Sampler", { steps: 4, seed: vueNodes ? 2 : 1 });
    await comfy.setOfType("CCVD_RegionMask", { layout: "{}" });
    const found = (type) => comfy.run((type) => app.graph.nodes.find((node) => node.type === type).id, type);
    let editor = comfy.editor(await found("CCVD_RegionMask"));
    await comfy.show(editor.id);

    await editor.drag([0.13, 0.26], [0.38, 0.74]);
    await editor.chooseConcept("rex");
    await editor.drag([0.62, 0.26], [0.88, 0.74]);
    await editor.chooseConcept("cab");
    await editor.goTo(8);
    await editor.drag([0.75, 0.5], [0.75, 0.63]);
    const drawn = await editor.layout();
    assert.deepEqual(drawn.regions.map(({ name, keyframes }) => [name, keyframes.length]), [["rex", 1], ["cab", 2]]);
    await comfy.screenshot("3 scene drawn");

    const { outputs } = await comfy.queue();
    const [video] = outputs[await found("SaveVideo")].images;
    const file = await comfy.run(async ({ filename, subfolder }) => {
      const answer = await fetch(`/api/view?${new URLSearchParams({ filename, subfolder, type: "output" })}`);
      const bytes = new Uint8Array(await answer.arrayBuffer());
      return { bytes: bytes.length, kind: String.fromCharCode(...bytes.slice(4, 8)) };
    }, video);
    assert.ok(file.bytes > 1000 && file.kind === "ftyp", JSON.stringify([video, file]));
    await comfy.show(await found("SaveVideo"));
    await comfy.until(
      (name) => [...document.querySelectorAll("video")].some(
        (shown) => (shown.currentSrc || shown.src).includes(encodeURIComponent(name)) && shown.videoWidth > 0,
      ),
      video.filename,
    );
    await comfy.screenshot("4 video");

    // The page keeps its workflow a moment after the last change.
    await comfy.settle(1200);
    await comfy.reload();
    editor = comfy.editor(await found("CCVD_RegionMask"));
    assert.deepEqual(await editor.layout(), drawn);
    await comfy.show(editor.id);
    assert.ok(await editor.mounted());
    await editor.click([0.25, 0.5]);
    assert.equal(await (await editor.part("input.name")).inputValue(), "rex");
    assert.deepEqual(comfy.errors, []);
  });
}
