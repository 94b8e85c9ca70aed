// The password form, on the login page and in the dashboard's dialog.

export class LoginForm {
  #session;
  #done;
  #password;
  #button;
  #outcome;

  /**
   * @param {HTMLFormElement} form with a password input, a submit button and an `.outcome`.
   * @param {import("./session.js").Session} session
   * @param {() => void} done called once the password was right.
   */
  constructor(form, session, done) {
    this.#session = session;
    this.#done = done;
    this.#password = form.querySelector("input[type=password]");
    this.#button = form.querySelector("button[type=submit]");
    this.#outcome = form.querySelector(".outcome");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    // Not before: the browser would send the form by itself, which is not how the dashboard takes it.
    this.#button.disabled = false;
    this.#password.focus();
  }

  async #submit() {
    this.#button.disabled = true;
    this.#outcome.textContent = "";
    const outcome = await this.#session.logIn(this.#password.value);
    if (outcome.ok) {
      this.#password.value = "";
      this.#button.disabled = false;
      this.#done();
      return;
    }
    this.#password.setAttribute("aria-invalid", "true");
    this.#password.select();
    this.#password.focus();
    this.#outcome.textContent = outcome.message;
    this.#countDown(outcome.retryAfter);
  }

  /** In the button, as an alert that changes every second is read out every second. */
  #countDown(seconds) {
    if (seconds > 0) {
      this.#button.textContent = `Log in (in ${seconds} s)`;
      setTimeout(() => this.#countDown(seconds - 1), 1000);
    } else {
      this.#button.textContent = "Log in";
      this.#button.disabled = false;
    }
  }
}
