// ComfyUI's answers about failed nodes, as an artist reads them.

import assert from "node:assert/strict";
import test from "node:test";

import { refusals, runError, shownAt } from "../../js/node_errors.js";

const OWN = "/somewhere/custom_nodes/ccvd.ccvd_core.errors.UnknownConceptError";

test("our own error is its sentence alone", () => {
  const detail = { node_id: 7, node_type: "CCVD_AggregateAdapters", exception_message: "No <mimy>.\n", exception_type: OWN };
  assert.deepEqual(runError(detail), { id: "7", type: "CCVD_AggregateAdapters", text: "No <mimy>." });
});

test("what we raise while a stock sampler runs is ours too", () => {
  const detail = { node_id: "5:12", node_type: "KSampler", exception_message: "Two at once.", exception_type: OWN };
  assert.deepEqual(runError(detail), { id: "5:12", type: "KSampler", text: "Two at once." });
  assert.equal(runError({ ...detail, exception_type: "RuntimeError" }), null);
});

test("another error in our node keeps its name, without the module", () => {
  const detail = { node_id: 1, node_type: "CCVD_Sampler", exception_message: "out of memory", exception_type: "torch.cuda.OutOfMemoryError" };
  assert.equal(runError(detail).text, "OutOfMemoryError: out of memory");
  assert.equal(runError({ ...detail, exception_message: "" }).text, "OutOfMemoryError");
});

test("refused graphs: our nodes' reasons in plain words", () => {
  const errors = (...list) => ({ class_type: "CCVD_RegionMask", errors: list });
  const layout = {
    type: "custom_validation_failed", message: "Custom validation failed for node",
    details: "layout - The region layout is damaged.", extra_info: { input_name: "layout" },
  };
  const small = { type: "value_smaller_than_min", message: "Value 0 smaller than min of 1", details: "length", extra_info: { input_name: "length" } };
  const raised = { type: "exception_during_validation", message: "Exception when validating node", details: "x", extra_info: { exception_message: "why" } };
  assert.deepEqual(refusals({ 3: errors(layout, layout, small), 4: { class_type: "KSampler", errors: [small] }, 9: errors(raised) }), [
    { id: "3", type: "CCVD_RegionMask", text: "The region layout is damaged.\nValue 0 smaller than min of 1: length" },
    { id: "9", type: "CCVD_RegionMask", text: "why" },
  ]);
  assert.deepEqual(refusals(undefined), []);
});

test("an error inside subgraphs shows at its node and at the ones around it", () => {
  const [around, inside] = [{ id: 5 }, { id: 12 }];
  around.subgraph = { nodes: [inside] };
  const root = { nodes: [around] };
  assert.deepEqual(shownAt(root, "5:12"), [around, inside]);
  assert.deepEqual(shownAt(root, "5:13"), [around]);
  assert.deepEqual(shownAt(root, "6"), []);
});
