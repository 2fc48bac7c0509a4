// Builds example_workflows/learn_and_use_a_concept.json in a running ComfyUI, runs it, and takes its picture.
//
//   python scripts/make_example_workflow.py
//
// starts the server and calls this with: address, output folder. Needs Chromium and npm's playwright-core.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(join(process.cwd(), "package.json"))("playwright-core");
const [address, folder] = process.argv.slice(2);
const NAME = "learn_and_use_a_concept";

// [key, type, x, y, width, height, widget values by name]
const NODES = [
  ["model", "CCVD_DemoModel", 20, 60, 300, 110, {}],
  ["pictures", "LoadImageDataSetFromFolder", 20, 240, 300, 90, { folder: "my_concept" }],
  ["note", "MarkdownNote", 20, 400, 300, 330, {}],
  ["learn", "CCVD_LearnConcept", 380, 60, 380, 880, {
    name: "rex", class_words: "dog", kind: "subject", library: "my_concepts", preview_every: 50,
  }],
  ["report", "PreviewAny", 820, 60, 380, 200, {}],
  ["losses", "PreviewImage", 820, 330, 380, 290, {}],
  ["negative", "CLIPTextEncode", 820, 690, 380, 100, { text: "" }],
  ["latent", "EmptyHunyuanLatentVideo", 820, 860, 380, 150, { width: 128, height: 128, length: 9, batch_size: 1 }],
  ["aggregate", "CCVD_AggregateAdapters", 1260, 60, 400, 660, { prompt: "a <rex> moving right on green grass" }],
  ["sampler", "KSampler", 1260, 790, 400, 290, {
    seed: 1, steps: 20, cfg: 3, sampler_name: "euler", scheduler: "simple", denoise: 1,
  }],
  ["decode", "VAEDecode", 1720, 60, 420, 60, {}],
  ["create", "CreateVideo", 1720, 180, 420, 110, { fps: 8 }],
  ["save", "SaveVideo", 1720, 360, 420, 560, { filename_prefix: "ccvd/rex" }],
];
const NOTE = `## Learn a concept and use it

1. Put 4 to 6 pictures of it into a folder inside ComfyUI's **input** folder and choose that folder above.
2. In **Learn Concept** give it a *name* and say what kind of thing it is (*class words*).
3. Write \`<name>\` in the prompt of **Aggregate Adapters**.
4. Queue. The first run learns; after that only the video is made.

For your own model, replace **CCVD Demo Model** by Load Diffusion Model, Load CLIP (type wan) and Load VAE.`;
// [from, output name, to, input name]
const LINKS = [
  ["model", "MODEL", "learn", "model"], ["model", "CLIP", "learn", "clip"], ["model", "VAE", "learn", "vae"],
  ["pictures", "images", "learn", "images"],
  ["learn", "loss_picture", "losses", "images"], ["learn", "report", "report", "source"],
  ["model", "MODEL", "aggregate", "model"], ["model", "CLIP", "aggregate", "clip"],
  ["learn", "library", "aggregate", "library"],
  ["model", "CLIP", "negative", "clip"],
  ["aggregate", "model", "sampler", "model"], ["aggregate", "conditioning", "sampler", "positive"],
  ["negative", "CONDITIONING", "sampler", "negative"], ["latent", "LATENT", "sampler", "latent_image"],
  ["sampler", "LATENT", "decode", "samples"], ["model", "VAE", "decode", "vae"],
  ["decode", "IMAGE", "create", "images"], ["create", "VIDEO", "save", "video"],
];

await fetch(`${address}/api/settings`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": false }),
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
try {
  const page = await browser.newPage({ viewport: { width: 2260, height: 1180 } });
  await page.goto(address);
  await page.waitForFunction(
    () => window.app?.extensionManager && window.LiteGraph?.registered_node_types?.CCVD_LearnConcept, null, { timeout: 60_000 },
  );
  await page.waitForTimeout(2000);
  const workflow = await page.evaluate(({ nodes, links, note }) => {
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
    app.canvas.ds.offset = [60, 20];
    app.graph.setDirtyCanvas(true, true);
    return app.graph.serialize();
  }, { nodes: NODES, links: LINKS, note: NOTE });
  writeFileSync(join(folder, `${NAME}.json`), `${JSON.stringify(workflow, null, 1)}\n`);
  const done = page.evaluate(() => new Promise((resolve) => {
    app.api.addEventListener("execution_success", () => resolve("success"), { once: true });
    app.api.addEventListener("execution_error", (e) => resolve(JSON.stringify(e.detail)), { once: true });
  }));
  await page.evaluate(() => app.queuePrompt(0, 1));
  console.log(await done);
  await page.waitForTimeout(3000);
  // The middle of the clip says more than its first frame.
  await page.evaluate(() => document.querySelectorAll("video").forEach((v) => { v.pause(); v.currentTime = 0.6; }));
  await page.waitForTimeout(1000);
  await page.screenshot({ path: join(folder, `${NAME}.jpg`), type: "jpeg", quality: 80 });
} finally {
  await browser.close();
}
