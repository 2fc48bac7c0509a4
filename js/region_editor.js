// The region editor as a ComfyUI widget: its value is the layout's text, in the classic canvas and in Nodes 2.0.

import { app } from "../../scripts/app.js";
import { RegionModel } from "./region_editor_model.js";
import { Panel } from "./region_editor_panel.js";
import {
  conceptGroups, connectedPicture, followObject, hasBackground, loadPictures, sentFrames, sentNames, videoOf,
} from "./region_editor_sources.js";
import { addStyle } from "./region_editor_style.js";
import { textsFor } from "./region_editor_text.js";

const TYPE = "CCVD_REGION_EDITOR";
const CLASS = "ccvd-regions";
const LEAST_HEIGHT = 430;
const FIRST_SIZE = [540, 760];
/** LiteGraph's word for the side of a node that a connection is on. */
const INPUT = 1;

/** Call `extra` after what the node does already. */
function after(node, name, extra) {
  const before = node[name];
  node[name] = function chained(...given) {
    const result = before?.apply(this, given);
    extra.apply(this, given);
    return result;
  };
}

/** Tell ComfyUI that a change is complete: one step of its own undo. */
function noteStep() {
  app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();
}

/** The wheel zooms the graph; in Nodes 2.0 it gets there by itself. */
function zoomGraph(event) {
  if (globalThis.LiteGraph?.vueNodesMode) return;
  event.preventDefault();
  app.canvas?.processMouseWheel?.(event);
}

function createWidget(node, inputName, inputData) {
  addStyle(document);
  const model = new RegionModel(inputData?.[1]?.default ?? "{}");
  const root = document.createElement("div");
  root.className = CLASS;
  const texts = textsFor(app.extensionManager?.setting?.get?.("Comfy.Locale"));
  const sent = { names: [] };
  const panel = new Panel(root, model, texts, {
    concepts: () => conceptGroups(app.rootGraph ?? app.graph, texts.inGraph),
    wheel: zoomGraph,
    followed: { connected: () => hasBackground(node), pictures: () => sent.names, ask: followObject },
  });
  const widget = node.addDOMWidget(inputName, TYPE, root, {
    getValue: () => model.text,
    setValue: (text) => model.load(text),
    getMinHeight: () => LEAST_HEIGHT,
    hideOnZoom: false,
    // The panel of properties would take the element out of the node, and the node would shrink.
    hideInPanel: true,
  });
  model.listen((kind) => {
    if (kind === "edit") {
      node.graph?.setDirtyCanvas?.(true);
    } else if (kind === "step") {
      noteStep();
    }
  });
  keepUp(node, model, panel, sent);
  after(widget, "onRemove", () => panel.close());
  if (node.size[0] < FIRST_SIZE[0] || node.size[1] < FIRST_SIZE[1]) {
    node.setSize?.([Math.max(node.size[0], FIRST_SIZE[0]), Math.max(node.size[1], FIRST_SIZE[1])]);
  }
  return { widget, minWidth: FIRST_SIZE[0], minHeight: LEAST_HEIGHT };
}

/** Keep the editor to the node's other inputs: the video's size and length, and the background, whose frames are `sent`. */
function keepUp(node, model, panel, sent) {
  let frames = [];
  let wanted = "";
  const video = () => model.setVideo(...videoOf(node));
  const show = () => {
    const picture = frames[Math.round(model.t * (frames.length - 1))] ?? null;
    if (panel.stage.picture === picture) return;
    panel.stage.picture = picture;
    panel.stage.draw();
  };
  const background = async (urls) => {
    const key = urls.join("\n");
    if (key === wanted) return;
    wanted = key;
    const loaded = await loadPictures(urls);
    if (wanted !== key) return;
    frames = loaded;
    show();
  };
  const beforeARun = () => {
    if (!node.graph) return; // removed in the meantime
    sent.names = [];
    const url = connectedPicture(node);
    background(url ? [url] : []);
  };
  model.listen(show);
  after(node, "onExecuted", (output) => {
    sent.names = sentNames(output);
    background(sentFrames(output));
  });
  after(node, "onConnectionsChange", (side, slot) => {
    if (side === INPUT && node.inputs?.[slot]?.name === "background") setTimeout(beforeARun);
  });
  after(node, "onWidgetChanged", video);
  after(node, "onConfigure", () => setTimeout(() => {
    video();
    beforeARun();
  }));
  // Values may also be set without any notice; whoever comes to draw sees the right ones.
  panel.element.addEventListener("pointerenter", () => {
    video();
    // The frames of a run may still be on their way: they are not to be given up for what was there before it.
    if (hasBackground(node) && !frames.length && !sent.names.length) beforeARun();
  });
  setTimeout(() => {
    for (const name of ["width", "height", "length"]) {
      const other = node.widgets?.find((one) => one.name === name);
      if (other) after(other, "callback", () => setTimeout(video));
    }
    video();
    beforeARun();
  });
}

/**
 * Nodes 2.0 keeps the elements of a node that another of the same id replaces, after Ctrl+Z or on the way into a subgraph,
 * and so goes on showing the old editor: put the new one there, once the page has settled.
 */
function remount(node) {
  const root = node.widgets?.find((widget) => widget.type === TYPE)?.element;
  if (!root) return;
  requestAnimationFrame(() => setTimeout(() => {
    if (root.isConnected || node.graph !== app.canvas.graph) return;
    document.querySelector(`[data-node-id="${node.id}"] .${CLASS}`)?.replaceWith(root);
  }));
}

app.registerExtension({
  name: "CCVD.RegionEditor",
  getCustomWidgets: () => ({ [TYPE]: createWidget }),
  loadedGraphNode: remount,
  setup() {
    app.canvas.canvas.addEventListener("litegraph:set-graph", () => app.canvas.graph?.nodes.forEach(remount));
  },
});
