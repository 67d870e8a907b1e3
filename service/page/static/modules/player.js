// Two films in step: the query leads, the result follows by the alignment of their clips.
import { films } from "./api.js";
import { clock, el } from "./dom.js";

const CLIP_S = 10;
const NEAR_S = 0.02; // closer than a frame: nothing to do
const FAR_S = 0.35; // further: jump instead of hurrying
const SPEEDS = [0.25, 0.5, 1, 1.5, 2];

/**
 * Where in the result a moment of the query lies.
 * @param pairs {query, result, similarity}: when clips begin that belong together, in seconds
 * @returns seconds of the result for seconds of the query
 */
export function follow(pairs) {
  if (!pairs.length) return (seconds) => seconds;
  const best = new Map();
  for (const pair of pairs) {
    const known = best.get(pair.query);
    if (!known || pair.similarity > known.similarity) best.set(pair.query, pair);
  }
  const clips = [...best.keys()].sort((a, b) => a - b);
  return (seconds) => {
    const begin = seconds - CLIP_S / 2;
    let nearest = clips[0]; // outside the alignment its nearest end is extended
    for (const one of clips) if (Math.abs(one - begin) <= Math.abs(nearest - begin)) nearest = one;
    return seconds + (best.get(nearest).result - nearest); // in this order, or rounding costs a frame
  };
}

/** Five moments of a clip, side by side: of one that begins between two strips of ten seconds, the end of the first and the beginning of the second. */
export function stripOf(clip) {
  const first = Math.floor(clip.start_seconds / CLIP_S);
  const shift = clip.start_seconds / CLIP_S - first;
  const picture = (number) => el("img", { src: films.strip(clip.video_id, number), alt: "", loading: "lazy", onerror: (event) => event.currentTarget.removeAttribute("src") });
  const strip = el("div", {}, picture(first), shift > 0 ? picture(first + 1) : null);
  strip.style.setProperty("--shift", `${-100 * shift}%`);
  return el("div", { class: "strip", role: "img", "aria-label": `Five moments of the clip at ${clock(clip.start_seconds)}` }, strip);
}

/** Frames a second of a film, as its server says. */
async function rate(source) {
  try {
    const answer = await fetch(source, { headers: { range: "bytes=0-0" } });
    await answer.arrayBuffer(); // what is not read stays under way
    return Number(answer.headers.get("semiome-fps")) || 25;
  } catch { return 25; }
}

/** Both films and what controls them. */
export class Players {
  constructor() {
    this.query = this.#side("Query");
    this.result = this.#side("Result");
    this.map = (seconds) => seconds;
    this.speed = 1;
    this.fps = 25;
    this.loop = null; // [from, to] in seconds of the query
    this.onTime = () => {};
    this.stretch = () => null; // what is chosen to be looped: [from, to], or null
    this.element = el("section", { "aria-label": "Films side by side" },
      el("div", { class: "players" }, this.query.figure, this.result.figure), this.#controls());
    const lead = this.query.video;
    lead.addEventListener("play", () => this.#playing());
    lead.addEventListener("pause", () => { this.result.video.pause(); this.#meet(); this.#show(); });
    lead.addEventListener("seeking", () => this.#meet());
    lead.addEventListener("seeked", () => this.#show());
    lead.addEventListener("ended", () => this.result.video.pause());
    for (const name of ["timeupdate", "loadedmetadata"]) lead.addEventListener(name, () => this.#show());
    this.result.video.addEventListener("loadedmetadata", () => this.#meet());
  }

  #side(name) {
    const video = el("video", { "aria-label": `${name} film`, preload: "auto", playsInline: true, muted: true, tabindex: "-1" });
    const none = el("div", { class: "none soft", hidden: true });
    const caption = el("figcaption", {}, name);
    video.addEventListener("error", () => {
      if (!video.getAttribute("src")) return;
      video.hidden = true;
      none.hidden = false;
      none.textContent = video.getAttribute("src").startsWith("blob:")
        ? "This browser can't play the file. The search works all the same."
        : "There is no film of this video yet. `semiome previews manifest.csv` makes it.";
    });
    return { video, none, caption, figure: el("figure", {}, video, none, caption) };
  }

  #controls() {
    this.playButton = el("button", { type: "button", class: "main", onclick: () => this.toggle() }, "Play");
    this.loopButton = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggleLoop() }, "Loop");
    this.speeds = el("select", { "aria-label": "Speed", onchange: () => this.setSpeed(Number(this.speeds.value)) },
      SPEEDS.map((speed) => el("option", { value: String(speed), selected: speed === 1 }, `${speed}×`)));
    this.slider = el("input", { type: "range", min: "0", max: "1", step: "0.04", value: "0", "aria-label": "Time in the query",
      oninput: () => this.seek(Number(this.slider.value)) });
    this.times = el("output", { class: "soft" }, "0:00");
    return el("div", { class: "row" }, this.playButton,
      el("button", { type: "button", "aria-label": "One frame back", onclick: () => this.step(-1) }, "◂|"),
      el("button", { type: "button", "aria-label": "One frame forward", onclick: () => this.step(1) }, "|▸"),
      this.speeds, this.loopButton, this.slider, this.times);
  }

  #load(side, source, caption) {
    side.caption.replaceChildren(...caption);
    side.none.hidden = true;
    side.video.hidden = false;
    if (side.video.getAttribute("src") !== source) side.video.setAttribute("src", source);
  }

  /** Shows the query's film. */
  show(source, ...caption) {
    this.#load(this.query, source, caption);
    this.loop = null;
    this.loopButton.setAttribute("aria-pressed", "false");
    this.fps = 25;
    if (!source.startsWith("blob:")) rate(source).then((fps) => { if (this.query.video.getAttribute("src") === source) this.fps = fps; });
    this.#show();
  }

  /** Puts a result beside it; `pairs` as `follow` takes them, `at` seconds of the query to begin at. */
  beside(source, pairs, at, ...caption) {
    this.map = follow(pairs);
    this.#load(this.result, source, caption);
    this.seek(at);
  }

  /** What a key does to the films; undefined for one that does nothing. */
  key(key) {
    return {
      " ": () => this.toggle(), k: () => this.toggle(),
      ",": () => this.step(-1), ".": () => this.step(1),
      ArrowLeft: () => this.seek(this.query.video.currentTime - 2), ArrowRight: () => this.seek(this.query.video.currentTime + 2),
      l: () => this.toggleLoop(), "<": () => this.faster(-1), ">": () => this.faster(1),
    }[key];
  }

  toggle() { if (this.query.video.paused) this.query.video.play().catch(() => {}); else this.query.video.pause(); }

  setSpeed(speed) {
    this.speed = speed;
    this.speeds.value = String(speed);
    this.query.video.playbackRate = this.result.video.playbackRate = speed;
  }

  faster(by) { this.setSpeed(SPEEDS[Math.min(Math.max(SPEEDS.indexOf(this.speed) + by, 0), SPEEDS.length - 1)]); }

  seek(seconds) {
    const video = this.query.video;
    video.currentTime = Math.min(Math.max(seconds, 0), (video.duration || Infinity) - 0.001);
    this.#meet();
    this.#show();
  }

  step(frames) { this.query.video.pause(); this.seek(this.query.video.currentTime + frames / this.fps); }

  /** Loops what is chosen, or the clip that is shown; or no more. */
  toggleLoop() {
    const now = Math.floor(this.query.video.currentTime / CLIP_S) * CLIP_S;
    this.loop = this.loop ? null : this.stretch() || [now, now + CLIP_S];
    this.loopButton.setAttribute("aria-pressed", String(this.loop !== null));
  }

  /** How far the films are from being in step, in seconds of the result; positive: it is ahead. */
  get drift() { return this.result.video.currentTime - this.target; }

  /** Where the result ought to be. */
  get target() {
    const length = this.result.video.duration || Infinity;
    return Math.min(Math.max(this.map(this.query.video.currentTime), 0), length - 0.001);
  }

  /** Whether the result has a picture for this moment of the query. */
  get overlaps() {
    const at = this.map(this.query.video.currentTime);
    return at >= 0 && at < (this.result.video.duration || 0) - 0.05;
  }

  #meet() {
    const video = this.result.video;
    if (video.readyState > 0 && Math.abs(this.drift) > NEAR_S) video.currentTime = this.target;
  }

  #playing() {
    const lead = this.query.video;
    const other = this.result.video;
    const keep = () => {
      if (lead.paused || lead.ended) return;
      const end = this.loop && Math.min(this.loop[1], (lead.duration || Infinity) - 0.05); // before it has ended
      if (this.loop && (lead.currentTime >= end || lead.currentTime < this.loop[0] - 0.1)) this.seek(this.loop[0]);
      if (other.readyState > 1 && !other.seeking) {
        if (this.overlaps && other.paused) other.play().catch(() => {});
        if (!this.overlaps && !other.paused) other.pause();
        const drift = this.drift;
        if (Math.abs(drift) > FAR_S) other.currentTime = this.target + (this.overlaps ? 0.03 * this.speed : 0);
        // Hurrying or lingering a little is not seen, and never jumps.
        else other.playbackRate = this.speed * (Math.abs(drift) < NEAR_S ? 1 : Math.min(Math.max(1 - 1.5 * drift, 0.6), 1.6));
      }
      requestAnimationFrame(keep);
    };
    this.#show();
    requestAnimationFrame(keep);
  }

  #show() {
    const video = this.query.video;
    this.playButton.textContent = video.paused ? "Play" : "Pause";
    if (Number.isFinite(video.duration)) this.slider.max = String(video.duration);
    this.slider.value = String(video.currentTime);
    this.slider.setAttribute("aria-valuetext", clock(video.currentTime));
    this.times.textContent = `${clock(video.currentTime)} of ${clock(video.duration || 0)}, result at ${clock(this.target)}`;
    this.onTime(video.currentTime);
  }

  /** Lets go of both films. */
  close() {
    for (const side of [this.query, this.result]) { side.video.pause(); side.video.removeAttribute("src"); side.video.load(); }
  }
}
