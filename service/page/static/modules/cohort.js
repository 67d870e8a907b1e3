// The cohort: a map of all clips, how much there is of what, and how the index is.
import { call } from "./api.js";
import { classes, colourOf, el, fill, labelOf, problem, signWords, tagsOf } from "./dom.js";

const WIDTH = 900;
const HEIGHT = 640;
const EDGE = 16;
const LISTED = 100;
const NONE = [150, 158, 166];

const numbers = (text, Kind) => new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

/** A colour for the n-th of many, far from its neighbours. */
function hue(n) {
  const h = (n * 137.508) % 360;
  const f = (k) => { const a = (k + h / 30) % 12; return Math.round(255 * (0.42 - 0.3 * Math.max(-1, Math.min(a - 3, 9 - a, 1)))); };
  return [f(0), f(8), f(4)];
}

/** From yellow, old, to dark green, new. */
const aged = (share) => [Math.round(230 - 215 * share), Math.round(190 - 100 * share), Math.round(60 + 10 * share)];

export class CohortView {
  constructor(me) {
    this.me = me;
    this.signs = me.signs;
    this.seesMap = me.seesFilms;
    this.videos = [];
    this.place = new Map(); // video id to its number
    this.x = new Float32Array(0);
    this.y = new Float32Array(0);
    this.of = new Uint32Array(0);
    this.count = 0;
    this.open_ = true;
    this.lasso = [];
  }

  async open(main) {
    const counts = el("div", {});
    const health = el("div", {});
    this.chosen = el("div", { "aria-live": "polite" });
    fill(main, el("h2", {}, "The cohort"), el("div", { class: "cohort" }, this.seesMap ? this.#map() : el("p", { class: "panel" }, "Your role does not see the map."), el("div", {}, counts, health)));
    this.#counts(counts);
    if (this.me.looksAfter) this.#health(health);
    if (this.seesMap) await this.#load();
  }

  close() { this.open_ = false; }

  // How much there is

  async #counts(place) {
    try {
      const counts = await call("CatalogService/GetCounts");
      const row = (one, name) => el("tr", {}, el("th", { scope: "row" }, name), ["patients", "videos", "clips"].map((what) => el("td", { class: "number" }, String(one[what]))));
      const tags = counts.semiology.map((one) => row(one, el("a", { href: `#/?tag=${encodeURIComponent(one.name)}`, title: one.name }, signWords(this.signs, one.name))));
      fill(place, el("section", { class: "panel" }, el("h3", {}, "How much is stored"), el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Counts" }, el("table", {},
        el("thead", {}, el("tr", {}, el("td", {}), ["Patients", "Videos", "Clips"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
        el("tbody", {}, row(counts.total, "all"), counts.labels.map((one) => row(one, one.name ? labelOf(one.name) : "no label")), tags)))));
    } catch (error) { fill(place, problem(error)); }
  }

  async #health(place) {
    const lines = [];
    try {
      const status = await call("AdminService/GetStatus");
      const made = status.provenance;
      lines.push(["Index", made.generation], ["Encoder", made.encoder_id], ["Head", made.head_id || "none: `semiome head train`"],
        ["Clips stored since the index was built", String(status.workers[0] ? status.workers[0].tail_clips : 0)], ["Workers", String(status.workers.length)], ["Semiome", status.version]);
    } catch (error) { lines.push(["Health", error.message]); }
    fill(place, el("section", { class: "panel" }, el("h3", {}, "Index and store"), el("table", {}, el("tbody", {}, lines.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)))))));
  }

  // The map

  #map() {
    this.canvas = el("canvas", { width: WIDTH, height: HEIGHT, tabindex: "0", role: "img", "aria-label": "Map of all clips; beside it the same as a list" });
    this.context = this.canvas.getContext("2d");
    this.picture = this.context.createImageData(WIDTH, HEIGHT);
    this.pixels = new Uint32Array(this.picture.data.buffer);
    this.colourBy = el("select", { onchange: () => this.#recolour() }, [["label", "class"], ["patient", "patient"], ["tag", "sign"], ["age", "date"]].map(([value, words]) => el("option", { value }, words)));
    this.tag = el("select", { hidden: true, "aria-label": "Sign", onchange: () => this.#recolour() });
    this.legend = el("ul", { class: "legend" });
    this.state = el("p", { class: "soft", role: "status" });
    this.view = { scale: 1, x: 0, y: 0 };
    const at = (event) => { const box = this.canvas.getBoundingClientRect(); return [((event.clientX - box.left) * WIDTH) / box.width, ((event.clientY - box.top) * HEIGHT) / box.height]; };
    let pan = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      if (event.shiftKey || event.button === 1) pan = at(event); else this.lasso = [at(event)];
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (pan) { const now = at(event); this.view.x += now[0] - pan[0]; this.view.y += now[1] - pan[1]; pan = now; this.#draw(); }
      else if (this.lasso.length && event.buttons) { this.lasso.push(at(event)); this.#drawSoon(); }
    });
    this.canvas.addEventListener("pointerup", () => { if (pan) pan = null; else this.#choose(); });
    this.canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.#zoom(event.deltaY < 0 ? 1.25 : 0.8, ...at(event)); }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
      if (event.key === "+" || event.key === "-") this.#zoom(event.key === "+" ? 1.25 : 0.8, WIDTH / 2, HEIGHT / 2);
      else if (moves[event.key]) { this.view.x += moves[event.key][0]; this.view.y += moves[event.key][1]; this.#draw(); }
      else if (event.key === "0") { this.view = { scale: 1, x: 0, y: 0 }; this.#draw(); }
      else if (event.key === "Enter") { this.lasso = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]; this.#choose(); }
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return el("section", { class: "panel map" }, el("div", { class: "row" }, el("label", {}, "Coloured by", this.colourBy), this.tag),
      this.canvas, this.legend, this.state,
      el("p", { class: "soft" }, "Draw around points to list them. Wheel or + and - to zoom, shift and drag or arrows to move, 0 for all, Enter lists what is in sight. Near means alike; far apart on the map means little."),
      this.chosen);
  }

  async #load() {
    let total = 1;
    try {
      while (this.open_ && this.count < total) {
        const page = await call("ReviewService/GetMap", { offset: this.count });
        total = page.total;
        if (!total) { this.state.textContent = "There is nothing to show yet."; return; }
        this.#take(page, total);
        this.state.textContent = `${this.count} of ${total} clips, laid out by ${page.method.toUpperCase()}${page.step ? `, each placed to within ${page.step.toFixed(2)}` : ""}`;
        this.#recolour();
        await new Promise(requestAnimationFrame);
      }
    } catch (error) { fill(this.state, problem(error)); }
  }

  #take(page, total) {
    if (this.x.length < total) { this.x = grown(this.x, total); this.y = grown(this.y, total); this.of = grown(this.of, total); }
    const positions = numbers(page.positions, Float32Array);
    const which = numbers(page.video_of_point, Uint32Array);
    const known = page.videos.map((video) => {
      if (!this.place.has(video.video_id)) { this.place.set(video.video_id, this.videos.length); this.videos.push(video); }
      return this.place.get(video.video_id);
    });
    for (let n = 0; n < which.length; n += 1) {
      // Points that were rounded to the same place are spread over what rounds to it, by a sequence that fills it evenly.
      this.x[this.count + n] = positions[2 * n] + page.step * (((this.count + n) * 0.7548776662) % 1 - 0.5);
      this.y[this.count + n] = positions[2 * n + 1] + page.step * (((this.count + n) * 0.5698402910) % 1 - 0.5);
      this.of[this.count + n] = known[which[n]];
    }
    this.count += which.length;
  }

  #recolour() {
    const by = this.colourBy.value;
    this.tag.hidden = by !== "tag";
    const tags = [...new Set(this.videos.flatMap((video) => video.semiology))].sort();
    if (this.tag.options.length !== tags.length) fill(this.tag, tags.map((tag) => el("option", { value: tag }, signWords(this.signs, tag))));
    const patients = new Map();
    for (const video of this.videos) if (!patients.has(video.patient_id)) patients.set(video.patient_id, patients.size);
    const times = this.videos.map((video) => Date.parse(video.recorded_at) || 0);
    const dated = times.filter(Boolean);
    const first = Math.min(...dated);
    const last = Math.max(...dated);
    const colours = this.videos.map((video, n) => {
      if (by === "label") return colourOf(video.label) || NONE;
      if (by === "patient") return hue(patients.get(video.patient_id));
      if (by === "tag") return video.semiology.includes(this.tag.value) ? [160, 30, 90] : NONE;
      return times[n] ? aged(last > first ? (times[n] - first) / (last - first) : 1) : NONE;
    });
    this.colour = Uint32Array.from(colours, ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r);
    const shown = { label: [...classes.map((one) => [one, colourOf(one)]), ["no label", NONE]], tag: [["seen", [160, 30, 90]], ["not noted", NONE]],
      patient: [...patients].slice(0, 12).map(([name, n]) => [name, hue(n)]),
      age: dated.length ? [[new Date(first).toISOString().slice(0, 10), aged(0)], [new Date(last).toISOString().slice(0, 10), aged(1)], ["no date", NONE]] : [["no video has a date", NONE]] }[by];
    fill(this.legend, shown.map(([name, [r, g, b]]) => { const dot = el("i"); dot.style.background = `rgb(${r} ${g} ${b})`; return el("li", {}, dot, name); }),
      by === "patient" && patients.size > 12 ? el("li", {}, `and ${patients.size - 12} more`) : null);
    this.#draw();
  }

  #screen(n) {
    const { scale, x, y } = this.view;
    return [(WIDTH / 2 + this.x[n] * (WIDTH / 2 - EDGE) - WIDTH / 2) * scale + WIDTH / 2 + x, (HEIGHT / 2 - this.y[n] * (HEIGHT / 2 - EDGE) - HEIGHT / 2) * scale + HEIGHT / 2 + y];
  }

  #zoom(by, x, y) {
    const scale = Math.min(Math.max(this.view.scale * by, 1), 200);
    const grew = scale / this.view.scale;
    this.view = { scale, x: (this.view.x + WIDTH / 2 - x) * grew + x - WIDTH / 2, y: (this.view.y + HEIGHT / 2 - y) * grew + y - HEIGHT / 2 };
    this.#draw();
  }

  #drawSoon() { if (!this.soon) { this.soon = true; requestAnimationFrame(() => { this.soon = false; this.#draw(); }); } }

  /** Every point as a few pixels, written into the picture: a hundred thousand take some milliseconds. */
  #draw() {
    const began = performance.now();
    const size = this.count > 20000 && this.view.scale < 3 ? 2 : this.count > 2000 && this.view.scale < 3 ? 3 : 5;
    this.pixels.fill(0xffffffff);
    for (let n = this.count - 1; n >= 0; n -= 1) {
      const [px, py] = this.#screen(n);
      const left = Math.round(px) - (size >> 1);
      const top = Math.round(py) - (size >> 1);
      if (left < 0 || top < 0 || left + size > WIDTH || top + size > HEIGHT) continue;
      const colour = this.colour[this.of[n]];
      for (let row = 0; row < size; row += 1) this.pixels.fill(colour, (top + row) * WIDTH + left, (top + row) * WIDTH + left + size);
    }
    this.context.putImageData(this.picture, 0, 0);
    if (this.lasso.length > 1) {
      this.context.beginPath();
      this.lasso.forEach(([x, y], n) => (n ? this.context.lineTo(x, y) : this.context.moveTo(x, y)));
      this.context.closePath();
      this.context.strokeStyle = "#16202a";
      this.context.fillStyle = "rgba(20, 84, 111, .12)";
      this.context.fill();
      this.context.stroke();
    }
    this.canvas.dataset.drawMs = (performance.now() - began).toFixed(1);
    this.canvas.dataset.points = String(this.count);
  }

  #choose() {
    const { lasso } = this;
    this.lasso = [];
    if (lasso.length < 3) { this.#draw(); return; }
    const clips = new Map();
    for (let n = 0; n < this.count; n += 1) if (within(lasso, ...this.#screen(n))) clips.set(this.of[n], (clips.get(this.of[n]) || 0) + 1);
    const found = [...clips].sort((a, b) => b[1] - a[1]).map(([n, count]) => ({ ...this.videos[n], count }));
    const patients = new Set(found.map((video) => video.patient_id));
    const total = found.reduce((sum, video) => sum + video.count, 0);
    const labels = [...classes, ""].map((label) => `${found.filter((video) => video.label === label).length} ${label || "without label"}`);
    fill(this.chosen, el("h3", {}, `${total} clips of ${found.length} videos of ${patients.size} patients: ${labels.join(", ")}`),
      found.length ? el("div", { class: "videos", tabindex: "0", role: "group", "aria-label": "Chosen videos" }, el("table", {}, el("tbody", {}, found.slice(0, LISTED).map((video) => el("tr", {},
        el("td", {}, el("a", { href: `#/?video=${encodeURIComponent(video.video_id)}` }, video.video_id)), el("td", {}, video.patient_id), el("td", {}, labelOf(video.label)),
        el("td", { class: "number" }, `${video.count} clips`), el("td", {}, tagsOf(this.signs, video.semiology))))))) : null,
      found.length > LISTED ? el("p", { class: "soft" }, `and ${found.length - LISTED} more videos`) : null);
    this.#draw();
  }
}

function grown(array, size) { const larger = new array.constructor(size); larger.set(array); return larger; }

/** Whether a point lies within a polygon: a ray from it crosses its edges an odd number of times. */
export function within(polygon, x, y) {
  let inside = false;
  for (let n = 0, before = polygon.length - 1; n < polygon.length; before = n, n += 1) {
    const [ax, ay] = polygon[n];
    const [bx, by] = polygon[before];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
