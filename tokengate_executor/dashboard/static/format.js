// Values as a person reads them. Whatever is not there is a dash.

const NONE = "–";
const COUNT = new Intl.NumberFormat("en");
const RATE = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(value) {
  return Number.isFinite(value) ? COUNT.format(value) : NONE;
}

/** A bound that is not there is none. */
export function bound(value) {
  return value === undefined ? "any number" : count(value);
}

export function rate(value) {
  if (!Number.isFinite(value)) return NONE;
  return value >= 100 ? COUNT.format(Math.round(value)) : RATE.format(value);
}

/** A share from 0 to 1. Not all is never 100 %, and not none never 0 %. */
export function share(value) {
  if (!Number.isFinite(value)) return NONE;
  const percent = Math.min(100, Math.max(0, value * 100));
  if (percent > 99.9 && percent < 100) return "> 99.9 %";
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent % 1 === 0 ? percent : percent.toFixed(1)} %`;
}

const two = (value) => String(Math.floor(value)).padStart(2, "0");

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const value = Math.max(0, seconds);
  if (value === 0) return "0 s";
  if (value < 0.001) return `${Math.max(1, Math.round(value * 1e6))} µs`;
  if (value < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.floor(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${two(value % 60)} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${two((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${two((value % 86400) / 3600)} h`;
}

/** A duration that is counted up on the page: whole seconds, as others only flicker. */
export function elapsed(seconds) {
  return Number.isFinite(seconds) && seconds < 60
    ? `${Math.max(0, Math.floor(seconds))} s`
    : duration(seconds);
}

export function clock(milliseconds) {
  const at = new Date(milliseconds);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A moment as a clock shows it; with the date unless it is today. */
export function moment(unixSeconds) {
  if (!Number.isFinite(unixSeconds)) return NONE;
  const at = new Date(unixSeconds * 1000);
  const time = clock(at.getTime());
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** A word of the protocol, such as `AT_RISK` or `half_open`, in plain letters. */
export function word(value) {
  return value === undefined ? NONE : String(value).toLowerCase().replaceAll("_", " ");
}

export function text(value) {
  return value === undefined || value === "" ? NONE : String(value);
}
