// The canvas: draws the model whenever it changes, and turns the mouse and the keys into its operations.

import { frameRect, drawEditor } from "./region_editor_drawing.js";
import { Gesture, cursorAt } from "./region_editor_gestures.js";
import { pressKey } from "./region_editor_keys.js";

/** Screen pixels: how near the mouse must be to a handle, and how far it may slip in a click. */
const REACH = 8;
const SLIP = 3;
const SHARPEST = 3;
const COPYING = new Set(["c", "x", "v"]);
/** What belongs to the editor: a press elsewhere ends its keys. */
const PANEL = ".ccvd-regions-panel";

export class Stage {
  /** `does`: what keys do besides editing: {play, fullScreen, escape, follow}; `wheel` gets wheel events. */
  constructor(model, texts, does, wheel) {
    this.model = model;
    this.hint = texts.hint;
    this.picture = null;
    this.element = document.createElement("div");
    this.element.className = "ccvd-regions-stage";
    this.canvas = document.createElement("canvas");
    // Keys go to a text field: ComfyUI leaves keys in text fields alone, so Delete removes a region and not the node.
    this.keys = document.createElement("input");
    Object.assign(this.keys, { type: "text", readOnly: true, className: "ccvd-regions-keys", title: "" });
    this.keys.setAttribute("aria-label", texts.canvas);
    this.element.append(this.keys, this.canvas);
    this.#listen(does, wheel);
    this.#sizes = new ResizeObserver(() => this.draw());
    this.#sizes.observe(this.element);
  }

  #sizes;
  #gesture = null;
  #asked = 0;

  /** Draw with the next picture of the page, however often this is asked for. */
  draw() {
    this.#asked ||= requestAnimationFrame(() => {
      this.#asked = 0;
      this.#drawNow();
    });
  }

  #drawNow() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    // The graph's zoom scales the element: as many dots as the screen shows.
    const zoom = this.canvas.getBoundingClientRect().width / width || 1;
    const sharp = Math.min(SHARPEST, Math.max(1, zoom * devicePixelRatio));
    const [across, down] = [Math.round(width * sharp), Math.round(height * sharp)];
    if (this.canvas.width !== across || this.canvas.height !== down) {
      Object.assign(this.canvas, { width: across, height: down });
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(across / width, 0, 0, down / height, 0, 0);
    drawEditor(context, this.model, {
      width,
      height,
      picture: this.picture,
      band: this.#gesture?.box,
      marquee: this.#gesture?.marquee,
      hint: this.model.damaged ? "" : this.hint,
      focused: document.activeElement === this.keys,
    });
  }

  /** An event's place as fractions of the frame, and screen pixels as such fractions. */
  #place(event) {
    const screen = this.canvas.getBoundingClientRect();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const zoom = screen.width / width || 1;
    const [left, top, across, down] = frameRect(width, height, this.model.layout);
    const point = [
      ((event.clientX - screen.left) / zoom - left) / across,
      ((event.clientY - screen.top) / zoom - top) / down,
    ];
    const pixels = (count) => [count / zoom / across, count / zoom / down];
    return { point, reach: pixels(REACH), slack: pixels(SLIP) };
  }

  #listen(does, wheel) {
    const { canvas, keys, model } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.stopPropagation();
      keys.focus({ preventScroll: true });
      if (event.pointerId !== undefined) canvas.setPointerCapture(event.pointerId);
      const { point, reach, slack } = this.#place(event);
      const shift = event.shiftKey || event.ctrlKey || event.metaKey;
      this.#gesture = new Gesture(model, point, { shift, alt: event.altKey, reach, slack });
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      const { point, reach } = this.#place(event);
      if (this.#gesture) {
        event.stopPropagation();
        this.#gesture.move(point);
        this.draw();
      } else {
        canvas.style.cursor = cursorAt(model, point, reach);
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.#gesture) return;
      event.stopPropagation();
      this.#gesture.move(this.#place(event).point);
      this.#finish("end", this.#place(event).point);
    });
    canvas.addEventListener("pointercancel", () => this.#finish("cancel"));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => wheel?.(event), { passive: false });
    // Focus stays with the keys: a mouse press on the canvas would take it away.
    canvas.addEventListener("mousedown", (event) => event.preventDefault());
    keys.addEventListener("keydown", (event) => {
      const meant = pressKey(model, event, { ...does, escape: () => this.#escape(does.escape) });
      if (meant) event.preventDefault();
      // The browser copies and pastes where the focus is by then: outside, the graph's nodes are meant.
      else if ((event.ctrlKey || event.metaKey) && COPYING.has(event.key.toLowerCase())) this.#letGo(keys);
      event.stopPropagation();
    });
    for (const kind of ["focus", "blur"]) keys.addEventListener(kind, () => this.draw());
    // Text that the browser would copy or paste here means regions.
    for (const kind of ["copy", "cut", "paste"]) keys.addEventListener(kind, (event) => event.stopPropagation());
    // Nodes 2.0 leaves the focus where it is when a node is pressed: keys would go on meaning regions.
    document.addEventListener("pointerdown", this.#leave, { capture: true });
  }

  /** A press outside the editor. */
  #leave = ({ target }) => {
    const panel = this.element.closest(PANEL);
    if (panel && !panel.contains(target) && panel.contains(document.activeElement)) this.#letGo(document.activeElement);
  };

  /** Also the caret must go: the browser copies and pastes where it stands, whatever has the focus. */
  #letGo(field) {
    field.blur();
    getSelection()?.removeAllRanges();
  }

  #finish(how, point) {
    const gesture = this.#gesture;
    this.#gesture = null;
    gesture?.[how](point);
    this.draw();
  }

  /** Escape gives up one thing at a time: the drag, drawing, the selection, then what is outside. */
  #escape(outside) {
    if (this.#gesture) this.#finish("cancel");
    else if (this.model.drawing) this.model.setDrawing(false);
    else if (this.model.selection.length) this.model.select([]);
    else outside();
  }

  close() {
    document.removeEventListener("pointerdown", this.#leave, { capture: true });
    this.#sizes.disconnect();
    cancelAnimationFrame(this.#asked);
  }
}
