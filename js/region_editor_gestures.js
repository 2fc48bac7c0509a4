// What a drag with the mouse or pen means. Points are fractions of the frame; no page.

import { boxBetween, contains, handleAt, moveBox, resizeBox } from "./region_editor_boxes.js";

/** A drag under way; `box` is the rubber band to show, `marquee` whether it selects instead of drawing. */
export class Gesture {
  box = null;
  marquee = false;
  #move = () => {};
  #end = () => {};
  #model;

  /** `reach` [x, y]: how near counts as on a handle; `slack`: how far the mouse may slip in a click. */
  constructor(model, point, { shift = false, alt = false, reach, slack = reach }) {
    this.#model = model;
    const index = alt || model.drawing ? -1 : topmost(model, point);
    const grip = alt || model.drawing || shift ? null : gripAt(model, point, reach);
    if (grip) this.#resize(grip, point);
    else if (index >= 0 && !model.regions[index].locked) this.#press(index, point, shift, slack);
    else if (shift) this.#band(point, slack, index);
    else this.#draw(point, slack, index);
  }

  move(point) {
    this.#move(point);
  }

  end(point) {
    this.#end(point);
    this.#model.drop();
  }

  cancel() {
    this.box = null;
    this.#model.cancelDrag();
  }

  #resize({ index, handle }, start) {
    const model = this.#model;
    const box = model.boxOf(index);
    this.#move = ([x, y]) => {
      model.drag({ [index]: resizeBox(box, handle, x - start[0], y - start[1], model.grid, model.least) });
    };
  }

  #press(index, start, shift, slack) {
    const model = this.#model;
    if (shift) {
      model.toggle(index);
      return;
    }
    const together = model.selection.includes(index);
    if (!together) model.select([index]);
    const boxes = Object.fromEntries(model.movable.map((at) => [at, model.boxOf(at)]));
    let moved = false;
    this.#move = ([x, y]) => {
      moved ||= far(start, [x, y], slack);
      if (!moved) return;
      // The grabbed box snaps; the others keep their distance to it.
      const target = moveBox(boxes[index], x - start[0], y - start[1], model.grid);
      const [dx, dy] = [target[0] - boxes[index][0], target[1] - boxes[index][1]];
      model.drag(Object.fromEntries(
        Object.entries(boxes).map(([at, box]) => [at, moveBox(box, dx, dy, null)]),
      ));
    };
    this.#end = () => {
      if (together && !moved) model.select([index]);
    };
  }

  #draw(start, slack, under) {
    const model = this.#model;
    this.#move = (point) => {
      if (this.box || far(start, point, slack)) this.box = boxBetween(start, point, model.grid, model.least);
    };
    this.#end = () => {
      if (this.box) model.add(this.box);
      else model.select(under >= 0 ? [under] : []);
    };
  }

  #band(start, slack, under) {
    const model = this.#model;
    this.marquee = true;
    this.#move = (point) => {
      if (this.box || far(start, point, slack)) this.box = boxBetween(start, point, null, [0, 0]);
    };
    this.#end = () => {
      if (this.box) model.selectInside(this.box);
      else if (under >= 0) model.toggle(under);
    };
  }
}

/** Index of the region in front at a point, or -1; a locked one only if no other is there. */
export function topmost(model, point) {
  const hit = model.regions.map((_, index) => index).filter((index) => contains(model.boxOf(index), point));
  const free = hit.filter((index) => !model.regions[index].locked);
  return free.at(-1) ?? hit.at(-1) ?? -1;
}

/** {index, handle} of a selected region's handle near a point, or null. */
export function gripAt(model, point, reach) {
  for (const index of [...model.movable].reverse()) {
    const handle = handleAt(model.boxOf(index), point, reach);
    if (handle) return { index, handle };
  }
  return null;
}

/** The mouse pointer for a place on the canvas. */
export function cursorAt(model, point, reach) {
  const grip = model.drawing ? null : gripAt(model, point, reach);
  if (grip) return `${grip.handle}-resize`;
  const index = model.drawing ? -1 : topmost(model, point);
  return index >= 0 && !model.regions[index].locked ? "move" : "crosshair";
}

function far([ax, ay], [bx, by], [sx, sy]) {
  return Math.abs(ax - bx) > sx || Math.abs(ay - by) > sy;
}
