// The editor without a page: the layout, what is selected, the moment shown, and everything one can do with them.

import { cellOf, moveBox, overlap, resizeBox } from "./region_editor_boxes.js";
import { History } from "./region_editor_history.js";
import {
  assignConcept, copiesFor, frameOf, keyframeAt, moveKeyframe, newRegion, placeBox, reorder, standStill, timeOf,
  toggleKeyframe,
} from "./region_editor_regions.js";
import { MAX_REGIONS, MAX_SIDE, boxAt, parseLayout, serializeLayout, whyNotWritten } from "./region_layout.js";

/** Regions last copied, in any editor of the page. */
let clipboard = [];

export class RegionModel {
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

  #tell(kind) {
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
    this.#tell("view");
  }

  /** The video's size and length, from the node's other inputs; the layout takes it over with the next edit. */
  setVideo(across, down, length) {
    const [width, height] = [across, down].map((side) => Math.min(MAX_SIDE, whole(side)));
    const frames = whole(length);
    if (this.#size.width === width && this.#size.height === height && this.#frames === frames) return;
    this.#size = { width, height };
    this.#frames = frames;
    this.frame = Math.min(this.frame, this.#frames - 1);
    this.#tell("view");
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
    this.#tell("view");
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

  // Edits

  #commit(regions, selection = this.selection, merge = null) {
    this.#dragged = null;
    this.refused = whyNotWritten({ ...this.#size, regions });
    if (this.refused) {
      this.#tell("view");
      return;
    }
    this.#history.push({ regions, selection: [...selection] }, merge);
    this.#write();
    if (merge === null) this.#tell("step");
  }

  /** Give up a value that cannot be read. */
  startAfresh() {
    this.#commit([], []);
  }

  #write() {
    this.damaged = null;
    this.#text = serializeLayout(this.layout);
    this.#tell("edit");
  }

  #change(indices, change, merge = null) {
    const chosen = new Set(indices);
    const next = this.regions.map((region, index) => (chosen.has(index) ? change(region, index) : region));
    if (next.some((region, index) => region !== this.regions[index])) this.#commit(next, this.selection, merge);
  }

  /** A change that is typed or chosen for the one selected region: {name}, {prompt}, {color}, {strength}. */
  set(values, merge = null) {
    this.#change(this.movable, (region) => ({ ...region, ...values }), merge);
  }

  /** Typing has ended: the next change is a step of its own. */
  endTyping() {
    this.#history.endMerge();
    this.#tell("step");
  }

  add(box) {
    if (this.regions.length >= MAX_REGIONS) return;
    this.drawing = false;
    this.#commit([...this.regions, newRegion(this.regions, box, this.t)], [this.regions.length]);
  }

  remove() {
    const gone = new Set(this.movable);
    if (gone.size) this.#commit(this.regions.filter((_, index) => !gone.has(index)), []);
  }

  setLocked(locked) {
    this.#change(this.selection, (region) => (region.locked === locked ? region : { ...region, locked }));
  }

  assignConcept(name) {
    this.#change(this.movable, (region) => assignConcept(region, name));
  }

  order(direction, allTheWay = false) {
    if (!this.selection.length) return;
    const { regions, indices } = reorder(this.regions, this.selection, direction, allTheWay);
    if (regions.some((region, index) => region !== this.regions[index])) this.#commit(regions, indices);
  }

  toggleKeyframe() {
    this.#change(this.movable, (region) => toggleKeyframe(region, this.frame, this.#frames));
  }

  standStill() {
    this.#change(this.movable, (region) => (
      region.keyframes.length > 1 ? standStill(region, this.frame, this.#frames) : region
    ));
  }

  /**
   * Change regions that were looked at some time ago, in one step: [[their keyframes then, change], ...]. Nothing is done,
   * and false returned, if one of them has other keyframes by now, is locked or gone.
   */
  rewrite(changes) {
    const indices = changes.map(([keyframes]) => this.regions.findIndex((region) => (
      region.keyframes === keyframes && !region.locked
    )));
    if (indices.includes(-1)) return false;
    this.#change(indices, (region, index) => changes[indices.indexOf(index)][1](region));
    return true;
  }

  /** Arrow keys: steps in a row are one step to undo. */
  nudge(dx, dy, resize = false) {
    const change = (region) => {
      const box = boxAt(region, this.t);
      const moved = resize ? resizeBox(box, "se", dx, dy, null, this.least) : moveBox(box, dx, dy, null);
      return moved.some((number, at) => number !== box[at]) ? placeBox(region, moved, this.frame, this.#frames) : region;
    };
    this.#change(this.movable, change, `nudge ${this.frame} ${this.selection}`);
  }

  copy() {
    if (this.selection.length) clipboard = structuredClone(this.selection.map((index) => this.regions[index]));
  }

  cut() {
    this.copy();
    this.remove();
  }

  paste() {
    this.#insert(clipboard);
  }

  duplicate() {
    this.#insert(this.selection.map((index) => this.regions[index]));
  }

  #insert(copied) {
    const room = copied.slice(0, MAX_REGIONS - this.regions.length);
    if (!room.length) return;
    const [dx, dy] = this.least;
    const copies = copiesFor(this.regions, room, (box) => {
      const aside = moveBox(box, dx, dy, null);
      // At the lower right corner there is only the other way.
      return aside[0] === box[0] && aside[1] === box[1] ? moveBox(box, -dx, -dy, null) : aside;
    });
    this.#commit([...this.regions, ...copies], copies.map((_, at) => this.regions.length + at));
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
    this.#tell("step");
  }

  get canUndo() {
    return this.#history.canUndo;
  }

  get canRedo() {
    return this.#history.canRedo;
  }

  get canPaste() {
    return clipboard.length > 0;
  }

  // Dragging: shown at once, one step when it ends

  /** Show boxes {index: box} while they are dragged. */
  drag(boxes) {
    this.#dragged = this.#history.present.regions.map((region, index) => (
      index in boxes ? placeBox(region, boxes[index], this.frame, this.#frames) : region
    ));
    this.#tell("view");
  }

  /** Show a region with its keyframe number `at` at another frame, and that moment, while it is dragged. */
  dragKeyframe(index, at, frame) {
    const region = moveKeyframe(this.#history.present.regions[index], at, frame, this.#frames);
    this.#dragged = this.#history.present.regions.map((other, place) => (place === index ? region : other));
    this.frame = frameOf(region.keyframes[at].t, this.#frames);
    this.#tell("view");
  }

  drop() {
    const dragged = this.#dragged;
    this.#dragged = null;
    if (dragged && JSON.stringify(dragged) !== JSON.stringify(this.regions)) this.#commit(dragged);
    else this.#tell("view");
  }

  /** Give up what is dragged, and show `frame` again. */
  cancelDrag(frame = this.frame) {
    this.#dragged = null;
    this.frame = frame;
    this.#tell("view");
  }

  // Looking

  setFrame(frame) {
    const next = Math.min(Math.max(0, Math.round(frame)), this.#frames - 1);
    if (next === this.frame) return;
    this.frame = next;
    this.#tell("view");
  }

  setSnap(snap) {
    this.snap = snap;
    this.#tell("view");
  }

  setDrawing(drawing) {
    this.drawing = drawing;
    this.#tell("view");
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
