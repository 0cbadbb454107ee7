// The server, as this page needs it. A token is kept in memory alone.

let token = "";

export const setToken = (value) => { token = value; };

/** Why the server refused: its JSON, or what can be said without. */
export class Problem extends Error {
  constructor(status, { what, got = "", expected = "", remedy = "", also = [] }) {
    super(what);
    Object.assign(this, { status, what, got, expected, remedy, also });
  }
}

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

function problem(status, text) {
  try {
    return new Problem(status, JSON.parse(text));
  } catch {
    return new Problem(status, { what: "server", got: `an answer of status ${status}`, remedy: "try again" });
  }
}

const unreachable = () => new Problem(0, { what: "server", got: "no answer", remedy: "check that it still runs" });

/** The model's card and the server's limits. */
export async function model() {
  const answer = await fetch("/v1/model", { headers: headers() }).catch(() => { throw unreachable(); });
  if (!answer.ok) throw problem(answer.status, await answer.text());
  return answer.json();
}

const INCLUDE = ["envelope", "csv", "textgrid", "audacity", "rttm"].map((name) => `include=${name}`).join("&");

/**
 * Emotion over time in a file. XMLHttpRequest, because fetch does not say how much of an upload is sent.
 * @param {File|Blob} file
 * @param {string} name
 * @param {File[]} baseline  recordings of the same speaker when calm
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress
 */
export function timeline(file, name, baseline, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, name);
    for (const calm of baseline) form.append("baseline", calm, calm.name);
    request.open("POST", `/v1/timeline?${INCLUDE}`);
    for (const [field, value] of Object.entries(headers())) request.setRequestHeader(field, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(problem(request.status, request.responseText));
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** A live stream of float samples at a rate; the caller sends to it and listens. */
export function stream(rate) {
  const address = new URL("/v1/stream", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.search = new URLSearchParams({ rate, encoding: "f32le", hop_seconds: 0.5 });
  const socket = new WebSocket(address, token ? ["affekt", `bearer.${token}`] : ["affekt"]);
  socket.binaryType = "arraybuffer";
  return socket;
}
