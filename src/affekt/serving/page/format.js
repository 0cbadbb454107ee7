// Numbers and names as people read them.

/** Seconds as a clock: 75.34 -> "1:15.3". */
export function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const rounded = Math.round(Math.max(0, seconds) * unit) / unit;
  const minutes = Math.floor(rounded / 60) % 60;
  const hours = Math.floor(rounded / 3600);
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** A clock as a screen reader says it. */
export function spoken(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = `${(seconds % 60).toFixed(1)} seconds`;
  return minutes ? `${minutes} ${minutes === 1 ? "minute" : "minutes"} ${rest}` : rest;
}

export const percent = (probability) => `${Math.round(100 * probability)} %`;

export const length = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : `${clock(seconds, 0)} min`);

export function size(bytes) {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KB` : `${Math.round(bytes / 2 ** 20)} MB`;
}

/** The color of a label: a variable of the style sheet, by the label's place. */
export const color = (labels, label) => `var(--c${labels.indexOf(label) % 8})`;

/** An element with properties, children and a color. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { color: paint, ...rest } = properties;
  Object.assign(made, rest);
  if (paint) made.style.setProperty("--color", paint);
  made.append(...children);
  return made;
}

export const swatch = (paint) => element("span", { className: "swatch", color: paint });
