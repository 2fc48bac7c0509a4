// Short texts at nodes, in the classic canvas and in Nodes 2.0: one layer over the graph that follows the nodes. The graph
// itself, its sizes and its undo know nothing of them.

const CLASS = "ccvd-notices";
const STYLE = `
.${CLASS} { position: absolute; inset: 0; overflow: hidden; pointer-events: none; z-index: 1; }
.${CLASS} > div { position: absolute; left: 0; top: 0; transform-origin: 0 0; display: flex; flex-direction: column; gap: 4px; }
.${CLASS} p {
  display: flex; gap: 6px; align-items: flex-start; margin: 0; padding: 6px 8px; border-radius: 6px; max-height: 240px; overflow: hidden;
  font: 12px/1.35 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; color: #fff; border: 1px solid; min-width: 200px;
  box-shadow: 0 2px 8px rgba(0, 0, 0, 0.4);
}
.${CLASS} .error { background: #6b1f24; border-color: #e0666d; }
.${CLASS} .hint { background: #5a4310; border-color: #e0b04a; }
.${CLASS} span { flex: 1; white-space: pre-line; overflow-wrap: anywhere; }
.${CLASS} button {
  pointer-events: auto; flex: none; width: 18px; height: 18px; padding: 0; border: 0; background: none; color: inherit; cursor: pointer;
  font: inherit; opacity: 0.8;
}
`;
/** Above the title; in the classic canvas above the badges too. */
const GAP = 6;
const BADGES = 22;
const LEAST_SCALE = 0.5;

export class NodeNotices {
  /** kind -> [{graph, id, text}] */
  #shown = new Map();
  /** `kind graph id text` of those that were closed. */
  #closed = new Set();
  #stacks = new Map();
  #asked = 0;

  /** `app`: ComfyUI's. `close`: what the button that closes a notice says. */
  constructor(app, close) {
    this.app = app;
    this.close = close;
    this.layer = document.createElement("div");
    this.layer.className = CLASS;
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  }

  /** Show these [{graph, id, text}] instead of all of this kind ("error" or "hint") that were shown before. */
  show(kind, notices) {
    const before = JSON.stringify(this.#shown.get(kind) ?? []);
    if (before === JSON.stringify(notices)) return;
    this.#shown.set(kind, notices);
    for (const key of this.#closed) {
      if (key.startsWith(`${kind} `) && !notices.some((notice) => keyOf(kind, notice) === key)) this.#closed.delete(key);
    }
    this.#build();
  }

  #build() {
    const stacks = new Map();
    for (const [kind, notices] of this.#shown) {
      for (const notice of notices) {
        const key = keyOf(kind, notice);
        if (this.#closed.has(key)) continue;
        const place = `${notice.graph} ${notice.id}`;
        if (!stacks.has(place)) stacks.set(place, { graph: notice.graph, id: notice.id, element: document.createElement("div") });
        stacks.get(place).element.append(this.#element(kind, notice.text, key));
      }
    }
    this.#stacks = stacks;
    this.layer.replaceChildren(...[...stacks.values()].map(({ element }) => element));
    if (stacks.size) this.#follow();
    else this.layer.remove();
  }

  #element(kind, text, key) {
    const line = document.createElement("p");
    line.className = kind;
    line.setAttribute("role", kind === "error" ? "alert" : "status");
    const words = document.createElement("span");
    words.textContent = text;
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: "✕", title: this.close });
    button.setAttribute("aria-label", this.close);
    button.addEventListener("click", () => {
      this.#closed.add(key);
      this.#build();
    });
    line.append(words, button);
    return line;
  }

  /** Keep every stack at its node with each picture of the page, as long as there are any. */
  #follow() {
    if (this.#asked) return;
    const step = () => {
      this.#asked = 0;
      if (!this.#stacks.size) return;
      this.#place();
      this.#asked = requestAnimationFrame(step);
    };
    step();
  }

  #place() {
    const { canvas } = this.app;
    const parent = canvas?.canvas?.parentElement;
    if (!parent) return;
    if (this.layer.parentElement !== parent) parent.append(this.layer);
    const { LiteGraph } = globalThis;
    const { scale, offset } = canvas.ds;
    const gap = LiteGraph.NODE_TITLE_HEIGHT + GAP + (LiteGraph.vueNodesMode ? 0 : BADGES);
    for (const { graph, id, element } of this.#stacks.values()) {
      const node = canvas.graph?.id === graph ? canvas.graph.getNodeById(id) : null;
      element.style.display = node ? "" : "none";
      if (!node) continue;
      const [x, y] = [(node.pos[0] + offset[0]) * scale, (node.pos[1] - gap + offset[1]) * scale];
      element.style.width = `${node.flags?.collapsed ? 260 : node.size[0]}px`;
      element.style.transform = `translate(${x}px, ${y}px) scale(${Math.max(scale, LEAST_SCALE)}) translateY(-100%)`;
    }
  }
}

function keyOf(kind, { graph, id, text }) {
  return `${kind} ${graph} ${id} ${text}`;
}
