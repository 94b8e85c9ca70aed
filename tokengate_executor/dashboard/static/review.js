// Calls that wait for a person: the quarantine, and what may be launched; and the adaptive state.

import { count, moment, text, word } from "./format.js";
import { Columns, Sign, element, show } from "./dom.js";
import { ask, setPossible } from "./controls.js";
import { ALL } from "./model.js";
import { Rows } from "./rows.js";

const byId = (id) => document.getElementById(id);

export class Quarantine {
  sections = ["quarantine"];
  #rows;

  constructor(controls) {
    const body = byId("quarantine");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new QuarantineRow(columns, controls),
      rank: (item, key) => [item.added_at, key],
      isSteady: true,
    });
  }

  render({ quarantine }) {
    // A patch names the section's parts, not its calls: all of the few there are are looked at.
    this.#rows.update(quarantine?.calls ?? {}, ALL);
    const counts = Object.entries(quarantine?.counts ?? {}).filter(([, number]) => number > 0);
    const told = counts.map(([status, number]) => `${count(number)} ${word(status)}`);
    if (quarantine?.held > 0) told.push(`${count(quarantine.held)} held`);
    if (quarantine?.problem !== undefined) told.push(quarantine.problem);
    show(byId("quarantine-count"), told.join(", "));
  }
}

class QuarantineRow {
  #cells;
  #name = element("span", "name");
  #call = element("code", "call");
  #status = new Sign();
  #errorType = element("span", "error-type");
  #error = element("span", "muted call");
  #buttons;
  #key = "";

  constructor(columns, controls) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    const given = () => ({ id: this.#key });
    this.#buttons = {
      Approve: controls.button("Approve", "quarantine_approve", given),
      Replay: controls.button("Replay", "quarantine_replay", given),
      Reject: controls.button("Reject…", "quarantine_reject", () => askReject(this.#key), "danger"),
    };
    for (const index of [0, 2]) cells[index].classList.add("brief");
    cells[1].append(this.#name, this.#call);
    cells[3].append(this.#status.element);
    cells[5].append(this.#errorType, this.#error);
    cells[6].append(element("div", "buttons", ...Object.values(this.#buttons)));
  }

  update(key, item) {
    const cells = this.#cells;
    this.#key = key;
    this.element.dataset.key = key;
    show(cells[0], moment(item.added_at));
    show(this.#name, item.operation);
    show(this.#call, item.call ?? "");
    show(cells[2], word(item.reason));
    const isApproved = word(item.status) === "approved";
    this.#status.show(isApproved ? "✓" : "▣", word(item.status), isApproved ? "good" : "held");
    show(cells[4], count(item.attempts));
    show(this.#errorType, text(item.error_type?.split(".").at(-1)));
    this.#errorType.title = item.error_type ?? "";
    show(this.#error, item.error ?? "");
    setPossible(this.#buttons.Approve, !isApproved);
    setPossible(this.#buttons.Replay, item.replayable === true);
    for (const [verb, button] of Object.entries(this.#buttons)) {
      button.setAttribute("aria-label", `${verb} call ${key} of ${item.operation}`);
    }
    this.#buttons.Replay.title =
      item.replayable === true ? "" : "It was not kept in a form that can be run again here.";
  }
}

async function askReject(id) {
  const said = await ask({
    title: "Reject this call?",
    text: "It shall not run. A token that is held for it fails.",
    confirm: "Reject",
    isDangerous: true,
  });
  return said && { id };
}

export class Launcher {
  sections = ["launcher"];
  #rows;

  constructor(controls) {
    this.#rows = new Rows(byId("launcher"), {
      make: () => new LauncherRow(controls),
      rank: (_, key) => [key],
    });
  }

  render({ launcher }, touched) {
    this.#rows.update(launcher ?? {}, touched.get("launcher"));
  }
}

class LauncherRow {
  #name = element("strong", "name");
  #description = element("span", "muted");
  #launched = element("span", "muted");
  #times = element("input");
  #button;
  #key = "";

  constructor(controls) {
    Object.assign(this.#times, { type: "number", min: "1", max: "1000", step: "1", value: "1" });
    this.#times.required = true;
    this.#button = controls.button("Launch", "launch", () => this.#given(), "primary");
    const label = element("label", "times", "×", this.#times);
    this.element = element(
      "li",
      "",
      element("div", "launch-text", this.#name, this.#description, this.#launched),
      element("div", "buttons control", label, this.#button),
    );
  }

  #given() {
    if (!this.#times.reportValidity()) return null;
    return { name: this.#key, times: this.#times.valueAsNumber };
  }

  update(key, item) {
    this.#key = key;
    this.element.dataset.key = key;
    show(this.#name, key);
    show(this.#description, item.description ?? "");
    show(this.#launched, item.launched === 1 ? "launched once" : `launched ${count(item.launched)} times`);
    this.#times.setAttribute("aria-label", `How many times to launch ${key}`);
    this.#button.setAttribute("aria-label", `Launch ${key}`);
  }
}

const MOST_FACTS = 200;

/** Whatever the executor says of how it adapts: numbers and words by name. */
export class Adaptive {
  sections = ["adaptive"];

  render({ adaptive }) {
    byId("adaptive-panel").hidden = adaptive === undefined;
    if (adaptive === undefined) return;
    const facts = [];
    collect("", adaptive, facts);
    byId("adaptive").replaceChildren(
      ...facts.map(([name, value]) =>
        element("div", "", element("span", "muted", name), element("span", "", value)),
      ),
    );
  }
}

function collect(prefix, value, facts) {
  if (facts.length >= MOST_FACTS) return;
  if (value === null || typeof value !== "object") {
    facts.push([prefix, typeof value === "number" ? plain(value) : String(value)]);
  } else if (Array.isArray(value)) {
    facts.push([prefix, value.join(", ")]);
  } else {
    for (const key of Object.keys(value)) {
      collect(prefix ? `${prefix} · ${word(key)}` : word(key), value[key], facts);
    }
  }
}

function plain(number) {
  return Number.isInteger(number) ? count(number) : number.toPrecision(4);
}
