// The page: the conversation, the field to write in, and the keys.

import { byId } from "./dom.js";
import { restore, save, session } from "./session.js";
import { askForKey, bindSettings, loadModels, readSettings } from "./settings.js";
import { fresh, places, Turn } from "./turn.js";
import { bindTally } from "./votes.js";

const NEAR = 160;

const shown = [];
let running = null;

/** Ask the chosen models what is written in the field. */
async function send() {
  const field = byId("prompt");
  const prompt = field.value.trim();
  if (!prompt || running) return;
  const settings = readSettings();
  if (!settings) return;
  field.value = "";
  const blind = session.blind && new Set(session.models).size > 1;
  const answers = session.models.map(fresh);
  const turn = { prompt, answers, order: places(answers.length, blind), blind, vote: null };
  session.turns.push(turn);
  const drawn = show(turn);
  drawn.element.scrollIntoView({ block: "start" });
  await run(drawn, settings);
}

/** Ask for one answer of the last turn once more. */
async function again(drawn, seat) {
  if (running) return;
  const settings = readSettings();
  if (settings) await run(drawn, settings, [seat]);
}

async function run(drawn, settings, seats) {
  running = new AbortController();
  draw();
  const follow = setInterval(stayAtEnd, 200);
  try {
    await drawn.ask(settings, running.signal, session.queued, seats);
  } finally {
    clearInterval(follow);
    running = null;
    draw();
    stayAtEnd();
    if (drawn.turn.answers.some(({ fault }) => fault?.kind === "key")) askForKey();
    if (!save()) tell("This conversation has become too long to be kept when the page is loaded again.");
  }
}

function show(turn) {
  const drawn = new Turn(turn, again);
  shown.push(drawn);
  byId("conversation").append(drawn.element);
  draw();
  return drawn;
}

function draw() {
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
  byId("empty").hidden = session.turns.length > 0;
  byId("new").disabled = running !== null || session.turns.length === 0;
  // Only the last turn can be asked again: what follows an answer was said because of it.
  shown.forEach((drawn, at) => drawn.allow(running === null && at === shown.length - 1));
}

function stop() {
  running?.abort();
  byId("prompt").focus();
}

/** Follow what is being written, unless the reader has scrolled away. */
function stayAtEnd() {
  const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
  if (scrollHeight - clientHeight - scrollTop < NEAR) window.scrollTo(0, scrollHeight);
}

function tell(text) {
  byId("told").textContent = text;
}

function startOver() {
  session.turns = [];
  shown.length = 0;
  byId("conversation").replaceChildren();
  save();
  draw();
  byId("prompt").focus();
}

function bind() {
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("prompt").focus();
    send();
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running) stop();
  });
  byId("stop").addEventListener("click", stop);
  byId("new").addEventListener("click", startOver);
}

restore();
bind();
bindSettings();
bindTally();
session.turns.forEach(show);
draw();
await loadModels();
document.documentElement.dataset.ready = "";
byId("prompt").focus({ preventScroll: true });
