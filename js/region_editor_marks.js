// The selected regions' keyframes over the time slider: drag one to another time; click one to go there.

import { frameOf } from "./region_editor_regions.js";

/** The slider's knob is about 16 pixels wide and stays inside: its middle travels this much less, at each end. */
const INSET = 8;

export class KeyframeMarks {
  #model;
  #hint;
  #begin;
  /** The drag under way: {stop(), frame} with the frame that it began at. */
  #drag = null;

  /** `begin()` readies the editor for a drag: nothing plays, and keys go to the regions. */
  constructor(model, hint, begin) {
    this.#model = model;
    this.#hint = hint;
    this.#begin = begin;
    this.element = document.createElement("div");
    this.element.className = "ccvd-regions-marks";
    this.element.addEventListener("pointerdown", (event) => this.#grab(event));
  }

  /** Draw what the model has. */
  show() {
    const model = this.#model;
    const marks = model.selection.flatMap((index) => {
      const { color, keyframes, locked } = model.regions[index];
      return keyframes.length < 2 ? [] : keyframes.map(({ t }, at) => ({ index, at, color, locked, frame: frameOf(t, model.frames) }));
    });
    const key = JSON.stringify([marks, model.frames]);
    if (this.element.dataset.key === key) return;
    this.element.dataset.key = key;
    this.element.replaceChildren(...marks.map(({ index, at, color, locked, frame }) => {
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.title = locked ? "" : this.#hint;
      Object.assign(mark.dataset, { index, at, frame });
      const share = frame / Math.max(1, model.frames - 1);
      mark.style.cssText = `left: calc(${INSET}px + ${share} * (100% - ${2 * INSET}px)); background: ${color}`;
      return mark;
    }));
  }

  #grab(event) {
    const { index, at, frame } = event.target.dataset;
    if (event.button !== 0 || index === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.#begin();
    const model = this.#model;
    model.setFrame(Number(frame));
    if (!model.movable.includes(Number(index))) return;
    const stop = () => {
      for (const [kind, listener] of Object.entries(listeners)) document.removeEventListener(kind, listener, true);
      this.#drag = null;
    };
    const listeners = {
      pointermove: ({ clientX }) => model.dragKeyframe(Number(index), Number(at), this.#frameAt(clientX)),
      pointerup: () => {
        stop();
        model.drop();
      },
      pointercancel: () => this.close(),
      // Another key could take away what is being dragged.
      keydown: (pressed) => {
        pressed.preventDefault();
        pressed.stopPropagation();
        if (pressed.key === "Escape") this.close();
      },
    };
    for (const [kind, listener] of Object.entries(listeners)) document.addEventListener(kind, listener, true);
    this.#drag = { stop, frame: Number(frame) };
  }

  /** The frame under a place on the page, at any zoom. */
  #frameAt(clientX) {
    const { left, width } = this.element.getBoundingClientRect();
    const inset = INSET * width / Math.max(1, this.element.offsetWidth);
    const share = (clientX - left - inset) / Math.max(1, width - 2 * inset);
    return Math.round(share * (this.#model.frames - 1));
  }

  /** Leave the keyframe where it was. */
  close() {
    if (!this.#drag) return;
    const { stop, frame } = this.#drag;
    stop();
    this.#model.cancelDrag(frame);
  }
}
