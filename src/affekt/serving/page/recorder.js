// The microphone: samples as they come, and a WAV file at the end. Nothing is compressed on the way.

/** 16-bit mono WAV of float samples. */
export function wav(chunks, rate) {
  const count = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (offset, word) => [...word].forEach((letter, index) => view.setUint8(offset + index, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * count, true);
  let offset = 44;
  for (const chunk of chunks) {
    for (const value of chunk) {
      view.setInt16(offset, Math.max(-32768, Math.min(32767, Math.round(32768 * value))), true);
      offset += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

export class Recorder {
  /** @param {(samples: Float32Array) => void} onSamples */
  constructor(onSamples) {
    this.onSamples = onSamples;
    this.chunks = [];
  }

  get rate() { return this.context.sampleRate; }

  /** Asks for the microphone, without the processing that calls use: it would change the voice. */
  async start() {
    if (!navigator.mediaDevices) throw new Error("insecure");
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...raw } });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/tap.js");
    const tap = new AudioWorkletNode(this.context, "tap", { numberOfOutputs: 0 });
    tap.port.onmessage = ({ data }) => {
      this.chunks.push(data);
      this.onSamples(data);
    };
    this.context.createMediaStreamSource(this.media).connect(tap);
  }

  /** Lets go of the microphone and gives the recording. */
  async stop() {
    this.media.getTracks().forEach((track) => track.stop());
    const { rate } = this;
    await this.context.close();
    return wav(this.chunks, rate);
  }
}
