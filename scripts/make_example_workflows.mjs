// Builds the example workflows in a running ComfyUI, runs them, and takes their pictures.
//
//   python scripts/make_example_workflows.py
//
// starts the server and calls this with: address, output folder, names. Needs Chromium and npm's playwright-core.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { EDITOR, WORKFLOWS } from "./example_workflows.mjs";

const { chromium } = createRequire(join(process.env.CCVD_BROWSER_MODULES ?? process.cwd(), "package.json"))("playwright-core");
const [address, folder, ...rest] = process.argv.slice(2);
const names = rest.filter((argument) => !argument.startsWith("--"));
/** Room for the page's own bars around the graph, which its picture does not show. */
const MARGIN = { left: 80, top: 120, right: 60, bottom: 120 };
const runs = !rest.includes("--no-run");

await fetch(`${address}/api/settings`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": false, "Comfy.Minimap.Visible": false }),
});
const browser = await chromium.launch({
  executablePath: process.env.CCVD_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
try {
  for (const name of names) await (name === "region_editor" ? showEditor(name) : make(name, WORKFLOWS[name]));
} finally {
  await browser.close();
}

async function open(looks) {
  const page = await browser.newPage(looks);
  await page.goto(address);
  await page.waitForFunction(
    () => window.app?.extensionManager && window.LiteGraph?.registered_node_types?.CCVD_LearnConcept, null, { timeout: 60_000 },
  );
  await page.waitForTimeout(2000);
  return page;
}

async function make(name, { nodes, links, note, picture }) {
  const [right, bottom] = [2, 3].map((at) => Math.max(...nodes.map((node) => node[at] + node[at + 2])));
  const [left, top] = [MARGIN.left + right, MARGIN.top + bottom];
  const page = await open({ viewport: { width: left + MARGIN.right, height: top + MARGIN.bottom } });
  const workflow = await page.evaluate(({ nodes, links, note, offset }) => {
    app.graph.clear();
    const made = {};
    for (const [key, type, x, y, width, height, values] of nodes) {
      const node = (made[key] = LiteGraph.createNode(type));
      if (!node) throw new Error(`no node type ${type}`);
      app.graph.add(node);
      node.pos = [x, y];
      node.setSize([width, height]);
      for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((w) => w.name === name);
        if (!widget) throw new Error(`${type} has no widget ${name}: ${node.widgets.map((w) => w.name)}`);
        widget.value = value;
      }
      for (const widget of node.widgets ?? []) {
        if (widget.name === "control_after_generate") widget.value = "fixed";
        if (type === "MarkdownNote") widget.value = note;
      }
    }
    for (const [from, output, to, input] of links) {
      const source = made[from].outputs.findIndex((o) => (o.label ?? o.name) === output || o.name === output);
      const target = made[to].inputs.findIndex((i) => i.name === input);
      if (source < 0 || target < 0) {
        throw new Error(`${from}.${output} [${made[from].outputs.map((o) => o.name)}] -> ${to}.${input}`);
      }
      made[from].connect(source, made[to], target);
    }
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = offset;
    app.graph.setDirtyCanvas(true, true);
    return app.graph.serialize();
  }, { nodes, links, note, offset: [MARGIN.left, MARGIN.top] });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(workflow, null, 1)}\n`);
  if (!picture) return page.close();
  if (runs) await run(page);
  // The middle of the clip says more than its first frame.
  await page.evaluate(() => document.querySelectorAll("video").forEach((v) => { v.pause(); v.currentTime = 0.6; }));
  await page.waitForTimeout(1000);
  const clip = { x: MARGIN.left, y: MARGIN.top - 10, width: right + 20, height: bottom + 30 };
  await page.screenshot({ path: join(folder, "pictures", `${picture}.jpg`), type: "jpeg", quality: 80, clip });
  await page.close();
}

/** The region editor by itself, in the middle of a movement. */
async function showEditor(name) {
  const page = await open({ viewport: { width: 1000, height: 1000 }, deviceScaleFactor: 1.5 });
  await page.evaluate((values) => {
    app.graph.clear();
    const node = LiteGraph.createNode("CCVD_RegionMask");
    app.graph.add(node);
    node.setSize([720, 860]);
    for (const widget of node.widgets) widget.value = values[widget.name] ?? widget.value;
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [120, 60];
    app.graph.setDirtyCanvas(true, true);
  }, EDITOR.values);
  const editor = page.locator(".ccvd-regions-panel");
  await editor.hover(); // it takes over the size of the video
  await editor.locator(".ccvd-regions-chips button").first().click();
  await editor.locator("input[type=range]").fill(String(EDITOR.frame));
  await page.waitForTimeout(500);
  await editor.screenshot({ path: join(folder, "pictures", `${name}.jpg`), type: "jpeg", quality: 85 });
  await page.close();
}

async function run(page) {
  const done = page.evaluate(() => new Promise((resolve) => {
    app.api.addEventListener("execution_success", () => resolve("success"), { once: true });
    app.api.addEventListener("execution_error", (e) => resolve(JSON.stringify(e.detail)), { once: true });
  }));
  // Without a GPU the page's drawing would take the time that learning needs.
  await page.evaluate(() => { app.canvas.pause_rendering = true; return app.queuePrompt(0, 1); });
  console.log(await done);
  await page.evaluate(() => { app.canvas.pause_rendering = false; app.graph.setDirtyCanvas(true, true); });
  await page.waitForTimeout(3000);
}
