// The example workflows in the page: each loads without a fault, and those of RUNS are queued as well.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { ComfyPage, EXAMPLES, putInput } from "./comfy_page.mjs";

const NAMES = readdirSync(EXAMPLES).filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
const PICTURE = fileURLToPath(new URL("pictures/learn_and_use_a_concept.jpg", EXAMPLES));

/**
 * Workflows to queue: name -> {type: widget values} that make them quick, and the type of the node that must show
 * something at the end. scene.test.mjs queues the second.
 */
const RUNS = {
  "1 Learn a concept and make a video": {
    quick: { CCVD_LearnConcept: { steps: 2, preview_every: 0, megapixels_percent: 1 }, KSampler: { steps: 2 } },
    shows: "SaveVideo",
  },
};
const FOLDERS = ["my_concept", "my_first_concept", "my_second_concept"];

test("example workflows", async (t) => {
  for (const folder of FOLDERS) putInput(folder, PICTURE);
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
      const { quick, shows } = RUNS[name];
      for (const [type, values] of Object.entries(quick)) await comfy.setOfType(type, values);
      const { outputs } = await comfy.queue(120_000);
      const ends = await comfy.run((type) => app.graph.nodes.filter((node) => node.type === type).map((node) => node.id), shows);
      assert.ok(ends.length && ends.every((id) => Object.keys(outputs[id] ?? {}).length), JSON.stringify(Object.keys(outputs)));
    });
  }
  await t.test("nothing went wrong unseen", () => assert.deepEqual(comfy.errors, []));
});
