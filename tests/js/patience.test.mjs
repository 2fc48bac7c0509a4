// Waiting in the browser's tests: a slow page passes, a stuck one fails, by a clock that the test turns.

import assert from "node:assert/strict";
import test from "node:test";

import { IDLE_SHARE, Patience, QUIET, WORK } from "../browser/patience.mjs";

/** A page and a patience with it; `second` lets one pass in which this changes. */
function page() {
  const life = { events: 0, server: 0, browser: 0 };
  let now = 0;
  const patience = new Patience(() => ({ ...life }), "It does not end", () => now);
  const second = (change = {}) => {
    now += 1;
    for (const [name, value] of Object.entries(change)) life[name] += value;
    patience.check();
  };
  const seconds = (count, change) => Array.from({ length: count }).forEach(() => second(change));
  return { life, patience, second, seconds, wait: (time) => { now += time; } };
}

test("a page in which nothing moves is given up", () => {
  const { seconds } = page();
  seconds(QUIET);
  assert.throws(() => seconds(1), /It does not end: nothing has moved for 61 s/);
});

test("what a waiting server uses is no sign of life", () => {
  assert.throws(() => page().seconds(10 * QUIET, { server: IDLE_SHARE / 2 }), /nothing has moved/);
});

test("a slow server that works is waited for without end, and so is a page that loads", () => {
  page().seconds(100 * QUIET, { server: 0.02, browser: 0.1 });
  const { second } = page();
  for (let at = 0; at < 100 * QUIET; at += 1) second(at % 50 ? { browser: 0.1 } : { events: 1 });
});

test("a browser that hardly gets to run is waited for, one that goes round in circles is not", () => {
  page().seconds(10 * QUIET, { browser: 0.02 });
  const { seconds } = page();
  seconds(WORK, { browser: 1 });
  assert.throws(() => seconds(1, { browser: 1 }), /the page used 121.0 s/);
});

test("time in which the watcher was not run does not count", () => {
  const { wait, patience } = page();
  for (let at = 0; at < 10; at += 1) {
    wait(10 * QUIET);
    patience.check();
  }
});

test("a promise is answered, fails or is given up", async () => {
  const { patience } = page();
  assert.equal(await patience.waitFor(Promise.resolve(3)), 3);
  await assert.rejects(patience.waitFor(Promise.reject(Error("no"))), /no/);
  patience.check = () => {
    throw Error("stuck");
  };
  await assert.rejects(patience.waitFor(new Promise(() => {})), /stuck/);
});
