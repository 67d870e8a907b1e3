// Making elements without ever parsing text as HTML: what people typed stays text.

/** An element. Properties beginning with "on" are listeners; class, data-*, aria-* and the like are attributes. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && !key.includes("-") && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** Puts children in place of what is there. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return parent;
}

let hiding = 0;

/** Says something for a few seconds, to eyes and to screen readers. */
export function say(text) {
  const status = document.getElementById("status");
  fill(status, el("span", {}, text));
  clearTimeout(hiding);
  hiding = setTimeout(() => fill(status), 6000);
}

/** Minutes and seconds, or hours, minutes and seconds. */
export function clock(seconds) {
  const whole = Math.max(Math.floor(seconds), 0);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

// Of the workspace's classes, in their order; each dark enough for white letters, and told apart by most people who don't
// see some colours.
const COLOURS = [[33, 102, 172], [179, 88, 6], [0, 114, 94], [123, 45, 139], [107, 107, 0], [176, 16, 48], [75, 85, 99], [0, 105, 138], [168, 50, 125], [63, 112, 33]];

/** What seizures are told apart into, as the server says; filled at sign-in. */
export const classes = [];

/** Names of the signs that sign heads judge; filled at sign-in, none where none are loaded. */
export const judgedSigns = [];

/** [red, green, blue] of a class; null for what is none. */
export const colourOf = (label) => COLOURS[classes.indexOf(label)] || null;

/** A label as a small coloured word. */
export function labelOf(label) {
  if (!label) return el("span", { class: "soft" }, "no label");
  const word = el("span", { class: "label" }, label);
  if (colourOf(label)) word.style.background = `rgb(${colourOf(label).join(" ")})`;
  return word;
}

/** Names as a sentence has them: "a, b or c". */
export const either = (names) => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} or ${names[names.length - 1]}`;

/** A choice of one class, or of none, which is called `none`. */
export const classChoice = (none, properties = {}) => el("select", properties, el("option", { value: "" }, none), classes.map((one) => el("option", { value: one }, one)));

/** A sign in the ILAE's words where there are some, else its name without what is the same in all of them. */
export function signWords(signs, tag) { return signs[tag] || tag.replace(/^Semiology-/, "").replaceAll("-", " "); }

/** What has to be said with every verdict. */
export function standing(verdict) {
  const known = verdict.trained_on_this_patient;
  const learned = known === true ? "It learned from this very patient, whom it may just remember." : known === false ? "It did not learn from this patient." : "Whether it learned from this patient is not known.";
  return [learned, verdict.separates_nothing ? " It separates nothing: patients it had not seen were judged no better than by chance." : "",
    verdict.clips_without_picture ? ` ${verdict.clips_without_picture} clips show no picture and have no vote.` : "",
    verdict.clips_outside_seizure ? ` ${verdict.clips_outside_seizure} clips lie before the onset or after the end of the seizure and have no vote.` : "",
    verdict.clips_overlapping ? ` ${verdict.clips_overlapping} clips overlap with others and have no vote, so that every second counts once.` : ""].join("");
}

/** Where an encoder's weights come from, where that decides what its answers are worth. */
export function kindWords(kind) {
  return { random: " (random weights: its answers mean nothing)", simulated: " (has seen simulated patients only)" }[kind] || "";
}

/** Signs as small words. */
export function tagsOf(signs, tags) { return tags.map((tag) => el("span", { class: "tag", title: tag }, signWords(signs, tag))); }

/** What went wrong, and what to do about it. */
export function problem(error) {
  return el("p", { class: "error", role: "alert" }, el("strong", {}, "That did not work. "), error.message || String(error));
}
