// What this visitor may do, and every request that is not the live connection.

/** What a request came to. `ok`, and what to tell the visitor. */
class Outcome {
  constructor(ok, message, status = 0, retryAfter = 0) {
    this.ok = ok;
    this.message = message;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const UNREACHABLE = new Outcome(false, "The server cannot be reached; nothing was done.");

/** Relative to the page, wherever it is mounted. */
export function addressOf(path) {
  return new URL(path, document.baseURI);
}

export class Session {
  mayRead = false;
  mayControl = false;
  hasPassword = false;
  /** How far the server's clock is ahead of this one, in milliseconds. */
  clockOffset = 0;
  #csrf = "";

  /**
   * Ask the server anew.
   * @returns {Promise<boolean>} whether it answered.
   */
  async refresh() {
    let response;
    let facts;
    try {
      response = await fetch(addressOf("session"), { cache: "no-store" });
      facts = await response.json();
    } catch {
      return false; // no server, or no dashboard behind it: whoever asked says so
    }
    if (!response.ok) return false;
    this.mayRead = facts.may_read === true;
    this.mayControl = facts.may_control === true;
    this.hasPassword = facts.has_password === true;
    this.#csrf = String(facts.csrf ?? "");
    const serverClock = Date.parse(response.headers.get("Date") ?? "");
    const offset = serverClock - Date.now();
    // The header has whole seconds: a smaller difference may be none.
    this.clockOffset = Math.abs(offset) > 2000 ? offset : 0;
    return true;
  }

  /** @returns {Promise<Outcome>} */
  async logIn(password) {
    const outcome = await this.#post("login", { password });
    await this.refresh();
    return outcome;
  }

  /** @returns {Promise<Outcome>} */
  async logOut() {
    const outcome = await this.#post("logout", {});
    await this.refresh();
    return outcome;
  }

  /** @returns {Promise<Outcome>} */
  async act(name, given) {
    const outcome = await this.#post(`actions/${encodeURIComponent(name)}`, given);
    // The leave may have ended, or the server may be another one now.
    if (outcome.status === 403) await this.refresh();
    return outcome;
  }

  /**
   * The history as a file.
   * @returns {Promise<{outcome: Outcome, file?: Blob, name?: string}>}
   */
  async history() {
    let response;
    try {
      response = await fetch(addressOf("history"), { cache: "no-store" });
      if (!response.ok) return { outcome: await outcomeOf(response) };
      const disposition = response.headers.get("Content-Disposition") ?? "";
      const name = /filename="?([\w.-]+)"?/.exec(disposition)?.[1] ?? "tokengate-history.json";
      return { outcome: new Outcome(true, "", response.status), file: await response.blob(), name };
    } catch {
      return { outcome: UNREACHABLE };
    }
  }

  async #post(path, body) {
    try {
      const response = await fetch(addressOf(path), {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": this.#csrf },
        body: JSON.stringify(body),
      });
      return await outcomeOf(response);
    } catch {
      return UNREACHABLE;
    }
  }
}

async function outcomeOf(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // No JSON: something between us and the dashboard has answered. The status tells.
  }
  const message = typeof said.message === "string" ? said.message : "";
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10) || 0;
  const ok = response.ok && said.ok === true;
  const fallback = ok ? "Done." : `The server answered with status ${response.status}.`;
  return new Outcome(ok, message || fallback, response.status, retryAfter);
}
