// The answer in words: the overall emotion and its confidence, the segments, and files to export.

import { clock, color, element, length, percent, swatch } from "/page/format.js";

const $ = (id) => document.getElementById(id);
const FILES = [
  ["csv", "Table", ".csv", "text/csv"],
  ["textgrid", "Praat", ".TextGrid", "text/plain"],
  ["audacity", "Audacity labels", ".txt", "text/plain"],
  ["rttm", "RTTM", ".rttm", "text/plain"],
];
let addresses = [];

/** Seconds of speech: of each label that is sure somewhere, the longest first, and of what is unsure. */
function certainties(timeline) {
  const seconds = {};
  let unsure = 0;
  for (const part of timeline.segments) {
    const long = part.end_seconds - part.start_seconds;
    if (part.unsure) unsure += long;
    else seconds[part.label] = (seconds[part.label] ?? 0) + long;
  }
  return { sure: Object.entries(seconds).sort(([, one], [, other]) => other - one), unsure };
}

/** The overall answer of the API, in words. */
export function showVerdict(timeline, threshold) {
  const spoken = timeline.segments.reduce((sum, segment) => sum + segment.end_seconds - segment.start_seconds, 0);
  const { headline, explanation } = verdict(timeline, threshold);
  $("subject").textContent = `${timeline.source} · duration: ${length(timeline.duration_seconds)}, of which speech: ${length(spoken)}`;
  const remarks = [...(timeline.notes ?? []), ...(timeline.overall.adapted ? [`Adapted to the speaker: ${timeline.overall.adapted}.`] : [])];
  $("remarks").replaceChildren(...remarks.map((text) => element("li", { textContent: text })));
  $("remarks").hidden = !remarks.length;
  $("headline").replaceChildren(...headline);
  $("explanation").replaceChildren(...explanation.map((part) => (typeof part === "string" ? element("span", { textContent: part }) : part)));
  $("shares").replaceChildren(...timeline.labels.map((name) => share(timeline, name, timeline.overall.probabilities[name])));
}

const REASONS = {
  "low confidence": (threshold) => `No emotion reaches a confidence of ${percent(threshold)}. Below it the model is wrong too often to rely on.`,
  "unlike the training speech": () => "This voice or recording is unlike the speech that the model was trained on. Its answer is a guess.",
};

/** The headline and what is said below it. */
function verdict(timeline, threshold) {
  const { label, confidence, unsure, reason } = timeline.overall;
  const named = (name, text) => element("span", { className: "named" }, swatch(color(timeline.labels, name)), text);
  const aside = (...children) => element("span", { className: "sureness" }, ...children);
  if (label === "no speech") {
    const what = reason === "silence" ? "The recording is silent." : "The recording holds no speech.";
    return { headline: ["No speech found"], explanation: [`${what} Is it the right file? Was the microphone on?`] };
  }
  const course = changes(timeline, named);
  if (unsure) {
    const several = reason === "low confidence" && certainties(timeline).sure.length > 1;
    const changing = `The emotion changes: no single one reaches ${percent(threshold)} over the whole recording.`;
    const why = several ? changing : REASONS[reason]?.(threshold) ?? `Reason: ${reason ?? "low confidence"}.`;
    return { headline: ["Unsure", aside("closest: ", named(label, label), ` ${percent(confidence)}`)], explanation: [why, ...course] };
  }
  return { headline: [named(label, label), aside(percent(confidence))], explanation: course.length ? course : ["The model can be wrong; see its accuracy."] };
}

/** How long each emotion lasts, where it changes or is unsure in places. */
function changes(timeline, named) {
  const { sure, unsure } = certainties(timeline);
  if (sure.length + (unsure ? 1 : 0) < 2) return [];
  const parts = sure.map(([name, long]) => named(name, `${name} ${length(long)}`));
  return ["Over time:", ...parts, ...(unsure ? [element("span", { className: "named" }, `unsure ${length(unsure)}`)] : [])];
}

/** A row: the bar is the average, the mark on it the value at the playhead. */
function share(timeline, label, probability) {
  const fill = element("i");
  fill.style.width = `${100 * probability}%`;
  const bar = element("span", { className: "bar", color: color(timeline.labels, label) }, fill, element("b", { hidden: true }));
  const cell = element("span", { className: "share" }, bar, element("span", { textContent: percent(probability) }));
  return element("tr", {},
    element("th", { scope: "row" }, swatch(color(timeline.labels, label)), label), element("td", {}, cell), element("td", { textContent: "–" }));
}

/** Sets the values at the playhead; none where nobody speaks. */
export function showMoment(timeline, window, segment) {
  [...$("shares").rows].forEach((row, index) => {
    const value = segment && window ? window.probabilities[timeline.labels[index]] : null;
    row.cells[2].textContent = value === null ? "–" : percent(value);
    const mark = row.querySelector("b");
    mark.hidden = value === null;
    mark.style.left = `${100 * (value ?? 0)}%`;
  });
  const doubt = segment?.unsure ? [element("span", { className: "tag", textContent: "unsure" })] : [];
  const words = segment ? [swatch(color(timeline.labels, segment.label)), `${segment.label} ${percent(segment.confidence)}`, ...doubt] : ["no speech"];
  $("now").replaceChildren(...words);
}

/** The overall answer beside the player, until a position is chosen. */
export function showOverall({ labels, overall }) {
  const { label, confidence, unsure } = overall;
  const doubt = unsure ? [element("span", { className: "tag", textContent: "unsure" })] : [];
  const words = label === "no speech" ? ["no speech"] : [swatch(color(labels, label)), `overall: ${label} ${percent(confidence)}`, ...doubt];
  $("now").replaceChildren(...words);
}

/** The list of segments; `onChoose` is called with the one that was clicked or entered. */
export function showSegments(timeline, onChoose) {
  const items = timeline.segments.map((segment) => {
    const times = `${clock(segment.start_seconds)} – ${clock(segment.end_seconds)}`;
    const doubt = segment.unsure ? [element("span", { className: "tag", textContent: "unsure", title: segment.reason ?? "" })] : [];
    const button = element("button", { type: "button", className: segment.unsure ? "unsure" : "" },
      element("span", { className: "times", textContent: times }),
      element("span", { className: "label" }, swatch(color(timeline.labels, segment.label)), segment.label, ...doubt),
      element("span", { textContent: percent(segment.confidence) }));
    button.addEventListener("click", () => onChoose(segment));
    return element("li", {}, button);
  });
  $("segments").replaceChildren(...items);
  $("segments-title").textContent = `Segments (${items.length})`;
}

/** Describes the windows behind the bands. */
export function showHearing({ config, windows }) {
  const [window, hop] = [config.window_seconds, config.hop_seconds].map((seconds) => `${Number(seconds.toFixed(2))} s`);
  const alone = "The recording fits into one window, so the bands do not change.";
  $("hearing").textContent = windows.length > 1 ? `Windows of ${window}, one every ${hop}.` : windows.length ? alone : "";
}

/** Marks the segment that is heard. */
export function markSegment(index) {
  [...$("segments").children].forEach((item, position) => item.firstChild.setAttribute("aria-current", position === index));
}

/** Links to the files that came with the answer. */
export function showDownloads(timeline) {
  addresses.forEach((address) => URL.revokeObjectURL(address));
  const stem = timeline.source.replace(/\.[^.]+$/, "");
  const { files, ...rest } = timeline;
  const all = [...FILES.map(([name, title, suffix, type]) => [title, suffix, type, files[name]]), ["JSON", ".json", "application/json", JSON.stringify(rest, null, 1)]];
  addresses = all.map(([, , type, content]) => URL.createObjectURL(new Blob([content], { type })));
  $("downloads").replaceChildren(...all.map(([title, suffix], index) => {
    const link = element("a", { href: addresses[index], download: stem + suffix }, title, element("span", { className: "fine", textContent: suffix }));
    return element("li", {}, link);
  }));
}
