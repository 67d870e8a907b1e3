// A recording in time, from a day to seconds: what is stored of it, its seizures, what people saved, how its clips vote,
// and how similar each part is to a query.
import { call, films, PART } from "./api.js";
import { clock, colourOf, el, fill, labelOf, problem, say, tagsOf } from "./dom.js";
import { eventForm, eventsIn, eventWords } from "./feedback.js";
import { shade } from "./timeline.js";

const LEAST_S = 10; // of the closest view
const CLASSES_S = 4 * 3600; // wider views show no classes
const LANES = [16, 26, 16, 54]; // heights of what is stored, events, classes, similarity
const AXIS = 20;
const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200];

const end = ({ video, offset_seconds: offset }) => offset + video.duration_seconds;
const isQuiet = (video) => video.metadata.some((one) => one.name === "background" && one.value === "yes");

/** What happens in a recording, in its seconds: seizures that rows have, background, and what people saved. */
function happenings(videos, saved) {
  const found = videos.filter(({ video }) => video.onset_seconds !== undefined || isQuiet(video)).map(({ video, offset_seconds: offset }) => {
    const quiet = isQuiet(video);
    const from = offset + (quiet ? 0 : video.onset_seconds - video.start_seconds);
    const until = offset + (quiet || video.seizure_end_seconds === undefined ? video.duration_seconds : video.seizure_end_seconds - video.start_seconds);
    return { from, until, kind: quiet ? "quiet" : "seizure", label: video.label, semiology: video.semiology, video, words: quiet ? "background" : "a seizure" };
  });
  const at = new Map(videos.map((one) => [one.video.video_id, one]));
  for (const one of saved) {
    const { video, offset_seconds: offset } = at.get(one.video_id);
    found.push({ from: offset + one.start_seconds, until: offset + one.end_seconds, kind: one.event === "EVENT_SEIZURE" ? "seizure" : "quiet", label: one.label, semiology: one.semiology, video,
      words: `${eventWords(one.event)}, says ${one.author}` });
  }
  return found.sort((a, b) => a.from - b.from);
}

/** The timeline; `onSeek(video, seconds)` is called with the moment of a video that a person wants to see. */
export class RecordingTimeline {
  constructor(me, onSeek) {
    this.me = me;
    this.onSeek = onSeek;
    this.videos = [];
    this.marks = []; // moments: [from, until]
    this.at = 0;
    this.judged = me.judges;
    this.canvas = el("canvas", { tabindex: "0", role: "slider", "aria-label": "Time in the recording", "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" });
    this.span = el("span", { class: "soft", role: "status" });
    this.events = el("div", {});
    const button = (words, does) => el("button", { type: "button", onclick: does }, words);
    this.element = el("div", { class: "recording" },
      el("div", { class: "row" }, button("Closer", () => this.zoom(1 / 3)), button("Wider", () => this.zoom(3)), button("All of it", () => this.see(0, this.length)),
        button("Earlier", () => this.#pan(-0.8)), button("Later", () => this.#pan(0.8)), this.span),
      this.canvas, this.events);
    this.canvas.addEventListener("click", (event) => this.#goTo(this.from + (event.offsetX / this.canvas.clientWidth) * (this.until - this.from)));
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const around = this.from + (event.offsetX / this.canvas.clientWidth) * (this.until - this.from);
      this.zoom(event.deltaY > 0 ? 1.4 : 1 / 1.4, around);
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.resized = new ResizeObserver(() => this.#draw());
    this.resized.observe(this.canvas);
  }

  close() { this.resized.disconnect(); }

  /** Shows the recording that a video is of. */
  async show(videoId) {
    if (this.videos.some(({ video }) => video.video_id === videoId)) { this.shown = this.#of(videoId); return; }
    const { videos } = await call("CatalogService/GetRecording", { video_id: videoId });
    this.videos = videos;
    this.shown = this.#of(videoId);
    this.length = Math.max(...videos.map(end));
    this.similarity = [];
    this.classes = new Map(); // clips that vote, by video and part
    this.canvas.setAttribute("aria-valuemax", String(Math.round(this.length)));
    await this.refresh();
    this.see(0, this.length);
  }

  #of(videoId) { return this.videos.find(({ video }) => video.video_id === videoId); }

  /** Reads again what people saved. */
  async refresh() {
    const saved = this.me.seesFilms ? await eventsIn(this.videos.map(({ video }) => video.video_id)) : [];
    this.happening = happenings(this.videos, saved);
    const rows = this.happening.map((one) => el("li", {}, el("button", { type: "button", onclick: () => { this.see(one.from - 30, one.until + 30); this.#goTo(one.from); } },
      `${clock(one.from)} to ${clock(one.until)}`), " ", one.words, " ", one.label ? labelOf(one.label) : null, " ", tagsOf(this.me.signs, one.semiology)));
    fill(this.events, el("details", {}, el("summary", {}, rows.length === 1 ? "1 event" : `${rows.length} events`), el("ul", { class: "events" }, rows)));
    this.#draw();
  }

  /** Compares a query with the whole recording: what is a part of another video of it is compared with that. */
  async compare(query) {
    const { videos } = this;
    const whole = videos.filter((one) => !videos.some((other) => other !== one && other.offset_seconds <= one.offset_seconds + 0.001 && end(other) >= end(one) - 0.001 && other.video.duration_seconds > one.video.duration_seconds));
    const found = [];
    for (const { video, offset_seconds: offset } of whole.slice(0, 100)) {
      const along = await call("RetrievalService/GetSimilarity", { query, video_id: video.video_id });
      if (this.videos !== videos) return;
      along.start_seconds.forEach((start, place) => found.push([start - video.start_seconds + offset, Number(along.similarity[place])]));
    }
    this.similarity = found.filter(([, value]) => Number.isFinite(value));
    this.#draw();
  }

  /** Another video that shows the same moment as a time of one, but for those that are named; undefined where there is none. */
  another(video, seconds, without) {
    const at = this.#of(video.video_id).offset_seconds + seconds;
    const one = this.videos.find((other) => !without.has(other.video.video_id) && at >= other.offset_seconds && at < end(other));
    return one && [one.video, at - one.offset_seconds];
  }

  /** Marks stretches of a video, in seconds of it. */
  mark(videoId, stretches) {
    const { offset_seconds: offset } = this.#of(videoId);
    this.marks = stretches.map(([from, until]) => [from + offset, until + offset]);
    this.#draw();
  }

  /** Marks where a film is. */
  now(videoId, seconds) {
    const one = this.#of(videoId);
    if (!one) return;
    this.at = one.offset_seconds + seconds;
    this.canvas.setAttribute("aria-valuenow", String(Math.round(this.at)));
    this.canvas.setAttribute("aria-valuetext", clock(this.at));
    this.#draw();
  }

  /** Shows a part of the recording, at least ten seconds of it. */
  see(from, until) {
    const length = Math.max(this.length, LEAST_S);
    const span = Math.min(Math.max(until - from, LEAST_S), length);
    this.from = Math.min(Math.max((from + until - span) / 2, 0), length - span);
    this.until = this.from + span;
    this.span.textContent = `${clock(this.from)} to ${clock(this.until)} of ${clock(this.length)}`;
    this.#draw();
    this.#classes();
  }

  zoom(by, around = this.at >= this.from && this.at <= this.until ? this.at : (this.from + this.until) / 2) {
    this.see(around - (around - this.from) * by, around + (this.until - around) * by);
  }

  #pan(by) { const span = this.until - this.from; this.see(this.from + by * span, this.until + by * span); }

  #key(event) {
    const step = (this.until - this.from) / 50;
    const does = { ArrowLeft: () => this.#goTo(this.at - step), ArrowRight: () => this.#goTo(this.at + step), Home: () => this.#goTo(0), End: () => this.#goTo(this.length),
      ArrowUp: () => this.zoom(1 / 2), ArrowDown: () => this.zoom(2), PageUp: () => this.#pan(-0.8), PageDown: () => this.#pan(0.8) }[event.key];
    if (!does) return;
    event.preventDefault();
    event.stopPropagation();
    does();
  }

  #goTo(seconds) {
    const at = Math.min(Math.max(seconds, 0), this.length - 0.05); // where there is a picture yet
    const covers = (one) => at >= one.offset_seconds && at < end(one);
    const there = covers(this.shown) ? this.shown : this.videos.find(covers);
    if (at < this.from || at > this.until) this.#pan(at < this.from ? -0.5 : 0.5);
    if (!there) { say("Nothing is stored of that time."); return; }
    this.shown = there;
    this.now(there.video.video_id, at - there.offset_seconds);
    this.onSeek(there.video, at - there.offset_seconds);
  }

  /** Reads how the clips that are in view vote, a part of a video at a time. */
  async #classes() {
    if (!this.me.judges || this.until - this.from > CLASSES_S) return;
    const { video, offset_seconds: offset } = this.shown;
    const perClip = video.duration_seconds / Math.max(video.clip_count, 1);
    const part = (seconds) => Math.floor(Math.min(Math.max((seconds - offset) / perClip, 0), video.clip_count - 1) / PART);
    for (let number = part(this.from); number <= part(this.until); number += 1) {
      const key = `${video.video_id} ${number}`;
      if (this.classes.has(key)) continue;
      this.classes.set(key, []);
      try {
        const { verdict } = await call(`ClassificationService/Classify?from=${number * PART}&until=${(number + 1) * PART}`, { item: { video_id: video.video_id } });
        this.classes.set(key, verdict.clips.map((one) => [offset + one.clip.start_seconds, one.clip.valid_seconds, shade(one, verdict.classes)]));
      } catch (error) {
        if (error.code !== "FAILED_PRECONDITION") say(error.message);
        this.judged = error.code !== "FAILED_PRECONDITION";
        return;
      }
      this.#draw();
    }
  }

  #draw() {
    if (!this.videos.length || this.until === undefined || !this.canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, LANES.reduce((sum, lane) => sum + lane + 4, AXIS)];
    this.canvas.style.height = `${height}px`;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const colours = getComputedStyle(document.documentElement);
    const colour = (name) => colours.getPropertyValue(`--${name}`).trim();
    const x = (seconds) => ((seconds - this.from) / (this.until - this.from)) * width;
    const box = (from, until, top, tall, paint) => {
      if (until < this.from || from > this.until) return;
      pen.fillStyle = paint;
      pen.fillRect(x(from), top, Math.max(x(until) - x(from), 2), tall);
    };
    const tops = [];
    LANES.reduce((top, tall) => { tops.push(top); return top + tall + 4; }, AXIS);
    this.#axis(pen, x, width, height, colour);
    for (const one of this.videos) box(one.offset_seconds, end(one), tops[0], LANES[0], one === this.shown ? colour("accent") : "#9db7c4");
    for (const one of [...this.happening].sort((a, b) => (a.kind === "seizure") - (b.kind === "seizure"))) { // seizures above
      const own = colourOf(one.label);
      const paint = one.kind === "quiet" ? "#b9c2ca" : own ? `rgb(${own.join(" ")})` : colour("warn");
      box(one.from, one.until, tops[1], LANES[1], paint);
    }
    for (const [from, until] of this.marks) { pen.strokeStyle = colour("ink"); pen.lineWidth = 2; pen.strokeRect(x(from), tops[1] - 1, Math.max(x(until) - x(from), 3), LANES[1] + 2); }
    if (this.until - this.from <= CLASSES_S) {
      for (const part of this.classes.values()) for (const [start, lasts, rgb] of part) box(start, start + lasts, tops[2], LANES[2], `rgb(${rgb.join(" ")})`);
    }
    this.#curve(pen, x, tops[3], LANES[3], colour);
    pen.fillStyle = colour("soft");
    pen.font = "11px system-ui, sans-serif";
    const wide = this.until - this.from > CLASSES_S;
    const words = ["", this.happening.length ? "" : "no events", this.judged && wide ? "come closer to see how clips vote" : this.judged ? "" : "no head is loaded that votes", this.similarity.length ? "similarity" : "no query to compare with"];
    words.forEach((one, lane) => pen.fillText(one, 4, tops[lane] + 12));
    pen.fillStyle = colour("focus");
    if (this.at >= this.from && this.at <= this.until) pen.fillRect(x(this.at) - 1, 0, 2, height);
  }

  #axis(pen, x, width, height, colour) {
    const step = STEPS.find((one) => (x(this.from + one) - x(this.from)) > 70) || 86400;
    pen.font = "11px system-ui, sans-serif";
    for (let at = Math.ceil(this.from / step) * step; at <= this.until; at += step) {
      pen.fillStyle = colour("line");
      pen.fillRect(x(at), AXIS - 6, 1, height);
      pen.fillStyle = colour("soft");
      pen.fillText(clock(at), Math.min(x(at) + 3, width - 40), 11);
    }
  }

  /** Similarity as a curve between 0 and 1; of many clips to a pixel the best is drawn. */
  #curve(pen, x, top, tall, colour) {
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 1.5;
    pen.beginPath();
    const best = new Map();
    for (const [start, value] of this.similarity) {
      const pixel = Math.round(x(start));
      if (pixel >= -20 && pixel <= this.canvas.clientWidth + 20) best.set(pixel, Math.max(best.get(pixel) ?? -1, value));
    }
    for (const [pixel, value] of [...best].sort((a, b) => a[0] - b[0])) pen.lineTo(pixel, top + tall * (1 - Math.max(value, 0)));
    pen.stroke();
  }
}

/** A recording with its film: to look through, and to say what happens where. */
export class RecordingView {
  constructor(me, parameters) {
    this.me = me;
    this.videoId = parameters.get("video") || "";
    this.query = parameters.get("query") || "";
    this.filmless = new Set();
  }

  async open(main) {
    const field = el("input", { type: "text", name: "video", value: this.videoId, autocomplete: "off", spellcheck: false });
    const body = el("div", {});
    fill(main, el("h2", {}, "A recording in time"),
      el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); location.hash = `#/recording?video=${encodeURIComponent(field.value.trim())}`; } },
        el("label", {}, "Video", field), el("button", { type: "submit" }, "Show its recording")), body);
    if (!this.videoId) { fill(body, el("p", {}, "Give the id of a stored video, or come here from a search.")); return; }
    this.film = this.me.seesFilms ? el("video", { controls: true, muted: true, playsInline: true, preload: "metadata", "aria-label": "Film" }) : null;
    this.caption = el("figcaption", {});
    this.timeline = new RecordingTimeline(this.me, (video, seconds) => this.#go(video, seconds));
    this.saving = el("div", {});
    if (this.film) {
      this.film.addEventListener("timeupdate", () => this.timeline.now(this.video.video_id, this.film.currentTime));
      this.film.addEventListener("error", () => this.#without());
    }
    try {
      await this.timeline.show(this.videoId);
      fill(body, el("section", { class: "panel", "aria-label": "The recording" }, this.timeline.element),
        this.film ? el("section", { class: "panel players" }, el("figure", {}, this.film, this.caption)) : null, this.saving);
      this.#go(this.timeline.shown.video, 0);
    } catch (error) { fill(body, problem(error)); return; }
    try {
      if (this.query && this.me.seesFilms) await this.timeline.compare({ video_id: this.query });
    } catch (error) { body.prepend(problem(new Error(`It can't be compared with ${this.query}. ${error.message}`))); }
  }

  close() { if (this.timeline) this.timeline.close(); if (this.film) { this.film.removeAttribute("src"); this.film.load(); } }

  /** Shows the same moment in another video of the recording where this one has no film. */
  #without() {
    if (!this.film.getAttribute("src")) return;
    this.filmless.add(this.video.video_id);
    const other = this.timeline.another(this.video, this.wanted, this.filmless);
    if (other) this.#go(...other);
    else this.caption.textContent = "There is no film of this moment yet. `semiome previews manifest.csv` makes it.";
  }

  #go(video, seconds) {
    this.wanted = seconds;
    const other = !this.video || this.video.video_id !== video.video_id;
    this.video = video;
    if (!this.film) return;
    if (other) {
      this.film.src = films.preview(video.video_id);
      fill(this.caption, video.video_id, " of patient ", video.patient_id, " ", labelOf(video.label));
      const said = eventForm(video, [seconds, seconds + 10], this.me.signs, () => this.film.currentTime, () => this.timeline.refresh());
      fill(this.saving, el("section", { class: "panel" }, el("h3", {}, "Does something happen here?"), said.element));
    }
    this.film.currentTime = seconds;
  }
}
