// The live connection: one WebSocket, a new one when it breaks, and word of how it stands.

import { addressOf } from "./session.js";

const DELAYS_SECONDS = [0.5, 1, 2, 4, 8, 15];
const SILENCE_BEFORE_PING = 15_000;
const PATIENCE_AFTER_PING = 10_000;

const GOODBYES = {
  shutdown: "The executor, or its dashboard, was shut down.",
  expired: "Your session has ended.",
  logout: "You have logged out.",
};

/**
 * @typedef {object} Standing
 * @property {"connecting" | "live" | "reconnecting" | "ended"} state
 * @property {string} [reason] in words.
 * @property {number} [retryAt] when the next attempt is made, as `Date.now()` counts.
 * @property {boolean} [needsLogin]
 */

export class Live {
  #session;
  #receive;
  #tell;
  #socket = null;
  #failures = 0;
  #lastHeard = 0;
  #pinged = 0;
  #timer = 0;
  #said = "";
  /** @type {Standing} */
  standing = { state: "connecting" };

  /**
   * @param {import("./session.js").Session} session
   * @param {(type: "snapshot" | "change", data: object) => void} receive
   * @param {(standing: Standing) => void} tell
   */
  constructor(session, receive, tell) {
    this.#session = session;
    this.#receive = receive;
    this.#tell = tell;
    setInterval(() => this.#watch(), 1000);
    addEventListener("online", () => {
      if (this.standing.state === "reconnecting") this.connect();
    });
  }

  /** Begin, or begin anew at once. */
  connect() {
    clearTimeout(this.#timer);
    this.#leave();
    this.#said = "";
    const address = addressOf("live");
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#pinged = 0;
    this.#lastHeard = Date.now();
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = () => void this.#lost();
  }

  /** Let go of the socket; what it still says is not heard. */
  #leave() {
    if (this.#socket === null) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #hear(frame) {
    this.#lastHeard = Date.now();
    this.#pinged = 0;
    const { type, data, reason } = JSON.parse(frame);
    if (type === "bye") {
      this.#said = reason;
    } else if (type === "snapshot") {
      this.#failures = 0;
      this.#receive(type, data);
      this.#stand({ state: "live" });
    } else if (type === "change") {
      this.#receive(type, data);
    }
  }

  async #lost() {
    this.#socket = null;
    if (this.#said) {
      const reason = GOODBYES[this.#said] ?? "The server has ended the connection.";
      this.#stand({ state: "ended", reason, needsLogin: this.#said !== "shutdown" });
      return;
    }
    // Refused, or broken? A browser does not tell; the session does.
    const reached = await this.#session.refresh();
    if (this.#socket !== null) return; // somebody has begun anew meanwhile
    if (reached && !this.#session.mayRead) {
      this.#stand({ state: "ended", reason: "You may not see this any more.", needsLogin: true });
    } else {
      this.#retryLater(reached ? "The connection broke." : "The server cannot be reached.");
    }
  }

  #retryLater(reason) {
    const base = DELAYS_SECONDS[Math.min(this.#failures, DELAYS_SECONDS.length - 1)];
    this.#failures += 1;
    // Not all pages of a server that comes back at the same moment.
    const delay = base * (0.8 + 0.4 * Math.random()) * 1000;
    this.#timer = setTimeout(() => this.connect(), delay);
    this.#stand({ state: "reconnecting", reason, retryAt: Date.now() + delay });
  }

  /** A connection may break without a word: ask after it when it is silent. */
  #watch() {
    const socket = this.#socket;
    if (socket === null) return;
    const now = Date.now();
    if (this.#pinged && now - this.#pinged > PATIENCE_AFTER_PING) {
      this.#leave();
      this.#retryLater("The connection has gone silent.");
    } else if (!this.#pinged && now - this.#lastHeard > SILENCE_BEFORE_PING) {
      this.#pinged = now;
      if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"ping"}');
    }
  }

  #stand(standing) {
    this.standing = standing;
    this.#tell(standing);
  }
}
