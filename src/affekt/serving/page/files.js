// Several recordings: a row for each, with its answer; a click shows it below.

import { color, element, percent, swatch } from "/page/format.js";

const $ = (id) => document.getElementById(id);
const COLUMNS = ["source", "label", "confidence", "unsure", "reason", "duration_seconds", "error"];

export class Files {
  /** @param {(item: {file: File, name: string, answer: object}) => void} onChoose */
  constructor(onChoose) {
    this.items = [];
    this.onChoose = onChoose;
  }

  /** Begins a new list; one file needs none. */
  begin(files) {
    this.items = files.map((file) => ({ file, name: file.name, state: "waiting" }));
    $("files").hidden = files.length < 2;
    $("files-rows").replaceChildren(...this.items.map((item) => this.row(item)));
    this.offerTable();
    return this.items;
  }

  /** Shows the new state of one file. */
  update(item) {
    const place = this.items.indexOf(item);
    if (place < 0) return;
    $("files-rows").rows[place].replaceWith(this.row(item));
    const done = this.items.filter(({ state }) => state === "done" || state === "failed").length;
    $("files-title").textContent = `Files (${done} of ${this.items.length})`;
    this.offerTable();
  }

  mark(item) {
    [...$("files-rows").rows].forEach((row, place) => row.setAttribute("aria-current", this.items[place] === item));
  }

  row(item) {
    const { answer, state } = item;
    const name = answer ? element("button", { type: "button", className: "link", textContent: item.name }) : element("span", { textContent: item.name });
    if (answer) name.addEventListener("click", () => this.onChoose(item));
    const { label, confidence, reason } = answer?.overall ?? {};
    const spoken = answer && label !== "no speech";
    const emotion = spoken ? element("span", { className: "named" }, swatch(color(answer.labels, label)), label) : label ?? "–";
    const note = item.error ?? (answer ? (spoken && reason ? `unsure: ${reason}` : "") : state);
    return element("tr", {},
      element("th", { scope: "row" }, name), element("td", {}, emotion),
      element("td", { textContent: spoken ? percent(confidence) : "–" }), element("td", { textContent: note }));
  }

  /** The table of all answers as a file. */
  offerTable() {
    if (this.address) URL.revokeObjectURL(this.address);
    const rows = this.items.map(({ name, answer, error }) => {
      const values = { ...answer?.overall, source: name, duration_seconds: answer?.duration_seconds, error };
      return COLUMNS.map((column) => cell(values[column])).join(",");
    });
    this.address = URL.createObjectURL(new Blob([[COLUMNS.join(","), ...rows, ""].join("\n")], { type: "text/csv" }));
    $("files-table").href = this.address;
  }
}

/** A value of a CSV file: quoted where it must be; no spreadsheet takes it for a formula. */
function cell(value) {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
