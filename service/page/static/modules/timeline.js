// The clips of a video as a row of buttons, coloured by what each votes; one, a stretch or all can be chosen. Of a long
// video one part is shown at a time.
import { PART } from "./api.js";
import { clock, el, fill } from "./dom.js";

// From TLE through neither to exTLE; told apart without seeing red or green, and written in words beside.
const STOPS = [[33, 102, 172], [146, 197, 222], [240, 240, 238], [253, 184, 99], [179, 88, 6]];

/** Colour of a probability of exTLE. */
export function shade(probability) {
  const at = Math.min(Math.max(probability, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((value, index) => Math.round(value + (STOPS[low + 1][index] - value) * (at - low)));
}

function painted(button, probability) {
  const [r, g, b] = shade(probability);
  button.style.setProperty("--shade", `rgb(${r} ${g} ${b})`);
  button.style.setProperty("--text", 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#101820" : "#ffffff");
}

/** The row; `onChoose(clips)` gets the chosen ones, none for the whole video, `onSeek(seconds)` where to go. */
export class Timeline {
  constructor(onChoose, onSeek) {
    this.row = el("ol", { class: "timeline", "aria-label": "Clips of the video, ten seconds each" });
    this.parts = el("div", { class: "row" });
    this.element = el("div", {}, this.parts, this.row);
    this.onChoose = onChoose;
    this.onSeek = onSeek;
    this.clips = [];
    this.chosen = null; // [first, last] places
    this.buttons = [];
  }

  /** Shows clips; of a long video `part` says which: { first, total, go }, where go(first) shows another part. */
  show(clips, part = { first: 0, total: clips.length, go: () => {} }) {
    this.clips = clips;
    this.#turn(part);
    this.chosen = this.verdicts = this.flipping = null;
    this.buttons = clips.map((clip, place) =>
      el("button", { type: "button", "aria-pressed": "false", onclick: (event) => this.#choose(place, event.shiftKey), onkeydown: (event) => this.#key(place, event) },
        clock(clip.start_seconds)));
    fill(this.row, this.buttons.map((button) => el("li", {}, button)));
    this.#name();
  }

  #turn({ first, total, go }) {
    this.first = first;
    if (total <= this.clips.length) { fill(this.parts); return; }
    const last = this.clips[this.clips.length - 1];
    const words = last ? `${clock(this.clips[0].start_seconds)} to ${clock(last.start_seconds + last.valid_seconds)}, clips ${first + 1} to ${first + this.clips.length} of ${total}` : "";
    fill(this.parts, el("button", { type: "button", disabled: first === 0, onclick: () => go(Math.max(first - PART, 0)) }, "Earlier"),
      el("span", { role: "status" }, words),
      el("button", { type: "button", disabled: first + this.clips.length >= total, onclick: () => go(first + PART) }, "Later"));
  }

  /** Colours the clips by what a verdict says of each. */
  colour(verdict) {
    const verdicts = new Map(verdict.clips.map((one) => [one.clip.clip_id, one]));
    const flipping = new Set(verdict.flipping_clip_ids);
    this.verdicts = verdicts;
    this.clips.forEach((clip, place) => {
      const verdict = verdicts.get(clip.clip_id);
      if (verdict) painted(this.buttons[place], verdict.extle_probability);
      this.buttons[place].classList.toggle("flips", flipping.has(clip.clip_id));
    });
    this.flipping = flipping;
    this.#name();
  }

  /** Marks the clip that is being played. */
  now(seconds) {
    this.clips.forEach((clip, place) =>
      this.buttons[place].classList.toggle("now", seconds >= clip.start_seconds && seconds < clip.start_seconds + 10));
  }

  clear() { this.chosen = null; this.#mark(); }

  get chosenClips() { return this.chosen ? this.clips.slice(this.chosen[0], this.chosen[1] + 1) : []; }

  #choose(place, more) {
    if (more && this.chosen) this.chosen = [Math.min(this.chosen[0], place), Math.max(this.chosen[1], place)];
    else if (this.chosen && this.chosen[0] === place && this.chosen[1] === place) this.chosen = null;
    else this.chosen = [place, place];
    this.#mark();
    if (this.chosen) this.onSeek(this.clips[this.chosen[0]].start_seconds);
    this.onChoose(this.chosenClips);
  }

  #key(place, event) {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: this.clips.length - 1 }[event.key];
    if (to === undefined || !this.buttons[to]) return;
    event.preventDefault();
    event.stopPropagation();
    this.buttons[to].focus();
    if (event.shiftKey) { if (!this.chosen) this.chosen = [place, place]; this.#choose(to, true); }
  }

  #mark() {
    this.buttons.forEach((button, place) =>
      button.setAttribute("aria-pressed", String(this.chosen !== null && place >= this.chosen[0] && place <= this.chosen[1])));
  }

  #name() {
    this.clips.forEach((clip, place) => {
      const verdict = this.verdicts && this.verdicts.get(clip.clip_id);
      const words = [`Clip ${this.first + place + 1}, from ${clock(clip.start_seconds)}`];
      if (verdict) words.push(`votes ${verdict.label}, probability of exTLE ${verdict.extle_probability.toFixed(2)}`);
      if (this.flipping && this.flipping.has(clip.clip_id)) words.push("without it the verdict would turn");
      this.buttons[place].setAttribute("aria-label", words.join(", "));
      this.buttons[place].title = words.join(", ");
    });
  }
}
