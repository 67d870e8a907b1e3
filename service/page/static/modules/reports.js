// Reports of evaluations, and what people said, to take elsewhere.
import { call } from "./api.js";
import { el, fill, problem } from "./dom.js";

export class ReportsView {
  constructor(me, parameters) {
    this.me = me;
    this.wanted = parameters.get("report") || "";
    this.sees = me.seesFilms;
  }

  async open(main) {
    const list = el("div", {});
    fill(main, el("h2", {}, "Reports"), list);
    if (!this.sees) { fill(list, el("p", {}, "Your role does not see reports.")); return; }
    try {
      const { reports } = await call("ReviewService/ListReports");
      fill(list,
        el("section", { class: "panel" }, el("h3", {}, "Evaluations"),
          reports.length ? el("ul", {}, reports.map((one) => el("li", {}, el("a", { href: `#/reports?report=${encodeURIComponent(one.report_id)}`, "aria-current": one.report_id === this.wanted ? "true" : null }, one.report_id), el("span", { class: "soft" }, ` ${one.written_at.slice(0, 16).replace("T", " ")} UTC`))))
            : el("p", {}, "None yet: ", el("code", {}, "semiome ablate examples/paper.toml"), " compares ways of pretraining and writes one.")),
        el("section", { class: "panel" }, el("h3", {}, "What people said"), el("p", {}, "Labels, signs and judgements of this page, for other programs:"),
          el("ul", {}, el("li", {}, el("a", { href: "/api/events.tsv", download: "events.tsv" }, "events.tsv"), " with HED tags"), el("li", {}, el("a", { href: "/api/label-studio.json", download: "label-studio.json" }, "label-studio.json")))),
        this.me.looksAfter ? await recall() : null,
        this.wanted ? el("iframe", { src: `/report/${encodeURIComponent(this.wanted)}`, title: `Report ${this.wanted}`, sandbox: "" }) : null);
    } catch (error) { fill(list, problem(error)); }
  }
}

/** How much of the true neighbours each index finds, as it was measured when it was built. */
async function recall() {
  const generations = (await call("AdminService/ListGenerations")).generations.reverse(); // newest first
  const names = ["Index", "Kind", "Clips", "Finds of the true 10 nearest", "Built", ""];
  return el("section", { class: "panel" }, el("h3", {}, "Recall of the indexes"),
    el("p", { class: "soft" }, "Measured on clips that the index was not tuned on, each without its own patient."),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Indexes" }, el("table", {}, el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, generations.map((one) => el("tr", {}, el("td", {}, one.generation), el("td", {}, one.index), el("td", { class: "number" }, String(one.clips)),
        el("td", { class: "number" }, `${(100 * one.recall).toFixed(1)} %`), el("td", {}, one.built_at.slice(0, 16).replace("T", " ")), el("td", {}, one.serving ? "serves" : one.served_before ? "served before" : "")))))));
}
