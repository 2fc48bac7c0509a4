// The editor's page elements around the canvas: toolbar, the list of regions, and where time and fields are put.

import { make } from "./region_editor_elements.js";
import { Fields } from "./region_editor_fields.js";
import { Follower } from "./region_editor_follow.js";
import { icon } from "./region_editor_icons.js";
import { Stage } from "./region_editor_stage.js";
import { Timeline } from "./region_editor_timeline.js";

export class Panel {
  #buttons = [];
  #overlay = null;

  /**
   * `root` takes the panel; `concepts()` resolves to groups for the concept list; `wheel` gets the canvas's wheel events;
   * `followed` is where an object can be followed, the source of a Follower.
   */
  constructor(root, model, texts, { concepts, wheel, followed }) {
    this.root = root;
    this.model = model;
    this.texts = texts;
    this.follower = new Follower(model, texts, followed, () => this.refresh());
    this.stage = new Stage(model, texts, {
      follow: () => this.follower.press(),
      play: () => this.timeline.play(),
      fullScreen: () => this.fullScreen(),
      escape: () => this.#overlay && this.fullScreen(),
    }, (event) => !this.#overlay && wheel(event));
    this.fields = new Fields(model, texts, concepts);
    this.element = make("div", { className: "ccvd-regions-panel" });
    this.timeline = new Timeline(model, texts, this.follower, {
      button: (...described) => this.#button(...described),
      leave: () => this.stage.keys.focus({ preventScroll: true }),
    });
    this.element.append(this.#toolbar(), this.stage.element, this.timeline.element, this.#list(), this.fields.element);
    this.refusal = make("div", { className: "ccvd-regions-refused" });
    this.refusal.setAttribute("role", "alert");
    this.note = make("div", { className: "ccvd-regions-note" });
    this.note.setAttribute("role", "status");
    this.stage.element.append(this.#message(), this.note, this.refusal);
    // In Nodes 2.0 a press or key inside would otherwise move the node or act on the graph.
    for (const kind of ["pointerdown", "dblclick", "keydown", "keyup"]) {
      this.element.addEventListener(kind, (event) => event.stopPropagation());
    }
    this.element.addEventListener("keydown", (event) => this.#leaveField(event));
    model.listen(() => this.refresh());
    root.append(this.element);
    this.refresh();
  }

  // Toolbar

  #button(name, action, { pressed, enabled, shown } = {}) {
    const button = make("button", { type: "button", className: "icon", title: this.texts[name], innerHTML: icon(name) });
    button.dataset.action = name;
    button.setAttribute("aria-label", this.texts[name]);
    button.addEventListener("click", () => {
      action();
      this.stage.keys.focus({ preventScroll: true });
    });
    this.#buttons.push(() => {
      if (pressed) button.setAttribute("aria-pressed", String(pressed()));
      if (enabled) button.disabled = !enabled();
      if (shown) button.hidden = button.style.display = shown() ? "" : "none";
    });
    return button;
  }

  #toolbar() {
    const { model } = this;
    const gap = () => make("span", { className: "gap" });
    const some = { enabled: () => model.selection.length > 0 };
    const free = { enabled: () => model.movable.length > 0 };
    const locked = () => model.selection.length > 0 && model.selection.every((at) => model.regions[at].locked);
    this.#full = this.#button("fullScreen", () => this.fullScreen());
    return make(
      "div",
      { className: "ccvd-regions-row" },
      this.#button("draw", () => model.setDrawing(!model.drawing), { pressed: () => model.drawing }),
      gap(),
      this.#button("undo", () => model.undo(), { enabled: () => model.canUndo }),
      this.#button("redo", () => model.redo(), { enabled: () => model.canRedo }),
      gap(),
      this.#button("duplicate", () => model.duplicate(), some),
      this.#button("remove", () => model.remove(), free),
      this.#button("backward", () => model.order(-1), some),
      this.#button("forward", () => model.order(1), some),
      this.#button("lock", () => model.setLocked(!locked()), { ...some, pressed: locked }),
      make("span", { className: "space" }),
      this.#button("snap", () => model.setSnap(!model.snap), { pressed: () => model.snap }),
      this.#full,
    );
  }

  #full;

  // The regions

  #list() {
    this.chips = make("div", { className: "ccvd-regions-chips" });
    return this.chips;
  }

  // A value that cannot be read

  #message() {
    const { model, texts } = this;
    this.damageText = make("p");
    this.damage = make(
      "div",
      { className: "ccvd-regions-damaged" },
      make("p", {}, make("b", { textContent: texts.damaged })),
      this.damageText,
      make("button", { type: "button", textContent: texts.startAfresh, onclick: () => model.startAfresh() }),
      make("button", {
        type: "button",
        textContent: texts.copyText,
        onclick: () => navigator.clipboard?.writeText(model.text),
      }),
    );
    this.damage.setAttribute("role", "alert");
    return this.damage;
  }

  // Full screen

  /** Fill the page, or go back into the node. The panel moves, its place in the node stays. */
  fullScreen() {
    if (this.#overlay) {
      this.root.append(this.element);
      this.#overlay.remove();
      this.#overlay = null;
    } else {
      this.#overlay = make("div", { className: "ccvd-regions-overlay" }, this.element);
      document.body.append(this.#overlay);
    }
    const name = this.#overlay ? "leave" : "fullScreen";
    Object.assign(this.#full, { innerHTML: icon(name), title: this.texts[name] });
    this.stage.keys.focus({ preventScroll: true });
    this.stage.draw();
  }

  /** Escape in a field leaves full screen, or else the field; on the canvas it gives up one thing at a time. */
  #leaveField(event) {
    if (event.key !== "Escape" || event.isComposing || event.target === this.stage.keys) return;
    event.preventDefault();
    if (this.#overlay) this.fullScreen();
    else this.stage.keys.focus({ preventScroll: true });
  }

  // Showing the model

  refresh() {
    const { model, texts } = this;
    for (const update of this.#buttons) update();
    this.timeline.show();
    this.#showChips();
    this.fields.refresh();
    this.damage.style.display = model.damaged ? "" : "none";
    this.damageText.textContent = model.damaged?.message ?? "";
    this.note.textContent = this.follower.note;
    this.note.style.display = this.follower.note && !model.refused && !model.damaged ? "" : "none";
    this.refusal.style.display = model.refused ? "" : "none";
    this.refusal.textContent = `${texts.refused} ${model.refused}`;
    this.stage.draw();
  }

  #showChips() {
    const { model } = this;
    const key = JSON.stringify([model.regions.map(({ name, prompt, color, locked }) => [name, prompt, color, locked]), model.selection]);
    if (this.chips.dataset.key === key) return;
    this.chips.dataset.key = key;
    this.chips.style.display = model.regions.length ? "" : "none";
    this.chips.replaceChildren(...model.regions.map((region, index) => {
      const dot = make("i");
      dot.style.background = region.color;
      const chip = make("button", { type: "button", title: region.prompt || region.name }, dot);
      chip.append(make("span", { textContent: region.name || region.prompt || "—" }));
      if (region.locked) chip.insertAdjacentHTML("beforeend", icon("lock"));
      chip.setAttribute("aria-pressed", String(model.selection.includes(index)));
      chip.addEventListener("click", (event) => {
        if (event.shiftKey || event.ctrlKey || event.metaKey) model.toggle(index);
        else model.select([index]);
        this.stage.keys.focus({ preventScroll: true });
      });
      return chip;
    }));
  }

  close() {
    this.timeline.close();
    if (this.#overlay) this.fullScreen();
    this.stage.close();
  }
}
