// Following an object through the background: asks for where it goes, and makes keyframes of the answer. No page.

import { frameOf } from "./region_editor_regions.js";

/** A rounding of times. */
const NEARLY = 1e-6;

/** First and last frame of a video of `frames` that lie within a range [from, to] of times. */
export function framesWithin([from, to], frames) {
  const last = Math.max(0, frames - 1);
  return [Math.max(0, Math.ceil(from * last - NEARLY * frames)), Math.floor(to * last + NEARLY * frames)];
}

/** A region on a path: its keyframes within the path's range are replaced, those outside stay. */
export function withPath(region, { keyframes, range }, frames) {
  const [first, last] = framesWithin(range, frames);
  const outside = region.keyframes.filter(({ t }) => frameOf(t, frames) < first || frameOf(t, frames) > last);
  return { ...region, keyframes: [...outside, ...keyframes].sort((a, b) => a.t - b.t) };
}

export class Follower {
  /** What to say below the picture, or "". */
  note = "";
  #model;
  #texts;
  #source;
  #changed;
  #asking = null;
  #about = "";

  /**
   * `source`: {connected() whether there is a background, pictures() the names of its frames after a run,
   * ask(request, signal) the path of an object}. `changed()` is called when there is something else to show.
   */
  constructor(model, texts, source, changed) {
    this.#model = model;
    this.#texts = texts;
    this.#source = source;
    this.#changed = changed;
    model.listen((kind) => {
      // A note is about what was selected then, and as it was then.
      if (this.note && !this.busy && (kind === "edit" || this.#about !== String(model.selection))) this.#say("");
    });
  }

  get busy() {
    return this.#asking !== null;
  }

  #say(note) {
    this.#about = String(this.#model.selection);
    this.note = note;
    this.#changed();
  }

  /** Follow what is in the selected boxes, through the whole clip in both directions; pressed again, give up. */
  async press() {
    if (this.#asking) {
      this.#asking.abort();
      return;
    }
    const why = this.#whyNot();
    if (why) {
      this.#say(why);
      return;
    }
    const asking = new AbortController();
    this.#asking = asking;
    this.#say(this.#texts.following);
    let note = "";
    try {
      note = await this.#follow(asking.signal);
    } catch (error) {
      if (!asking.signal.aborted) note = this.#texts.followFailed(error.message);
    }
    this.#asking = null;
    this.#say(note);
  }

  /** What has to be done first, or "". */
  #whyNot() {
    if (!this.#model.movable.length) return this.#texts.followSelect;
    if (!this.#source.connected()) return this.#texts.followConnect;
    const { length } = this.#source.pictures();
    if (!length) return this.#texts.followRun;
    return length < 2 || this.#model.frames < 2 ? this.#texts.followStill : "";
  }

  async #follow(signal) {
    const model = this.#model;
    const { frames, t } = model;
    const pictures = this.#source.pictures();
    const changes = [];
    const notes = [];
    for (const [region, box] of model.movable.map((at) => [model.regions[at], model.boxOf(at)])) {
      const path = await this.#source.ask({ pictures, box, t, frames }, signal);
      changes.push([region.keyframes, (now) => withPath(now, path, frames)]);
      notes.push(this.#report(region, path, frames));
    }
    if (!model.rewrite(changes)) return this.#texts.followChanged;
    return model.refused ? "" : notes.join(" ");
  }

  #report(region, { keyframes, range, lost }, frames) {
    const texts = this.#texts;
    const [first, last] = framesWithin(range, frames);
    const name = region.name || "—";
    const ends = [
      lost.before && texts.followLostBefore(first + 1, texts.followWhy[lost.before]),
      lost.after && texts.followLostAfter(last + 1, texts.followWhy[lost.after]),
    ].filter(Boolean);
    if (!ends.length) return texts.followDone(name, keyframes.length);
    return [texts.followPart(name, keyframes.length), ...ends, texts.followAgain].join(" ");
  }
}
