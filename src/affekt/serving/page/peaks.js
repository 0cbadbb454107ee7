// A finer waveform than the server's outline, for recordings that the browser can decode at once.

const MOST_BYTES = 10 * 2 ** 20;
const COLUMNS = 700;
const RATE = 16000;

/** Peaks relative to the loudest; throws where the recording is too large or of a format that the browser cannot read. */
export async function peaks(file) {
  if (file.size > MOST_BYTES) throw new RangeError("too large");
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  const samples = decoded.getChannelData(0);
  const column = Math.max(1, samples.length / COLUMNS);
  const found = Array.from({ length: Math.ceil(samples.length / column) }, (_, index) => loudest(samples, index * column, column));
  const most = Math.max(...found) || 1;
  return found.map((peak) => peak / most);
}

function loudest(samples, start, count) {
  let peak = 0;
  for (let index = Math.floor(start); index < Math.min(start + count, samples.length); index += 1) peak = Math.max(peak, Math.abs(samples[index]));
  return peak;
}
