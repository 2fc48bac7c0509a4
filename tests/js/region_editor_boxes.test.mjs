import assert from "node:assert/strict";
import test from "node:test";

import { boxBetween, cellOf, contains, handleAt, moveBox, overlap, resizeBox } from "../../js/region_editor_boxes.js";

const GRID = [0.125, 0.25];
const LEAST = [0.125, 0.25];
const BOX = [0.25, 0.25, 0.5, 0.25];

test("a cell is 16 pixels, and never more than the frame", () => {
  assert.deepEqual(cellOf({ width: 128, height: 64 }), [0.125, 0.25]);
  assert.deepEqual(cellOf({ width: 8, height: 16 }), [1, 1]);
});

test("a moved box keeps its size and stays inside", () => {
  assert.deepEqual(moveBox(BOX, 0.1, -0.1, null), [0.35, 0.15, 0.5, 0.25]);
  assert.deepEqual(moveBox(BOX, 9, 9, null), [0.5, 0.75, 0.5, 0.25]);
  assert.deepEqual(moveBox(BOX, -9, -9, null), [0, 0, 0.5, 0.25]);
});

test("with a grid a moved box snaps, but only the way it goes", () => {
  assert.deepEqual(moveBox([0.26, 0.26, 0.5, 0.25], 0.1, 0, GRID), [0.375, 0.26, 0.5, 0.25]);
});

test("a box that came from elsewhere and is too large fits after moving", () => {
  assert.deepEqual(moveBox([-0.5, 0, 2, 1], 0.1, 0, null), [0, 0, 1, 1]);
});

test("resizing moves the edges of the handle, not the others", () => {
  assert.deepEqual(resizeBox(BOX, "se", 0.1, 0.1, null, LEAST), [0.25, 0.25, 0.6, 0.35]);
  assert.deepEqual(resizeBox(BOX, "w", -0.1, 0.5, null, LEAST), [0.15, 0.25, 0.6, 0.25]);
  assert.deepEqual(resizeBox(BOX, "n", 0.5, -0.1, null, LEAST), [0.25, 0.15, 0.5, 0.35]);
});

test("resizing stops at the frame and at the smallest box", () => {
  assert.deepEqual(resizeBox(BOX, "se", 9, 9, null, LEAST), [0.25, 0.25, 0.75, 0.75]);
  assert.deepEqual(resizeBox(BOX, "se", -9, -9, null, LEAST), [0.25, 0.25, 0.125, 0.25]);
  assert.deepEqual(resizeBox(BOX, "nw", 9, 9, null, LEAST), [0.625, 0.25, 0.125, 0.25]);
});

test("with a grid a resized edge snaps", () => {
  assert.deepEqual(resizeBox(BOX, "e", 0.1, 0, GRID, LEAST), [0.25, 0.25, 0.625, 0.25]);
});

test("drawing works in any direction, snaps, and never leaves the frame", () => {
  assert.deepEqual(boxBetween([0.13, 0.24], [0.49, 0.76], GRID, LEAST), [0.125, 0.25, 0.375, 0.5]);
  assert.deepEqual(boxBetween([0.49, 0.76], [0.13, 0.24], GRID, LEAST), [0.125, 0.25, 0.375, 0.5]);
  assert.deepEqual(boxBetween([0.9, 0.9], [2, 2], GRID, LEAST), [0.875, 0.75, 0.125, 0.25]);
  assert.deepEqual(boxBetween([-1, -1], [2, 2], null, LEAST), [0, 0, 1, 1]);
});

test("corners win over edges", () => {
  assert.equal(handleAt(BOX, [0.26, 0.26], [0.3, 0.3]), "nw");
  assert.equal(handleAt(BOX, [0.5, 0.26], [0.02, 0.02]), "n");
  assert.equal(handleAt(BOX, [0.5, 0.4], [0.02, 0.02]), null);
});

test("points and boxes in boxes", () => {
  assert.ok(contains(BOX, [0.25, 0.5]) && !contains(BOX, [0.2, 0.5]) && contains(BOX, [0.2, 0.5], [0.05, 0]));
  assert.ok(overlap(BOX, [0, 0, 0.3, 0.3]) && !overlap(BOX, [0, 0, 0.2, 0.2]));
});
