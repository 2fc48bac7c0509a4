// The time of the clip: play, the slider with the keyframes' marks, follow, keyframe on and off.

import { make, put } from "./region_editor_elements.js";
import { icon } from "./region_editor_icons.js";
import { KeyframeMarks } from "./region_editor_marks.js";

const FRAMES_PER_SECOND = 16;

export class Timeline {
  #stop = null;

  /** `button` makes one of the editor's buttons; `leave` gives the keys back to the canvas. */
  constructor(model, texts, follower, { button, leave }) {
    this.model = model;
    this.texts = texts;
    this.follower = follower;
    this.playButton = button("play", () => this.play());
    this.slider = make("input", { type: "range", min: 0, step: 1, title: texts.time });
    this.slider.setAttribute("aria-label", texts.time);
    this.slider.addEventListener("input", () => {
      this.#stop?.();
      model.setFrame(Number(this.slider.value));
    });
    this.marks = new KeyframeMarks(model, texts.dragKeyframe, () => {
      this.#stop?.();
      leave();
    });
    this.clock = make("span", { className: "ccvd-regions-clock" });
    this.followButton = button("follow", () => follower.press(), { pressed: () => follower.busy });
    this.element = make(
      "div",
      { className: "ccvd-regions-row" },
      this.playButton,
      make("div", { className: "ccvd-regions-track" }, this.slider, this.marks.element),
      this.clock,
      this.followButton,
      button("keyframe", () => model.toggleKeyframe(), {
        enabled: () => model.movable.length > 0,
        pressed: () => model.onKeyframe,
      }),
      button("still", () => model.standStill(), {
        enabled: () => model.movable.some((at) => model.regions[at].keyframes.length > 1),
      }),
    );
  }

  /** Run through the clip, over and over, until asked again. */
  play() {
    if (this.#stop) {
      this.#stop();
      return;
    }
    const { model } = this;
    const first = model.frame;
    let start = null;
    let asked = 0;
    const step = (now) => {
      start ??= now;
      if (!this.element.isConnected || model.frames < 2) {
        this.#stop();
        return;
      }
      model.setFrame((first + Math.floor(((now - start) / 1000) * FRAMES_PER_SECOND)) % model.frames);
      asked = requestAnimationFrame(step);
    };
    this.#stop = () => {
      cancelAnimationFrame(asked);
      this.#stop = null;
      this.playButton.innerHTML = icon("play");
    };
    this.playButton.innerHTML = icon("stop");
    asked = requestAnimationFrame(step);
  }

  show() {
    const { model, texts, follower } = this;
    this.slider.max = model.frames - 1;
    put(this.slider, model.frame);
    this.clock.textContent = `${model.frame + 1} / ${model.frames}`;
    this.marks.show();
    this.followButton.classList.toggle("busy", follower.busy);
    this.followButton.title = follower.busy ? texts.stopFollowing : texts.follow;
  }

  close() {
    this.#stop?.();
    this.marks.close();
  }
}
