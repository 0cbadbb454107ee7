// Playback and the position that everything follows. Works without sound where a browser cannot play a format.

import { clock, spoken } from "/page/format.js";
import { place } from "/page/plot.js";

const $ = (id) => document.getElementById(id);
const KEYS = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -5, PageUp: 5 };

export class Player {
  /** @param {(seconds: number) => void} onMove */
  constructor(onMove) {
    this.audio = $("audio");
    this.plot = $("plot");
    this.onMove = onMove;
    this.seconds = 0;
    this.duration = 0;
    this.stopAt = Infinity;
    this.untouched = true;
    this.address = null;
    this.listen();
  }

  open(file, duration) {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = URL.createObjectURL(file);
    this.audio.src = this.address;
    this.duration = duration;
    this.stopAt = Infinity;
    this.untouched = true; // until a position is chosen or something is played
    this.playable(true);
    $("duration").textContent = clock(duration);
    this.plot.setAttribute("aria-valuemax", duration.toFixed(1));
    this.move(0);
  }

  /** Stops and forgets the recording. */
  close() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = null;
  }

  /** Goes to a position; with `until`, plays up to there. */
  seek(seconds, until) {
    const target = Math.max(0, Math.min(seconds, this.duration));
    if (!$("play").disabled) this.audio.currentTime = target;
    this.stopAt = until ?? Infinity;
    this.untouched = false;
    this.move(target);
    if (until !== undefined && !$("play").disabled) this.audio.play();
  }

  toggle() {
    if ($("play").disabled) return;
    if (!this.audio.paused) return this.audio.pause();
    if (this.audio.ended || this.seconds >= this.duration - 0.02) this.seek(0);
    this.stopAt = Infinity;
    this.audio.play();
  }

  move(seconds) {
    this.seconds = seconds;
    place(seconds, this.duration);
    $("time").textContent = clock(seconds);
    $("at").textContent = clock(seconds);
    this.plot.setAttribute("aria-valuenow", seconds.toFixed(1));
    this.onMove(seconds);
    this.plot.setAttribute("aria-valuetext", `${spoken(seconds)}, ${$("now").textContent}`);
  }

  listen() {
    this.audio.addEventListener("error", () => this.address && this.playable(false));
    for (const event of ["play", "pause", "ended"]) this.audio.addEventListener(event, () => this.showState());
    $("play").addEventListener("click", () => this.toggle());
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.plot.addEventListener("pointerdown", (event) => this.onPointer(event));
    this.plot.addEventListener("pointermove", (event) => event.buttons && this.onPointer(event));
  }

  playable(can) {
    $("play").disabled = !can;
    $("unplayable").hidden = can;
    this.showState();
  }

  showState() {
    const playing = !this.audio.paused && !this.audio.ended;
    $("play").classList.toggle("playing", playing);
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    if (playing) this.follow();
  }

  follow() {
    if (this.audio.paused) return;
    this.untouched = false;
    if (this.audio.currentTime >= this.stopAt) this.audio.pause();
    this.move(Math.min(this.audio.currentTime, this.duration));
    requestAnimationFrame(() => this.follow());
  }

  onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " ") this.toggle();
    else if (event.key in KEYS) this.seek(this.seconds + KEYS[event.key]);
    else if (event.key === "Home") this.seek(0);
    else if (event.key === "End") this.seek(this.duration);
    else return;
    event.preventDefault();
  }

  onPointer(event) {
    if (event.type === "pointerdown") this.plot.setPointerCapture(event.pointerId);
    const { left, width } = this.plot.getBoundingClientRect();
    this.seek((this.duration * (event.clientX - left)) / width);
  }
}
