// What happens on the page: a recording comes in, is sent, and its answer is shown.

import * as api from "/page/api.js";
import { showCard } from "/page/card.js";
import { clock, percent } from "/page/format.js";
import { draw, drawAxis, drawWave } from "/page/plot.js";
import { peaks } from "/page/peaks.js";
import { Player } from "/page/player.js";
import { Recorder } from "/page/recorder.js";
import { markSegment, showDownloads, showHearing, showMoment, showSegments, showVerdict } from "/page/result.js";

const $ = (id) => document.getElementById(id);

let facts = null; // the model's card and the server's limits
let timeline = null;
let pending = null; // an AbortController while a recording is on its way
let recorder = null;
let afterToken = null; // what to do once the server has its token

const player = new Player((seconds) => {
  if (!timeline) return;
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
}

/** Sends a recording and shows what comes back. */
async function recognize(file, name) {
  pending?.abort();
  const mine = new AbortController();
  pending = mine;
  clearProblem();
  showWork("Sending");
  try {
    if (!facts) await loadFacts();
    if (file.size > facts.limits.body_bytes) throw tooLarge(file);
    const answer = await api.timeline(file, name, mine.signal, (share) => showWork(share < 1 ? "Sending" : "Listening", share));
    show(answer, file);
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error, () => recognize(file, name));
  } finally {
    if (pending === mine) {
      pending = null;
      $("work").hidden = true;
    }
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
  $("result").scrollIntoView({ block: "start" });
}

function tooLarge(file) {
  const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  const remedy = "choose a shorter or a compressed recording";
  return new api.Problem(413, { what: file.name ?? "recording", got: mebibytes(file.size), expected: `at most ${mebibytes(facts.limits.body_bytes)}`, remedy });
}

function showWork(doing, share) {
  $("work").hidden = false;
  if ($("status").textContent !== `${doing}…`) $("status").textContent = `${doing}…`;
  if (doing === "Sending" && share !== undefined) $("progress").value = share;
  else $("progress").removeAttribute("value");
}

/** Says what is wrong and what to do; a server that wants a token is given one, and then `again` is called. */
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
  $("record").querySelector("span").textContent = "Stop and listen";
  $("live").hidden = false;
}

async function stopRecording() {
  const done = recorder;
  recorder = null;
  done.live.stop();
  $("live").hidden = true;
  document.body.classList.remove("recording");
  $("record").querySelector("span").textContent = "Record";
  const file = await done.stop();
  recognize(file, "recording.wav");
}

function microphoneProblem(error) {
  const remedies = {
    NotAllowedError: "allow this page to use it, in the browser's address bar",
    NotFoundError: "plug one in, or choose a recording",
  };
  const remedy = error.message === "insecure" ? "open this page by https or on the machine itself" : remedies[error.name] ?? "choose a recording instead";
  return new api.Problem(0, { what: "microphone", got: "no access", remedy });
}

/** What is shown while somebody speaks: time, loudness, and the server's answer to the last seconds. */
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
    if (waiting.length > 100) waiting = []; // a server that does not listen live: the recording is complete all the same
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

function take(files) {
  if (files.length) recognize(files[0], files[0].name);
}

function listen() {
  $("file").addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = ""; // so that the same file can be chosen again
  });
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

/** Up and down walk through the segments. */
function walkSegments(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && document.activeElement.closest("li")?.[step];
  if (!next) return;
  event.preventDefault();
  next.firstChild.focus();
}

/** A recording may be dropped anywhere on the page. */
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
