// What is connected to what, through subgraphs, reroutes and bypassed nodes. Pure: works on the graph as ComfyUI keeps it.

/** Ends of links at a subgraph's own inputs. */
const SUBGRAPH_INPUT = -10;
const MUTED = 2;
const BYPASSED = 4;

/** Where a node stands: `path` are the subgraph nodes around it, the outermost first. */
export function placesOf(graph, path = []) {
  return (graph?.nodes ?? []).flatMap((node) => [
    { node, path },
    ...(node.subgraph ? placesOf(node.subgraph, [...path, node]) : []),
  ]);
}

/** Value of a node's widget, or undefined. */
export function widgetValue(node, name) {
  return node?.widgets?.find((widget) => widget.name === name)?.value;
}

export function inputIndex(node, name) {
  return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

/** Whether something is connected to an input. */
export function isLinked(node, name) {
  return node.inputs?.[inputIndex(node, name)]?.link != null;
}

/**
 * The output {node, slot, path} that feeds an input; null if nothing does. `hidden` instead of a node: a node that only
 * the page knows passes the value on, and where from cannot be seen.
 */
export function sourceOf({ node, path }, index) {
  return originOf(linkOf(node.graph, node.inputs?.[index]?.link), node.graph, path);
}

function linkOf(graph, id) {
  if (id == null) return null;
  return (graph?.links?.get ? graph.links.get(id) : graph?.links?.[id]) ?? null;
}

function originOf(link, graph, path) {
  if (!link) return null;
  if (link.origin_id === SUBGRAPH_INPUT) {
    const outside = path.at(-1);
    return outside ? sourceOf({ node: outside, path: path.slice(0, -1) }, link.origin_slot) : null;
  }
  const node = graph.getNodeById(link.origin_id);
  if (!node || node.mode === MUTED) return null;
  const slot = link.origin_slot;
  if (node.mode === BYPASSED) return passedOn({ node, path }, slot);
  if (node.subgraph) {
    const inside = linkOf(node.subgraph, node.subgraph.outputs?.[slot]?.linkIds?.[0]);
    return originOf(inside, node.subgraph, [...path, node]);
  }
  if (node.type === "Reroute") return sourceOf({ node, path }, 0);
  if (node.isVirtualNode) return { hidden: true };
  return { node, slot, path };
}

/** What a bypassed node gives: the input of the same type, at the same place if there are several. */
function passedOn(place, slot) {
  const type = place.node.outputs?.[slot]?.type;
  const fitting = (place.node.inputs ?? []).flatMap((input, index) => (input.type === type ? [index] : []));
  return fitting.length ? sourceOf(place, fitting.includes(slot) ? slot : fitting[0]) : null;
}

/**
 * The nodes {node, path} of a type from which an input may get what it has. `hidden` tells whether some way could not
 * be followed to its end.
 */
export function upstream(place, index, type) {
  const found = new Map();
  const seen = new Set();
  let hidden = false;
  const follow = (from, at) => {
    const source = sourceOf(from, at);
    if (!source) return;
    if (source.hidden) {
      hidden = true;
      return;
    }
    const key = `${keyOf(source)} ${source.slot}`;
    if (seen.has(key)) return;
    seen.add(key);
    if (source.node.type === type) found.set(keyOf(source), source);
    for (const next of feeding(source)) follow(source, next);
  };
  follow(place, index);
  return { found, hidden };
}

/** Identifies a node among all, also among the copies of a subgraph. */
export function keyOf({ node, path }) {
  return [...path, node].map(({ id }) => id).join(":");
}

/** Inputs that an output is made from: the one of its name and type, else those of its type, else all. */
function feeding({ node, slot }) {
  const { name, type } = node.outputs?.[slot] ?? {};
  const all = (node.inputs ?? []).map((input, index) => ({ input, index }));
  const same = all.filter(({ input }) => input.type === type);
  const named = same.filter(({ input }) => input.name === name);
  return (named.length ? named : same.length ? same : all).map(({ index }) => index);
}

/** The text of a node's input: typed into it, or into the text node that is connected; null if it cannot be known. */
export function textOf(place, name) {
  if (!isLinked(place.node, name)) return asText(widgetValue(place.node, name));
  const source = sourceOf(place, inputIndex(place.node, name));
  return source?.node ? asText(widgetValue(source.node, "value")) : null;
}

function asText(value) {
  return typeof value === "string" ? value : null;
}
