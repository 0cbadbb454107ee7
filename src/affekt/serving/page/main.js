// The page: recordings are chosen or made, sent to the server, and their answers shown.

import * as api from "/page/api.js";
import { showCard } from "/page/card.js";
import { toWav } from "/page/convert.js";
import { Files } from "/page/files.js";
import { clock, percent } from "/page/format.js";
import { draw, drawAxis, drawWave } from "/page/plot.js";
import { peaks } from "/page/peaks.js";
import { Player } from "/page/player.js";
import { Recorder } from "/page/recorder.js";
import { markSegment, showDownloads, showHearing, showMoment, showOverall, showSegments, showVerdict } from "/page/result.js";

const $ = (id) => document.getElementById(id);

let facts = null; // the model's card and the server's limits
let timeline = null;
let pending = null; // an AbortController while recordings are on their way
let recorder = null;
let baseline = []; // recordings of the speaker when calm; they stay until removed
const MOST_BASELINES = 3;
let afterToken = null; // called once the server has its token

const player = new Player((seconds) => {
  if (!timeline) return;
  $("shares").closest("table").classList.toggle("untouched", player.untouched);
  if (player.untouched) return showOverall(timeline);
  const index = timeline.segments.findIndex((segment) => segment.start_seconds <= seconds && seconds < segment.end_seconds);
  showMoment(timeline, nearestWindow(seconds), timeline.segments[index]);
  markSegment(index);
});

function nearestWindow(seconds) {
  const distance = (window) => Math.abs((window.start_seconds + window.end_seconds) / 2 - seconds);
  return timeline.windows.reduce((best, window) => (best && distance(best) <= distance(window) ? best : window), null);
}

async function loadFacts() {
  facts = await api.model();
  showCard(facts);
  $("baseline").hidden = !facts.card.adaptation?.baseline;
}

const files = new Files((item) => {
  clearProblem();
  show(item.answer, item.file);
  files.mark(item);
});

/** Sends recordings one after the other and shows the first answer; the others wait in the list. */
async function recognize(chosen) {
  pending?.abort();
  const mine = new AbortController();
  pending = mine;
  clearProblem();
  clearResult();
  const items = files.begin(chosen);
  let shown = false;
  for (const item of items) {
    if (mine.signal.aborted) break;
    item.state = "in progress";
    files.update(item);
    try {
      item.answer = await send(item, items.length, mine.signal);
      item.state = "done";
      if (!shown) {
        show(item.answer, item.file);
        files.mark(item);
      }
      shown = true;
    } catch (error) {
      const refused = error.status === 401;
      if (error.name === "AbortError") break;
      item.state = "failed";
      item.error = describe(error);
      if (items.length === 1 || refused) showProblem(error, () => recognize(chosen));
      if (refused) break;
    } finally {
      files.update(item);
    }
  }
  if (pending === mine) {
    pending = null;
    $("work").hidden = true;
  }
}

/** The server's answer to one recording. */
async function send(item, count, signal) {
  const which = count > 1 ? `${item.name}: ` : "";
  showWork(`${which}Sending`);
  if (!facts) await loadFacts();
  const ask = async (file) => {
    if (file.size > facts.limits.body_bytes) throw tooLarge(file);
    return api.timeline(file, item.name, baseline, signal, (share) => showWork(`${which}${share < 1 ? "Sending" : "Analyzing"}`, share));
  };
  try {
    return await ask(item.file);
  } catch (error) {
    if (error.status !== 422 || !error.remedy?.includes("containers")) throw error;
    const decoded = await toWav(item.file).catch(() => { throw error; }); // a format that the server lacks a decoder for
    return ask(decoded);
  }
}

function show(answer, file) {
  timeline = answer;
  $("result").hidden = false;
  showVerdict(answer, facts.card.unsure_below);
  showSegments(answer, (segment) => player.seek(segment.start_seconds, segment.end_seconds));
  showDownloads(answer);
  showHearing(answer);
  draw(answer);
  player.open(file, answer.duration_seconds);
  peaks(file).then((fine) => timeline === answer && drawWave(fine), () => {}); // else the server's outline stays
  $("headline").focus({ preventScroll: true });
  requestAnimationFrame(() => $("result").scrollIntoView({ block: "start" })); // once the progress bar is gone
}

/** Removes the last answer: a new recording must never stand beside the answer to another one. */
function clearResult() {
  timeline = null;
  player.close();
  $("result").hidden = true;
}

function tooLarge(file) {
  const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  const remedy = "choose a shorter or a compressed recording";
  return new api.Problem(413, { what: file.name ?? "recording", got: mebibytes(file.size), expected: `at most ${mebibytes(facts.limits.body_bytes)}`, remedy });
}

function showWork(doing, share) {
  $("work").hidden = false;
  if ($("status").textContent !== `${doing}…`) $("status").textContent = `${doing}…`;
  if (doing.endsWith("Sending") && share !== undefined) $("progress").value = share;
  else $("progress").removeAttribute("value");
}

/** Shows an error and its remedy; if the server needs a token, asks for it and then calls `again`. */
function showProblem(error, again) {
  if (error.status === 401) {
    $("token-form").hidden = false;
    $("token").focus();
    afterToken = again;
  }
  const parts = error instanceof api.Problem ? [error, ...error.also] : [{ what: "this page", got: error.message }];
  $("problem").replaceChildren(...parts.flatMap(sentence));
  $("problem").hidden = false;
}

/** An error on one line. */
function describe(error) {
  if (!(error instanceof api.Problem)) return error.message;
  return [error.got && `got ${error.got}`, error.expected && `expected ${error.expected}`, error.remedy].filter(Boolean).join("; ");
}

function sentence({ what, got, expected, remedy }) {
  const strong = document.createElement("strong");
  strong.textContent = `${what}: `;
  const words = [got && `got ${got}`, expected && `expected ${expected}`].filter(Boolean).join(", ");
  return [strong, `${words}${remedy ? `; ${remedy}` : ""}. `];
}

function clearProblem() {
  $("problem").hidden = true;
  $("problem").replaceChildren();
}

async function startRecording() {
  clearProblem();
  const live = openLive();
  recorder = new Recorder(live.onSamples);
  try {
    await recorder.start();
  } catch (error) {
    recorder = null;
    return showProblem(microphoneProblem(error));
  }
  live.start(recorder.rate);
  recorder.live = live;
  document.body.classList.add("recording");
  $("record").querySelector("span").textContent = "Stop and analyze";
  $("live").hidden = false;
}

async function stopRecording() {
  const done = recorder;
  recorder = null;
  done.live.stop();
  $("live").hidden = true;
  document.body.classList.remove("recording");
  $("record").querySelector("span").textContent = "Record";
  recognize([new File([await done.stop()], "recording.wav", { type: "audio/wav" })]);
}

function microphoneProblem(error) {
  const remedies = {
    NotAllowedError: "allow this page to use it, in the browser's address bar",
    NotFoundError: "plug one in, or choose a recording",
  };
  const remedy = error.message === "insecure" ? "open this page by https or on the machine itself" : remedies[error.name] ?? "choose a recording instead";
  return new api.Problem(0, { what: "microphone", got: "no access", remedy });
}

/** Shown during a recording: time, level, and the server's answer to the last seconds. */
function openLive() {
  let socket = null;
  let samples = 0;
  let rate = 1;
  let waiting = [];
  let loudest = 0;
  const send = () => {
    if (socket?.readyState === WebSocket.OPEN) waiting.splice(0).forEach((chunk) => socket.send(chunk));
  };
  const onSamples = (chunk) => {
    samples += chunk.length;
    loudest = Math.max(0.7 * loudest, ...chunk.map(Math.abs));
    $("live-time").textContent = clock(samples / rate, 0);
    $("live-level").style.width = `${100 * Math.min(1, Math.sqrt(loudest))}%`;
    waiting.push(chunk.slice());
    send();
    if (waiting.length > 100) waiting = []; // without a live connection; the recording itself is complete
    if (samples > facts?.limits.timeline_seconds * rate - rate) stopRecording();
  };
  const start = (hertz) => {
    rate = hertz;
    $("live-label").textContent = "listening";
    socket = api.stream(hertz);
    socket.onmessage = ({ data }) => {
      const said = JSON.parse(data);
      if (said.label) $("live-label").textContent = said.label === "no speech" ? "…" : said.unsure ? `unsure (${said.label} ${percent(said.confidence)})` : `${said.label} ${percent(said.confidence)}`;
    };
  };
  return { onSamples, start, stop: () => socket?.close() };
}

function take(chosen) {
  if (chosen.length) recognize(chosen);
}

/** Keeps recordings of the speaker when calm; they go along with every recording from now on. */
function takeBaseline(chosen) {
  baseline = chosen.slice(0, MOST_BASELINES);
  $("baseline-names").textContent = baseline.map(({ name }) => name).join(", ");
  $("baseline-names").hidden = $("baseline-clear").hidden = !baseline.length;
}

/** Fetches one of the computed voices and sends it like a file of the user's. */
async function tryExample(name) {
  const answer = await fetch(`/page/${name}`).catch(() => null);
  if (!answer?.ok) return showProblem(new api.Problem(answer?.status ?? 0, { what: "example", got: "no answer", remedy: "check that the server is running" }));
  take([new File([await answer.blob()], name, { type: "audio/flac" })]);
}

function listen() {
  $("file").addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  $("baseline-file").addEventListener("change", (event) => {
    takeBaseline([...event.target.files]);
    event.target.value = "";
  });
  $("baseline-clear").addEventListener("click", () => takeBaseline([]));
  for (const button of document.querySelectorAll("[data-example]")) button.addEventListener("click", () => tryExample(button.dataset.example));
  $("record").addEventListener("click", () => (recorder ? stopRecording() : startRecording()));
  $("cancel").addEventListener("click", () => pending?.abort());
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.setToken($("token").value.trim());
    $("token-form").hidden = true;
    clearProblem();
    afterToken?.();
  });
  $("segments").addEventListener("keydown", walkSegments);
  $("result").addEventListener("keydown", (event) => {
    const own = event.target.closest("button, a, summary, #plot");
    if (event.key === " " && !own) {
      event.preventDefault();
      player.toggle();
    }
  });
  new ResizeObserver(() => timeline && drawAxis(timeline.duration_seconds)).observe($("axis"));
  listenToDrops();
  listenToTheme();
}

/** Arrow keys up and down move through the segments. */
function walkSegments(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && document.activeElement.closest("li")?.[step];
  if (!next) return;
  event.preventDefault();
  next.firstChild.focus();
}

/** Recordings may be dropped anywhere on the page. */
function listenToDrops() {
  const mark = (over) => $("drop").classList.toggle("over", over);
  addEventListener("dragover", (event) => { event.preventDefault(); mark(true); });
  addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take([...event.dataTransfer.files]);
  });
}

function listenToTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    $("theme").setAttribute("aria-pressed", (theme ?? (dark.matches ? "dark" : "light")) === "dark");
  };
  apply(localStorage.getItem("theme"));
  $("theme").addEventListener("click", () => {
    const theme = $("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
    localStorage.setItem("theme", theme);
    apply(theme);
  });
}

/** Asks for the model's card, again once there is a token. */
function begin() {
  loadFacts().catch((error) => showProblem(error, begin));
}

listen();
begin();
