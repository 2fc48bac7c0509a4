// `try_it.py --ui`: the page that it leaves open shows the workflow that was just run.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { ComfyPage } from "./comfy_page.mjs";

const TRIAL = fileURLToPath(new URL("../../scripts/trial.py", import.meta.url));

/** Start it; resolves to the address of the page once that is said. */
function address(trial) {
  return new Promise((resolve, reject) => {
    let said = "";
    const hear = (text) => {
      said += text;
      const found = said.match(/shows the workflow at\s+(\S+)/);
      if (found) resolve(found[1]);
    };
    trial.stdout.on("data", hear);
    trial.stderr.on("data", hear);
    trial.on("exit", (code) => reject(Error(`ended with ${code}: ${said}`)));
  });
}

test("try_it --ui opens what was run", async (t) => {
  const out = mkdtempSync(join(tmpdir(), "ccvd-try-it-"));
  const trial = spawn(process.env.CCVD_PYTHON, [TRIAL, "--ui", "--steps", "2", "--kind", "motion", "--out", out]);
  const ended = new Promise((resolve) => trial.on("exit", resolve));
  t.after(async () => {
    trial.kill("SIGTERM");
    await ended;
    rmSync(out, { recursive: true, force: true });
  });
  const comfy = await ComfyPage.openAt(await address(trial));
  t.after(() => comfy.close());
  assert.deepEqual(
    readdirSync(out).filter((name) => name !== "comfyui").sort(), ["hopping.mp4", "hopping.safetensors", "hopping_frames.png"],
  );
  await comfy.until(
    () => app.extensionManager.workflow.activeWorkflow.filename === "hopping"
      && app.graph.nodes.some((node) => node.type === "CCVD_LearnConcept"),
  );
  const learn = await comfy.run(() => app.graph.nodes.find((node) => node.type === "CCVD_LearnConcept").id);
  const values = await Promise.all(["name", "class_words", "kind", "steps"].map((name) => comfy.widget(learn, name)));
  assert.deepEqual(values, ["hopping", "moving up", "motion", 2]);
  await comfy.settle(1000);
  await comfy.screenshot("try_it --ui");
  assert.equal(await comfy.page.getByRole("dialog").count(), 0, "nothing is in the way");
  // What was learned is there: running it again makes nothing new, and no node complains.
  await comfy.queue();
  assert.deepEqual(comfy.errors, []);
});
