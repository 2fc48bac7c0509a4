// The editor without a page: everything one can do with the regions of a layout.

import { moveBox, resizeBox } from "./region_editor_boxes.js";
import {
  assignConcept, copiesFor, frameOf, moveKeyframe, newRegion, placeBox, reorder, standStill, toggleKeyframe,
} from "./region_editor_regions.js";
import { RegionState } from "./region_editor_state.js";
import { MAX_REGIONS, boxAt } from "./region_layout.js";

/** Regions last copied, in any editor of the page. */
let clipboard = [];

export class RegionModel extends RegionState {
  /** Give up a value that cannot be read. */
  startAfresh() {
    this.commit([], []);
  }

  #change(indices, change, merge = null) {
    const chosen = new Set(indices);
    const next = this.regions.map((region, index) => (chosen.has(index) ? change(region, index) : region));
    if (next.some((region, index) => region !== this.regions[index])) this.commit(next, this.selection, merge);
  }

  /** A change that is typed or chosen for the one selected region: {name}, {prompt}, {color}, {strength}. */
  set(values, merge = null) {
    this.#change(this.movable, (region) => ({ ...region, ...values }), merge);
  }

  add(box) {
    if (this.regions.length >= MAX_REGIONS) return;
    this.drawing = false;
    this.commit([...this.regions, newRegion(this.regions, box, this.t)], [this.regions.length]);
  }

  remove() {
    const gone = new Set(this.movable);
    if (gone.size) this.commit(this.regions.filter((_, index) => !gone.has(index)), []);
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
    if (regions.some((region, index) => region !== this.regions[index])) this.commit(regions, indices);
  }

  toggleKeyframe() {
    this.#change(this.movable, (region) => toggleKeyframe(region, this.frame, this.frames));
  }

  standStill() {
    this.#change(this.movable, (region) => (
      region.keyframes.length > 1 ? standStill(region, this.frame, this.frames) : region
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
      return moved.some((number, at) => number !== box[at]) ? placeBox(region, moved, this.frame, this.frames) : region;
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
    this.commit([...this.regions, ...copies], copies.map((_, at) => this.regions.length + at));
  }

  get canPaste() {
    return clipboard.length > 0;
  }

  // Dragging

  /** Show boxes {index: box} while they are dragged. */
  drag(boxes) {
    this.showDragged(this.atRest.map((region, index) => (
      index in boxes ? placeBox(region, boxes[index], this.frame, this.frames) : region
    )));
  }

  /** Show a region with its keyframe number `at` at another frame, and that moment, while it is dragged. */
  dragKeyframe(index, at, frame) {
    const region = moveKeyframe(this.atRest[index], at, frame, this.frames);
    this.frame = frameOf(region.keyframes[at].t, this.frames);
    this.showDragged(this.atRest.map((other, place) => (place === index ? region : other)));
  }
}
