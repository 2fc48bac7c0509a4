import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { MAX_TEXT, RegionLayoutError, boxAt, parseLayout, serializeLayout } from "../../js/region_layout.js";

const cases = JSON.parse(readFileSync(new URL("../data/region_layout_cases.json", import.meta.url), "utf8"));

for (const { name, text, regions, size, boxes = [] } of cases.good) {
  test(`good: ${name}`, () => {
    const layout = parseLayout(text);
    assert.equal(layout.regions.length, regions);
    assert.deepEqual([layout.width, layout.height], size);
    for (const { region, t, box } of boxes) {
      boxAt(layout.regions[region], t).forEach((number, index) => assert.ok(Math.abs(number - box[index]) < 1e-12));
    }
    assert.deepEqual(parseLayout(serializeLayout(layout)), layout);
  });
}

for (const { name, text, says } of cases.bad) {
  test(`bad: ${name}`, () => {
    assert.throws(() => parseLayout(text), (error) => error instanceof RegionLayoutError && error.message.includes(says));
  });
}

test("10,000 regions and 50 MB are refused", () => {
  const region = { keyframes: [{ t: 0, box: [0, 0, 1, 1] }] };
  const many = serializeLayout({ width: 64, height: 64, regions: Array(10_000).fill(region) });
  assert.throws(() => parseLayout(many), /at most 64; got 10000/);
  assert.throws(() => parseLayout(" ".repeat(50_000_000)), new RegExp(`at most ${MAX_TEXT} characters`));
});
