// What the region editor holds: the layout, what is selected, the moment shown, and the steps that can be undone.

import { cellOf, overlap } from "./region_editor_boxes.js";
import { History } from "./region_editor_history.js";
import { keyframeAt, timeOf } from "./region_editor_regions.js";
import { MAX_SIDE, boxAt, parseLayout, serializeLayout, whyNotWritten } from "./region_layout.js";

export class RegionState {
  frame = 0;
  snap = true;
  drawing = false;
  /** {text, message} of a value that cannot be read; it is kept until the first edit. */
  damaged = null;
  /** Why the last change was not made; empty once another one is. */
  refused = "";
  #history;
  #text;
  /** Regions while they are dragged. */
  #dragged = null;
  #frames = 1;
  #size = null;
  #listeners = [];

  constructor(text = "{}") {
    this.load(text);
  }

  /** `listener(kind)`: "edit" when the value has changed, "step" when a step is complete, "view" for the rest. */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** Tell every listener. */
  tell(kind) {
    for (const listener of this.#listeners) listener(kind);
  }

  // The value

  /** What the workflow keeps: of a layout that nobody has touched the very text it came in. */
  get text() {
    return this.#text;
  }

  /** Take a value from the workflow. One that cannot be read shows an empty editor and a message. */
  load(value) {
    const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
    if (this.#history && text === this.#text) return;
    let layout = { width: 512, height: 512, regions: [] };
    this.refused = "";
    this.damaged = null;
    try {
      layout = parseLayout(text);
    } catch (error) {
      this.damaged = { text, message: error.message };
    }
    this.#size ??= { width: layout.width, height: layout.height };
    this.#history = new History({ regions: layout.regions, selection: [] });
    this.#text = text;
    this.#dragged = null;
    this.tell("view");
  }

  /** The video's size and length, from the node's other inputs; the layout takes it over with the next edit. */
  setVideo(across, down, length) {
    const [width, height] = [across, down].map((side) => Math.min(MAX_SIDE, whole(side)));
    const frames = whole(length);
    if (this.#size.width === width && this.#size.height === height && this.#frames === frames) return;
    this.#size = { width, height };
    this.#frames = frames;
    this.frame = Math.min(this.frame, this.#frames - 1);
    this.tell("view");
  }

  get layout() {
    return { ...this.#size, regions: this.regions };
  }

  get regions() {
    return this.#dragged ?? this.#history.present.regions;
  }

  get frames() {
    return this.#frames;
  }

  get t() {
    return timeOf(this.frame, this.#frames);
  }

  get grid() {
    return this.snap ? cellOf(this.layout) : null;
  }

  /** The smallest box: one cell. */
  get least() {
    return cellOf(this.layout);
  }

  boxOf(index) {
    return boxAt(this.regions[index], this.t);
  }

  // The selection

  get selection() {
    return this.#history.present.selection;
  }

  /** The one selected region, or null. */
  get selected() {
    return this.selection.length === 1 ? this.regions[this.selection[0]] : null;
  }

  select(indices) {
    const selection = [...new Set(indices)].filter((index) => index in this.regions).sort((a, b) => a - b);
    this.#history.present.selection = selection;
    this.#history.endMerge();
    this.tell("view");
  }

  toggle(index) {
    this.select(this.selection.includes(index) ? this.selection.filter((at) => at !== index) : [...this.selection, index]);
  }

  selectInside(box) {
    this.select(this.regions.flatMap((region, index) => (overlap(this.boxOf(index), box) ? [index] : [])));
  }

  /** Selected regions that may be changed. */
  get movable() {
    return this.selection.filter((index) => !this.regions[index].locked);
  }

  // Steps

  /** One step: these regions and this selection, unless the layout could not be read again. Steps of one `merge` are one. */
  commit(regions, selection = this.selection, merge = null) {
    this.#dragged = null;
    this.refused = whyNotWritten({ ...this.#size, regions });
    if (this.refused) {
      this.tell("view");
      return;
    }
    this.#history.push({ regions, selection: [...selection] }, merge);
    this.#write();
    if (merge === null) this.tell("step");
  }

  #write() {
    this.damaged = null;
    this.#text = serializeLayout(this.layout);
    this.tell("edit");
  }

  /** Typing has ended: the next change is a step of its own. */
  endTyping() {
    this.#history.endMerge();
    this.tell("step");
  }

  undo() {
    this.#travel(() => this.#history.undo());
  }

  redo() {
    this.#travel(() => this.#history.redo());
  }

  #travel(go) {
    const before = this.#history.present;
    this.#dragged = null;
    if (go() === before) return;
    this.#write();
    this.tell("step");
  }

  get canUndo() {
    return this.#history.canUndo;
  }

  get canRedo() {
    return this.#history.canRedo;
  }

  // Dragging: shown at once, one step when it ends

  /** Show regions in the place of those of the last step, until they are dropped. */
  showDragged(regions) {
    this.#dragged = regions;
    this.tell("view");
  }

  /** The regions of the last step, whatever is dragged. */
  get atRest() {
    return this.#history.present.regions;
  }

  drop() {
    const dragged = this.#dragged;
    this.#dragged = null;
    if (dragged && JSON.stringify(dragged) !== JSON.stringify(this.regions)) this.commit(dragged);
    else this.tell("view");
  }

  /** Give up what is dragged, and show `frame` again. */
  cancelDrag(frame = this.frame) {
    this.#dragged = null;
    this.frame = frame;
    this.tell("view");
  }

  // Looking

  setFrame(frame) {
    const next = Math.min(Math.max(0, Math.round(frame)), this.#frames - 1);
    if (next === this.frame) return;
    this.frame = next;
    this.tell("view");
  }

  setSnap(snap) {
    this.snap = snap;
    this.tell("view");
  }

  setDrawing(drawing) {
    this.drawing = drawing;
    this.tell("view");
  }

  /** Whether every selected region has a keyframe here. */
  get onKeyframe() {
    return this.selection.length > 0
      && this.selection.every((index) => keyframeAt(this.regions[index], this.frame, this.#frames) >= 0);
  }
}

function whole(number) {
  return Math.max(1, Math.round(number) || 1);
}
