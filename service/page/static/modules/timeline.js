// The clips of a video as a row of buttons, coloured by what each votes; one, a stretch or all can be chosen. Of a long
// video one part is shown at a time.
import { PART } from "./api.js";
import { classes, clock, colourOf, el, fill, labelOf, signWords } from "./dom.js";

// Of two classes: from the first through neither to the second; told apart without seeing red or green, and written in
// words beside.
const STOPS = [[33, 102, 172], [146, 197, 222], [240, 240, 238], [253, 184, 99], [179, 88, 6]];
const UNSURE = STOPS[2];

const between = (from, to, share) => from.map((value, index) => Math.round(value + (to[index] - value) * share));

/** Colour of what a clip votes, given a verdict's classes: of more than two that of its class, paler where less sure. */
export function shade(clip, all) {
  if (all.length === 2) {
    const at = clip.probabilities[1] * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return between(STOPS[low], STOPS[low + 1], at - low);
  }
  const least = 1 / all.length;
  return between(UNSURE, colourOf(clip.label) || UNSURE, (Math.max(...clip.probabilities) - least) / (1 - least));
}

/** What the colours mean. */
export function colourLegend() {
  if (classes.length !== 2) return [classes.map((one) => [labelOf(one), " "]), "paler where less sure"];
  const [first, second] = classes;
  return [`${first} `, el("span", { class: "scale", role: "img", "aria-label": `from blue, ${first}, to brown, ${second}` }), ` ${second}`];
}

function painted(button, clip, all) {
  const [r, g, b] = shade(clip, all);
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
      const one = verdicts.get(clip.clip_id);
      if (one) painted(this.buttons[place], one, verdict.classes);
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
      if (verdict) words.push(`votes ${verdict.label}, with a probability of ${Math.max(...verdict.probabilities).toFixed(2)}`);
      if (this.flipping && this.flipping.has(clip.clip_id)) words.push("without it the verdict would turn");
      this.buttons[place].setAttribute("aria-label", words.join(", "));
      this.buttons[place].title = words.join(", ");
    });
  }
}

/** A table of signs over time: in words where each is probable, and a strip as long as the video; `go(seconds)` plays. */
export function signTable({ clips, tracks, not_judged: others }, signs, go) {
  const end = clips.length ? clips[clips.length - 1].start_seconds + clips[clips.length - 1].valid_seconds : 1;
  const strip = (track) => {
    const canvas = el("canvas", { width: 600, height: 14, "aria-hidden": "true", class: "sign" });
    const pen = canvas.getContext("2d");
    clips.forEach((clip, n) => {
      pen.fillStyle = `rgb(${between([240, 240, 238], [20, 84, 111], track.probabilities[n]).join(" ")})`;
      pen.fillRect((600 * clip.start_seconds) / end, 0, Math.max((600 * clip.valid_seconds) / end, 1), 14);
    });
    return canvas;
  };
  const when = (track) => track.stretches.length ? track.stretches.slice(0, 12).map((one) =>
    el("button", { type: "button", onclick: () => go(one.start_seconds) }, `${clock(one.start_seconds)} to ${clock(one.end_seconds)}`)) : "nowhere";
  return el("div", {}, el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Signs over time" },
    el("table", { class: "signs-in-time" }, el("thead", {}, el("tr", {}, ["Sign", "Over time", "Probable", "How well it is told"].map((one) => el("th", { scope: "col" }, one)))),
      el("tbody", {}, tracks.map((track) => el("tr", {}, el("th", { scope: "row" }, signWords(signs, track.name)), el("td", {}, strip(track)), el("td", {}, when(track)),
        el("td", { class: "soft" }, `AUROC ${track.auroc.toFixed(2)} (${track.auroc_low.toFixed(2)} to ${track.auroc_high.toFixed(2)}) on patients left out; ${track.patients} patients show it`)))))),
    others.length ? el("p", { class: "soft" }, "Not judged: ", others.map((one) => `${signWords(signs, one.name)} (${one.reason})`).join("; "), ".") : null);
}
