// The snapshot, kept up to date by merge patches (RFC 7396), and what of it has changed.

/** In place of a set of keys: the whole section is to be shown anew. */
export const ALL = Symbol("all");

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/**
 * A copy whose objects have no prototype: an operation may be called `__proto__`, and is then a key
 * like any other.
 */
function copied(value) {
  if (!isObject(value)) return value;
  const copy = Object.create(null);
  for (const key of Object.keys(value)) {
    if (value[key] !== null) copy[key] = copied(value[key]);
  }
  return copy;
}

function merge(target, patch) {
  for (const key of Object.keys(patch)) {
    const value = patch[key];
    if (value === null) delete target[key];
    else if (isObject(value) && isObject(target[key])) merge(target[key], value);
    else target[key] = copied(value);
  }
}

export class Model {
  data = Object.create(null);
  #touched = new Map();

  replace(snapshot) {
    const sections = new Set([...Object.keys(this.data), ...Object.keys(snapshot)]);
    this.data = copied(snapshot);
    for (const section of sections) this.#touched.set(section, ALL);
  }

  change(patch) {
    for (const section of Object.keys(patch)) this.#touch(section, patch[section]);
    merge(this.data, patch);
  }

  /** What has changed since this was last asked: section → its keys, or `ALL`. */
  takeTouched() {
    const touched = this.#touched;
    this.#touched = new Map();
    return touched;
  }

  #touch(section, patch) {
    const known = this.#touched.get(section);
    if (known === ALL) return;
    if (!isObject(patch) || !isObject(this.data[section])) {
      this.#touched.set(section, ALL);
      return;
    }
    const keys = known ?? new Set();
    for (const key of Object.keys(patch)) keys.add(key);
    this.#touched.set(section, keys);
  }
}
