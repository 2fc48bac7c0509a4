// Operations on the regions of a layout: each takes a region or a list of them and returns a new one. Pure.

import { boxAt } from "./region_layout.js";

export const COLORS = ["#4fc3f7", "#ffb74d", "#aed581", "#f06292", "#ba68c8", "#4db6ac", "#fff176", "#e57373"];

/** A new region with a free name and a colour that the fewest others have. */
export function newRegion(regions, box, t) {
  const count = (color) => regions.filter((region) => region.color === color).length;
  const color = [...COLORS].sort((a, b) => count(a) - count(b))[0];
  return { name: freeName(regions), prompt: "", color, strength: 1, keyframes: [{ t, box }], locked: false };
}

export function freeName(regions) {
  const names = new Set(regions.map((region) => region.name));
  let number = regions.length + 1;
  while (names.has(`region ${number}`)) number += 1;
  return `region ${number}`;
}

/** Time 0..1 of a frame. */
export function timeOf(frame, frames) {
  return frames > 1 ? Math.round((frame / (frames - 1)) * 1e6) / 1e6 : 0;
}

/** The frame that a time falls on. */
export function frameOf(t, frames) {
  return Math.round(t * Math.max(0, frames - 1));
}

/** Index of a region's keyframe at a frame, or -1. */
export function keyframeAt(region, frame, frames) {
  return region.keyframes.findIndex((keyframe) => frameOf(keyframe.t, frames) === frame);
}

/** The region with this box at this frame: its keyframe there is changed or added. */
export function placeBox(region, box, frame, frames) {
  const index = keyframeAt(region, frame, frames);
  const keyframes = region.keyframes.map((keyframe, at) => (at === index ? { ...keyframe, box } : keyframe));
  if (index < 0) keyframes.push({ t: timeOf(frame, frames), box });
  return { ...region, keyframes: keyframes.sort((a, b) => a.t - b.t) };
}

/** The region without its keyframe at this frame, or with one more there; the last keyframe stays. */
export function toggleKeyframe(region, frame, frames) {
  const index = keyframeAt(region, frame, frames);
  if (index < 0) return placeBox(region, boxAt(region, timeOf(frame, frames)), frame, frames);
  if (region.keyframes.length === 1) return region;
  return { ...region, keyframes: region.keyframes.filter((_, at) => at !== index) };
}

/** The region with its keyframe number `at` moved to a frame, or as far as its neighbours let it. */
export function moveKeyframe(region, at, frame, frames) {
  const taken = region.keyframes.map(({ t }) => frameOf(t, frames));
  const first = at > 0 ? taken[at - 1] + 1 : 0;
  const last = at + 1 < taken.length ? taken[at + 1] - 1 : frames - 1;
  const target = Math.min(Math.max(frame, first), last);
  if (first > last || target === taken[at]) return region;
  const t = timeOf(target, frames);
  return { ...region, keyframes: region.keyframes.map((keyframe, number) => (number === at ? { ...keyframe, t } : keyframe)) };
}

/** The region standing still where it is at this frame. */
export function standStill(region, frame, frames) {
  const t = timeOf(frame, frames);
  return { ...region, keyframes: [{ t: 0, box: boxAt(region, t) }] };
}

/** Keyframes before and after a frame, or null: what the ghosts show. */
export function neighbours(region, frame, frames) {
  const before = region.keyframes.filter((keyframe) => frameOf(keyframe.t, frames) < frame).at(-1) ?? null;
  const after = region.keyframes.find((keyframe) => frameOf(keyframe.t, frames) > frame) ?? null;
  return [before, after];
}

/** The region with `<concept>` in its prompt: in place of the first concept there, or at the end. */
export function assignConcept(region, concept) {
  const mention = `<${concept}>`;
  const prompt = /<[^<>\s]+>/.test(region.prompt)
    ? region.prompt.replace(/<[^<>\s]+>/, () => mention)
    : region.prompt.trim() ? `${region.prompt.trimEnd()} ${mention}` : `a ${mention}`;
  // A name that someone has typed stays.
  const given = !/^region \d+$/.test(region.name) && !mentions(region).includes(region.name);
  return { ...region, prompt, name: given ? region.name : concept };
}

/** Names of the concepts in a region's prompt. */
export function mentions(region) {
  return [...region.prompt.matchAll(/<([^<>\s]+)>/g)].map((match) => match[1]);
}

/** Regions in another order: those at `indices` one step, or all the way, towards the front (later in the list). */
export function reorder(regions, indices, direction, allTheWay) {
  const chosen = new Set(indices);
  const items = regions.map((region, index) => ({ region, index, chosen: chosen.has(index) }));
  const towards = direction > 0 ? items : items.reverse();
  if (allTheWay) {
    towards.sort((a, b) => a.chosen - b.chosen);
  } else {
    // From the far end, so that a group keeps its order and stops at the end together.
    for (let at = towards.length - 2; at >= 0; at -= 1) {
      if (towards[at].chosen && !towards[at + 1].chosen) {
        [towards[at], towards[at + 1]] = [towards[at + 1], towards[at]];
      }
    }
  }
  if (direction < 0) towards.reverse();
  return {
    regions: towards.map((item) => item.region),
    indices: towards.flatMap((item, at) => (item.chosen ? [at] : [])),
  };
}

/** Copies of regions for a list that has `regions`: a little aside, with names that are free. */
export function copiesFor(regions, copied, shift) {
  const all = [...regions];
  return copied.map((region) => {
    const taken = new Set(all.map((other) => other.name));
    let name = region.name;
    for (let number = 2; taken.has(name); number += 1) name = `${region.name.replace(/ \d+$/, "")} ${number}`;
    const copy = {
      ...region,
      name,
      locked: false,
      keyframes: region.keyframes.map(({ t, box }) => ({ t, box: shift(box) })),
    };
    all.push(copy);
    return copy;
  });
}
