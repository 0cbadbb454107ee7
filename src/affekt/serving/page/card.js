// The model's card: the main facts in plain words, and all of it for who wants it.

import { element, size } from "/page/format.js";

const $ = (id) => document.getElementById(id);

export function showCard({ card, limits }) {
  const facts = {
    "Answers": card.labels.join(", "),
    "Hears": `speech; up to ${card.clip_seconds} s at a time, longer recordings in windows`,
    "Unsure below": `${Math.round(100 * card.unsure_below)} %`,
    "License of the weights": card.license,
    "Written by": `affekt ${card.version}, ${card.precision}`,
  };
  $("card").replaceChildren(...pairs(facts));
  const { provenance, measures, features, normalizer, ...rest } = card;
  $("card-all").replaceChildren(list({ provenance, measures, ...rest, features }));
  const longest = limits.timeline_seconds >= 120 ? `${Math.round(limits.timeline_seconds / 60)} minutes` : `${limits.timeline_seconds} s`;
  $("limits").textContent = `(wav, flac, mp3, ogg, opus, aiff; up to ${size(limits.body_bytes)} and ${longest})`;
}

const list = (values) => element("dl", { className: "card" }, ...pairs(values));

function pairs(values) {
  return Object.entries(values).flatMap(([name, value]) => {
    const nested = value !== null && typeof value === "object" && !Array.isArray(value);
    if (nested && !Object.keys(value).length) return [];
    return [element("dt", { textContent: name.replaceAll("_", " ") }), nested ? element("dd", { className: "card" }, list(value)) : element("dd", { textContent: text(value) })];
  });
}

function text(value) {
  if (Array.isArray(value)) return value.map(text).join(", ");
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}
