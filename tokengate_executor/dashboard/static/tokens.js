// Single tokens: those that run, those that wait, and those that have just settled.

import { count, duration, elapsed, moment, text, word } from "./format.js";
import { Columns, Sign, element, mark, show } from "./dom.js";
import { Rows } from "./rows.js";
import { ask, setPossible } from "./controls.js";

const byId = (id) => document.getElementById(id);

/** State of a token → its glyph and its mood. */
const STATES = {
  completed: ["✓", "good"],
  failed: ["✕", "bad"],
  timeout: ["!", "warn"],
  cancelled: ["–", "none"],
  killed: ["⊘", "none"],
  waiting: ["○", "none"],
  admitted: ["◐", "none"],
  retrying: ["↻", "warn"],
  quarantined: ["▣", "held"],
};

function showState(sign, state, besides = "") {
  const name = word(state);
  const [glyph, mood] = STATES[name] ?? ["○", "none"];
  sign.show(glyph, name + besides, mood);
}

/**
 * Under a mouse the list stands still, under a finger it cannot: rows may have moved just before it
 * came down, so that what was touched is asked about.
 */
async function given(press, token) {
  if (press.pointerType !== "touch") return { token_id: token };
  const said = await ask({
    title: `Kill token ${token}?`,
    text: "If it waits, it is killed at once; if it runs, it is asked to end.",
    confirm: "Kill",
    isDangerous: true,
  });
  return said && { token_id: token };
}

function weight(cell, value) {
  show(cell, text(value));
  mark(cell, "weight", value ?? "");
}

/** How many are listed of how many there are. */
function tellCount(id, listed, all) {
  show(byId(id), all > listed ? `${count(listed)} of ${count(all)}` : count(listed));
}

export class Running {
  sections = ["running", "tokens"];
  #rows;

  constructor(controls) {
    const body = byId("running");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new RunningRow(columns, controls),
      rank: (item, key) => [item.started_at, key],
      isSteady: true,
    });
  }

  render({ running, tokens }, touched) {
    this.#rows.update(running, touched.get("running"));
    tellCount("running-count", this.#rows.size, tokens.executing);
  }

  tick(serverNow) {
    this.#rows.tick(serverNow);
  }
}

class RunningRow {
  #cells;
  #name = element("span", "name");
  #asked = element("span", "badge", "asked to end");
  #kill;
  #key = "";
  #startedAt = Number.NaN;

  constructor(columns, controls) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    this.#kill = controls.button("Kill", "kill", (press) => given(press, this.#key), "danger");
    cells[1].append(this.#name, this.#asked);
    cells[6].append(element("div", "buttons", this.#kill));
  }

  update(key, item) {
    this.#key = key;
    this.element.dataset.key = key;
    this.#startedAt = item.started_at;
    show(this.#cells[0], key);
    show(this.#name, item.operation);
    show(this.#cells[2], count(item.lane));
    show(this.#cells[3], count(item.worker));
    show(this.#cells[5], count(item.attempt));
    this.#asked.hidden = item.kill_requested !== true;
    setPossible(this.#kill, item.kill_requested !== true);
    const label = `Kill token ${key} of ${item.operation}`;
    if (this.#kill.getAttribute("aria-label") !== label) {
      this.#kill.setAttribute("aria-label", label);
    }
  }

  tick(serverNow) {
    show(this.#cells[4], elapsed(serverNow - this.#startedAt));
  }
}

export class Waiting {
  sections = ["waiting", "tokens"];
  #rows;

  constructor(controls) {
    const body = byId("waiting");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new WaitingRow(columns, controls),
      rank: (item, key) => [item.submitted_at, key],
      isSteady: true,
    });
  }

  render({ waiting, tokens }, touched) {
    this.#rows.update(waiting, touched.get("waiting"));
    const all = tokens.waiting + tokens.retrying + tokens.quarantined;
    tellCount("waiting-count", this.#rows.size, all);
  }

  tick(serverNow) {
    this.#rows.tick(serverNow);
  }
}

class WaitingRow {
  #cells;
  #state = new Sign();
  #kill;
  #key = "";
  #submittedAt = Number.NaN;

  constructor(columns, controls) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    this.#kill = controls.button("Kill", "kill", (press) => given(press, this.#key), "danger");
    cells[1].classList.add("name");
    cells[3].append(this.#state.element);
    cells[6].append(element("div", "buttons", this.#kill));
  }

  update(key, item) {
    this.#key = key;
    this.element.dataset.key = key;
    this.#submittedAt = item.submitted_at;
    show(this.#cells[0], key);
    show(this.#cells[1], item.operation);
    weight(this.#cells[2], item.weight);
    showState(this.#state, item.state);
    show(this.#cells[5], count(item.attempts));
    const label = `Kill token ${key} of ${item.operation}`;
    if (this.#kill.getAttribute("aria-label") !== label) {
      this.#kill.setAttribute("aria-label", label);
    }
  }

  tick(serverNow) {
    show(this.#cells[4], elapsed(serverNow - this.#submittedAt));
  }
}

export class Recent {
  sections = ["recent"];
  #rows;

  constructor() {
    const body = byId("recent");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new RecentRow(columns),
      rank: (item, key) => [-item.settled_at, key],
      recycles: true,
    });
  }

  render({ recent }, touched) {
    this.#rows.update(recent, touched.get("recent"));
    show(byId("recent-count"), this.#rows.size > 0 ? `the last ${count(this.#rows.size)}` : "");
  }
}

class RecentRow {
  #cells;
  #state = new Sign();

  constructor(columns) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    cells[1].classList.add("name");
    cells[2].append(this.#state.element);
  }

  update(key, item) {
    const cells = this.#cells;
    this.element.dataset.key = key;
    show(cells[0], moment(item.settled_at));
    show(cells[1], item.operation);
    showState(this.#state, item.state, item.error === undefined ? "" : `: ${item.error}`);
    weight(cells[3], item.weight);
    show(cells[4], count(item.lane));
    show(cells[5], count(item.worker));
    show(cells[6], duration(item.waited_seconds));
    show(cells[7], duration(item.run_seconds));
    show(cells[8], count(item.attempts));
    const score = item.score === undefined ? "" : ` (${item.score.toFixed(2)})`;
    show(cells[9], word(item.complexity) + score);
  }
}
