// An audio worklet: hands the microphone's samples to the page, some at a time.

const CHUNK = 4096;

class Tap extends AudioWorkletProcessor {
  mono = new Float32Array(CHUNK);
  filled = 0;

  process([input]) {
    for (let index = 0; index < (input[0]?.length ?? 0); index += 1) {
      this.mono[this.filled] = input.reduce((sum, channel) => sum + channel[index], 0) / input.length;
      this.filled += 1;
      if (this.filled === CHUNK) this.hand();
    }
    return true;
  }

  hand() {
    this.port.postMessage(this.mono, [this.mono.buffer]);
    this.mono = new Float32Array(CHUNK);
    this.filled = 0;
  }
}

registerProcessor("tap", Tap);
