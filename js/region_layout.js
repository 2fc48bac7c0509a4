// Region layouts: which concept or prompt goes where, and when. Pure: no page, no ComfyUI.
// The same as ccvd_core/region_layout.py; both are tested on tests/data/region_layout_cases.json.

export const VERSION = 1;
export const MAX_TEXT = 2_000_000;
export const MAX_REGIONS = 64;
export const MAX_KEYFRAMES = 1000;
export const MAX_SIDE = 16384;
/** Brackets within brackets: a layout has six. How many a JSON reader bears depends on the reader. */
export const MAX_DEPTH = 100;
/** Nothing, or an empty table, in what JSON takes for white space; Python and browsers each strip other characters too. */
const EMPTY = /^[ \t\n\r]*(\{\})?[ \t\n\r]*$/;

/** A layout that cannot be used; the message says where and why. */
export class RegionLayoutError extends Error {}

/** Layout {width, height, regions} from JSON text; an empty text is an empty layout. Throws RegionLayoutError. */
export function parseLayout(text) {
  if (text.length > MAX_TEXT) refuse("the layout", `at most ${MAX_TEXT} characters`, text.length);
  if (EMPTY.test(text)) return { width: 512, height: 512, regions: [] };
  if (depth(text) > MAX_DEPTH) refuse("the layout", `at most ${MAX_DEPTH} brackets within brackets`, "more");
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RegionLayoutError(
      `The region layout is damaged (${error.message}). Clear the regions in the editor and draw them again.`,
    );
  }
  return layoutFrom(value);
}

/** How many brackets stand within each other in JSON text. */
function depth(text) {
  let [current, deepest] = [0, 0];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (letter === "[" || letter === "{") {
      current += 1;
      deepest = Math.max(deepest, current);
    } else if (letter === "]" || letter === "}") {
      current -= 1;
    } else if (letter === '"') {
      at = endOfString(text, at);
    }
  }
  return deepest;
}

function endOfString(text, start) {
  for (let at = start + 1; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === '"') return at;
  }
  return text.length;
}

function layoutFrom(value) {
  const layout = table(value, "the layout");
  if (layout.version !== VERSION) {
    refuse("version", VERSION, `${JSON.stringify(layout.version)}; a newer pack may have written it: update this one`);
  }
  const regions = items(given(layout, "regions", []), "regions", MAX_REGIONS);
  return {
    width: side(layout.width, "width"),
    height: side(layout.height, "height"),
    regions: regions.map((region, index) => regionFrom(region, `region ${index + 1}`)),
  };
}

function regionFrom(value, where) {
  const region = table(value, where);
  const color = textOf(given(region, "color", "#4fc3f7"), `${where}: color`);
  if (!/^#[0-9a-fA-F]{6}$/.test(color)) refuse(`${where}: color`, "#rrggbb", JSON.stringify(color.slice(0, 20)));
  const keyframes = items(region.keyframes, `${where}: keyframes`, MAX_KEYFRAMES).map((keyframe, index) =>
    keyframeFrom(keyframe, `${where}: keyframe ${index + 1}`));
  if (!keyframes.length) refuse(`${where}: keyframes`, "at least one", "none");
  if (new Set(keyframes.map((keyframe) => keyframe.t)).size !== keyframes.length) {
    refuse(`${where}: keyframes`, "different times", "two at the same time");
  }
  return {
    name: textOf(given(region, "name", ""), `${where}: name`),
    prompt: textOf(given(region, "prompt", ""), `${where}: prompt`),
    color,
    strength: numberIn(given(region, "strength", 1), `${where}: strength`, 0, 10),
    keyframes: keyframes.sort((a, b) => a.t - b.t),
    locked: yesOrNo(given(region, "locked", false), `${where}: locked`),
  };
}

function keyframeFrom(value, where) {
  const keyframe = table(value, where);
  const box = items(keyframe.box, `${where}: box`, 4);
  if (box.length !== 4) refuse(`${where}: box`, "[x, y, width, height]", `${box.length} numbers`);
  const corner = box.slice(0, 2).map((number) => numberIn(number, `${where}: box`, -1, 1));
  const size = box.slice(2).map((number) => numberIn(number, `${where}: box`, 0, 2));
  if (size.some((number) => number === 0)) {
    refuse(`${where}: box`, "a width and height above 0", `${size[0]} x ${size[1]}`);
  }
  return { t: numberIn(keyframe.t, `${where}: t`, 0, 1), box: [...corner, ...size] };
}

/** JSON that parseLayout reads back as the same layout. */
export function serializeLayout({ width, height, regions }) {
  return JSON.stringify({ version: VERSION, width, height, regions });
}

/** Why parseLayout would not read a layout back, or "". Some room is left for another size of the video. */
export function whyNotWritten(layout) {
  const text = serializeLayout(layout);
  try {
    if (text.length > MAX_TEXT - 100) refuse("the layout", `at most ${MAX_TEXT - 100} characters`, text.length);
    parseLayout(text);
  } catch (error) {
    return error.message;
  }
  return "";
}

/** A region's box [x, y, width, height] at time t: linear between keyframes, constant outside them. */
export function boxAt({ keyframes }, t) {
  let before = keyframes[0];
  let after = keyframes[keyframes.length - 1];
  for (const keyframe of keyframes) {
    if (keyframe.t <= t) before = keyframe;
    if (keyframe.t >= t) {
      after = keyframe;
      break;
    }
  }
  if (after.t <= before.t) return t >= before.t ? [...before.box] : [...after.box];
  const share = Math.min(1, Math.max(0, (t - before.t) / (after.t - before.t)));
  return before.box.map((number, index) => number + (after.box[index] - number) * share);
}

function refuse(where, expected, got) {
  throw new RegionLayoutError(`The region layout cannot be used. ${where}: expected ${expected}; got ${got}.`);
}

function given(object, key, otherwise) {
  return key in object ? object[key] : otherwise;
}

function table(value, where) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    refuse(where, "a table of names and values", value === null ? "null" : Array.isArray(value) ? "a list" : typeof value);
  }
  return value;
}

function items(value, where, most) {
  if (!Array.isArray(value)) refuse(where, "a list", value === null ? "null" : typeof value);
  if (value.length > most) refuse(where, `at most ${most}`, value.length);
  return value;
}

function textOf(value, where) {
  if (typeof value !== "string") refuse(where, "a text", value === null ? "null" : typeof value);
  return value;
}

function yesOrNo(value, where) {
  if (typeof value !== "boolean") refuse(where, "true or false", value === null ? "null" : typeof value);
  return value;
}

function numberIn(value, where, low, high) {
  if (typeof value !== "number" || !Number.isFinite(value)) refuse(where, "a finite number", JSON.stringify(value));
  if (value < low || value > high) refuse(where, `a number between ${low} and ${high}`, value);
  return value;
}

function side(value, where) {
  const number = numberIn(value, where, 1, MAX_SIDE);
  if (!Number.isInteger(number)) refuse(where, "a whole number of pixels", number);
  return number;
}
