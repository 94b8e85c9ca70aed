// The panels for the executor as a whole: system, token pool, and the state in the head of the page.

import { bound, clock, count, duration, elapsed, rate, text, word } from "./format.js";
import { Stack, mark, show } from "./dom.js";
import { ask, setPossible } from "./controls.js";
import { Chart } from "./chart.js";

const byId = (id) => document.getElementById(id);

const FORMATS = { count, duration, bound, text };

/** Elements that say by `data-show="section.key"` which value they show, and how by `data-as`. */
export class Shown {
  #bySection = new Map();

  constructor(root) {
    for (const node of root.querySelectorAll("[data-show]")) {
      const [section, key] = node.dataset.show.split(".");
      const format = FORMATS[node.dataset.as ?? "text"];
      if (!this.#bySection.has(section)) this.#bySection.set(section, []);
      this.#bySection.get(section).push({ node, key, format });
    }
  }

  get sections() {
    return [...this.#bySection.keys()];
  }

  render(data, touched) {
    for (const section of touched.keys()) {
      for (const { node, key, format } of this.#bySection.get(section) ?? []) {
        show(node, format(data[section]?.[key]));
      }
    }
  }
}

const NOW = [
  ["waiting", "waiting"],
  ["executing", "executing"],
  ["retrying", "retrying"],
  ["quarantined", "quarantined"],
];
const SETTLED = [
  ["completed", "completed"],
  ["failed", "failed"],
  ["timed-out", "timed out"],
  ["cancelled", "cancelled"],
  ["rejected", "rejected"],
];

export class Pool {
  sections = ["tokens"];
  #now = new Stack(byId("pool-now"), NOW);
  #settled = new Stack(byId("pool-settled"), SETTLED);

  render({ tokens }) {
    this.#now.show(tokens, count);
    this.#settled.show({ ...tokens, "timed-out": tokens.timed_out }, count);
  }
}

/** The chart, and the time that the executor has been up. */
export class Pulse {
  sections = ["executor", "tokens"];
  #chart = new Chart(byId("chart"), byId("chart-readout"));
  #process = "";
  #startedAt = Number.NaN;

  render({ executor, tokens }) {
    const process = `${executor.pid} ${executor.started_at} ${executor.name}`;
    if (process !== this.#process) this.#chart.clear();
    this.#process = process;
    this.#startedAt = executor.started_at;
    const failed = tokens.failed + tokens.timed_out;
    this.#chart.sample(performance.now() / 1000, tokens.completed, failed);
  }

  interrupt() {
    this.#chart.interrupt();
  }

  /** @param {number} serverNow Unix time, by the server's clock. */
  tick(serverNow, isLive) {
    const now = performance.now() / 1000;
    if (isLive) this.#chart.hold(now);
    const last = this.#chart.draw(now);
    if (!isLive) return;
    show(byId("rate"), rate(last));
    show(byId("uptime"), elapsed(serverNow - this.#startedAt));
  }
}

export class Head {
  sections = ["executor", "steering", "system", "tokens"];
  #controls = {};
  #data = null;

  /** @param {import("./controls.js").Controls} controls */
  constructor(controls) {
    const given = {
      pause: () => ({}),
      resume: () => ({}),
      drain: () => ({}),
      purge: () => this.#askPurge(),
      resize: () => this.#askResize(),
      kill: () => askKill(),
    };
    for (const button of document.querySelectorAll(".toolbar button")) {
      const name = button.dataset.action;
      this.#controls[name] = button;
      if (name === "history") controls.bindHistory(button);
      else controls.bind(button, given[name]);
    }
  }

  render(data) {
    this.#data = data;
    const { executor, steering } = data;
    const state = word(executor.state);
    const paused = Object.keys(steering.paused_operations ?? {}).length;
    const besides = paused > 0 ? `, ${count(paused)} operation${paused > 1 ? "s" : ""} paused` : "";
    show(byId("state"), state + besides);
    mark(byId("state"), "state", state);
    const title = `${state} · ${executor.name} · TokenGate`;
    if (document.title !== title) document.title = title;
    const isShut = steering.is_shutdown === true;
    setPossible(this.#controls.pause, !steering.is_paused && !isShut);
    setPossible(this.#controls.resume, steering.is_paused || steering.is_draining);
    setPossible(this.#controls.drain, !steering.is_draining && !isShut);
    setPossible(this.#controls.resize, !isShut);
  }

  async #askPurge() {
    const said = await ask({
      title: "Purge everything that waits?",
      text:
        `${count(this.#data.tokens.waiting)} calls wait now. All that wait are cancelled; ` +
        "what runs goes on. This cannot be undone.",
      confirm: "Purge",
      isDangerous: true,
    });
    return said && {};
  }

  async #askResize() {
    const { lanes, max_workers } = this.#data.system;
    const said = await ask({
      title: "Resize",
      text: "How many calls may run at a time. A worker too many ends after its call.",
      confirm: "Resize",
      fields: [
        { name: "max_workers", label: "Workers", type: "number", min: lanes, step: "1",
          value: max_workers, hint: `at least ${count(lanes)}: one for each lane` },
      ],
    });
    return said && { max_workers: Number(said.max_workers) };
  }
}

async function askKill() {
  const said = await ask({
    title: "Kill a token or an operation",
    text:
      "What waits is killed at once. A call that runs is asked to end, and does where it heeds " +
      "that. Name one of the two.",
    confirm: "Kill",
    isDangerous: true,
    fields: [
      { name: "token_id", label: "Token", isOptional: true, hint: "such as 2-17" },
      { name: "operation", label: "Operation", isOptional: true, hint: "all its tokens" },
    ],
  });
  return said && Object.fromEntries(Object.entries(said).filter(([, value]) => value !== ""));
}

/** Whether what the page shows is so now, in the head and, if not, in a line below it. */
export class Connection {
  #lastHeard = 0;
  #standing = { state: "connecting" };

  /**
   * @param {() => void} again try again at once.
   * @param {() => void} logIn
   */
  constructor(again, logIn) {
    byId("notice-action").addEventListener("click", () => {
      if (this.#standing.needsLogin) logIn();
      else again();
    });
  }

  heard() {
    this.#lastHeard = Date.now();
  }

  /** @param {import("./live.js").Standing} standing */
  show(standing) {
    this.#standing = standing;
    const { state, needsLogin } = standing;
    document.body.dataset.connection = state;
    show(byId("connection"), state);
    byId("notice").hidden = state === "live" || state === "connecting";
    show(byId("notice-action"), needsLogin ? "Log in" : state === "ended" ? "Try again" : "Now");
    this.tick();
  }

  tick() {
    const { state, reason, retryAt } = this.#standing;
    if (state !== "reconnecting" && state !== "ended") return;
    const stale = this.#lastHeard
      ? ` The numbers are those of ${clock(this.#lastHeard)}.`
      : " There are no numbers yet.";
    show(byId("notice-text"), reason + stale);
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    show(byId("notice-next"), state === "reconnecting" ? `Trying again in ${seconds} s.` : "");
  }
}
