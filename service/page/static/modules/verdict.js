// The verdict on a video with all that speaks for and against it, in words.
import { clipsFrom, films, verdictOn } from "./api.js";
import { clock, el, fill, kindWords, labelOf, problem, say, standing } from "./dom.js";
import { stripOf } from "./player.js";
import { Timeline } from "./timeline.js";

const percent = (share) => `${Math.round(100 * share)} %`;

export class VerdictView {
  constructor(me, parameters) {
    this.me = me;
    this.videoId = parameters.get("video") || "";
    this.seesFilms = me.seesFilms;
  }

  async open(main) {
    const field = el("input", { type: "text", name: "video", value: this.videoId, autocomplete: "off", spellcheck: false });
    const body = el("div", {});
    fill(main, el("h2", {}, "Temporal or extratemporal?"),
      el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); location.hash = `#/verdict?video=${encodeURIComponent(field.value.trim())}`; } },
        el("label", {}, "Video", field), el("button", { type: "submit" }, "Classify")), body);
    if (!this.videoId) { fill(body, el("p", {}, "Give the id of a stored video, or come here from a search.")); return; }
    try {
      const found = await clipsFrom(this.videoId, 0);
      this.#show(body, found, await verdictOn(this.videoId, found.clips));
    } catch (error) { fill(body, problem(error)); }
  }

  close() { if (this.film) { this.film.removeAttribute("src"); this.film.load(); } }

  #show(body, found, { verdict, provenance }) {
    const timeline = new Timeline(() => {}, (seconds) => { if (this.film) this.film.currentTime = seconds; });
    timeline.show(found.clips, { first: 0, total: found.video.clip_count, go: (first) => this.#part(timeline, first) });
    timeline.colour(verdict);
    this.film = this.seesFilms ? el("video", { src: films.preview(this.videoId), controls: true, muted: true, playsInline: true, preload: "metadata", "aria-label": "Film" }) : null;
    if (this.film) this.film.addEventListener("timeupdate", () => timeline.now(this.film.currentTime));
    const meter = el("div", { class: "meter", role: "img", "aria-label": `Probability of exTLE ${verdict.extle_probability.toFixed(2)}, threshold ${verdict.threshold.toFixed(2)}` });
    for (const [kind, value] of [["threshold", verdict.threshold], ["", verdict.extle_probability]]) {
      const mark = el("i", { class: kind });
      mark.style.left = `${100 * value}%`;
      meter.append(mark);
    }
    fill(body,
      el("section", { class: "panel columns" },
        el("div", {},
          el("p", { class: "verdict" }, "The head says ", labelOf(verdict.label), this.#abstains(verdict) ? el("strong", {}, ", but abstains") : null),
          el("p", {}, this.#sure(verdict)),
          meter, el("p", { class: "soft" }, `${verdict.calibrated ? "Calibrated probability" : "Probability, not calibrated,"} of exTLE: ${verdict.extle_probability.toFixed(2)}; from ${verdict.threshold.toFixed(2)} a clip votes exTLE.`),
          el("p", {}, this.#votes(verdict)), el("p", {}, this.#flips(verdict)), el("p", {}, this.#unlike(verdict)),
          el("p", {}, "What its manifest says: ", labelOf(found.video.label)),
          el("p", { class: "error" }, `Research use only. It learned from few patients, and it decides nothing. ${standing(verdict)}`)),
        el("div", { class: "players" }, this.film ? el("figure", {}, this.film, el("figcaption", {}, this.videoId, " of ", found.video.patient_id)) : null)),
      el("section", { class: "panel" }, el("h3", {}, "Its clips"), timeline.element,
        el("p", { class: "soft" }, "TLE ", el("span", { class: "scale", role: "img", "aria-label": "from blue, TLE, to brown, exTLE" }), " exTLE; “!”: left out alone, it would turn the verdict.")),
      el("section", { class: "panel" }, el("h3", {}, "Nearest labelled seizures of other patients"), el("div", { class: "columns" },
        verdict.neighbours.map((side) => el("div", {}, el("h3", {}, labelOf(side.label)), side.hits.length ? el("ul", { class: "hits" }, side.hits.map((hit) => this.#near(hit))) : el("p", { class: "soft" }, "none stored"))))),
      el("p", { class: "soft" }, `Head ${provenance.head_id}, encoder ${provenance.encoder_id}${kindWords(provenance.encoder_kind)}, index ${provenance.generation}, temperature ${verdict.temperature.toFixed(2)}`));
  }

  async #part(timeline, first) {
    try {
      const found = await clipsFrom(this.videoId, first);
      timeline.show(found.clips, { first, total: found.video.clip_count, go: (next) => this.#part(timeline, next) });
      timeline.colour((await verdictOn(this.videoId, found.clips)).verdict);
    } catch (error) { say(error.message); }
  }

  #near(hit) {
    return el("li", { class: "hit" },
      this.seesFilms ? stripOf(hit.clip) : null,
      el("span", { class: "similarity" }, hit.similarity.toFixed(2)), el("a", { href: `#/?video=${encodeURIComponent(hit.clip.video_id)}` }, hit.clip.video_id), ` of ${hit.clip.patient_id}`);
  }

  #abstains(verdict) { return Boolean(verdict.conformal) && verdict.conformal.abstains; }

  #sure(verdict) {
    const set = verdict.conformal;
    if (verdict.trained_on_this_patient) return "It learned from this patient, so how often it is wrong on new ones says nothing here.";
    if (!set) return "How often that is wrong can't be said: the head learned from too few patients for that.";
    const often = `In about ${percent(1 - set.alpha)} of new patients the true class is among those that it can't exclude`;
    if (set.labels.length === 1) return `It excludes the other class. ${often}.`;
    if (set.labels.length === 2) return `It can't exclude either class, so this is a guess. ${often}.`;
    return `It has seen nothing that looks like this, and neither class fits: treat it as no answer. ${often}.`;
  }

  #votes(verdict) {
    const { tle_votes: tle, extle_votes: extle } = verdict;
    const clips = tle + extle;
    if (verdict.tie) return `${tle} clips vote each way; the mean probability decided.`;
    return `${tle} of ${clips} clips vote TLE, ${extle} exTLE: a margin of ${Math.abs(tle - extle)}.`;
  }

  #flips(verdict) {
    if (verdict.fewest_flipping_clips === 0) return "No choice of clips left out would turn it.";
    if (verdict.fewest_flipping_clips === 1) return `Single clips decide it: without any one of the ${verdict.flipping_clip_ids.length} that are marked it would be the other.`;
    return `At least ${verdict.fewest_flipping_clips} clips would have to be left out to turn it.`;
  }

  #unlike(verdict) {
    const { distance } = verdict;
    if (!distance) return "Whether it is unlike everything stored can't be said of so small a store.";
    const words = distance.percentile >= 0.99 ? "It is unlike nearly everything stored: do not trust the verdict." : distance.percentile >= 0.9 ? "It is unusual." : "It is not unusual.";
    return `${words} ${percent(distance.percentile)} of ${distance.sample} stored clips have nearer neighbours.`;
  }
}
