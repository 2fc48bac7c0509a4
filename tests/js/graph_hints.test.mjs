// What the page finds miswired, on graphs as plain objects.

import assert from "node:assert/strict";
import test from "node:test";

import { bareNames, hintsFor } from "../../js/graph_hints.js";
import { messagesFor } from "../../js/node_messages_text.js";

const TEXTS = messagesFor("en");
const LIBRARIES = { pets: ["mimi", "rex"] };

/** A graph as ComfyUI keeps it. `nodes`: {id: {type, inputs: {name: type}, outputs: [type], widgets, mode, subgraph}}. */
function graphOf(id, nodes, links) {
  const graph = { id, links: new Map(), nodes: [] };
  for (const [key, { type, inputs = {}, outputs = [], widgets = {}, ...rest }] of Object.entries(nodes)) {
    graph.nodes.push({
      id: Number(key), type, graph, mode: 0, ...rest,
      inputs: Object.entries(inputs).map(([name, kind]) => ({ name, type: kind, link: null })),
      outputs: outputs.map((kind) => ({ name: kind, type: kind })),
      widgets: Object.entries(widgets).map(([name, value]) => ({ name, value })),
    });
  }
  graph.getNodeById = (wanted) => graph.nodes.find((node) => node.id === wanted) ?? null;
  links.forEach(([from, slot, to, name], at) => {
    graph.links.set(at, { id: at, origin_id: from, origin_slot: slot });
    if (typeof to === "number") graph.getNodeById(to).inputs.find((input) => input.name === name).link = at;
  });
  return graph;
}

const MODEL = { type: "UNETLoader", outputs: ["MODEL"] };
const SHELF = { type: "CCVD_ConceptLibrary", outputs: ["CCVD_LIBRARY"], widgets: { library: " Pets " } };
const ENCODER = { type: "CLIPTextEncode", inputs: { clip: "CLIP" }, outputs: ["CONDITIONING"], widgets: { text: "blurry" } };
const SAMPLER = { type: "KSampler", inputs: { model: "MODEL", positive: "CONDITIONING", negative: "CONDITIONING" } };
const aggregate = (prompt) => ({
  type: "CCVD_AggregateAdapters",
  inputs: { model: "MODEL", library: "CCVD_LIBRARY", regions: "CCVD_REGIONS" },
  outputs: ["MODEL", "CONDITIONING"],
  widgets: { prompt },
});

/** 1 model, 2 library, 3 Aggregate Adapters, 4 encoder of the negative prompt, 5 sampler; `changes` over them. */
function scene(changes = {}, links = [], prompt = "a <mimi> moving right") {
  const nodes = { 1: MODEL, 2: SHELF, 3: aggregate(prompt), 4: ENCODER, 5: SAMPLER, ...changes };
  const wires = [[1, 0, 3, "model"], [2, 0, 3, "library"], [3, 0, 5, "model"], [3, 1, 5, "positive"], [4, 0, 5, "negative"], ...links];
  return graphOf("root", nodes, wires);
}

const found = (graph) => hintsFor(graph, LIBRARIES, TEXTS).map(({ graph: where, id, text }) => [where, id, text]);

test("what is wired well gets no hint", () => assert.deepEqual(found(scene()), []));

test("a model that does not come from Aggregate Adapters", () => {
  assert.deepEqual(found(scene({}, [[1, 0, 5, "model"]])), [["root", 5, TEXTS.modelElsewhere]]);
  const shifted = { 6: { type: "ModelSamplingSD3", inputs: { model: "MODEL" }, outputs: ["MODEL"] } };
  assert.deepEqual(found(scene(shifted, [[1, 0, 6, "model"], [6, 0, 5, "model"]])), [["root", 5, TEXTS.modelElsewhere]]);
  assert.deepEqual(found(scene(shifted, [[3, 0, 6, "model"], [6, 0, 5, "model"]])), []);
});

test("a prompt from another Aggregate Adapters than the model's; one behind the other is well", () => {
  const other = { 6: aggregate("a <rex>") };
  assert.deepEqual(found(scene(other, [[1, 0, 6, "model"], [6, 1, 5, "positive"]])), [["root", 5, TEXTS.modelElsewhere]]);
  assert.deepEqual(found(scene(other, [[3, 0, 6, "model"], [6, 0, 5, "model"], [3, 1, 5, "positive"]])), []);
});

test("a positive prompt from the stock text encoder, with a concept in it", () => {
  const graph = scene({ 4: { ...ENCODER, widgets: { text: "a <Mimi> moving" } } }, [[4, 0, 5, "positive"]]);
  assert.deepEqual(found(graph), [["root", 4, TEXTS.plainEncoder("mimi")], ["root", 5, TEXTS.promptElsewhere("positive")]]);
});

test("the stock text encoder's text may come from a text node; unknown <words> are no concepts", () => {
  const text = (value) => ({
    4: { ...ENCODER, inputs: { clip: "CLIP", text: "STRING" }, widgets: {} },
    6: { type: "PrimitiveString", outputs: ["STRING"], widgets: { value } },
  });
  assert.deepEqual(found(scene(text("<rex>"), [[6, 0, 4, "text"]])), [["root", 4, TEXTS.plainEncoder("rex")]]);
  assert.deepEqual(found(scene(text("<lora:x:1>"), [[6, 0, 4, "text"]])), []);
});

test("a node that only the page knows may bring the model: no hint", () => {
  const get = { 6: { type: "GetNode", outputs: ["MODEL"], isVirtualNode: true } };
  assert.deepEqual(found(scene(get, [[6, 0, 5, "model"]])), []);
});

test("reroutes and bypassed nodes pass on, muted ones do not", () => {
  const reroute = { 6: { type: "Reroute", inputs: { "": "*" }, outputs: ["*"], isVirtualNode: true } };
  assert.deepEqual(found(scene(reroute, [[3, 0, 6, ""], [6, 0, 5, "model"]])), []);
  const lora = { 6: { type: "LoraLoaderModelOnly", inputs: { model: "MODEL" }, outputs: ["MODEL"] } };
  const wires = [[3, 0, 6, "model"], [6, 0, 5, "model"]];
  assert.deepEqual(found(scene({ 6: { ...lora[6], mode: 4 } }, wires)), []);
  assert.deepEqual(found(scene({ 6: { ...lora[6], mode: 2 } }, wires)), [["root", 5, TEXTS.modelElsewhere]]);
});

test("CCVD Sampler without Aggregate Adapters", () => {
  const graph = scene({ 5: { ...SAMPLER, type: "CCVD_Sampler" } }, [[1, 0, 5, "model"], [4, 0, 5, "positive"]]);
  assert.deepEqual(found(graph), [["root", 5, TEXTS.neither]]);
});

test("a concept without brackets", () => {
  assert.deepEqual(found(scene({}, [], "a mimi on grass")), [["root", 3, TEXTS.noBrackets("mimi")]]);
  assert.deepEqual(found(scene({}, [], "a Rex and a <mimi>")), [["root", 3, TEXTS.noBrackets("rex")]]);
  assert.deepEqual(found(scene({}, [], "a <mimi>, mimi everywhere, a mimicry, a rex-like <cat>")), []);
  assert.deepEqual(bareNames("mimi, rex!", new Set(["mimi", "rex"])), ["mimi", "rex"]);
});

test("a concept that is only going to be learned here counts too", () => {
  const learn = { 2: { type: "CCVD_LearnConcept", outputs: ["CCVD_LIBRARY"], widgets: { library: "new", name: "<Fox>" } } };
  assert.deepEqual(found(scene(learn, [], "a fox")), [["root", 3, TEXTS.noBrackets("fox")]]);
  const imported = { 2: { ...learn[2], type: "CCVD_ImportLora" } };
  assert.deepEqual(found(scene(imported, [], "a fox")), [["root", 3, TEXTS.noBrackets("fox")]]);
});

test("a region's prompt without brackets is told at Region Mask", () => {
  const region = { name: "left", prompt: "a mimi", keyframes: [{ t: 0, box: [0, 0, 1, 1] }] };
  const layout = JSON.stringify({ version: 1, width: 64, height: 64, regions: [region] });
  const mask = (value) => ({ 6: { type: "CCVD_RegionMask", outputs: ["CCVD_REGIONS"], widgets: { layout: value } } });
  assert.deepEqual(found(scene(mask(layout), [[6, 0, 3, "regions"]])), [["root", 6, `left: ${TEXTS.noBrackets("mimi")}`]]);
  assert.deepEqual(found(scene(mask("damaged"), [[6, 0, 3, "regions"]])), []);
});

test("through subgraphs, out and in; a subgraph's hint shows at the nodes around it too", () => {
  const inner = graphOf("inner", { 1: SAMPLER, 2: MODEL }, [[-10, 0, 1, "model"], [-10, 1, 1, "positive"], [2, 0, "output"]]);
  inner.outputs = [{ linkIds: [2] }];
  const node = { type: "inner", inputs: { model: "MODEL", positive: "CONDITIONING" }, outputs: ["MODEL"], subgraph: inner };
  assert.deepEqual(found(scene({ 6: node }, [[3, 0, 6, "model"], [3, 1, 6, "positive"]])), []);
  const wrong = scene({ 6: node, 7: node }, [1, 3].flatMap((from, at) => [[1, 0, 6 + at, "model"], [3, 1, 6 + at, "positive"]]));
  assert.deepEqual(found(wrong), [["root", 6], ["inner", 1], ["root", 7]].map((where) => [...where, TEXTS.modelElsewhere]));
  const outOf = scene({ 6: node }, [[3, 0, 6, "model"], [3, 1, 6, "positive"], [6, 0, 5, "model"]]);
  assert.deepEqual(found(outOf), [["root", 5, TEXTS.modelElsewhere]]);
});

test("every text exists in both languages", () => {
  const zh = messagesFor("zh-TW");
  assert.notEqual(zh, TEXTS);
  assert.deepEqual(Object.keys(zh), Object.keys(TEXTS));
});
