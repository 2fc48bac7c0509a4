// The fields of the selected region: what it is called, its concept and prompt, how strong it is.

import { make, put } from "./region_editor_elements.js";
import { mentions } from "./region_editor_regions.js";

export class Fields {
  #groups = [];

  /** `concepts()` resolves to groups for the concept list: [label, names]. */
  constructor(model, texts, concepts) {
    this.model = model;
    this.texts = texts;
    const field = (tag, name, properties, apply) => {
      const element = make(tag, { className: name, title: texts[name], ...properties });
      element.setAttribute("aria-label", texts[name]);
      element.addEventListener("input", () => apply(element));
      element.addEventListener("change", () => model.endTyping());
      return element;
    };
    const typed = (name) => (element) => model.set({ [name]: element.value }, `${name} ${model.selection}`);
    this.color = field("input", "color", { type: "color" }, typed("color"));
    this.name = field("input", "name", { type: "text", placeholder: texts.namePlaceholder }, typed("name"));
    this.strength = field("input", "strength", { type: "number", min: 0, max: 10, step: 0.05 }, (element) => {
      const value = element.valueAsNumber;
      if (value >= 0 && value <= 10) model.set({ strength: value }, `strength ${model.selection}`);
    });
    this.prompt = field("textarea", "prompt", { placeholder: texts.promptPlaceholder, spellcheck: false }, typed("prompt"));
    this.concept = make("select", { className: "concept", title: texts.concept });
    this.concept.setAttribute("aria-label", texts.concept);
    this.concept.addEventListener("change", () => {
      if (this.concept.value) model.assignConcept(this.concept.value);
    });
    const load = async () => this.#offer(await concepts());
    for (const kind of ["pointerenter", "focus"]) this.concept.addEventListener(kind, load);
    this.hintLine = make("div", { className: "hint" });
    this.firstRow = make("div", { className: "ccvd-regions-row" }, this.color, this.name, this.concept, this.strength);
    this.element = make("div", { className: "ccvd-regions-fields" }, this.hintLine, this.firstRow, this.prompt);
  }

  /** Show the selected region, or a word on how many are selected. */
  refresh() {
    const { model, texts } = this;
    const region = model.selected;
    this.firstRow.style.display = this.prompt.style.display = region ? "" : "none";
    this.hintLine.style.display = region ? "none" : "";
    this.hintLine.textContent = model.selection.length > 1 ? texts.several(model.selection.length) : texts.none;
    if (region) {
      for (const key of ["color", "name", "prompt"]) put(this[key], region[key]);
      if (this.strength.valueAsNumber !== region.strength) this.strength.value = region.strength;
      for (const element of [this.color, this.name, this.prompt, this.strength, this.concept]) element.disabled = region.locked;
    }
    this.#showConcept(region);
  }

  #offer(groups) {
    // Rebuilding a list that is open closes it.
    if (JSON.stringify(groups) === JSON.stringify(this.#groups)) return;
    this.#groups = groups;
    this.#showConcept(this.model.selected);
  }

  #showConcept(region) {
    const named = region ? mentions(region) : [];
    const known = this.#groups.flatMap(([, names]) => names);
    const current = named.length === 1 ? named[0] : "";
    const options = JSON.stringify([this.#groups, current && !known.includes(current) ? current : ""]);
    if (this.concept.dataset.options !== options) {
      this.concept.dataset.options = options;
      const empty = make("option", { value: "", textContent: this.texts.conceptPlaceholder });
      const other = current && !known.includes(current) ? [make("option", { value: current, textContent: `<${current}>` })] : [];
      this.concept.replaceChildren(empty, ...other, ...this.#groups.map(([label, names]) => make(
        "optgroup", { label }, ...names.map((name) => make("option", { value: name, textContent: `<${name}>` })),
      )));
    }
    put(this.concept, current);
  }
}
