// Errors and hints where they belong: at the node, and errors in a toast too. In the classic canvas and in Nodes 2.0.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { hintsFor } from "./graph_hints.js";
import { refusals, runError, shownAt } from "./node_errors.js";
import { messagesFor } from "./node_messages_text.js";
import { NodeNotices } from "./node_notices.js";

/** Milliseconds without a change before the graph is looked at. */
const PAUSE = 250;

/** Errors of the last run: at their nodes and in toasts, until the next one is queued. */
class RunErrors {
  #toasts = [];
  #notices = [];
  /** Which workflow a run is of: the id of its graph. */
  #graphs = new Map();

  constructor(notices) {
    this.notices = notices;
  }

  clear() {
    for (const toast of this.#toasts) app.extensionManager?.toast?.remove(toast);
    this.#toasts = [];
    this.#notices = [];
    this.notices.show("error", []);
  }

  /** Remember where a run comes from, to show its errors there and not in another workflow. */
  queued(runId, graphId) {
    this.#graphs.set(runId, graphId);
  }

  add({ id, type, text }, runId) {
    const root = app.rootGraph ?? app.graph;
    const here = (this.#graphs.get(runId) ?? root.id) === root.id;
    const nodes = here ? shownAt(root, id) : [];
    const toast = { severity: "error", summary: nodes.at(-1)?.title ?? titleOf(type), detail: text };
    this.#toasts.push(toast);
    app.extensionManager?.toast?.add(toast);
    this.#notices.push(...nodes.map((node) => ({ graph: node.graph.id, id: node.id, text })));
    this.notices.show("error", [...this.#notices]);
  }
}

function titleOf(type) {
  return globalThis.LiteGraph?.registered_node_types?.[type]?.title ?? type;
}

/** Every queued graph passes here: what is refused is told like what fails later. */
function watchQueue(errors) {
  const queue = api.queuePrompt;
  api.queuePrompt = async function queuePrompt(...given) {
    errors.clear();
    const graph = (app.rootGraph ?? app.graph).id;
    try {
      const answer = await queue.apply(this, given);
      errors.queued(answer?.prompt_id, graph);
      for (const error of refusals(answer?.node_errors)) errors.add(error);
      return answer;
    } catch (error) {
      for (const refusal of refusals(error?.response?.node_errors)) errors.add(refusal);
      throw error;
    }
  };
  api.addEventListener("execution_error", ({ detail }) => {
    const error = runError(detail);
    if (error) errors.add(error, detail.prompt_id);
  });
}

/** Hints follow every change of the graph, at once and without a run. */
function watchGraph(notices, texts) {
  let libraries = {};
  let timer;
  const look = () => {
    clearTimeout(timer);
    timer = setTimeout(() => notices.show("hint", hintsFor(app.rootGraph ?? app.graph, libraries, texts)), PAUSE);
  };
  const ask = async () => {
    const answer = await api.fetchApi("/ccvd/concepts").catch(() => null);
    libraries = answer?.ok ? (await answer.json()).libraries : libraries;
    look();
  };
  for (const event of ["graphChanged", "promptQueued"]) api.addEventListener(event, look);
  for (const event of ["execution_success", "execution_error", "reconnected"]) api.addEventListener(event, ask);
  // Typing is no change of the graph until it ends.
  for (const event of ["input", "change"]) document.addEventListener(event, look, { capture: true });
  ask();
  return look;
}

let lookAgain = () => {};

app.registerExtension({
  name: "CCVD.NodeMessages",
  setup() {
    const texts = messagesFor(app.extensionManager?.setting?.get?.("Comfy.Locale"));
    const notices = new NodeNotices(app, texts.close);
    watchQueue(new RunErrors(notices));
    lookAgain = watchGraph(notices, texts);
  },
  afterConfigureGraph: () => lookAgain(),
});
