// Search: pick or upload a video, choose a part of it, look at what resembles it, say what does and what does not.
import { call, clipsFrom, films, upload, verdictOn, videosOf } from "./api.js";
import { classChoice, clock, el, fill, judgedSigns, kindWords, labelOf, problem, say, signWords, standing, tagsOf } from "./dom.js";
import { form, judge, listed } from "./feedback.js";
import { Players, stripOf } from "./player.js";
import { colourLegend, Timeline } from "./timeline.js";

const MOST_CLIPS = 360; // of a query that is a whole video
const GROUPS = { video: "videos", patient: "patients", clip: "clips" };

export class SearchView {
  constructor(me, parameters) {
    this.me = me;
    this.signs = me.signs;
    this.wanted = parameters.get("video");
    this.tag = parameters.get("tag") || "";
    this.likes = new Map(); // judged hits by video: relevant, not_relevant
    this.hits = [];
    this.picked = -1;
    this.asking = null;
    this.seesFilms = me.seesFilms;
  }

  async open(main) {
    this.players = new Players();
    this.timeline = new Timeline(() => this.#chosen(), (seconds) => this.players.seek(seconds));
    this.players.stretch = () => this.#stretch();
    this.players.onTime = (seconds) => this.timeline.now(seconds);
    this.title = el("h2", {}, "Which past seizures look like this one?");
    this.about = el("p", {});
    this.results = el("div", { "aria-live": "polite" });
    this.said = el("div", {});
    this.filters = this.#filters();
    this.stage = el("div", { hidden: true },
      el("section", { class: "panel", "aria-label": "The query" }, this.about, this.timeline.element,
        el("p", { class: "soft" }, colourLegend(), ". Click a clip to choose it, shift and click for a stretch; none chosen: the whole seizure."),
        this.filters),
      el("section", { class: "panel" }, this.players.element),
      el("section", { "aria-label": "Results" }, this.results),
      this.said);
    this.picker = el("div", {});
    fill(main, this.title, this.picker, this.stage);
    await this.#pick();
    if (this.wanted) await this.#take(this.wanted);
  }

  close() { this.players.close(); if (this.asking) this.asking.abort(); if (this.local) URL.revokeObjectURL(this.local); }

  // What is asked about

  async #pick() {
    const list = el("div", { class: "videos", tabindex: "0", role: "group", "aria-label": "Stored videos" });
    const named = el("input", { type: "text", name: "video", autocomplete: "off", spellcheck: false, placeholder: "id of a stored video" });
    const file = el("input", { type: "file", accept: "video/*,.mkv,.avi,.mpg,.ts,.wmv,.asf" });
    const state = el("span", { class: "soft", role: "status" });
    this.whose = el("input", { type: "text", name: "patient", autocomplete: "off", spellcheck: false, maxlength: 64, placeholder: "patient id, if known" });
    const drop = el("div", { class: "drop" }, el("label", {}, "Whose video is it? ", this.whose), el("label", {}, "Or a file that is not stored: ", file), el("p", { class: "soft" }, "It is embedded and compared, and nothing of it is kept. The patient named here is left out of the results."), state);
    file.addEventListener("change", () => file.files.length && this.#upload(file.files[0], state));
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); if (event.dataTransfer.files.length) this.#upload(event.dataTransfer.files[0], state); });
    const details = el("details", { open: !this.wanted, class: "panel" }, el("summary", {}, "Pick a video"),
      el("div", { class: "columns" },
        el("div", {}, el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); if (named.value.trim()) location.hash = `#/?video=${encodeURIComponent(named.value.trim())}`; } },
          el("label", {}, "Video", named), el("button", { type: "submit" }, "Use this video")), list),
        this.seesFilms ? drop : el("p", { class: "soft" }, "Your role searches stored videos only.")));
    this.details = details;
    fill(this.picker, details);
    await this.#list(list, "");
  }

  async #list(list, token) {
    const filter = this.tag ? { semiology: [this.tag] } : {};
    const page = await call("CatalogService/ListVideos", { filter, page_token: token });
    if (!token && !page.videos.length) { fill(list, el("p", {}, "No video is stored", this.tag ? " with that sign." : " yet.")); return; }
    const rows = page.videos.map((video) => el("tr", {},
      el("td", {}, el("a", { href: `#/?video=${encodeURIComponent(video.video_id)}` }, video.video_id)),
      el("td", {}, video.patient_id), el("td", {}, labelOf(video.label)), el("td", {}, clock(video.duration_seconds)),
      el("td", {}, tagsOf(this.signs, video.semiology))));
    if (!token) fill(list, el("table", {}, el("thead", {}, el("tr", {}, ["Video", "Patient", "Label", "Length", "Signs"].map((name) => el("th", { scope: "col" }, name)))), this.rows = el("tbody", {})));
    this.rows.append(...rows);
    if (page.next_page_token) {
      const more = el("button", { type: "button", onclick: () => { more.remove(); this.#list(list, page.next_page_token); } }, "More videos");
      list.append(more);
    }
  }

  async #take(videoId) {
    let found;
    try { found = await clipsFrom(videoId, 0); } catch (error) { fill(this.results, problem(error)); this.stage.hidden = false; return; }
    this.query = { videoId, patientId: found.video.patient_id, video: found.video };
    this.details.open = false;
    this.stage.hidden = false;
    this.likes.clear();
    this.#clips(videoId, found, 0);
    const { video } = found;
    fill(this.about, el("strong", {}, videoId), " of patient ", el("strong", {}, video.patient_id), " ", labelOf(video.label), " ",
      tagsOf(this.signs, video.semiology), " ",
      this.me.judges ? el("a", { href: `#/verdict?video=${encodeURIComponent(videoId)}` }, "Verdict") : null, " ",
      this.seesFilms ? [el("a", { href: `#/moments?video=${encodeURIComponent(videoId)}` }, "Moments like it"), " ",
        el("a", { href: `#/recording?video=${encodeURIComponent(videoId)}` }, "Its recording")] : null,
      video.salvaged ? el("span", { class: "soft" }, " The file is damaged; this is what comes before the damage.") : null);
    if (this.seesFilms) this.players.show(films.preview(videoId), "Query: ", videoId, ", patient ", video.patient_id);
    const search = this.search();
    if (this.me.judges) this.#colour(videoId);
    this.#feedback(found.video);
    await search;
  }

  #clips(videoId, found, first) {
    this.timeline.show(found.clips, { first, total: found.video.clip_count, go: (next) => this.#part(videoId, next) });
  }

  /** Shows another part of a long video. What was found stays, unless it was found by a part. */
  async #part(videoId, first) {
    try {
      const found = await clipsFrom(videoId, first);
      if (this.query.videoId !== videoId) return;
      const again = this.timeline.chosen !== null;
      this.#clips(videoId, found, first);
      if (this.me.judges) this.#colour(videoId);
      if (again) this.search();
    } catch (error) { say(error.message); }
  }

  async #colour(videoId) {
    try {
      const { clips } = this.timeline;
      const { verdict } = await verdictOn(videoId, clips);
      if (this.timeline.clips === clips) this.timeline.colour(verdict);
    } catch (error) { if (error.code !== "FAILED_PRECONDITION") say(error.message); }
  }

  async #feedback(video) {
    if (!this.seesFilms) return;
    try {
      const list = await listed(video.video_id, this.signs);
      this.form = form(video, this.signs, () => this.#stretch(), () => list.refresh());
      fill(this.said, el("section", { class: "panel" }, el("h3", {}, `What ${video.video_id} is`), this.form.element, list.element));
    } catch (error) { fill(this.said, problem(error)); }
  }

  #stretch() {
    const clips = this.timeline.chosenClips;
    return clips.length ? [clips[0].start_seconds, clips[clips.length - 1].start_seconds + clips[clips.length - 1].valid_seconds] : null;
  }

  async #upload(file, state) {
    fill(this.results);
    const bar = el("progress", { max: 1, value: 0, "aria-label": "Upload" });
    const words = el("span", {}, "Uploading");
    fill(state, bar, " ", words);
    try {
      const found = await upload(`/api/upload?k=20${this.me.judges ? "&classify=1" : ""}&patient=${encodeURIComponent(this.whose.value.trim())}`, file, (share) => { bar.value = share; if (share >= 1) words.textContent = "Embedding its clips: some seconds for each"; });
      if (this.local) URL.revokeObjectURL(this.local);
      this.local = URL.createObjectURL(file);
      this.query = { videoId: "", patientId: "", video: null };
      this.likes.clear();
      this.stage.hidden = false;
      this.details.open = false;
      this.timeline.show(found.clips);
      fill(this.about, el("strong", {}, "An uploaded file"), ", which is not kept. Store it with ", el("code", {}, "semiome encode"), " for feedback and the evidence of a verdict. ", this.#own(found), this.#judged(found.verdict));
      fill(this.said);
      this.players.show(this.local, "Query: the uploaded file");
      this.#show(found, await videosOf(found.hits));
      fill(state);
    } catch (error) { fill(state, problem(error)); }
  }

  /** Whether the patient of an upload is left out, as far as that is known. */
  #own(found) {
    const blank = found.clips_without_picture ? ` ${found.clips_without_picture} of its clips show no picture and were left out.` : "";
    if (found.known_as_video_id) return `It is stored as ${found.known_as_video_id}, and that patient is left out.${blank} `;
    if (found.patient_known) return `Its patient is left out.${blank} `;
    return [el("strong", {}, "Whose video this is is not known: seizures of the same patient may be among the results."), `${blank} `];
  }

  #judged(verdict) {
    if (!verdict) return null;
    this.timeline.colour(verdict);
    return ["The head says ", labelOf(verdict.label), verdict.conformal && verdict.conformal.abstains ? ", but abstains" : "",
      `, with a ${verdict.calibrated ? "calibrated " : ""}probability of ${verdict.classes.find((one) => one.label === verdict.label).probability.toFixed(2)}. ${standing(verdict)} Research use only.`];
  }

  // How it is asked

  #filters() {
    const again = () => this.search();
    this.group = el("select", { onchange: again }, Object.entries(GROUPS).map(([value, words]) => el("option", { value }, words)));
    this.label = classChoice("any", { onchange: again });
    this.sign = el("select", { onchange: again }, el("option", { value: "" }, "any"), Object.entries(this.signs).map(([name, words]) => el("option", { value: name }, words)));
    this.course = el("input", { type: "text", placeholder: "versive then tonic within 30 s", spellcheck: false, onchange: again });
    this.from = el("input", { type: "date", onchange: again });
    this.until = el("input", { type: "date", onchange: again });
    this.others = el("input", { type: "checkbox", checked: true, disabled: !this.seesFilms, onchange: again });
    this.refineButton = el("button", { type: "button", class: "main", hidden: true, onclick: again }, "Search again with what I said");
    call("CatalogService/GetCounts").then((counts) => {
      const known = new Set(Object.keys(this.signs));
      this.sign.append(...counts.semiology.filter((one) => !known.has(one.name)).map((one) => el("option", { value: one.name }, signWords(this.signs, one.name))));
    }).catch(() => {});
    return el("div", { class: "row" },
      el("label", {}, "Show", this.group), el("label", {}, "Label", this.label), el("label", {}, "Sign", this.sign),
      judgedSigns.length ? el("label", { title: `Judged are: ${judgedSigns.map((one) => one.replace(/^Semiology-/, "")).join(", ")}` }, "Signs in time", this.course) : null,
      el("label", {}, "Recorded from", this.from), el("label", {}, "before", this.until),
      el("label", {}, this.others, "other patients only"),
      el("button", { type: "button", onclick: () => { this.timeline.clear(); this.#chosen(); } }, "Whole seizure"), this.refineButton);
  }

  #chosen() {
    if (this.form) this.form.told();
    this.search();
  }

  #asked() {
    const clips = this.timeline.chosenClips;
    const of = (relevance) => [...this.likes].filter(([, one]) => one.relevance === relevance).map(([, one]) => ({ clip_id: one.clipId }));
    const like = clips.length ? clips.map((clip) => ({ clip_id: clip.clip_id })) : [{ video_id: this.query.videoId }];
    const positive = [...like, ...of("relevant")];
    const negative = of("not_relevant");
    const filter = {};
    if (this.label.value) filter.labels = [this.label.value];
    if (this.sign.value) filter.semiology = [this.sign.value];
    if (this.from.value) filter.recorded_from = this.from.value;
    if (this.until.value) filter.recorded_until = this.until.value;
    const others = [...this.likes].filter(([, one]) => one.relevance === "not_relevant").map(([video]) => video);
    if (others.length) filter.excluded_video_ids = others;
    const options = { k: this.seesFilms ? 20 : 10, group_by: `GROUP_BY_${this.group.value.toUpperCase()}`, include_own_patient: !this.others.checked, filter, signs: this.course.value.trim() };
    if (positive.length > 1 || negative.length) return ["RetrievalService/Recommend", { positive, negative, options }];
    // A whole video is compared clip by clip in time.
    options.aligned = this.seesFilms && "video_id" in positive[0] && this.group.value === "video";
    return ["RetrievalService/Search", { query: positive[0], options }];
  }

  async search() {
    if (!this.query) return;
    if (!this.query.videoId) { say("Filters and parts work for stored videos. Store this one first."); return; }
    if (this.asking) this.asking.abort();
    if (this.query.video.clip_count > MOST_CLIPS && !this.timeline.chosen) {
      fill(this.results, el("p", {}, "This recording is too long to be searched for as a whole. Choose a clip or a stretch of it above."));
      return;
    }
    const asking = (this.asking = new AbortController());
    try {
      const found = await call(...this.#asked(), asking.signal);
      this.#show(found, await videosOf(found.hits, asking.signal));
    } catch (error) { if (error.name !== "AbortError") fill(this.results, problem(error)); }
  }

  // What is found

  #show(found, videos) {
    this.hits = found.hits;
    this.videos = videos;
    this.picked = -1;
    this.refineButton.hidden = this.likes.size === 0;
    const made = found.provenance;
    if (!this.hits.length) { this.#nothing(); return; }
    this.cards = this.hits.map((hit, place) => this.#card(hit, place));
    fill(this.results, el("h3", {}, `${this.hits.length} nearest ${GROUPS[this.group.value]}`),
      el("ol", { class: "hits" }, this.cards),
      el("p", { class: "soft" }, `Encoder ${made.encoder_id}${kindWords(made.encoder_kind)}, index ${made.generation}, table version ${made.table_version}`));
    if (this.seesFilms) this.pick(0, false);
  }

  async #nothing() {
    const words = el("p", {}, "Nothing stored fits. Loosen the filters, or choose another part.");
    fill(this.results, words);
    if (!this.others.checked) return;
    try {
      const { total } = await call("CatalogService/GetCounts");
      if (total.patients < 2) words.textContent = "Only one patient is stored, and “other patients only” leaves that one out.";
    } catch (error) { say(error.message); }
  }

  #card(hit, place) {
    const { clip } = hit;
    const video = this.videos.get(clip.video_id);
    const judged = this.likes.get(clip.video_id);
    const matched = hit.matches.length ? hit.matches.map((one) => clock(one.clip.start_seconds)).join(", ") : clock(clip.start_seconds);
    const button = (relevance, words) => el("button", { type: "button", "aria-pressed": String(judged !== undefined && judged.relevance === relevance),
      onclick: (event) => this.say(place, relevance, event.currentTarget) }, words);
    return el("li", { class: "hit", "aria-label": `Result ${place + 1}` },
      this.seesFilms ? stripOf(clip) : null,
      el("span", { class: "similarity", title: "cosine similarity" }, hit.similarity.toFixed(2)),
      el("strong", {}, clip.video_id), " of ", clip.patient_id, " ", labelOf(hit.label),
      el("div", {}, video ? tagsOf(this.signs, video.semiology) : null),
      el("p", { class: "soft" }, `Alike at ${matched}`, video && video.recorded_at ? `, recorded ${video.recorded_at.slice(0, 10)}` : ""),
      el("div", { class: "row" },
        this.seesFilms ? el("button", { type: "button", class: "main", onclick: () => this.pick(place) }, "Play beside") : null,
        this.seesFilms && this.query.videoId ? [button("relevant", "Like this"), button("not_relevant", "Not like this")] : null,
        el("a", { href: `#/?video=${encodeURIComponent(clip.video_id)}` }, "Search from it")));
  }

  /** Puts a result beside the query, in step. */
  pick(place, play = true) {
    if (!this.hits[place] || !this.seesFilms) return;
    this.picked = place;
    this.cards.forEach((card, number) => card.classList.toggle("picked", number === place));
    const hit = this.hits[place];
    const begins = new Map(this.timeline.clips.map((clip) => [clip.clip_id, clip.start_seconds]));
    const told = (hit.matches.length ? hit.matches : [hit]).map((one) => ({ query: begins.get(one.query_clip_id), result: one.clip.start_seconds, similarity: one.similarity }));
    const chosen = this.timeline.chosenClips[0];
    const first = chosen ? chosen.start_seconds : 0; // of a stretch, which has no clip of its own
    const known = told.filter((pair) => pair.query !== undefined); // of a long video, those in the part that is shown
    const pairs = known.length ? known : told.map((pair) => ({ ...pair, query: first }));
    const at = Math.min(...pairs.map((pair) => pair.query));
    this.players.beside(films.preview(hit.clip.video_id), pairs, chosen ? chosen.start_seconds : at, "Result: ", hit.clip.video_id, ", patient ", hit.clip.patient_id);
    if (play) this.players.query.video.play().catch(() => {});
  }

  /** Keeps whether a result is like the query. */
  async say(place, relevance, button) {
    const hit = this.hits[place];
    const card = this.cards[place];
    if (!hit || !this.query.videoId) return;
    const known = this.likes.get(hit.clip.video_id);
    try {
      if (!known || known.relevance !== relevance) await judge(hit, this.query, relevance);
    } catch (error) { say(error.message); return; }
    this.likes.set(hit.clip.video_id, { relevance, clipId: hit.clip.clip_id });
    for (const other of card.querySelectorAll("button[aria-pressed]")) other.setAttribute("aria-pressed", String(other === button));
    this.refineButton.hidden = false;
    say(relevance === "relevant" ? "Kept: like this. Search again to use it." : "Kept: not like this. Search again to use it.");
  }

  key(event) {
    const does = this.players.key(event.key) || {
      n: () => this.#go(1), p: () => this.#go(-1),
      "+": () => this.#press("relevant", "Like this"), "-": () => this.#press("not_relevant", "Not like this"), r: () => this.search(),
    }[event.key];
    if (!does || this.stage.hidden) return false;
    does();
    return true;
  }

  #go(by) {
    const to = Math.min(Math.max(this.picked + by, 0), this.hits.length - 1);
    this.pick(to, false);
    if (this.cards && this.cards[to]) { this.cards[to].scrollIntoView({ block: "nearest" }); this.cards[to].querySelector("button").focus(); }
  }

  #press(relevance, words) {
    const card = this.cards && this.cards[this.picked];
    if (card) this.say(this.picked, relevance, [...card.querySelectorAll("button[aria-pressed]")].find((one) => one.textContent === words));
  }
}
