// The dashboard: what comes over the live connection goes into the model, and from there into the
// panels, at most once a frame and only where something changed.

import { Adaptive, Launcher, Quarantine } from "./review.js";
import { Connection, Head, Pool, Pulse, Shown } from "./overview.js";
import { Lanes, Limits } from "./resources.js";
import { Recent, Running, Waiting } from "./tokens.js";
import { Controls, toast } from "./controls.js";
import { Live } from "./live.js";
import { LoginForm } from "./loginform.js";
import { Model } from "./model.js";
import { Operations } from "./operations.js";
import { Session, addressOf } from "./session.js";

const byId = (id) => document.getElementById(id);

const session = new Session();
const model = new Model();
const controls = new Controls(session, showLeave);
const pulse = new Pulse();
const running = new Running(controls);
const waiting = new Waiting(controls);
const panels = [
  new Head(controls), new Shown(document), pulse, new Pool(), new Lanes(), new Limits(controls),
  new Operations(controls), running, waiting, new Recent(), new Quarantine(controls),
  new Launcher(controls), new Adaptive(),
];
const live = new Live(session, receive, stand);
const connection = new Connection(() => live.connect(), logIn);
controls.heed(() => live.standing.state === "live");

let isFrameAsked = false;

function receive(type, data) {
  connection.heard();
  if (type === "snapshot") model.replace(data);
  else model.change(data);
  if (isFrameAsked) return;
  isFrameAsked = true;
  // A page that nobody sees gets no frames; what changes meanwhile is gathered in the model.
  requestAnimationFrame(render);
}

function render() {
  isFrameAsked = false;
  const touched = model.takeTouched();
  for (const panel of panels) {
    if (panel.sections.some((section) => touched.has(section))) panel.render(model.data, touched);
  }
  tick();
}

function stand(standing) {
  if (standing.state !== "live") pulse.interrupt();
  connection.show(standing);
  showLeave();
}

function tick() {
  const serverNow = (Date.now() + session.clockOffset) / 1000;
  const isLive = live.standing.state === "live";
  pulse.tick(serverNow, isLive);
  connection.tick();
  if (!isLive) return;
  running.tick(serverNow);
  waiting.tick(serverNow);
}

/** Show the controls to whom they are for; to others, how to get them. */
function showLeave() {
  document.body.dataset.control = session.mayControl ? "yes" : "no";
  const isKnown = live.standing.state !== "connecting";
  byId("log-in").hidden = session.mayControl || !session.hasPassword;
  byId("log-out").hidden = !(session.mayControl && session.hasPassword);
  byId("no-control").hidden = session.mayControl || !isKnown;
  byId("no-control").textContent = session.hasPassword
    ? "You see this executor, and may not steer it. Log in to do so."
    : "You see this executor, and may not steer it. For controls, start the dashboard with a " +
      "password: serve_dashboard(password=…).";
}

const loginDialog = byId("log-in-dialog");
let loginForm = null;

function logIn() {
  loginForm ??= new LoginForm(loginDialog.querySelector("form"), session, loggedIn);
  loginDialog.showModal();
}

function loggedIn() {
  loginDialog.close();
  toast("success", "Log in", "You are logged in.");
  showLeave();
  if (live.standing.state !== "live") live.connect();
}

byId("log-in").addEventListener("click", logIn);
loginDialog.querySelector(".cancel").addEventListener("click", () => loginDialog.close());
byId("log-out").addEventListener("click", async () => {
  const outcome = await session.logOut();
  if (outcome.ok) location.replace(addressOf("."));
  else toast("refusal", "Log out", outcome.message);
});

document.body.dataset.control = "no";
await session.refresh();
live.connect();
setInterval(tick, 1000);
