// What the editor gets from ComfyUI: the video's size, the background's pictures, the concepts one can choose.

import { api } from "../../scripts/api.js";

const MAKERS = ["CCVD_LearnConcept", "CCVD_ImportLora"];
const SHELVES = [...MAKERS, "CCVD_ConceptLibrary"];

/** Value of a node's widget, or undefined. */
export function widgetValue(node, name) {
  return node?.widgets?.find((widget) => widget.name === name)?.value;
}

/** [width, height, length] by the node's other inputs. */
export function videoOf(node) {
  return ["width", "height", "length"].map((name, at) => Number(widgetValue(node, name)) || [832, 480, 81][at]);
}

/** All nodes of a graph and of its subgraphs. */
function allNodes(graph) {
  return (graph?.nodes ?? []).flatMap((node) => [node, ...allNodes(node.subgraph)]);
}

/** [[group, [concept, ...]], ...]: what this workflow learns first, then its libraries, then the other ones. */
export async function conceptGroups(rootGraph, inGraph) {
  const answer = await api.fetchApi("/ccvd/concepts");
  const { libraries = {} } = answer.ok ? await answer.json() : {};
  const nodes = allNodes(rootGraph);
  const learned = nodes.filter((node) => MAKERS.includes(node.type)).map((node) => widgetValue(node, "name")).filter(Boolean);
  const used = new Set(nodes.filter((node) => SHELVES.includes(node.type)).map((node) => widgetValue(node, "library")));
  const names = Object.keys(libraries).sort((a, b) => used.has(b) - used.has(a));
  const groups = [[inGraph, [...new Set(learned)]], ...names.map((name) => [name, libraries[name]])];
  return groups.filter(([, concepts]) => concepts.length);
}

/** URLs of the frames that the node sent after its last run. */
export function sentFrames(output) {
  return (output?.ccvd_background ?? []).map(({ filename, subfolder, type }) => viewUrl(filename, subfolder, type));
}

/** Names of those frames, by which the server knows them. */
export function sentNames(output) {
  return (output?.ccvd_background ?? []).map(({ filename }) => filename);
}

/** Where an object goes: {keyframes, range, lost} of {pictures, box, t, frames}. Throws what the server says. */
export async function followObject(request, signal) {
  const headers = { "content-type": "application/json" };
  const answer = await api.fetchApi("/ccvd/follow", { method: "POST", headers, body: JSON.stringify(request), signal });
  if (answer.ok) return answer.json();
  const { error } = await answer.json().catch(() => ({}));
  throw Error(error ?? `${answer.status} ${answer.statusText}`);
}

/** URL of the picture that the connected node shows, before anything has run; null if it shows none. */
export function connectedPicture(node) {
  const slot = node.inputs?.findIndex((input) => input.name === "background") ?? -1;
  const source = slot >= 0 ? node.getInputNode?.(slot) : null;
  if (!source) return null;
  const shown = source.imgs?.[0]?.src;
  if (shown) return shown;
  const file = widgetValue(source, "image");
  if (typeof file !== "string" || !file) return null;
  const [, path, , type] = /^(.*?)( \[(input|output|temp)\])?$/s.exec(file);
  const slash = path.lastIndexOf("/");
  return viewUrl(path.slice(slash + 1), path.slice(0, Math.max(0, slash)), type ?? "input");
}

/** Whether something is connected to `background`. */
export function hasBackground(node) {
  return node.inputs?.some((input) => input.name === "background" && input.link != null) ?? false;
}

function viewUrl(filename, subfolder, type) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: subfolder ?? "", type: type ?? "temp" })}`);
}

/** Pictures of these URLs; those that do not load are left out. */
export async function loadPictures(urls) {
  const loaded = await Promise.all(urls.map((url) => new Promise((resolve) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => resolve(null);
    picture.src = url;
  })));
  return loaded.filter(Boolean);
}
