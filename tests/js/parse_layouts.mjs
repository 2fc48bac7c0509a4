// Reads layouts as the page does, for the comparison with Python: node parse_layouts.mjs TEXTS.json, a list of texts.
// Prints a list: the layout, or null where it is refused.

import { readFileSync } from "node:fs";

import { RegionLayoutError, parseLayout } from "../../js/region_layout.js";

function read(text) {
  try {
    return parseLayout(text);
  } catch (error) {
    if (error instanceof RegionLayoutError) return null;
    throw error;
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(process.argv[2], "utf8")).map(read)));
