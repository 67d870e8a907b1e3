// Which view is shown, who has signed in, and the keys that work everywhere.
import { call, get, post, remove } from "./api.js";
import { CohortView } from "./cohort.js";
import { classes, el, fill, judgedSigns, problem, say } from "./dom.js";
import { MomentsView } from "./moments.js";
import { RecordingView } from "./recording.js";
import { ReportsView } from "./reports.js";
import { SearchView } from "./search.js";
import { VerdictView } from "./verdict.js";

const VIEWS = { "": ["Search", SearchView], moments: ["Moments", MomentsView], recording: ["Recording", RecordingView], verdict: ["Verdict", VerdictView], cohort: ["Cohort", CohortView], reports: ["Reports", ReportsView] };
const KEYS = [["Space or k", "play, pause"], [", and .", "one frame back, forward"], ["← and →", "two seconds back, forward"], ["< and >", "slower, faster"],
  ["l", "loop the chosen clips, or the one that is shown"], ["n and p", "next, previous result or moment"], ["+ and -", "like this, not like this; a seizure, not a seizure"], ["r", "search again with what was said"],
  ["← → Home End on a clip", "go along the timeline, with shift choose a stretch"], ["← → ↑ ↓ on a recording", "go along it, come closer, see more"], ["?", "these keys"]];

const main = document.getElementById("main");
let view = null;
let me = null;

function route() {
  const [, name = "", asked = ""] = /^#\/?([^?]*)\??(.*)$/.exec(location.hash) || [];
  return { name: name in VIEWS ? name : "", parameters: new URLSearchParams(asked) };
}

async function show() {
  if (!me) return;
  if (view && view.close) view.close();
  const { name, parameters } = route();
  const [title, View] = VIEWS[name];
  document.title = `${title} – Semiome review`;
  fill(document.getElementById("views"), Object.entries(VIEWS).map(([one, [words]]) => el("a", { href: `#/${one}`, "aria-current": one === name ? "page" : null }, words)));
  const mine = (view = new View(me, parameters));
  try { await view.open(main); } catch (error) { if (view === mine) fill(main, problem(error), error.code === "UNAVAILABLE" ? firstRun() : null); }
}

/** What to do where there is nothing to look at yet. */
function firstRun() {
  const steps = [
    ["Describe your videos in a CSV, one row each, with pseudonyms and never names.", "semiome manifest check manifest.csv"],
    ["Embed and store them; their previews are for this page.", "semiome encode manifest.csv --previews"],
    ["Where they have labels, train a head for verdicts.", "semiome head train"],
    ["Build the index.", "semiome index build"],
    ["Serve it, with this page.", "semiome serve --web"]];
  return el("section", { class: "panel", "aria-labelledby": "first" }, el("h2", { id: "first" }, "Nothing to look at yet?"),
    el("p", {}, "This page shows what a Semiome server serves, and none answers, or it has nothing. On the machine with the videos:"),
    el("ol", {}, steps.map(([words, command]) => el("li", {}, words, " ", el("code", {}, command)))),
    el("p", {}, "To see it with simulated patients first: ", el("code", {}, "semiome demo"), "."),
    el("button", { type: "button", class: "main", onclick: () => location.reload() }, "Look again"));
}

function signIn(error = null) {
  if (view && view.close) view.close();
  me = view = null;
  fill(document.getElementById("who"));
  fill(document.getElementById("views"));
  document.title = "Sign in – Semiome review";
  const token = el("input", { type: "password", name: "token", autocomplete: "off", required: true });
  fill(main, error, el("form", { class: "panel", onsubmit: async (event) => {
    event.preventDefault();
    try {
      const answer = await post("/api/session", { token: token.value });
      if (!answer.identity) { signIn(problem(new Error(`${answer.error}. Check the token, or ask for a new one.`))); return; }
    } catch (failed) { signIn(problem(failed)); return; }
    await start();
  } }, el("h2", {}, "Sign in"), el("p", {}, "With the token that the hospital's IT gave you, the same as for other programs."),
  el("div", { class: "row" }, el("label", {}, "Token", token), el("button", { type: "submit", class: "main" }, "Sign in"))));
  token.focus();
}

async function start() {
  let who;
  try {
    who = await get("/api/me");
    if (!who.identity) who = await post("/api/session", { token: "" }); // a server that needs no sign-in
  } catch (error) { fill(main, problem(error), firstRun()); return; }
  if (!who.identity) { signIn(); return; }
  try { // no class is known where nothing is served yet
    const counts = await call("CatalogService/GetCounts");
    classes.splice(0, classes.length, ...counts.labels.map((one) => one.name).filter(Boolean));
    judgedSigns.splice(0, judgedSigns.length, ...counts.judged_signs);
  } catch { classes.length = judgedSigns.length = 0; }
  const has = (...roles) => roles.some((role) => who.roles.includes(role));
  me = { ...who, seesFilms: has("admin", "clinician", "trainer"), judges: has("admin", "classifier", "clinician", "trainer"), looksAfter: has("admin", "trainer") };
  const out = el("button", { type: "button", onclick: async () => {
    try { await remove("/api/session"); signIn(); } catch (error) { say(`You are still signed in. ${error.message}`); }
  } }, "Sign out");
  fill(document.getElementById("who"), el("span", {}, `${me.identity}, ${me.roles.join(", ")}`), el("button", { type: "button", "aria-haspopup": "dialog", onclick: keys }, "Keys"), me.identity.startsWith("loopback:") ? null : out);
  await show();
}

function keys() {
  const dialog = document.getElementById("keys");
  fill(dialog, el("h2", { id: "keys-title" }, "Keys"), el("table", {}, el("tbody", {}, KEYS.map(([key, words]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, key)), el("td", {}, words))))),
    el("form", { method: "dialog" }, el("button", { type: "submit", class: "main" }, "Close")));
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  const pressing = event.key === " " && event.target.closest("button, a, summary, input");
  if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") { keys(); event.preventDefault(); return; }
  if (view && view.key && view.key(event)) event.preventDefault();
});
document.addEventListener("signed-out", () => { if (me) { say("You were signed out."); signIn(); } });
addEventListener("hashchange", show);
start();
