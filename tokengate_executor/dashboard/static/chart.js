// The throughput chart: what was completed, and what failed, per second over the last two minutes.

import { count, rate } from "./format.js";
import { describe, element, show } from "./dom.js";

const SECONDS = 120;
const HEIGHT = 100;
const SOON_SECONDS = 3;
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** The next round number: 1, 2, 2.5 or 5 times a power of ten. */
function roundUp(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** How many were done by a second that lies between two samples; `null` if it does not. */
function between(before, after, second) {
  if (!before || !after || before.run !== after.run) return null;
  if (before.at > second || after.at < second) return null;
  const share = after.at === before.at ? 1 : (second - before.at) / (after.at - before.at);
  return {
    run: before.run,
    done: before.done + (after.done - before.done) * share,
    failed: before.failed + (after.failed - before.failed) * share,
  };
}

function difference(before, after) {
  if (before === null || after === null || before.run !== after.run) return null;
  return {
    done: Math.max(0, after.done - before.done),
    failed: Math.max(0, after.failed - before.failed),
  };
}

export class Chart {
  #area;
  #readout;
  #lines = {};
  #cursor = element("span", "chart-cursor");
  #scale = [1, 0.5, 0].map((share) => ({ share, label: element("span", "chart-scale") }));
  /** Samples: how many were done by a moment, in seconds. Between two runs nothing is known. */
  #points = [];
  #run = 0;
  #rates = [];
  #pointedAt = null;

  constructor(area, readout) {
    this.#area = area;
    this.#readout = readout;
    const drawing = svg("svg", {
      viewBox: `0 0 ${SECONDS - 1} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    for (const { share } of this.#scale) {
      const y = HEIGHT * (1 - share);
      drawing.append(svg("line", { class: "grid", x1: 0, x2: SECONDS - 1, y1: y, y2: y }));
    }
    for (const name of ["fill", "done", "failed"]) {
      this.#lines[name] = svg("path", { class: name, d: "" });
      drawing.append(this.#lines[name]);
    }
    const times = element("span", "chart-times");
    for (const text of ["2 min ago", "1 min ago", "now"]) times.append(element("span", "", text));
    this.#cursor.hidden = true;
    area.append(drawing, ...this.#scale.map(({ label }) => label), times, this.#cursor);
    for (const { share, label } of this.#scale) label.style.top = `${(1 - share) * 100}%`;
    area.addEventListener("pointermove", (event) => this.#pointAt(event));
    area.addEventListener("pointerleave", () => this.#pointAt(null));
  }

  /** Nothing that was seen before belongs to this executor. */
  clear() {
    this.#points = [];
  }

  /** From here to the next sample nothing is known. */
  interrupt() {
    this.#run += 1;
  }

  /** Note how many were done at a moment, in seconds. */
  sample(at, done, failed) {
    const points = this.#points;
    // What was taken to be so for want of news is corrected by news that comes soon.
    if (points.at(-1)?.isHeld && at - points.at(-2).at < SOON_SECONDS) points.pop();
    points.push({ at, done, failed, run: this.#run, isHeld: false });
    // One that is older begins the first second.
    const first = points.findIndex((point) => point.at >= at - SECONDS - 2);
    if (first > 1) points.splice(0, first - 1);
  }

  /** There is no news: nothing was done since the last sample. */
  hold(at) {
    const last = this.#points.at(-1);
    if (last === undefined || last.run !== this.#run || at <= last.at) return;
    if (last.isHeld) last.at = at;
    else this.#points.push({ ...last, at, isHeld: true });
  }

  /** Draw the seconds up to a moment; returns the last one's rate, `NaN` if it is not known. */
  draw(now) {
    const end = Math.floor(now);
    this.#rates = this.#ratesUntil(end);
    const known = this.#rates.filter((one) => one !== null);
    const top = roundUp(Math.max(0, ...known.map((one) => Math.max(one.done, one.failed))));
    for (const { share, label } of this.#scale) show(label, share === 0 ? "0" : rate(top * share));
    this.#lines.fill.setAttribute("d", this.#path("done", top, true));
    this.#lines.done.setAttribute("d", this.#path("done", top, false));
    const hasFailed = known.some((one) => one.failed > 0);
    this.#lines.failed.setAttribute("d", hasFailed ? this.#path("failed", top, false) : "");
    const last = this.#rates.at(-1)?.done ?? Number.NaN;
    if (end % 10 === 0 || !this.#area.hasAttribute("aria-label")) this.#describe(known, last);
    this.#showReadout(known);
    return last;
  }

  #describe(known, last) {
    const highest = Math.max(0, ...known.map((one) => one.done));
    const mean = known.reduce((sum, one) => sum + one.done, 0) / Math.max(1, known.length);
    describe(
      this.#area,
      `Completed per second over the last two minutes: ${rate(last)} now, ` +
        `${rate(mean)} on average, ${rate(highest)} at most`,
    );
  }

  /** The rate in each whole second; between two samples the work is taken to be even. */
  #ratesUntil(end) {
    const points = this.#points;
    const rates = [];
    let index = 0;
    let before = null;
    for (let second = end - SECONDS; second <= end; second += 1) {
      while (index + 2 < points.length && points[index + 1].at < second) index += 1;
      const mark = between(points[index], points[index + 1], second);
      if (second > end - SECONDS) rates.push(difference(before, mark));
      before = mark;
    }
    return rates;
  }

  #path(name, top, isClosed) {
    let path = "";
    let start = null;
    const close = (x) => {
      if (isClosed && start !== null) path += `L${x} ${HEIGHT}L${start} ${HEIGHT}Z`;
      start = null;
    };
    this.#rates.forEach((one, x) => {
      if (one === null) {
        close(x - 1);
        return;
      }
      const y = (HEIGHT * (1 - one[name] / top)).toFixed(2);
      path += start === null ? `M${x} ${y}` : `L${x} ${y}`;
      start ??= x;
    });
    close(this.#rates.length - 1);
    return path;
  }

  #pointAt(event) {
    if (event === null) {
      this.#pointedAt = null;
    } else {
      const box = this.#area.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      this.#pointedAt = Math.round(share * (SECONDS - 1));
      this.#cursor.style.left = `${(this.#pointedAt / (SECONDS - 1)) * 100}%`;
    }
    this.#cursor.hidden = this.#pointedAt === null;
    this.#showReadout(this.#rates.filter((one) => one !== null));
  }

  #showReadout(known) {
    if (this.#pointedAt === null) {
      const highest = known.reduce((most, one) => Math.max(most, one.done), 0);
      show(this.#readout, known.length > 0 ? `at most ${rate(highest)} in a second` : "");
      return;
    }
    const one = this.#rates[this.#pointedAt];
    const ago = SECONDS - 1 - this.#pointedAt;
    const when = ago === 0 ? "now" : `${count(ago)} s ago`;
    show(
      this.#readout,
      one ? `${when}: ${rate(one.done)} completed, ${rate(one.failed)} failed` : `${when}: unknown`,
    );
  }
}
