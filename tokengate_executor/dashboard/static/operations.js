// The guard house: how each operation is doing, its circuit, and what may be done with it.

import { count, duration, share, text, word } from "./format.js";
import { Columns, Meter, Sign, element, show, showRare } from "./dom.js";
import { ask } from "./controls.js";
import { Rows } from "./rows.js";

const byId = (id) => document.getElementById(id);

/** Grade → its place in the order, what asks for attention first; its glyph; its mood. */
const GRADES = {
  problematic: [0, "■", "bad"],
  "at risk": [1, "▲", "warn"],
  healthy: [2, "●", "good"],
  excellent: [2, "●", "good"],
  unknown: [2, "○", "none"],
};
const CIRCUITS = {
  closed: ["●", "none"],
  open: ["⊘", "bad"],
  "half open": ["◐", "warn"],
};

const MENU_WIDTH = 160;
const MENU_HEIGHT = 120;

export class Operations {
  sections = ["operations", "operations_left_out"];
  #rows;

  /** @param {import("./controls.js").Controls} controls */
  constructor(controls) {
    const body = byId("operations");
    const columns = new Columns(body.closest("table"));
    this.#rows = new Rows(body, {
      make: () => new OperationRow(columns, controls),
      rank: (item, name) => [
        word(item.circuit) === "closed" ? 1 : 0,
        (GRADES[word(item.health)] ?? GRADES.unknown)[0],
        name,
      ],
      isSteady: true,
    });
  }

  render({ operations, operations_left_out: leftOut }, touched) {
    this.#rows.update(operations, touched.get("operations"));
    const more = leftOut > 0 ? `, ${count(leftOut)} more not shown` : "";
    show(byId("house-count"), `${count(this.#rows.size)} operations${more}`);
  }
}

class OperationRow {
  #name = "";
  #cells;
  #title = element("span", "name");
  #paused = element("span", "badge", "paused");
  #health = new Sign();
  #success = element("span");
  #meter = new Meter();
  #circuit = new Sign();
  #retryAfter = element("span", "muted");
  #buttons;
  #more;

  constructor(columns, controls) {
    const { line, cells } = columns.row();
    this.element = line;
    this.#cells = cells;
    cells[0].append(this.#title, this.#paused);
    cells[1].append(this.#health.element);
    cells[3].append(this.#meter.element, this.#success);
    cells[7].append(this.#circuit.element, this.#retryAfter);
    const named = () => ({ operation: this.#name });
    this.#buttons = {
      pause: controls.button("Pause", "pause", named),
      resume: controls.button("Resume", "resume", named),
      open: controls.button("Open…", "open_circuit", () => askOpen(this.#name)),
      close: controls.button("Close", "close_circuit", named),
      reset: controls.button("Reset circuit", "reset_circuit", named),
      purge: controls.button("Purge…", "purge", () => askPurge(this.#name), "danger"),
      kill: controls.button("Kill…", "kill", () => askKill(this.#name), "danger"),
    };
    const { pause, resume, open, close, reset, purge, kill } = this.#buttons;
    const more = menu(reset, purge, kill);
    this.#more = more.button;
    cells[8].append(element("div", "buttons", pause, resume, open, close, more.button), more.items);
  }

  update(name, item) {
    if (name !== this.#name) this.#rename(name);
    const health = word(item.health);
    const [, glyph, mood] = GRADES[health] ?? GRADES.unknown;
    this.#health.show(glyph, health, mood);
    show(this.#cells[2], count(item.calls));
    show(this.#success, item.calls > 0 ? share(item.success_rate) : text());
    this.#meter.show(item.calls > 0 ? item.success_rate : 0, mood);
    showRare(this.#cells[4], item.failures, count(item.failures));
    showRare(this.#cells[5], item.timeouts, count(item.timeouts));
    show(this.#cells[6], duration(item.mean_seconds));
    const circuit = word(item.circuit);
    const isClosed = circuit === "closed";
    const [circuitGlyph, circuitMood] = CIRCUITS[circuit] ?? CIRCUITS.closed;
    this.#circuit.show(circuitGlyph, circuit, circuitMood);
    const after = item.retry_after_seconds;
    const byHand = circuit === "open" ? " until it is closed" : "";
    const tried = after > 0 ? ` for ${duration(after)}` : ", the next call is tried";
    show(this.#retryAfter, isClosed ? "" : after === undefined ? byHand : tried);
    this.#paused.hidden = item.paused !== true;
    this.#buttons.pause.hidden = item.paused === true;
    this.#buttons.resume.hidden = item.paused !== true;
    this.#buttons.open.hidden = circuit === "open";
    this.#buttons.close.hidden = isClosed;
  }

  #rename(name) {
    this.#name = name;
    show(this.#title, name);
    this.element.dataset.key = name;
    const verbs = {
      pause: "Pause", resume: "Resume", open: "Open circuit of", close: "Close circuit of",
      reset: "Reset circuit of", purge: "Purge", kill: "Kill",
    };
    for (const [key, verb] of Object.entries(verbs)) {
      this.#buttons[key].setAttribute("aria-label", `${verb} ${name}`);
    }
    this.#more.setAttribute("aria-label", `More for ${name}`);
  }
}

/** A button, and a list of further ones that it opens; the browser closes it again. */
function menu(...buttons) {
  const items = element("div", "menu-items", ...buttons);
  items.popover = "auto";
  const button = element("button", "menu-button", "More");
  button.type = "button";
  button.popoverTargetElement = items;
  items.addEventListener("beforetoggle", (event) => {
    if (event.newState !== "open") return;
    const box = button.getBoundingClientRect();
    const isLow = box.bottom + MENU_HEIGHT > innerHeight;
    items.style.top = isLow ? "auto" : `${box.bottom + 4}px`;
    items.style.bottom = isLow ? `${innerHeight - box.top + 4}px` : "auto";
    items.style.right = `${Math.min(innerWidth - box.right, innerWidth - MENU_WIDTH)}px`;
  });
  items.addEventListener("click", () => items.hidePopover());
  return { button, items };
}

addEventListener("scroll", () => document.querySelector(".menu-items:popover-open")?.hidePopover(), {
  capture: true,
  passive: true,
});

async function askOpen(operation) {
  const said = await ask({
    title: "Open the circuit?",
    text: `Calls of ${operation} are refused as long as it is open. What was let in runs.`,
    confirm: "Open",
    fields: [
      { name: "seconds", label: "For how many seconds", type: "number", min: 0.001, step: "any",
        isOptional: true, hint: "empty: until somebody closes it" },
    ],
  });
  if (said === null) return null;
  return said.seconds === "" ? { operation } : { operation, seconds: Number(said.seconds) };
}

async function askPurge(operation) {
  const said = await ask({
    title: "Purge this operation?",
    text: `All waiting calls of ${operation} are cancelled; what runs goes on.`,
    confirm: "Purge",
    isDangerous: true,
  });
  return said && { operation };
}

async function askKill(operation) {
  const said = await ask({
    title: "Kill this operation?",
    text:
      `Waiting calls of ${operation} are killed at once; those that run are asked to end, and do ` +
      "where they heed that.",
    confirm: "Kill",
    isDangerous: true,
  });
  return said && { operation };
}
