// The answer in words: what it sounds like overall, how sure that is, its segments, and files to take along.

import { clock, color, element, length, percent, swatch } from "/page/format.js";

const $ = (id) => document.getElementById(id);
const FILES = [
  ["csv", "Table", ".csv", "text/csv"],
  ["textgrid", "Praat", ".TextGrid", "text/plain"],
  ["audacity", "Audacity labels", ".txt", "text/plain"],
  ["rttm", "RTTM", ".rttm", "text/plain"],
];
let addresses = [];

/** Mean probabilities over all speech, each segment counting for its length. */
export function overall(timeline) {
  const spoken = (segment) => segment.end_seconds - segment.start_seconds;
  const total = timeline.segments.reduce((sum, segment) => sum + spoken(segment), 0);
  const mean = (label) => timeline.segments.reduce((sum, part) => sum + spoken(part) * part.probabilities[label], 0) / total;
  return { seconds: total, probabilities: Object.fromEntries(timeline.labels.map((label) => [label, total ? mean(label) : 0])) };
}

/** Seconds of each label that is sure somewhere, the longest first, and of what is unsure. */
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

export function showVerdict(timeline, threshold) {
  const { seconds, probabilities } = overall(timeline);
  const label = timeline.labels.reduce((best, name) => (probabilities[name] > probabilities[best] ? name : best));
  const { headline, explanation } = verdict(timeline, seconds, label, probabilities[label], threshold);
  $("subject").textContent = `${timeline.source} · ${length(timeline.duration_seconds)} long, ${length(seconds)} of it speech`;
  $("headline").replaceChildren(...headline);
  $("explanation").replaceChildren(...explanation);
  $("shares").replaceChildren(...timeline.labels.map((name) => share(timeline, name, probabilities[name])));
}

/** What to say in large, and below it: one emotion, several, none to rely on, or no speech. */
function verdict(timeline, seconds, label, certainty, threshold) {
  const { sure, unsure } = certainties(timeline);
  const named = (name, text) => element("span", { className: "named" }, swatch(color(timeline.labels, name)), text);
  const aside = (...children) => element("span", { className: "sureness" }, ...children);
  if (!seconds) {
    return { headline: ["No speech found"], explanation: ["Nothing in it is loud and long enough to be speech. Is it the right file, is the microphone on?"] };
  }
  if (!sure.length) {
    const reason = `No emotion reaches ${percent(threshold)}, the level from which this model's answers should be used.`;
    return { headline: ["Unsure", aside("closest: ", named(label, label), ` ${percent(certainty)}`)], explanation: [reason] };
  }
  if (sure.length === 1 && !unsure) {
    return { headline: [named(label, label), aside(percent(certainty))], explanation: ["The mean over all its speech. The model can be wrong: see its card below."] };
  }
  const [[most, longest]] = sure;
  const headline = longest >= seconds / 2 ? ["Mostly", named(most, most)] : ["It changes"];
  const parts = sure.map(([name, long]) => named(name, `${name} ${length(long)}`));
  return { headline, explanation: [...parts, ...(unsure ? [element("span", { className: "named" }, `unsure ${length(unsure)}`)] : [])] };
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

/** The list of segments; `onChoose` is called with the one that was clicked or entered. */
export function showSegments(timeline, onChoose) {
  const items = timeline.segments.map((segment) => {
    const times = `${clock(segment.start_seconds)} – ${clock(segment.end_seconds)}`;
    const doubt = segment.unsure ? [element("span", { className: "tag", textContent: "unsure" })] : [];
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

/** Says how the bands came about. */
export function showHearing({ config, windows }) {
  const [window, hop] = [config.window_seconds, config.hop_seconds].map((seconds) => `${Number(seconds.toFixed(2))} s`);
  const alone = "The model heard it all at once, so the bands do not change.";
  $("hearing").textContent = windows.length > 1 ? `The model hears ${window} at a time, every ${hop}.` : windows.length ? alone : "";
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
  const all = [...FILES.map(([name, title, suffix, type]) => [title, suffix, type, files[name]]), ["Everything", ".json", "application/json", JSON.stringify(rest, null, 1)]];
  addresses = all.map(([, , type, content]) => URL.createObjectURL(new Blob([content], { type })));
  $("downloads").replaceChildren(...all.map(([title, suffix], index) => {
    const link = element("a", { href: addresses[index], download: stem + suffix }, title, element("span", { className: "fine", textContent: suffix }));
    return element("li", {}, link);
  }));
}
