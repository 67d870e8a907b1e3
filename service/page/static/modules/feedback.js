// What people say of videos: like this or not, label, signs, notes, and where a seizure is.
import { call } from "./api.js";
import { classChoice, clock, el, fill, labelOf, say, signWords, tagsOf } from "./dom.js";

/**
 * A form to say what a video is; `onSaved()` is called afterwards. `signs`: HED-SCORE names and the ILAE's words;
 * `part()`: the stretch that is chosen. Its `told()` is to be called when that changes.
 */
export function form(video, signs, part, onSaved) {
  const label = labels();
  const [boxes, chosen] = signBoxes(video, signs);
  const whole = el("input", { type: "checkbox", checked: part() === null });
  const where = el("span", { class: "soft" });
  const told = () => {
    const stretch = part();
    whole.disabled = stretch === null;
    whole.checked = stretch === null;
    where.textContent = stretch ? `chosen: ${clock(stretch[0])} to ${clock(stretch[1])}` : "choose clips on the timeline to say when";
  };
  const note = el("textarea", { name: "note", rows: 2, maxLength: 2000 });
  const element = el("form", { onsubmit: async (event) => {
    event.preventDefault();
    const stretch = whole.checked ? null : part();
    try {
      await call("ReviewService/SaveFeedback", { feedback: { video_id: video.video_id, label: label.value, semiology: chosen(), note: note.value,
        start_seconds: stretch ? stretch[0] : 0, end_seconds: stretch ? stretch[1] : 0 } });
    } catch (error) { say(error.message); return; }
    element.reset();
    told();
    say("Saved with your name and the time.");
    onSaved();
  } },
  el("div", { class: "row" }, el("label", {}, "This seizure is", label)),
  el("fieldset", {}, el("legend", {}, "Signs seen"), boxes,
    el("div", { class: "row" }, el("label", {}, whole, "in the whole video"), where)),
  el("div", { class: "row" }, el("label", {}, "Note, without names", note), el("button", { type: "submit", class: "main" }, "Save")));
  told();
  return { element, told };
}

const labels = () => classChoice("say nothing", { name: "label" });

/** Boxes for the signs of a video, and what gives those that are ticked. */
function signBoxes(video, signs) {
  const known = new Map([...Object.entries(signs), ...video.semiology.filter((tag) => !(tag in signs)).map((tag) => [tag, signWords(signs, tag)])]);
  const boxes = [...known].map(([name, words]) => el("label", { title: name }, el("input", { type: "checkbox", value: name }), words));
  return [el("div", { class: "signs", tabindex: "0", role: "group", "aria-label": "Signs, ILAE wording" }, boxes),
    () => boxes.map((box) => box.firstChild).filter((box) => box.checked).map((box) => box.value)];
}

/**
 * A form to say whether a stretch of a video is a seizure. `at()`: seconds of the film that is shown; `onSaved(event)`
 * is called afterwards. Its `save(event)` does what its buttons do, `seizure` or `not_a_seizure`.
 */
export function eventForm(video, [begin, end], signs, at, onSaved) {
  const time = (name, value) => el("input", { type: "number", name, min: "0", step: "0.1", value: String(Math.round(10 * value) / 10), class: "seconds" });
  const from = time("from", begin);
  const until = time("until", end);
  const here = (field, words) => el("button", { type: "button", onclick: () => { field.value = (Math.round(10 * at()) / 10).toString(); } }, words);
  const label = labels();
  const [boxes, chosen] = signBoxes(video, signs);
  const note = el("textarea", { name: "note", rows: 2, maxLength: 2000 });
  const save = async (event) => {
    const seizure = event === "seizure";
    try {
      await call("ReviewService/SaveFeedback", { feedback: { video_id: video.video_id, event: `EVENT_${event.toUpperCase()}`, label: seizure ? label.value : "", semiology: seizure ? chosen() : [],
        start_seconds: Number(from.value), end_seconds: Number(until.value), note: note.value } });
    } catch (error) { say(error.message); return; }
    say(seizure ? "Saved as a seizure, with your name and the time." : "Saved as not a seizure, with your name and the time.");
    onSaved(event);
  };
  const element = el("form", { onsubmit: (event) => { event.preventDefault(); save("seizure"); } },
    el("div", { class: "row" }, el("label", {}, "From", from, "s"), here(from, "Begins here"), el("label", {}, "to", until, "s"), here(until, "Ends here"), el("label", {}, "Label", label)),
    el("fieldset", {}, el("legend", {}, "Signs seen"), boxes),
    el("div", { class: "row" }, el("label", {}, "Note, without names", note),
      el("button", { type: "submit", class: "main" }, "A seizure"), el("button", { type: "button", onclick: () => save("not_a_seizure") }, "Not a seizure")));
  return { element, save };
}

/** What was said of a video, with a way to take one's own back. */
export async function listed(videoId, signs) {
  const element = el("div", { class: "scroll" });
  const refresh = async () => {
    const feedback = [];
    for (let token = "", more = true; more;) {
      const page = await call("ReviewService/ListFeedback", { video_ids: [videoId], page_token: token });
      feedback.push(...page.feedback);
      token = page.next_page_token;
      more = Boolean(token);
    }
    const about = feedback.filter((one) => one.video_id === videoId && one.relevance === "RELEVANCE_UNSPECIFIED");
    if (!about.length) { fill(element, el("p", { class: "soft" }, "No feedback on this video yet.")); return; }
    fill(element, el("table", {}, el("thead", {}, el("tr", {}, ["When", "Who", "What", ""].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, about.map((one) => el("tr", {},
        el("td", {}, one.at.slice(0, 16).replace("T", " ")), el("td", {}, one.author),
        el("td", {}, one.label ? labelOf(one.label) : null, " ",
          tagsOf(signs, one.semiology),
          one.event === "EVENT_UNSPECIFIED" ? null : el("strong", {}, eventWords(one.event), " "),
          (one.semiology.length || one.event !== "EVENT_UNSPECIFIED") && one.end_seconds ? el("span", { class: "soft" }, `${clock(one.start_seconds)} to ${clock(one.end_seconds)} `) : null, one.note),
        el("td", {}, el("button", { type: "button", "aria-label": `Take back what was said on ${one.at.slice(0, 16)}`, onclick: async () => {
          try { await call("ReviewService/DeleteFeedback", { feedback_id: one.feedback_id }); say("Taken back."); await refresh(); } catch (error) { say(error.message); }
        } }, "Take back")))))));
  };
  await refresh();
  return { element, refresh };
}

/** Whether an event is a seizure, in words. */
export const eventWords = (event) => (event === "EVENT_SEIZURE" ? "a seizure" : "not a seizure");

/** All events that people saved in these videos. */
export async function eventsIn(videoIds) {
  const events = [];
  for (let first = 0; first < videoIds.length; first += 1000) {
    for (let token = "", more = true; more;) {
      const page = await call("ReviewService/ListFeedback", { video_ids: videoIds.slice(first, first + 1000), page_token: token });
      events.push(...page.feedback.filter((one) => one.event !== "EVENT_UNSPECIFIED"));
      token = page.next_page_token;
      more = Boolean(token);
    }
  }
  return events;
}

/** Keeps whether a hit is like what was asked about. */
export function judge(hit, query, relevance) {
  return call("ReviewService/SaveFeedback", { feedback: { video_id: hit.clip.video_id, clip_id: hit.clip.clip_id, relevance: `RELEVANCE_${relevance.toUpperCase()}`,
    query_video_id: query.videoId || "", query_clip_id: hit.query_clip_id && query.videoId ? hit.query_clip_id : "" } });
}
