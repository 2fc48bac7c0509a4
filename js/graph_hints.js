// What is wired or written so that no concept would act, found before anything runs. Pure: no page.

import { inputIndex, isLinked, placesOf, textOf, upstream, widgetValue } from "./graph_walk.js";
import { parseLayout } from "./region_layout.js";

const AGGREGATE = "CCVD_AggregateAdapters";
/** What adds a concept `name` to a `library`. */
const MAKERS = ["CCVD_LearnConcept", "CCVD_ImportLora"];
const SHELF = "CCVD_ConceptLibrary";
const SAMPLER = "CCVD_Sampler";
const REGIONS = "CCVD_RegionMask";
/** What a sampler or a guider calls its positive prompt. */
const PROMPTS = ["positive", "conditioning"];
const MENTION = /<([^<>\s]+)>/g;

/**
 * Hints [{graph, id, text}] for the nodes of a workflow; `graph` is the id of the graph that the node `id` is in.
 * `libraries`: {library: [concept, ...]}.
 */
export function hintsFor(rootGraph, libraries, texts) {
  const places = placesOf(rootGraph).filter(({ node }) => node.mode !== 2 && node.mode !== 4);
  const learned = places.filter(({ node }) => MAKERS.includes(node.type)).map(({ node }) => writtenName(widgetValue(node, "name")));
  const known = new Set([...Object.values(libraries).flat(), ...learned].filter(Boolean));
  const hints = places.flatMap((place) => [
    ...wiringHints(place, texts),
    ...encoderHints(place, known, texts),
    ...promptHints(place, libraries, texts),
  ]);
  // What is wrong in a subgraph shows at the nodes around it too; there may be two of the same subgraph.
  const shown = hints.flatMap(({ place, text }) => [...place.path, place.node].map(({ graph, id }) => ({ graph: graph.id, id, text })));
  return [...new Map(shown.map((hint) => [JSON.stringify(hint), hint])).values()];
}

/** A sampler whose model and positive prompt do not both come from the same Aggregate Adapters. */
function wiringHints(place, texts) {
  const { node } = place;
  const prompt = PROMPTS.find((name) => isLinked(node, name));
  if (node.subgraph || node.type === AGGREGATE || !prompt || !isLinked(node, "model")) return [];
  const ofPrompt = upstream(place, inputIndex(node, prompt), AGGREGATE);
  const ofModel = upstream(place, inputIndex(node, "model"), AGGREGATE);
  const lacking = [...ofPrompt.found.keys()].some((key) => !ofModel.found.has(key));
  if (lacking && !ofModel.hidden) return [{ place, text: texts.modelElsewhere }];
  if (ofPrompt.found.size || ofPrompt.hidden) return [];
  if (ofModel.found.size) return [{ place, text: texts.promptElsewhere(prompt) }];
  return node.type === SAMPLER && !ofModel.hidden ? [{ place, text: texts.neither }] : [];
}

/** A stock text encoder that is given `<name>`: to it these are four odd letters. */
function encoderHints(place, known, texts) {
  if (!place.node.type?.startsWith("CLIPTextEncode")) return [];
  const text = textOf(place, "text") ?? "";
  const named = [...text.matchAll(MENTION)].map(([, name]) => name.toLowerCase()).filter((name) => known.has(name));
  return named.length ? [{ place, text: texts.plainEncoder(named[0]) }] : [];
}

/** A prompt that names a concept of its library without the angle brackets; of Aggregate Adapters and of its regions. */
function promptHints(place, libraries, texts) {
  if (place.node.type !== AGGREGATE) return [];
  const names = offered(place, libraries);
  const own = bareNames(textOf(place, "prompt"), names).map((name) => ({ place, text: texts.noBrackets(name) }));
  const masks = [...upstream(place, inputIndex(place.node, "regions"), REGIONS).found.values()];
  return [...own.slice(0, 1), ...masks.flatMap((mask) => regionPrompts(mask).flatMap(([label, prompt]) => (
    bareNames(prompt, names).slice(0, 1).map((name) => ({ place: mask, text: `${label}: ${texts.noBrackets(name)}` }))
  )))];
}

/** Concepts of the libraries that may be connected to Aggregate Adapters, with those that are only going to be learned. */
function offered(place, libraries) {
  const index = inputIndex(place.node, "library");
  const shelves = [SHELF, ...MAKERS].flatMap((type) => [...upstream(place, index, type).found.values()]);
  return new Set(shelves.flatMap(({ node }) => [
    ...(libraries[String(widgetValue(node, "library") ?? "").trim().toLowerCase()] ?? []),
    ...(MAKERS.includes(node.type) ? [writtenName(widgetValue(node, "name"))] : []),
  ]).filter(Boolean));
}

/** [label, prompt] of the drawn regions; none if the layout cannot be read. */
function regionPrompts({ node }) {
  try {
    const { regions } = parseLayout(widgetValue(node, "layout") ?? "");
    return regions.map(({ name, prompt }, index) => [name.trim() || `${index + 1}`, prompt]);
  } catch {
    return [];
  }
}

/** Names that stand in a prompt as plain words and nowhere as `<name>`. */
export function bareNames(prompt, names) {
  const named = new Set([...(prompt ?? "").matchAll(MENTION)].map(([, name]) => name.toLowerCase()));
  const words = new Set((prompt ?? "").replace(MENTION, " ").toLowerCase().match(/[a-z0-9][a-z0-9_-]*/g));
  return [...names].filter((name) => words.has(name) && !named.has(name));
}

/** A name as artists write it, with or without its angle brackets. */
function writtenName(text) {
  return String(text ?? "").trim().replace(/^<|>$/g, "").toLowerCase();
}

