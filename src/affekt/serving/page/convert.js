// Formats that the server cannot decode but this browser can: decoded here and sent as WAV.

import { wav } from "/page/recorder.js";

const RATE = 48000;

/** A mono WAV of a media file; throws where this browser cannot decode it either. */
export async function toWav(file) {
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
  const mono = channels[0].map((_, at) => channels.reduce((sum, samples) => sum + samples[at], 0) / channels.length);
  return wav([mono], RATE);
}
