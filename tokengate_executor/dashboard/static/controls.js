// What a visitor may do: buttons, questions before what cannot be undone, and the outcome of each.

import { clock } from "./format.js";
import { element } from "./dom.js";

const MOST_TOASTS = 5;
const TOAST_MILLISECONDS = 7000;

const byId = (id) => document.getElementById(id);

/**
 * Tell what came of something. A refusal stays until it is dismissed.
 * @param {"success" | "refusal"} kind
 */
export function toast(kind, title, message) {
  const list = byId("toasts");
  const close = element("button", "quiet", "×");
  close.type = "button";
  close.setAttribute("aria-label", "Dismiss");
  const made = element(
    "div",
    `toast ${kind}`,
    element("strong", "", kind === "success" ? "✓ " : "✕ ", title),
    element("span", "toast-message", message),
    element("time", "muted", clock(Date.now())),
    close,
  );
  if (kind === "refusal") made.setAttribute("role", "alert");
  close.addEventListener("click", () => made.remove());
  if (kind === "success") setTimeout(() => made.remove(), TOAST_MILLISECONDS);
  list.append(made);
  while (list.children.length > MOST_TOASTS) list.firstChild.remove();
}

/**
 * Ask before something is done.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {string} question.text
 * @param {string} question.confirm on the button that does it.
 * @param {boolean} [question.isDangerous]
 * @param {{name: string, label: string, type?: string, value?: string | number, min?: number,
 *   max?: number, step?: string, isOptional?: boolean, hint?: string}[]} [question.fields]
 * @returns {Promise<Record<string, string> | null>} what was said, by name; `null`: not to do it.
 */
export function ask({ title, text, confirm, isDangerous = false, fields = [] }) {
  const dialog = byId("ask");
  const form = dialog.querySelector("form");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-confirm").textContent = confirm;
  byId("ask-confirm").className = isDangerous ? "danger primary" : "primary";
  const inputs = fields.map((field) => {
    const input = element("input");
    input.name = field.name;
    input.type = field.type ?? "text";
    input.value = field.value ?? "";
    input.required = !field.isOptional;
    input.autocomplete = "off";
    for (const name of ["min", "max", "step"]) {
      if (field[name] !== undefined) input.setAttribute(name, field[name]);
    }
    return { field, input };
  });
  byId("ask-fields").replaceChildren(
    ...inputs.map(({ field, input }) => {
      const label = element("label", "field", field.label, input);
      if (field.hint) label.append(element("span", "muted hint", field.hint));
      return label;
    }),
  );
  return new Promise((resolve) => {
    const finish = (answer) => {
      form.onsubmit = dialog.onclose = null;
      dialog.close();
      resolve(answer);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      finish(Object.fromEntries(inputs.map(({ field, input }) => [field.name, input.value])));
    };
    byId("ask-cancel").onclick = () => finish(null);
    dialog.onclose = () => finish(null); // by the Escape key
    dialog.showModal();
    // What is dangerous is not done by a press of Enter that was meant for something else.
    (inputs[0]?.input ?? byId(isDangerous ? "ask-cancel" : "ask-confirm")).focus();
  });
}

export class Controls {
  #session;
  #isLive = () => false;
  #changed;

  /**
   * @param {import("./session.js").Session} session
   * @param {() => void} changed called when what this visitor may do may have changed.
   */
  constructor(session, changed) {
    this.#session = session;
    this.#changed = changed;
  }

  /** @param {() => boolean} isLive whether what the page shows is so now. */
  heed(isLive) {
    this.#isLive = isLive;
  }

  /**
   * A button that does something with the executor.
   *
   * @param {string} label
   * @param {string} name of the action; also how tests and style sheets find it.
   * @param {(press: PointerEvent) => object | null | Promise<object | null>} given the action's
   *   arguments when it is pressed; `null`: not to do it after all.
   */
  button(label, name, given, className = "") {
    const button = element("button", className, label);
    button.type = "button";
    button.dataset.action = name;
    this.bind(button, given);
    return button;
  }

  bind(button, given) {
    button.addEventListener("click", (press) => {
      void this.#press(button, async () => {
        const found = await given(press);
        return found === null ? null : this.#session.act(button.dataset.action, found);
      });
    });
  }

  bindHistory(button) {
    button.addEventListener("click", () => {
      void this.#press(button, async () => {
        const { outcome, file, name } = await this.#session.history();
        if (file !== undefined) {
          save(file, name);
          outcome.message = `Saved as ${name}, ${file.size.toLocaleString("en")} bytes.`;
        }
        return outcome;
      });
    });
  }

  async #press(button, act) {
    const title = (button.getAttribute("aria-label") ?? button.textContent).replace("…", "");
    if (!this.#isLive()) {
      toast("refusal", title, "Not done: what this page shows is not up to date.");
      return;
    }
    const hadFocus = document.activeElement === button;
    setBusy(button, true);
    try {
      const outcome = await act();
      if (outcome === null) return;
      toast(outcome.ok ? "success" : "refusal", title, outcome.message);
      if (outcome.status === 403) this.#changed();
    } finally {
      setBusy(button, false);
      if (hadFocus && document.activeElement === document.body) button.focus();
    }
  }
}

/** Whether the state of the executor lets it be pressed; it is not while it is under way either. */
export function setPossible(button, isPossible) {
  const value = isPossible ? "" : "no";
  if ((button.dataset.impossible ?? "") === value) return;
  button.dataset.impossible = value;
  refresh(button);
}

function setBusy(button, isBusy) {
  if (isBusy) button.setAttribute("aria-busy", "true");
  else button.removeAttribute("aria-busy");
  refresh(button);
}

function refresh(button) {
  button.disabled = button.dataset.impossible === "no" || button.hasAttribute("aria-busy");
}

function save(file, name) {
  const link = element("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
