// The login page: a password, what came of it, and on to the dashboard.

import { Session, addressOf } from "./session.js";
import { LoginForm } from "./loginform.js";

const session = new Session();
const form = document.getElementById("login");
const explanation = document.getElementById("explanation");

const reached = await session.refresh();
if (session.mayRead) {
  goOn();
} else if (reached && !session.hasPassword) {
  explanation.textContent =
    "This dashboard has no password, and shows itself only where it was allowed to. " +
    "Give it one where it is started: serve_dashboard(password=…).";
  for (const control of form.querySelectorAll("input, button, label")) control.hidden = true;
} else {
  new LoginForm(form, session, goOn);
}

function goOn() {
  location.replace(addressOf("."));
}
