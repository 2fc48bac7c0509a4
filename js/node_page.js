// What the page itself does not get right with this pack's nodes, node by node as they are made.

import { app } from "../../scripts/app.js";

const OURS = "CCVD_";

/** Nodes 2.0 takes what a node with a VIDEO input shows for a video. Of these nodes it is a picture. */
function showPictures(node) {
  node.previewMediaType = "image";
}

/** The classic canvas writes an input's English name into an empty text field; its label is in the page's language. */
function translatePlaceholders(node) {
  for (const { element, label, name } of node.widgets ?? []) {
    if (element instanceof HTMLTextAreaElement && element.placeholder === name && label) element.placeholder = label;
  }
}

/**
 * A widget keeps its value when its node enters the graph. ComfyUI's store of values goes by the node's id and the widget's
 * name: without this a new node that gets the id of a deleted one takes over what was set there.
 */
function keepOwnValues(node) {
  for (const widget of node.widgets ?? []) {
    const bind = widget.setNodeId;
    if (!bind) continue;
    widget.setNodeId = function setNodeId(...given) {
      const own = this.value;
      bind.apply(this, given);
      if (this.value !== own) this.value = own;
    };
  }
}

/**
 * When a node is done, what it shows takes the place of its live previews: the page leaves the last one on top, and Nodes 2.0
 * shows it twice. Only the page's own store, which every other store knows, can take it away there.
 */
function endLivePreviews(node) {
  const executed = node.onExecuted;
  node.onExecuted = function onExecuted(...given) {
    const result = executed?.apply(this, given);
    const place = !this.graph || this.graph.isRootGraph ? String(this.id) : `${this.graph.id}:${this.id}`;
    if (!app.nodePreviewImages[place]) return result;
    app.extensionManager._p?._s?.get("nodeOutput")?.revokePreviewsByLocatorId?.(place);
    delete app.nodePreviewImages[place];
    // The classic canvas looks again at what a node shows when it is not what it was.
    this.images = null;
    this.graph?.setDirtyCanvas(true);
    return result;
  };
}

app.registerExtension({
  name: "CCVD.NodePage",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith(OURS)) return;
    showPictures(node);
    translatePlaceholders(node);
    keepOwnValues(node);
    endLivePreviews(node);
  },
});
