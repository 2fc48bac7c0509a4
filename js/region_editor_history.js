// Undo and redo inside the editor: whole states, because a layout is small. Pure.

const MOST = 200;

export class History {
  #past = [];
  #future = [];
  #present;
  #merge = null;

  constructor(present) {
    this.#present = present;
  }

  get present() {
    return this.#present;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Go on to a new state. Changes in a row with the same `merge` (typing, arrow keys) are one step. */
  push(state, merge = null) {
    if (merge === null || merge !== this.#merge) {
      this.#past.push(this.#present);
      if (this.#past.length > MOST) this.#past.shift();
    }
    this.#merge = merge;
    this.#present = state;
    this.#future = [];
  }

  /** The next change is a step of its own. */
  endMerge() {
    this.#merge = null;
  }

  undo() {
    if (this.canUndo) {
      this.#future.push(this.#present);
      this.#present = this.#past.pop();
    }
    this.#merge = null;
    return this.#present;
  }

  redo() {
    if (this.canRedo) {
      this.#past.push(this.#present);
      this.#present = this.#future.pop();
    }
    this.#merge = null;
    return this.#present;
  }
}
