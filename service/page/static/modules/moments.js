// Moments: where in stored recordings the same course of signs turns up, beside the query and in step with it.
import { call, films, videosOf } from "./api.js";
import { clock, el, fill, kindWords, labelOf, problem, tagsOf } from "./dom.js";
import { eventForm } from "./feedback.js";
import { Players } from "./player.js";
import { RecordingTimeline } from "./recording.js";

const K = 20;

/** How often stretches as similar occur by chance, in words. */
export function oftenWords(moment) {
  const known = [["of this patient", moment.per_hour_patient], ["of other patients", moment.per_hour_others]].find(([, rate]) => rate && rate.hours >= 1);
  if (!known) return "too little background is stored to say how unusual that is";
  const [whose, rate] = known;
  if (!rate.per_hour) return `none as similar in ${rate.hours.toFixed(1)} h of background ${whose} (95 %: at most ${rate.high.toPrecision(2)} an hour)`;
  return `as similar ${rate.per_hour.toPrecision(2)} times an hour in ${rate.hours.toFixed(1)} h of background ${whose} (95 %: ${rate.low.toPrecision(2)} to ${rate.high.toPrecision(2)})`;
}

export class MomentsView {
  constructor(me, parameters) {
    this.me = me;
    this.wanted = parameters.get("video") || "";
    this.within = parameters.get("in") || "";
    this.own = parameters.get("own") === "1";
    this.rare = parameters.get("most") || "";
    this.moments = [];
    this.picked = -1;
    this.saved = new Map(); // what was said of moments, by place
  }

  async open(main) {
    if (!this.me.seesFilms) { fill(main, el("h2", {}, "Moments"), el("p", {}, "Your role searches single clips and videos only.")); return; }
    const field = (name, value, more = {}) => el("input", { type: "text", name, value, autocomplete: "off", spellcheck: false, ...more });
    const [video, within, most] = [field("video", this.wanted), field("in", this.within, { placeholder: "all videos" }), field("most", this.rare, { type: "number", min: "0", step: "any", class: "seconds" })];
    const own = el("input", { type: "checkbox", checked: this.own });
    const ask = (event) => {
      event.preventDefault();
      const asked = new URLSearchParams({ video: video.value.trim(), ...(within.value.trim() ? { in: within.value.trim() } : {}), ...(own.checked ? { own: "1" } : {}), ...(most.value ? { most: most.value } : {}) });
      location.hash = `#/moments?${asked}`;
    };
    this.players = new Players();
    this.players.onTime = () => this.#follow();
    this.timeline = new RecordingTimeline(this.me, (shown, seconds) => this.#seek(shown, seconds));
    this.results = el("section", { "aria-label": "Moments" });
    this.about = el("p", {});
    this.form = el("div", {});
    this.whose = el("h3", {});
    this.stage = el("div", { hidden: true }, el("section", { class: "panel" }, this.about, this.players.element),
      el("section", { class: "panel", "aria-label": "The recording of this moment" }, this.whose, this.timeline.element, this.form), this.results);
    this.problems = el("div", {});
    fill(main, el("h2", {}, "Where else does this happen?"),
      el("form", { class: "row", onsubmit: ask }, el("label", {}, "Seizure", video), el("label", {}, "in", within), el("label", {}, own, "also in the same patient"),
        el("label", {}, "at most", most, "an hour in background"), el("button", { type: "submit", class: "main" }, "Find moments")), this.problems, this.stage);
    if (!this.wanted) { fill(this.problems, el("p", {}, "Give the id of a stored video, or come here from a search.")); return; }
    try { await this.#find(); } catch (error) { fill(this.problems, problem(error)); }
  }

  close() { if (this.players) { this.players.close(); this.timeline.close(); } }

  async #find() {
    const { videos } = await call("CatalogService/ListVideos", { filter: { video_ids: [this.wanted] } });
    if (!videos.length) throw new Error("That video is not stored. Check the id.");
    [this.query] = videos;
    const request = { query: { video_id: this.wanted }, k: K, include_own_patient: this.own };
    if (this.within) request.filter = { video_ids: [this.within] };
    if (this.rare) request.max_per_hour = Number(this.rare);
    const found = await call("RetrievalService/FindMoments", request);
    this.moments = found.moments;
    this.videos = await videosOf(this.moments.map((moment) => ({ clip: moment })));
    const made = found.provenance;
    fill(this.about, el("strong", {}, this.wanted), " of patient ", el("strong", {}, this.query.patient_id), " ", labelOf(this.query.label), " ", tagsOf(this.me.signs, this.query.semiology),
      this.query.onset_seconds === undefined ? " All of it is compared: its onset is not known." : " Its seizure is compared, from onset to end.");
    this.cards = this.moments.map((moment, place) => this.#card(moment, place));
    fill(this.results, el("h3", {}, this.cards.length === 1 ? "1 moment" : `${this.cards.length} moments`), this.cards.length ? el("ol", { class: "hits" }, this.cards) : el("p", {}, "Nothing stored fits. Look in more videos, also in the same patient's, or allow more an hour."),
      el("p", { class: "soft" }, `Encoder ${made.encoder_id}${kindWords(made.encoder_kind)}, index ${made.generation}`));
    this.stage.hidden = false;
    this.players.show(films.preview(this.wanted), "Query: ", this.wanted, ", patient ", this.query.patient_id);
    if (this.cards.length) await this.pick(0, false);
  }

  /** Where a moment begins and ends, in seconds of its film. */
  #stretch(moment) {
    const zero = this.videos.get(moment.video_id).start_seconds;
    return [moment.start_seconds - zero, moment.end_seconds - zero];
  }

  #card(moment, place) {
    const [begin, end] = this.#stretch(moment);
    return el("li", { class: "hit", "aria-label": `Moment ${place + 1}` },
      el("span", { class: "similarity", title: "mean similarity of the aligned clips" }, moment.similarity.toFixed(2)),
      el("strong", {}, moment.video_id), " of ", moment.patient_id, " ", labelOf(moment.label),
      el("p", {}, `${clock(begin)} to ${clock(end)}`, " ", el("span", { class: "soft" }, oftenWords(moment))),
      el("p", { class: "soft said" }),
      el("div", { class: "row" }, el("button", { type: "button", class: "main", onclick: () => this.pick(place) }, "Play beside"),
        el("button", { type: "button", "aria-pressed": "false", onclick: () => this.#judge(place, "seizure") }, "A seizure"),
        el("button", { type: "button", "aria-pressed": "false", onclick: () => this.#judge(place, "not_a_seizure") }, "Not a seizure")));
  }

  /** Puts a moment beside the query, from its own start and in step. */
  async pick(place, play = true) {
    const moment = this.moments[place];
    if (!moment) return;
    if (place !== this.picked) {
      this.picked = place;
      this.cards.forEach((card, number) => card.classList.toggle("picked", number === place));
      const video = this.videos.get(moment.video_id);
      this.said = eventForm(video, this.#stretch(moment), this.me.signs, () => this.players.result.video.currentTime, (event) => this.#kept(place, event));
      fill(this.form, el("details", { open: this.form.querySelector("details")?.open }, el("summary", {}, `Times, label and signs to save with moment ${place + 1}`), this.said.element));
      const pairs = moment.pairs.map((pair) => ({ query: pair.query_start_seconds - this.query.start_seconds, result: pair.start_seconds - video.start_seconds, similarity: 0 }));
      this.players.beside(films.preview(moment.video_id), pairs, pairs[0].query, "Moment: ", moment.video_id, ", patient ", moment.patient_id, ` at ${clock(this.#stretch(moment)[0])}`);
    }
    if (play) this.players.query.video.play().catch(() => {});
    await this.#recording(moment);
  }

  async #recording(moment) {
    const [begin, end] = this.#stretch(moment);
    const before = this.timeline.videos;
    this.whose.textContent = `The recording of ${moment.video_id}`;
    try {
      await this.timeline.show(moment.video_id);
      if (this.moments[this.picked] !== moment) return;
      this.timeline.mark(moment.video_id, this.moments.filter((one) => one.video_id === moment.video_id).map((one) => this.#stretch(one)));
      this.timeline.now(moment.video_id, begin);
      if (this.timeline.length > 1200 && !(before === this.timeline.videos)) this.timeline.see(this.timeline.at - 300, this.timeline.at + (end - begin) + 300);
      if (before !== this.timeline.videos) await this.timeline.compare({ video_id: this.wanted });
    } catch (error) { fill(this.problems, problem(error)); }
  }

  #follow() {
    const moment = this.moments[this.picked];
    if (moment) this.timeline.now(moment.video_id, this.players.result.video.currentTime);
  }

  /** Lets the result show another time of its recording: the query goes to what belongs to it, if that is in the moment. */
  #seek(video, seconds) {
    const place = this.moments.findIndex((one) => one.video_id === video.video_id && this.#stretch(one)[0] <= seconds && seconds < this.#stretch(one)[1]);
    if (place >= 0 && place !== this.picked) { this.pick(place, false); return; }
    this.players.query.video.pause();
    if (video.video_id === this.moments[this.picked].video_id) this.players.result.video.currentTime = seconds;
    else location.hash = `#/recording?video=${encodeURIComponent(video.video_id)}&query=${encodeURIComponent(this.wanted)}`;
  }

  /** Saves a moment as an event with what its form says. */
  async #judge(place, event) {
    await this.pick(place, false);
    await this.said.save(event);
  }

  #kept(place, event) {
    const card = this.cards[place];
    card.querySelector(".said").textContent = event === "seizure" ? "Saved as a seizure." : "Saved as not a seizure.";
    card.querySelectorAll("button[aria-pressed]").forEach((button, number) => button.setAttribute("aria-pressed", String(number === (event === "seizure" ? 0 : 1))));
    this.timeline.refresh();
  }

  key(event) {
    if (!this.moments.length) return false;
    const does = this.players.key(event.key) || { n: () => this.#go(1), p: () => this.#go(-1), "+": () => this.#judge(this.picked, "seizure"), "-": () => this.#judge(this.picked, "not_a_seizure") }[event.key];
    if (!does) return false;
    does();
    return true;
  }

  #go(by) {
    const to = Math.min(Math.max(this.picked + by, 0), this.moments.length - 1);
    this.pick(to, false);
    this.cards[to].scrollIntoView({ block: "nearest" });
    this.cards[to].querySelector("button").focus();
  }
}
