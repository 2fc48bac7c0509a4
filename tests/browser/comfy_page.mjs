// A real ComfyUI in a headless Chromium, driven by the tests of this folder. scripts/run_browser_tests.py starts the
// server and says where everything is.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { Patience } from "./patience.mjs";

const {
  CCVD_ADDRESS, CCVD_BROWSER_MODULES, CCVD_CHROMIUM, CCVD_CHROMIUM_ARGUMENTS, CCVD_LIFE, CCVD_SCREENSHOTS,
} = process.env;
const { chromium } = createRequire(join(CCVD_BROWSER_MODULES, "package.json"))("playwright-core");

/** The repository's example workflows. */
export const EXAMPLES = new URL("../../example_workflows/", import.meta.url);
/** Milliseconds for one click or key, which are no work. What is work is waited for as long as something moves. */
const CLICK = 300_000;
const QUIET = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--proxy-server=direct://",
  ...(CCVD_CHROMIUM_ARGUMENTS ?? "").split(" ").filter(Boolean),
];

/** A ComfyUI page; `vueNodes`: in Nodes 2.0 instead of the classic canvas, `settings`: further ones. Close it when done. */
export class ComfyPage {
  static async open({ vueNodes = false, width = 1500, height = 1000, settings: more = {} } = {}) {
    const settings = {
      "Comfy.TutorialCompleted": true, "Comfy.Locale": "en", "Comfy.RightSidePanel.IsOpen": false, "Comfy.VueNodes.Enabled": vueNodes,
      ...more, // the server keeps them: all that a test may change are set for every page
    };
    await fetch(`${CCVD_ADDRESS}/api/settings`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(settings),
    });
    return ComfyPage.openAt(CCVD_ADDRESS, { mode: vueNodes ? "nodes2" : "classic", width, height });
  }

  /** The page at an address, of this server or another one, as somebody sees it who has never been there. */
  static async openAt(address, { mode = "fresh", width = 1500, height = 1000 } = {}) {
    const browser = await chromium.launch({ executablePath: CCVD_CHROMIUM, args: QUIET });
    const page = await browser.newPage({ viewport: { width, height } });
    const opened = new ComfyPage(browser, page, mode);
    page.on("pageerror", (error) => opened.errors.push(String(error)));
    page.on("dialog", (dialog) => dialog.accept());
    page.setDefaultTimeout(CLICK);
    for (const sign of ["request", "response", "console", "domcontentloaded"]) page.on(sign, () => opened.moved());
    page.on("websocket", (socket) => socket.on("framereceived", () => opened.moved()));
    await opened.patiently("the page does not open", page.goto(address, { timeout: 0 }));
    await opened.ready();
    return opened;
  }

  constructor(browser, page, mode) {
    Object.assign(this, { browser, page, mode });
    /** Errors that nobody caught in the page. */
    this.errors = [];
    /** How much the page has loaded, heard and said. */
    this.events = 0;
  }

  async ready() {
    await this.until(
      () => window.app?.extensionManager?.workflow?.activeWorkflow && window.LiteGraph?.registered_node_types?.CCVD_RegionMask,
    );
    // The page loads its last workflow after that.
    for (let before = -1, times = 0; this.events !== before && times < 20; times += 1) {
      before = this.events;
      await this.settle(1500);
    }
  }

  moved() {
    this.events += 1;
  }

  /** What a promise comes to, given up when neither the page nor the server moves any more. */
  patiently(what, promise) {
    const look = () => ({ events: this.events, ...JSON.parse(readFileSync(CCVD_LIFE, "utf8")) });
    return new Patience(look, what).waitFor(promise);
  }

  /** Wait until something is so in the page. */
  until(condition, argument = null) {
    return this.patiently(`it does not come true: ${condition}`, this.page.waitForFunction(condition, argument, { timeout: 0 }));
  }

  /** Wait until the page has drawn what was done to it, and at least so many milliseconds. */
  async settle(least) {
    await this.page.waitForTimeout(least);
    await this.run(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  }

  async reload() {
    await this.patiently("the page does not open again", this.page.reload({ timeout: 0 }));
    await this.ready();
  }

  async close() {
    await this.browser.close();
  }

  run(work, argument) {
    return this.page.evaluate(work, argument);
  }

  /** An empty graph at scale 1. */
  async clear() {
    await this.run(() => {
      app.graph.clear();
      app.canvas.ds.scale = 1;
      app.canvas.ds.offset = [40, 60];
      app.canvas.setDirty(true, true);
      app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
    });
  }

  /** Add a node; returns its id. `values` are widget values by name. */
  async add(type, [x, y], values = {}) {
    const id = await this.run(({ type, x, y, values }) => {
      const node = LiteGraph.createNode(type);
      app.graph.add(node);
      node.pos = [x, y];
      for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((one) => one.name === name);
        widget.value = value;
        widget.callback?.(value);
      }
      app.graph.setDirtyCanvas(true, true);
      app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
      return node.id;
    }, { type, x, y, values });
    await this.settle(400);
    return id;
  }

  /** Bring a node into the middle of the view, at scale 1. */
  async show(id) {
    await this.run((id) => {
      const node = app.graph.getNodeById(id);
      const { width, height } = app.canvas.canvas.getBoundingClientRect();
      app.canvas.ds.scale = 1;
      app.canvas.ds.offset = [(width - node.size[0]) / 2 - node.pos[0], (height - node.size[1]) / 2 - node.pos[1]];
      app.canvas.setDirty(true, true);
    }, id);
    await this.settle(400);
  }

  connect(from, output, to, input) {
    return this.run(([from, output, to, input]) => {
      const source = app.graph.getNodeById(from);
      const target = app.graph.getNodeById(to);
      const slot = target.inputs.findIndex((one) => one.name === input);
      source.connect(source.outputs.findIndex((one) => one.name === output), target, slot);
    }, [from, output, to, input]);
  }

  widget(id, name) {
    return this.run(([id, name]) => app.graph.getNodeById(id).widgets.find((one) => one.name === name).value, [id, name]);
  }

  setWidget(id, name, value) {
    return this.run(([id, name, value]) => {
      const widget = app.graph.getNodeById(id).widgets.find((one) => one.name === name);
      widget.value = value;
      widget.callback?.(value);
    }, [id, name, value]);
  }

  /** Set widgets {name: value} of every node of a type. */
  setOfType(type, values) {
    return this.run(([type, values]) => {
      const nodes = app.graph.nodes.filter((node) => node.type === type);
      if (!nodes.length) throw Error(`no ${type} in the graph`);
      for (const node of nodes) {
        for (const [name, value] of Object.entries(values)) {
          const widget = node.widgets.find((one) => one.name === name);
          if (!widget) throw Error(`${type} has no widget ${name}`);
          widget.value = value;
          widget.callback?.(value);
        }
      }
    }, [type, values]);
  }

  /**
   * Queue what is in the graph and wait for its end; returns {outputs: node id -> what it showed}. Meanwhile the graph is not
   * drawn: without a GPU that takes the time which the nodes need.
   */
  queue() {
    const done = this.run(async () => {
      const outputs = {};
      const { api } = app;
      const note = ({ detail }) => {
        outputs[detail.node] = detail.output;
      };
      app.canvas.pause_rendering = true;
      // A refused node does not keep the others from running: a run's end may be told before the refusal, or after it.
      const running = async () => {
        const queue = await (await api.fetchApi("/queue")).json();
        return queue.queue_running.length + queue.queue_pending.length;
      };
      while (await running()) await new Promise((resolve) => { setTimeout(resolve, 50); });
      let listeners = {};
      const ended = new Promise((resolve) => {
        listeners = {
          executed: note,
          execution_success: () => resolve(null),
          execution_error: ({ detail }) => resolve(detail.exception_message),
        };
      });
      for (const [event, listener] of Object.entries(listeners)) api.addEventListener(event, listener);
      try {
        if (!await app.queuePrompt(0, 1)) throw Error(`refused: ${JSON.stringify(app.lastNodeErrors ?? null)}`);
        const error = await ended;
        if (error !== null) throw Error(error);
        return { outputs };
      } finally {
        for (const [event, listener] of Object.entries(listeners)) api.removeEventListener(event, listener);
        app.canvas.pause_rendering = false;
        app.canvas.setDirty(true, true);
      }
    });
    return this.patiently("the run does not end", done);
  }

  /** Load a workflow of the repository's example_workflows. */
  async loadExample(name) {
    await this.load(JSON.parse(readFileSync(new URL(`${name}.json`, EXAMPLES), "utf8")));
  }

  async load(workflow) {
    await this.run((workflow) => app.loadGraphData(workflow), workflow);
    await this.settle(800);
  }

  serialize() {
    return this.run(() => app.graph.serialize());
  }

  /** Keep a picture of the page in the screenshots' folder. */
  async screenshot(name) {
    mkdirSync(CCVD_SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: join(CCVD_SCREENSHOTS, `${this.mode} ${name}.png`) });
  }

  /** Do some work; where it fails, keep a picture of the page. */
  async pictured(name, work) {
    try {
      await work();
    } catch (error) {
      await this.screenshot(`FAILED ${name}`);
      throw error;
    }
  }

  editor(id) {
    return new Editor(this, id);
  }
}

/** The region editor of one node, used as a person would: with the mouse and the keyboard. */
export class Editor {
  constructor(comfy, id) {
    Object.assign(this, { comfy, id });
  }

  get page() {
    return this.comfy.page;
  }

  /** A part of this editor by its CSS selector. */
  async part(selector) {
    const handle = await this.page.evaluateHandle(([id, selector]) => {
      const root = app.graph.getNodeById(id).widgets.find((one) => one.name === "layout").element;
      return root.querySelector(selector) ?? document.querySelector(`.ccvd-regions-overlay ${selector}`);
    }, [this.id, selector]);
    return handle.asElement();
  }

  /** Whether the editor that this node has is the one that the page shows. */
  mounted() {
    return this.page.evaluate((id) => {
      const root = app.graph.getNodeById(id).widgets.find((one) => one.name === "layout").element;
      const shown = root.isConnected && root.getBoundingClientRect().width > 50;
      return shown && document.querySelectorAll(".ccvd-regions").length;
    }, this.id);
  }

  /** The page's place of a point given as fractions of the frame. */
  async place([x, y]) {
    const canvas = await this.part("canvas");
    const box = await canvas.boundingBox();
    const inner = await canvas.evaluate((element) => [element.clientWidth, element.clientHeight]);
    const [width, height] = await this.page.evaluate((id) => ["width", "height"].map(
      (name) => app.graph.getNodeById(id).widgets.find((one) => one.name === name).value,
    ), this.id);
    const zoom = box.width / inner[0];
    const scale = Math.min((inner[0] - 16) / width, (inner[1] - 16) / height);
    const [left, top] = [(inner[0] - width * scale) / 2, (inner[1] - height * scale) / 2];
    return [box.x + zoom * (left + x * width * scale), box.y + zoom * (top + y * height * scale)];
  }

  async drag(from, to, key) {
    const [a, b] = [await this.place(from), await this.place(to)];
    if (key) await this.page.keyboard.down(key);
    await this.page.mouse.move(...a);
    await this.page.mouse.down();
    await this.page.mouse.move((a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    await this.page.mouse.move(...b);
    await this.page.mouse.up();
    if (key) await this.page.keyboard.up(key);
    await this.comfy.settle(60);
  }

  async click(point, modifiers = []) {
    const [x, y] = await this.place(point);
    for (const key of modifiers) await this.page.keyboard.down(key);
    await this.page.mouse.click(x, y);
    for (const key of modifiers) await this.page.keyboard.up(key);
    await this.comfy.settle(60);
  }

  async press(keys) {
    await this.page.keyboard.press(keys);
    await this.comfy.settle(60);
  }

  async button(action) {
    await (await this.part(`[data-action="${action}"]`)).click();
    await this.comfy.settle(60);
  }

  /** Type into a field, in place of what is there. */
  async fill(selector, text) {
    const field = await this.part(selector);
    await field.click();
    await this.page.keyboard.press("Control+a");
    await this.page.keyboard.type(String(text));
    await field.evaluate((element) => element.blur());
  }

  async goTo(frame) {
    await (await this.part("input[type=range]")).evaluate((slider, value) => {
      slider.value = value;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }, frame);
  }

  /** Drag a keyframe's mark on the time line to a frame; with Escape before letting go when `giveUp`. */
  async dragKeyframe(at, frame, giveUp = false) {
    const [marks, mark] = [await this.part(".ccvd-regions-marks"), await this.part(`.mark[data-at="${at}"]`)];
    const [line, from] = [await marks.boundingBox(), await mark.boundingBox()];
    const zoom = line.width / await marks.evaluate((element) => element.offsetWidth);
    const last = Number(await (await this.part("input[type=range]")).getAttribute("max"));
    const x = line.x + zoom * 8 + (frame / last) * (line.width - 16 * zoom);
    await this.page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
    await this.page.mouse.down();
    await this.page.mouse.move((x + from.x) / 2, from.y);
    await this.page.mouse.move(x, from.y);
    if (giveUp) await this.page.keyboard.press("Escape");
    await this.page.mouse.up();
    await this.comfy.settle(60);
  }

  async chooseConcept(name) {
    const list = await this.part("select.concept");
    await list.focus();
    await this.comfy.until(([list, name]) => [...list.options].some((option) => option.value === name), [list, name]);
    await list.selectOption(name);
  }

  /** The layout as the graph has it. */
  async layout() {
    return JSON.parse(await this.comfy.widget(this.id, "layout"));
  }
}
