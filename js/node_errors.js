// What ComfyUI says when a node of this pack fails, made readable: the message alone, for the node that it concerns. Pure.

const OURS = "CCVD_";

/** Whether an error is ours: of one of our nodes, or raised by what we put on a model and thrown in a sampler. */
function isOurs(nodeType, exceptionType = "") {
  return String(nodeType).startsWith(OURS) || /(^|\.)ccvd_core\./.test(exceptionType);
}

/** {id, type, text} of an `execution_error` event's detail, or null if it is not ours. `id` is the id in the execution. */
export function runError({ node_id: id, node_type: type, exception_message: message, exception_type: kind }) {
  if (!isOurs(type, kind)) return null;
  const text = String(message ?? "").trim();
  const short = String(kind ?? "").split(".").at(-1);
  // Our own errors are sentences; of another one the name helps.
  const plain = /(^|\.)ccvd_core\./.test(kind ?? "") ? text : [short, text].filter(Boolean).join(": ");
  return { id: String(id), type, text: plain || short };
}

/** [{id, type, text}] of the `node_errors` with which ComfyUI refuses a graph. */
export function refusals(nodeErrors) {
  return Object.entries(nodeErrors ?? {})
    .filter(([, { class_type: type }]) => isOurs(type))
    .map(([id, { class_type: type, errors }]) => ({ id, type, text: [...new Set(errors.map(reason))].join("\n") }));
}

function reason({ type, message, details = "", extra_info: extra = {} }) {
  const input = extra?.input_name;
  if (type === "custom_validation_failed") {
    const own = input && details.startsWith(`${input} - `) ? details.slice(input.length + 3) : details;
    return own || message;
  }
  if (extra?.exception_message) return extra.exception_message;
  return details && details !== message ? `${message}: ${details}` : message;
}

/**
 * The nodes at which an error shows: the subgraph nodes around its node, the outermost first, then the node itself. `id` is
 * the id in the execution, "7" or "5:12" for node 12 in the subgraph of node 5.
 */
export function shownAt(rootGraph, id) {
  const found = [];
  let graph = rootGraph;
  for (const part of String(id).split(":")) {
    const node = graph?.nodes?.find((one) => String(one.id) === part);
    if (!node) break;
    found.push(node);
    graph = node.subgraph;
  }
  return found;
}
