// What people say of videos: like this or not, label, signs, notes.
import { call } from "./api.js";
import { clock, el, fill, labelOf, say, signWords, tagsOf } from "./dom.js";

/**
 * A form to say what a video is; `onSaved()` is called afterwards. `signs`: HED-SCORE names and the ILAE's words;
 * `part()`: the stretch that is chosen. Its `told()` is to be called when that changes.
 */
export function form(video, signs, part, onSaved) {
  const label = el("select", { name: "label" }, el("option", { value: "" }, "say nothing"),
    ["TLE", "exTLE"].map((one) => el("option", { value: one }, one)));
  const known = new Map([...Object.entries(signs), ...video.semiology.filter((tag) => !(tag in signs)).map((tag) => [tag, signWords(signs, tag)])]);
  const boxes = [...known].map(([name, words]) =>
    el("label", { title: name }, el("input", { type: "checkbox", value: name }), words));
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
    const chosen = boxes.map((box) => box.firstChild).filter((box) => box.checked).map((box) => box.value);
    try {
      await call("ReviewService/SaveFeedback", { feedback: { video_id: video.video_id, label: label.value, semiology: chosen, note: note.value,
        start_seconds: stretch ? stretch[0] : 0, end_seconds: stretch ? stretch[1] : 0 } });
    } catch (error) { say(error.message); return; }
    element.reset();
    told();
    say("Saved with your name and the time.");
    onSaved();
  } },
  el("div", { class: "row" }, el("label", {}, "This seizure is", label)),
  el("fieldset", {}, el("legend", {}, "Signs seen"), el("div", { class: "signs", tabindex: "0", role: "group", "aria-label": "Signs, ILAE wording" }, boxes),
    el("div", { class: "row" }, el("label", {}, whole, "in the whole video"), where)),
  el("div", { class: "row" }, el("label", {}, "Note, without names", note), el("button", { type: "submit", class: "main" }, "Save")));
  told();
  return { element, told };
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
          one.semiology.length && one.end_seconds ? el("span", { class: "soft" }, `${clock(one.start_seconds)} to ${clock(one.end_seconds)} `) : null, one.note),
        el("td", {}, el("button", { type: "button", "aria-label": `Take back what was said on ${one.at.slice(0, 16)}`, onclick: async () => {
          try { await call("ReviewService/DeleteFeedback", { feedback_id: one.feedback_id }); say("Taken back."); await refresh(); } catch (error) { say(error.message); }
        } }, "Take back")))))));
  };
  await refresh();
  return { element, refresh };
}

/** Keeps whether a hit is like what was asked about. */
export function judge(hit, query, relevance) {
  return call("ReviewService/SaveFeedback", { feedback: { video_id: hit.clip.video_id, clip_id: hit.clip.clip_id, relevance: `RELEVANCE_${relevance.toUpperCase()}`,
    query_video_id: query.videoId || "", query_clip_id: hit.query_clip_id && query.videoId ? hit.query_clip_id : "" } });
}
