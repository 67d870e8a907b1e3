// The verdict on a video with all that speaks for and against it, in words.
import { call, clipsFrom, films, verdictOn } from "./api.js";
import { classes, clock, colourOf, either, el, fill, judgedSigns, kindWords, labelOf, problem, say, standing } from "./dom.js";
import { stripOf } from "./player.js";
import { colourLegend, signTable, Timeline } from "./timeline.js";

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
    fill(main, el("h2", {}, classes.length ? `Which class: ${either(classes)}?` : "Which class?"),
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
    const signs = el("section", { class: "panel", hidden: true });
    if (this.seesFilms && judgedSigns.length) this.#signs(signs);
    fill(body,
      el("section", { class: "panel columns" },
        el("div", {},
          el("p", { class: "verdict" }, "The head says ", labelOf(verdict.label), this.#abstains(verdict) ? el("strong", {}, ", but abstains") : null),
          el("p", {}, this.#sure(verdict)),
          this.#classes(verdict), verdict.calibrated ? null : el("p", { class: "soft" }, "The probabilities are not calibrated."),
          el("p", {}, this.#votes(verdict)), el("p", {}, this.#flips(verdict)), el("p", {}, this.#unlike(verdict)),
          el("p", {}, "What its manifest says: ", labelOf(found.video.label)),
          el("p", { class: "error" }, `Research use only. It learned from few patients, and it decides nothing. ${standing(verdict)}`)),
        el("div", { class: "players" }, this.film ? el("figure", {}, this.film, el("figcaption", {}, this.videoId, " of ", found.video.patient_id)) : null)),
      el("section", { class: "panel" }, el("h3", {}, "Its clips"), timeline.element,
        el("p", { class: "soft" }, colourLegend(), "; “!”: left out alone, it would turn the verdict.")),
      signs,
      el("section", { class: "panel" }, el("h3", {}, "Nearest labelled seizures of other patients"), el("div", { class: "columns" },
        verdict.neighbours.map((side) => el("div", {}, el("h3", {}, labelOf(side.label)), side.hits.length ? el("ul", { class: "hits" }, side.hits.map((hit) => this.#near(hit))) : el("p", { class: "soft" }, "none stored"))))),
      el("p", { class: "soft" }, `Head ${provenance.head_id}, encoder ${provenance.encoder_id}${kindWords(provenance.encoder_kind)}, index ${provenance.generation}, temperature ${verdict.temperature.toFixed(2)}`));
  }

  async #signs(section) {
    try {
      const answer = await call("ClassificationService/GetSigns", { video_id: this.videoId });
      fill(section, el("h3", {}, "Signs over time"), signTable(answer, this.me.signs, (seconds) => { if (this.film) this.film.currentTime = seconds; }),
        el("p", { class: "soft" }, "Told by heads that learned from tags; no person has looked. Within one clip no order can be told."));
    } catch (error) { fill(section, el("h3", {}, "Signs over time"), problem(error)); }
    section.hidden = false;
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

  /** Probability and votes of each class. */
  #classes({ classes: all }) {
    return el("table", { class: "classes" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Class"), el("th", { scope: "col", colspan: "2" }, "Probability"), el("th", { scope: "col", class: "number" }, "Clips"))),
      el("tbody", {}, all.map((one) => {
        const bar = el("i", {});
        bar.style.width = `${100 * one.probability}%`;
        bar.style.background = `rgb(${(colourOf(one.label) || [90, 102, 112]).join(" ")})`;
        return el("tr", {}, el("th", { scope: "row" }, labelOf(one.label)), el("td", { class: "number" }, one.probability.toFixed(2)), el("td", { class: "meter", "aria-hidden": "true" }, bar), el("td", { class: "number" }, one.votes));
      })));
  }

  #abstains(verdict) { return Boolean(verdict.conformal) && verdict.conformal.abstains; }

  #sure(verdict) {
    const set = verdict.conformal;
    if (verdict.trained_on_this_patient) return "It learned from this patient, so how often it is wrong on new ones says nothing here.";
    if (!set) return "How often that is wrong can't be said: the head learned from too few patients for that.";
    const often = `In about ${percent(1 - set.alpha)} of new patients the true class is among those that it can't exclude`;
    if (set.labels.length === 1) return `It excludes ${verdict.classes.length === 2 ? "the other class" : "all other classes"}. ${often}.`;
    if (set.labels.length) return `It can't exclude ${either(set.labels)}, so this is a guess. ${often}.`;
    return `It has seen nothing that looks like this, and no class fits: treat it as no answer. ${often}.`;
  }

  #votes(verdict) {
    const clips = verdict.classes.reduce((sum, one) => sum + one.votes, 0);
    const most = Math.max(...verdict.classes.map((one) => one.votes));
    if (verdict.tie) return `Most votes, ${most} of ${clips}, are for ${either(verdict.classes.filter((one) => one.votes === most).map((one) => one.label))} alike; the mean probability decided.`;
    return `${most} of ${clips} clips vote ${verdict.label}: a margin of ${verdict.margin}.`;
  }

  #flips(verdict) {
    if (verdict.fewest_flipping_clips === 0) return "No choice of clips left out would turn it.";
    if (verdict.flipping_clip_ids.length === 1) return "A single clip decides it: without the one that is marked it would turn.";
    if (verdict.fewest_flipping_clips === 1) return `Single clips decide it: without any one of the ${verdict.flipping_clip_ids.length} that are marked it would turn.`;
    return `At least ${verdict.fewest_flipping_clips} clips would have to be left out to turn it.`;
  }

  #unlike(verdict) {
    const { distance } = verdict;
    if (!distance) return "Whether it is unlike everything stored can't be said of so small a store.";
    const words = distance.percentile >= 0.99 ? "It is unlike nearly everything stored: do not trust the verdict." : distance.percentile >= 0.9 ? "It is unusual." : "It is not unusual.";
    return `${words} ${percent(distance.percentile)} of ${distance.sample} stored clips have nearer neighbours.`;
  }
}
