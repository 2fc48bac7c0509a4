// The example workflows in the page: each loads without a fault, and those of RUNS are queued as well.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import test from "node:test";

import { ComfyPage, EXAMPLES } from "./comfy_page.mjs";

const NAMES = readdirSync(EXAMPLES).filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));

/**
 * Workflows to queue as they are, with nothing prepared: name -> {type: widget values} that make them quick, and the type of
 * the node whose file must be there at the end, with the beginning of its name.
 */
const RUNS = {
  "1 Learn a concept and make a video": {
    quick: { CCVD_LearnConcept: { steps: 2 }, KSampler: { steps: 2 } },
    saves: ["SaveVideo", "rex_"],
  },
  "2 Two concepts in one scene": {
    quick: { CCVD_LearnConcept: { steps: 2 }, CCVD_Sampler: { steps: 2 } },
    saves: ["SaveVideo", "scene_"],
  },
  "3 Another kind of model": {
    quick: { CCVD_LearnConcept: { steps: 2 }, KSampler: { steps: 2 } },
    saves: ["SaveVideo", "small_hoops_"],
  },
};

test("example workflows", async (t) => {
  const comfy = await ComfyPage.open();
  t.after(() => comfy.close());
  for (const name of NAMES) {
    await t.test(`${name} loads`, async () => {
      await comfy.loadExample(name);
      const missing = await comfy.run(() => app.graph.nodes.filter(
        (node) => !node.constructor.nodeData && !LiteGraph.registered_node_types[node.type],
      ).map((node) => node.type));
      assert.deepEqual(missing, []);
      await comfy.screenshot(name);
    });
    if (!(name in RUNS)) continue;
    await t.test(`${name} runs`, async () => {
      const { quick, saves: [type, beginning] } = RUNS[name];
      for (const [one, values] of Object.entries(quick)) await comfy.setOfType(one, values);
      const { outputs } = await comfy.queue();
      const [id] = await comfy.run((type) => app.graph.nodes.filter((node) => node.type === type).map((node) => node.id), type);
      const files = (outputs[id]?.images ?? []).map(({ filename }) => filename);
      assert.ok(files.length === 1 && files[0].startsWith(beginning), JSON.stringify(outputs));
    });
  }
  await t.test("nothing went wrong unseen", () => assert.deepEqual(comfy.errors, []));
});

test("the template browser lists them by title, the easiest first", async (t) => {
  const comfy = await ComfyPage.open();
  t.after(() => comfy.close());
  // As a file system may give them: in another order.
  await comfy.page.route("**/workflow_templates", (route) => route.fulfill({ json: { ccvd: [...NAMES].sort().reverse() } }));
  await comfy.run(() => app.extensionManager.command.execute("Comfy.BrowseTemplates"));
  const dialog = comfy.page.getByRole("dialog");
  await dialog.getByText("ccvd", { exact: true }).first().click();
  const cards = dialog.locator("[data-testid^=template-workflow-]");
  await cards.first().waitFor();
  await comfy.until(
    (count) => document.querySelectorAll("[role=dialog] [data-testid^=template-workflow-]").length === count, NAMES.length,
  );
  const titles = await cards.evaluateAll((found) => found.map((card) => card.querySelector("h3")?.textContent.trim()));
  assert.deepEqual(titles, [...NAMES].sort());
  for (const picture of await cards.locator("img").all()) {
    await picture.evaluate((image) => image.decode());
  }
  await comfy.screenshot("5 templates");
  await cards.first().click();
  await comfy.until(
    (name) => app.extensionManager.workflow.activeWorkflow.filename === name
      && app.graph.nodes.some((node) => node.type === "CCVD_DemoPictures"),
    NAMES[0],
  );
  assert.deepEqual(comfy.errors, []);
});
