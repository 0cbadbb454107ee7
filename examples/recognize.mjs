// Emotion of a 16 kHz, 16-bit mono wav without affekt: node recognize.mjs model.onnx a.wav
// Needs `npm install onnxruntime-web`; in a browser, fetch() takes the place of readFileSync().
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [modelPath, wavPath] = process.argv.slice(2);
const model = readFileSync(modelPath);
const session = await ort.InferenceSession.create(model);
const text = model.toString("latin1"); // the model card is JSON inside the file
const labels = JSON.parse(text.match(/"labels": (\[[^\]]*\])/)[1]);

const wav = readFileSync(wavPath);
const data = wav.indexOf("data") + 8; // samples follow the "data" chunk's name and size
const count = Math.min(wav.readUInt32LE(data - 4), wav.length - data) >> 1;
const waveform = Float32Array.from({ length: count }, (_, i) => wav.readInt16LE(data + 2 * i) / 32768);
const { probabilities } = await session.run({
  waveform: new ort.Tensor("float32", waveform, [1, count]),
  samples: new ort.Tensor("int64", [BigInt(count)], [1]),
});
const best = probabilities.data.indexOf(Math.max(...probabilities.data));
console.log(wavPath, labels[best], ...Array.from(probabilities.data, (p) => p.toFixed(3)));
