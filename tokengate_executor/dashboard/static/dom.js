// Small parts of the page. Values go in as text, never as markup; sizes are set by script, as the
// content security policy forbids style attributes.

/** Make an element: `element("td", "number", child, "text")`. */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Show a text; touches the page only if it is another one. */
export function show(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show a number of which 0 is the usual: then it does not ask for attention. */
export function showRare(node, value, text) {
  show(node, text);
  node.classList.toggle("usual", value === 0);
}

export function describe(node, label) {
  if (node.getAttribute("aria-label") !== label) node.setAttribute("aria-label", label);
}

export function mark(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** A bar that is filled up to a share from 0 to 1. Decoration: the number stands beside it. */
export class Meter {
  constructor() {
    this.#fill = element("span");
    this.element = element("span", "meter", this.#fill);
    this.element.setAttribute("aria-hidden", "true");
  }

  #fill;

  show(share, mood = "") {
    const width = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
    const shown = `${(width * 100).toFixed(1)}%`;
    if (this.#fill.style.width !== shown) this.#fill.style.width = shown;
    mark(this.element, "mood", mood);
  }
}

/** A bar of parts. `role="img"`, with the numbers in its label. */
export class Stack {
  #element;
  #parts;

  /**
   * @param {HTMLElement} container
   * @param {[name: string, label: string][]} parts from left to right; the name is also its class.
   */
  constructor(container, parts) {
    this.#element = container;
    this.#parts = parts.map(([name, label]) => {
      const part = element("span", name);
      container.append(part);
      return { name, label, part };
    });
  }

  /** @param {Record<string, number>} values by name. */
  show(values, format) {
    const told = [];
    for (const { name, label, part } of this.#parts) {
      const value = values[name] ?? 0;
      const grow = String(value);
      if (part.style.flexGrow !== grow) part.style.flexGrow = grow;
      part.hidden = value === 0;
      told.push(`${label} ${format(value)}`);
    }
    const all = told.join(", ");
    describe(this.#element, all);
    if (this.#element.title !== all) this.#element.title = all;
  }
}

/** Which columns a table has: what its cells are labelled with where they do not stand in columns. */
export class Columns {
  #columns;

  /** @param {HTMLTableElement} table whose head says it. */
  constructor(table) {
    const heads = [...table.tHead.rows[0].cells];
    this.#columns = heads.map((head) => ({
      label: head.textContent,
      className: head.className,
    }));
    // Said explicitly, as a table that is laid out as a list of cards is none to some browsers.
    table.setAttribute("role", "table");
    for (const group of [table.tHead, ...table.tBodies]) group.setAttribute("role", "rowgroup");
    table.tHead.rows[0].setAttribute("role", "row");
    for (const head of heads) head.setAttribute("role", "columnheader");
  }

  /** A new row, and its cells. */
  row() {
    const line = element("tr");
    line.setAttribute("role", "row");
    const cells = this.#columns.map(({ label, className }) => {
      const cell = element("td", className);
      cell.dataset.label = label;
      cell.setAttribute("role", "cell");
      line.append(cell);
      return cell;
    });
    return { line, cells };
  }
}

/** A glyph and a word: what a colour says is also said by a shape, and in words. */
export class Sign {
  #glyph = element("span", "glyph");
  #word = element("span");
  element = element("span", "sign", this.#glyph, this.#word);

  constructor() {
    this.#glyph.setAttribute("aria-hidden", "true");
  }

  show(glyph, word, mood) {
    show(this.#glyph, glyph);
    show(this.#word, word);
    mark(this.element, "mood", mood);
  }
}
