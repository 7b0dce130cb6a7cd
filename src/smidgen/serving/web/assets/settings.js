// The settings beside the conversation: models, blind vote, system prompt, parameters, JSON schema, key.

import { modelNames } from "./api.js";
import { byId, complain, make } from "./dom.js";
import { bindKey, showKeyForm } from "./key.js";
import { save, session } from "./session.js";

const ECHO = "echo";
const MOST_MODELS = 4;
const OPTIONS = ["temperature", "top_p", "num_predict", "num_ctx", "seed"];

let stored = [];

/** Draw the settings as the session has them, and keep what is changed. */
export function bindSettings() {
  byId("settings").open = matchMedia("(min-width: 60rem)").matches;
  for (const name of OPTIONS) bindText(name, session.options[name] ?? "", (text) => setOption(name, text));
  bindText("system", session.system, (text) => (session.system = text));
  bindText("schema", session.schema, (text) => (session.schema = text));
  for (const name of ["blind", "queued"]) {
    byId(name).checked = session[name];
    byId(name).addEventListener("change", () => {
      session[name] = byId(name).checked;
      changed();
    });
  }
  byId("add-model").addEventListener("click", () => {
    const fresh = choices().find((name) => !session.models.includes(name)) ?? ECHO;
    session.models.push(fresh);
    changed();
    byId("models").querySelector("li:last-child select").focus();
  });
  bindKey(loadModels);
}

/** Ask the server for its models and offer them. */
export async function loadModels() {
  const told = byId("models-fault");
  try {
    stored = await modelNames();
    told.hidden = true;
  } catch (fault) {
    told.textContent = fault.kind === "key" ? "This server asks for a key." : fault.message;
    told.hidden = false;
    if (fault.kind === "key") askForKey();
  }
  byId("no-models").hidden = stored.length > 0 || !told.hidden;
  const asked = new URLSearchParams(location.search).getAll("model").slice(0, MOST_MODELS);
  if (asked.length && !session.turns.length) session.models = asked;
  if (!session.models.length) session.models = [stored[0] ?? ECHO];
  changed();
}

/** Show where the key goes. */
export function askForKey() {
  byId("settings").open = true;
  showKeyForm();
}

/**
 * Read what is asked with every prompt.
 *
 * @returns {object|null} `options` and, where a schema is given, `format`; null where a field is wrong: it says so itself.
 */
export function readSettings() {
  let wrong = null;
  const options = {};
  for (const name of OPTIONS) {
    const field = byId(name);
    const problem = field.validationMessage;
    complain(name, problem);
    if (problem) wrong ??= field;
    else if (field.value !== "") options[name] = Number(field.value);
  }
  const { format, problem } = readSchema(byId("schema").value.trim());
  complain("schema", problem);
  if (problem) wrong ??= byId("schema");
  if (!wrong) return format === undefined ? { options } : { options, format };
  byId("settings").open = true;
  wrong.closest("details").open = true;
  wrong.focus();
  return null;
}

function readSchema(text) {
  if (!text) return { problem: "" };
  if (text === "json") return { format: text, problem: "" };
  try {
    const format = JSON.parse(text);
    if (format === "json" || (format && typeof format === "object" && !Array.isArray(format))) return { format, problem: "" };
    return { problem: "A schema is an object in braces, or the word json." };
  } catch (error) {
    return { problem: `This is not JSON: ${error.message}` };
  }
}

function bindText(name, value, keep) {
  const field = byId(name);
  field.value = value;
  field.addEventListener("input", () => {
    keep(field.value);
    save();
  });
}

function setOption(name, text) {
  if (text === "") delete session.options[name];
  else session.options[name] = text;
}

function choices() {
  return [...new Set([...stored, ...session.models, ECHO])];
}

function changed() {
  save();
  const rows = session.models.map((model, at) => modelRow(model, at));
  byId("models").replaceChildren(...rows);
  byId("add-model").disabled = session.models.length >= MOST_MODELS;
  byId("blind-note").hidden = !session.blind || new Set(session.models).size > 1;
  byId("queued-row").hidden = session.models.length < 2;
}

function modelRow(model, at) {
  const offered = choices().map((name) => make("option", { selected: name === model }, name));
  const select = make("select", { "aria-label": `Model ${at + 1}` }, ...offered);
  select.value = model;
  select.addEventListener("change", () => {
    session.models[at] = select.value;
    changed();
    byId("models").querySelectorAll("select")[at].focus();
  });
  const remove = make("button", { type: "button", class: "quiet", "aria-label": `Remove model ${at + 1}` }, "✕");
  remove.addEventListener("click", () => {
    session.models.splice(at, 1);
    changed();
    byId("add-model").focus();
  });
  remove.hidden = session.models.length < 2;
  return make("li", {}, select, remove);
}
