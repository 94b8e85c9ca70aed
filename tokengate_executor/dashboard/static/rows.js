// A table whose rows are updated in place: what a push costs is what changed in it.

import { ALL } from "./model.js";

/**
 * One row. `make` returns its element, `update(key, item)`, which shows an item in it, and `tick(now)`
 * if something in it is to be counted up.
 *
 * @typedef {object} Row
 * @property {HTMLElement} element
 * @property {(key: string, item: object) => void} update
 * @property {(now: number) => void} [tick]
 */

export class Rows {
  #body;
  #make;
  #rank;
  #isSteady;
  #recycles;
  #rows = new Map();
  #items = Object.create(null);
  #now = Number.NaN;
  #isPointedAt = false;
  #isBehind = false;

  /**
   * @param {HTMLElement} body the rows' parent, with nothing else in it.
   * @param {object} options
   * @param {() => Row} options.make
   * @param {(item: object, key: string) => (number | string)[]} options.rank by which rows are ordered.
   * @param {boolean} [options.isSteady] rows neither come nor go while somebody points at them, so that
   *   a click never meets another row than the one that was meant.
   * @param {boolean} [options.recycles] rows that go are used for those that come. Not for rows with
   *   controls.
   */
  constructor(body, { make, rank, isSteady = false, recycles = false }) {
    this.#body = body;
    this.#make = make;
    this.#rank = rank;
    this.#isSteady = isSteady;
    this.#recycles = recycles;
    if (isSteady) {
      body.addEventListener("pointerenter", (event) => {
        this.#isPointedAt = event.pointerType === "mouse"; // a finger points only when it presses
      });
      body.addEventListener("pointerleave", () => {
        this.#isPointedAt = false;
        this.#catchUp();
      });
      body.addEventListener("focusout", () => queueMicrotask(() => this.#catchUp()));
    }
  }

  get size() {
    return this.#rows.size;
  }

  /**
   * @param {Record<string, object>} items all of them, by key.
   * @param {Iterable<string> | typeof ALL} [touched] keys that may have changed.
   */
  update(items, touched = []) {
    this.#items = items;
    const isHeld = this.#isHeld();
    const came = [];
    const went = [];
    let isMoved = false;
    if (this.#isBehind && !isHeld) {
      this.#isBehind = false;
      this.#body.classList.remove("held");
      touched = ALL;
      isMoved = true; // perhaps, while it was held
    }
    const all = () => new Set([...this.#rows.keys(), ...Object.keys(items)]);
    for (const key of touched === ALL ? all() : touched) {
      const item = items[key];
      const entry = this.#rows.get(key);
      if (item === undefined) {
        if (entry !== undefined) went.push(key);
      } else if (entry === undefined) {
        came.push(key);
      } else {
        isMoved = this.#show(entry, key, item) || isMoved;
      }
    }
    if (isHeld && (came.length > 0 || went.length > 0 || isMoved)) {
      for (const key of went) this.#rows.get(key).row.element.classList.add("gone");
      this.#isBehind = true;
      this.#body.classList.add("held");
      return;
    }
    const spare = [];
    for (const key of went) {
      const { row } = this.#rows.get(key);
      this.#rows.delete(key);
      if (this.#recycles) spare.push(row);
      else row.element.remove();
    }
    for (const key of came) {
      const entry = { row: spare.pop() ?? this.#make(), rank: null };
      this.#rows.set(key, entry);
      this.#show(entry, key, items[key]);
      entry.row.tick?.(this.#now);
    }
    for (const row of spare) row.element.remove();
    if (came.length > 0 || isMoved) this.#order();
  }

  /** @param {number} now Unix time, by the server's clock. */
  tick(now) {
    this.#now = now;
    for (const { row } of this.#rows.values()) row.tick?.(now);
  }

  /** Returns whether it may belong elsewhere now. */
  #show(entry, key, item) {
    entry.row.update(key, item);
    entry.row.element.classList.remove("gone");
    const rank = this.#rank(item, key);
    const isMoved = entry.rank === null || compare(entry.rank, rank) !== 0;
    entry.rank = rank;
    return isMoved;
  }

  #order() {
    const entries = [...this.#rows.values()].sort((a, b) => compare(a.rank, b.rank));
    let place = this.#body.firstChild;
    for (const { row } of entries) {
      if (row.element === place) place = place.nextSibling;
      else this.#body.insertBefore(row.element, place);
    }
  }

  #isHeld() {
    if (!this.#isSteady || this.#rows.size === 0) return false;
    return this.#isPointedAt || this.#body.querySelector(":focus-visible") !== null;
  }

  #catchUp() {
    if (this.#isBehind && !this.#isHeld()) this.update(this.#items, ALL);
  }
}

function compare(a, b) {
  for (let index = 0; index < a.length; index += 1) {
    if (a[index] !== b[index]) return a[index] < b[index] ? -1 : 1;
  }
  return 0;
}
