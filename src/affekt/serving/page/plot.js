// The picture: waveform, probability bands and segments over time, with a playhead that follows.

import { clock, color, element } from "/page/format.js";

const SVG = "http://www.w3.org/2000/svg";
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const ROOM = 0.25; // of the plot's height, for a name in a band
const $ = (id) => document.getElementById(id);

/** @param {object} timeline  the server's answer */
export function draw(timeline) {
  const x = (seconds) => (1000 * seconds) / timeline.duration_seconds;
  drawWave(timeline.envelope.peaks);
  $("bands").replaceChildren(...bandPaths(timeline, x));
  $("names").hidden = $("plot").clientWidth < 500 && timeline.windows.length > 8; // they would cover each other
  $("names").replaceChildren(...timeline.labels.flatMap((label) => bandName(timeline, label)));
  $("strip").replaceChildren(...timeline.segments.map((segment) => stripPart(segment, timeline)));
  drawAxis(timeline.duration_seconds);
}

/** Draws a waveform's outline: peaks, one after the other, over the whole recording. */
export function drawWave(peaks) {
  const points = peaks.map((peak, index) => [(1000 * (index + 0.5)) / peaks.length, 49 * peak + 0.75]);
  const upper = points.map(([at, height]) => `${at.toFixed(1)},${(50 - height).toFixed(1)}`);
  const lower = points.map(([at, height]) => `${at.toFixed(1)},${(50 + height).toFixed(1)}`).reverse();
  const outline = points.length ? `M0,50L${upper.join("L")}L1000,50L${lower.join("L")}Z` : "";
  for (const path of $("wave").querySelectorAll("path")) path.setAttribute("d", outline);
}

/** Redraws the ticks for the width there is. */
export function drawAxis(seconds) {
  const most = Math.max(2, Math.floor($("axis").clientWidth / 72));
  const step = STEPS.find((candidate) => seconds / candidate <= most) ?? seconds;
  const ticks = [];
  for (let tick = 0; tick <= seconds + 1e-9; tick += step) {
    const label = element("span", { textContent: clock(tick, step < 1 ? 1 : 0) });
    label.style.left = `${(100 * tick) / seconds}%`;
    label.classList.toggle("end", tick > 0.96 * seconds);
    ticks.push(label);
  }
  $("axis").replaceChildren(...ticks);
}

/** Moves the playhead. */
export function place(seconds, duration) {
  $("plot").style.setProperty("--position", `${(100 * Math.min(seconds, duration)) / duration}%`);
}

/** One path for each label, over all runs of windows that follow each other. */
function bandPaths(timeline, x) {
  const runs = consecutive(timeline.windows, timeline.config.hop_seconds);
  return timeline.labels.map((label, index) => {
    const path = document.createElementNS(SVG, "path");
    const below = timeline.labels.slice(0, index);
    path.setAttribute("d", runs.map((run) => band(run, label, below, x)).join(""));
    path.style.setProperty("--color", color(timeline.labels, label));
    return path;
  });
}

function band(run, label, below, x) {
  const edge = (labels) => {
    const height = (window) => 100 * (1 - labels.reduce((sum, name) => sum + window.probabilities[name], 0));
    const inner = run.map((window) => [x((window.start_seconds + window.end_seconds) / 2), height(window)]);
    const [first, last] = [run[0], run[run.length - 1]];
    return [[x(first.start_seconds), height(first)], ...inner, [x(last.end_seconds), height(last)]];
  };
  const write = (points) => points.map(([at, height]) => `${at.toFixed(2)},${height.toFixed(2)}`).join("L");
  return `M${write(edge(below))}L${write(edge([...below, label]).reverse())}Z`;
}

/** A label's name, written where its band is highest, if it has room there. */
function bandName(timeline, label) {
  const height = (window) => window.probabilities[label];
  const highest = timeline.windows.reduce((best, window) => (best && height(best) >= height(window) ? best : window), null);
  if (!highest || height(highest) < ROOM) return [];
  const below = timeline.labels.slice(0, timeline.labels.indexOf(label)).reduce((sum, name) => sum + highest.probabilities[name], 0);
  const middle = (highest.start_seconds + highest.end_seconds) / 2 / timeline.duration_seconds;
  const name = element("span", { textContent: label });
  name.style.left = `clamp(2rem, ${100 * middle}%, 100% - 2rem)`;
  name.style.top = `${100 * (1 - below - height(highest) / 2)}%`;
  name.style.setProperty("--text", timeline.labels.indexOf(label) % 8 === 3 ? "var(--on-c3)" : "var(--on-c)");
  return [name];
}

/** Windows that follow each other without a gap; a run ends where the next begins. */
function consecutive(windows, hop) {
  const runs = [];
  windows.forEach((window, index) => {
    const gap = index === 0 || window.start_seconds - windows[index - 1].start_seconds > 1.5 * hop;
    if (gap) runs.push([]);
    runs[runs.length - 1].push(window);
  });
  return runs;
}

function stripPart(segment, timeline) {
  const part = element("i", { className: segment.unsure ? "unsure" : "", color: color(timeline.labels, segment.label) });
  part.style.left = `${(100 * segment.start_seconds) / timeline.duration_seconds}%`;
  part.style.width = `${(100 * (segment.end_seconds - segment.start_seconds)) / timeline.duration_seconds}%`;
  return part;
}
