// The model card in words, and the accuracy that belongs beside every answer.

import { element, percent, size } from "/page/format.js";

const $ = (id) => document.getElementById(id);
let address = null; // of the full card

/** Fills the section on the model and the hint on limits. */
export function showCard({ model, card, limits }) {
  $("card").replaceChildren(...pairs(facts(model, card)));
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(new Blob([JSON.stringify(card, null, 1)], { type: "application/json" }));
  $("card-file").href = address;
  $("card-file").hidden = false;
  const longest = limits.timeline_seconds >= 120 ? `${Math.round(limits.timeline_seconds / 60)} minutes` : `${limits.timeline_seconds} s`;
  $("limits").textContent = `(audio or video files; up to ${size(limits.body_bytes)} and ${longest} each)`;
  $("accuracy").textContent = accuracy(card);
}

/** The facts of a card by name; those that it does not state are left out. */
function facts(model, card) {
  const { provenance = {}, measures = {} } = card;
  const unsure = `below a confidence of ${percent(card.unsure_below)}`;
  const known = measures.within?.conditions?.["as recorded"];
  const all = {
    "Emotions": card.labels.join(", "),
    "Training data": trainedOn(provenance),
    "Accuracy, unseen corpora": perCorpus(card),
    "Accuracy, unseen speakers": typeof known?.ua === "number" ? `${percent(known.ua)} (${known.speakers} speakers of the training corpora)` : "",
    "Unsure": card.outlier_above == null ? unsure : `${unsure}, or where the voice is unlike the training speech`,
    "Input": `${card.sample_rate_hz / 1000} kHz mono; up to ${card.clip_seconds} s at once, longer recordings in windows`,
    "License of the weights": card.license,
    "Sources": provenance.attribution,
    "Version": model ?? card.version,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value));
}

function trainedOn({ corpora, training, training_utterances: utterances }) {
  const counted = Object.entries(training ?? {}).filter(([, count]) => typeof count === "number");
  if (counted.length) return counted.map(([name, count]) => `${name} (${count.toLocaleString("en")} utterances)`).join(", ");
  if (!corpora) return "";
  const names = (Array.isArray(corpora) ? corpora : String(corpora).split("+")).join(", ");
  return utterances ? `${names} (${utterances.toLocaleString("en")} utterances)` : names;
}

/** Unweighted accuracy on each corpus that trained nothing, as [name, share] pairs; empty where the card states none. */
export function unseen({ measures = {} }) {
  const group = measures.unseen ?? measures.across ?? {};
  return Object.entries(group.corpora ?? group).map(([name, row]) => [name, row?.ua]).filter(([, ua]) => typeof ua === "number");
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function perCorpus(card) {
  return unseen(card).map(([name, ua]) => `${name} ${percent(ua)}`).join(", ");
}

/** What a reader must know beside an answer: how often the model is right on recordings of other origin. */
export function accuracy(card) {
  const shares = unseen(card).map(([, ua]) => ua);
  const chance = percent(1 / card.labels.length);
  if (!shares.length) return "The model card states no accuracy on unseen corpora.";
  const where = shares.length === 1 ? "a corpus that it was not trained on" : `${shares.length} corpora that it was not trained on`;
  const range = shares.length === 1 ? "" : `${percent(Math.min(...shares))} to ${percent(Math.max(...shares))}; `;
  return `Accuracy of this model: on ${where} it recognizes ${percent(mean(shares))} of ${card.labels.length} emotions (${range}guessing: ${chance}).${sureAnswers(card)}`;
}

/** How often answers that are not marked unsure are right on those corpora, where the card states it. */
function sureAnswers({ measures = {} }) {
  const { sure_right: right, coverage } = measures.unseen_mean ?? {};
  if (typeof right !== "number") return "";
  const share = typeof coverage === "number" ? ` (${percent(coverage)} of all)` : "";
  return ` Of the answers that are not marked unsure${share}, ${percent(right)} are right.`;
}

function pairs(values) {
  return Object.entries(values).flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]);
}
