// What calls run on and need: lanes and limits.

import { count, duration } from "./format.js";
import { Columns, Meter, Stack, element, show, showRare } from "./dom.js";
import { Rows } from "./rows.js";
import { ask } from "./controls.js";

const byId = (id) => document.getElementById(id);

const WEIGHTS = [
  ["heavy", "heavy"],
  ["medium", "medium"],
  ["light", "light"],
  ["unweighted", "unweighted"],
];

export class Lanes {
  sections = ["lanes"];
  #rows;

  constructor() {
    const body = byId("lanes");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new LaneRow(columns),
      rank: (_, key) => [Number(key)],
    });
  }

  render({ lanes }, touched) {
    this.#rows.update(lanes, touched.get("lanes"));
  }
}

class LaneRow {
  #cells;
  #number = element("strong");
  #cpus = element("span", "muted");
  #busy = new Meter();
  #executing = element("span");
  #stack = element("div", "stack");
  #weights;
  #shares = element("div", "shares");

  constructor(columns) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    this.#stack.setAttribute("role", "img");
    this.#weights = new Stack(this.#stack, WEIGHTS);
    cells[0].append(this.#number, this.#cpus);
    cells[1].append(this.#busy.element, this.#executing);
    cells[4].append(this.#stack, this.#shares);
  }

  update(key, item) {
    this.element.dataset.key = key;
    show(this.#number, key);
    const cpus = item.cpus ?? [];
    const label = cpus.length > 0 ? ` CPU ${cpus.join(", ")}` : "";
    show(this.#cpus, label);
    this.#busy.show(item.workers > 0 ? item.executing / item.workers : 0);
    show(this.#executing, `${count(item.executing)} / ${count(item.workers)}`);
    showRare(this.#cells[2], item.depth, count(item.depth));
    show(this.#cells[3], duration(item.mean_wait_seconds));
    const started = item.started_by_weight;
    this.#weights.show(started, count);
    const told = WEIGHTS.filter(([name]) => started[name] > 0);
    show(this.#shares, told.map(([name, label]) => `${count(started[name])} ${label}`).join(" · "));
    show(this.#cells[5], count(item.completed));
    showRare(this.#cells[6], item.failed, count(item.failed));
    showRare(this.#cells[7], item.killed, count(item.killed));
    showRare(this.#cells[8], item.stolen, count(item.stolen));
  }
}

export class Limits {
  sections = ["limits"];
  #rows;

  constructor(controls) {
    const body = byId("limits");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new LimitRow(columns, controls),
      rank: (_, key) => [key],
      isSteady: true,
    });
  }

  render({ limits }, touched) {
    this.#rows.update(limits, touched.get("limits"));
  }
}

class LimitRow {
  #cells;
  #title = element("span", "name");
  #kind = element("span", "muted");
  #used = element("span");
  #meter = new Meter();
  #change;
  #key = "";
  #item = null;

  constructor(columns, controls) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    this.#change = controls.button("Change…", "set_limit", () => askLimit(this.#key, this.#item));
    cells[0].append(this.#title, this.#kind);
    cells[1].append(this.#meter.element, this.#used);
    cells[4].append(element("div", "buttons", this.#change));
  }

  update(key, item) {
    this.#key = key;
    this.#item = item;
    this.element.dataset.key = key;
    show(this.#title, key);
    this.#change.setAttribute("aria-label", `Change limit ${key}`);
    if (item.kind === "rate") {
      show(this.#kind, ` ${count(item.limit)} ${item.per === 1 ? "per s" : `in ${count(item.per)} s`}`);
      const spent = item.burst - item.free;
      this.#meter.show(spent / item.burst);
      show(this.#used, `${count(spent)} / ${count(item.burst)}`);
    } else {
      show(this.#kind, " at once");
      this.#meter.show(item.used / item.limit);
      show(this.#used, `${count(item.used)} / ${count(item.limit)}`);
    }
    show(this.#cells[2], count(item.free));
    showRare(this.#cells[3], item.waiting, count(item.waiting));
  }
}

async function askLimit(name, item) {
  const isRate = item.kind === "rate";
  const whole = { type: "number", min: 1, step: "1" };
  const fields = [
    { ...whole, name: "limit", label: isRate ? "Starts" : "Calls at once", value: Math.ceil(item.limit) },
  ];
  if (isRate) {
    fields.push(
      { name: "per", label: "In how many seconds", type: "number", min: 0.001, step: "any",
        value: item.per },
      { ...whole, name: "burst", label: "At once after a pause", value: item.burst },
    );
  }
  const said = await ask({
    title: `Change the limit ${name}`,
    text: "More permits can be had at once; fewer as calls give theirs back.",
    confirm: "Change",
    fields,
  });
  if (said === null) return null;
  const numbers = Object.entries(said).map(([key, value]) => [key, Number(value)]);
  return { name, ...Object.fromEntries(numbers) };
}
