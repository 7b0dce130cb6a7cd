// The page for documents: what is asked, by whom it is answered, and the keys.

import { extract, modelNames } from "./api.js";
import { byId, complain, copyButton, download, make } from "./dom.js";
import { Found } from "./found.js";
import { bindKey, showKeyForm } from "./key.js";

const KEPT = "smidgen.extract";
const DEFAULT_MODEL = "smollm2:135m";
const NONE = "none";
const MOST_BYTES = 46 * 2 ** 20;
const MOST_PAGES = 100;
const EXAMPLE = { type: "object", properties: { order_number: { type: "string" }, date: { type: "string", format: "date" } } };

const asked = ["preset", "schema", "model", "pages"];
let running = null;
let given = null;
let shown = null;

/** Ask for what the form says, and show the answer. */
async function send() {
  if (running) return;
  const body = read();
  if (!body) return;
  const { name } = given;
  running = new AbortController();
  draw(`Reading ${name} …`);
  byId("stop").focus();
  let said = "";
  try {
    body.file = await encoded(given);
    show(await extract(body, running.signal));
  } catch (fault) {
    if (fault.name === "AbortError") said = "Stopped.";
    else refuse(fault);
  }
  running = null;
  draw(said);
  if (said || !byId("fault").hidden) byId("extract").focus();
}

/** Read the form; null where something is wrong with it, which it says itself. */
function read() {
  const problems = { file: fileProblem(), pages: "", schema: "" };
  const body = { name: given?.name.slice(0, 200), model: byId("model").value, pictures: true };
  try {
    body.pages = pageNumbers(byId("pages").value);
  } catch (error) {
    problems.pages = error.message;
  }
  if (byId("preset").value) {
    body.preset = byId("preset").value;
  } else {
    try {
      body.schema = JSON.parse(byId("schema").value);
    } catch (error) {
      problems.schema = `This is not JSON: ${error.message}`;
    }
  }
  for (const [name, problem] of Object.entries(problems)) complain(name, problem);
  const wrong = Object.keys(problems).find((name) => problems[name]);
  if (wrong) byId(wrong).focus();
  return wrong ? null : body;
}

function fileProblem() {
  if (!given) return "Choose a document, or drop one.";
  if (given.size > MOST_BYTES) return "It is larger than 46 MB. “smidgen extract” reads it in a terminal.";
  return "";
}

/** Read a list of pages as a person writes it; undefined where it is empty. */
function pageNumbers(text) {
  if (!text.trim()) return undefined;
  const numbers = text.split(",").flatMap((part) => {
    const [, first, last] = part.match(/^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$/) ?? [];
    const [begin, end] = [Number(first), Number(last ?? first)];
    if (!(begin >= 1 && end >= begin && end - begin < MOST_PAGES)) throw new Error("Write pages as 1-3,7; at most 100.");
    return Array.from({ length: end - begin + 1 }, (_, at) => begin + at);
  });
  return [...new Set(numbers)].slice(0, MOST_PAGES);
}

/** Return a file in base64, as a data URL. */
function encoded(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error(`${file.name} cannot be read: it may have been moved.`)));
    reader.readAsDataURL(file);
  });
}

function show(extraction) {
  shown?.release();
  shown = new Found(extraction);
  byId("found-name").textContent = extraction.file;
  byId("summary").textContent = shown.summary;
  byId("faults").replaceChildren(...extraction.faults.map((fault) => make("li", {}, fault)));
  byId("sheets").replaceChildren(...shown.sheets);
  byId("tables").replaceChildren(...shown.tables);
  const save = make("button", { type: "button", class: "quiet" }, "Download with places");
  save.addEventListener("click", () => download(`${extraction.file}.json`, shown.plain));
  byId("tools").replaceChildren(copyButton(() => JSON.stringify(extraction.data, null, 2), "Copy as JSON"), save);
  byId("result").hidden = false;
  byId("fault").hidden = true;
  byId("found").focus({ preventScroll: true });
  byId("result").scrollIntoView({ block: "start" });
}

function refuse(fault) {
  byId("fault").textContent = fault.message;
  byId("fault").hidden = false;
  if (fault.kind === "key") showKeyForm();
}

function draw(said) {
  const busy = running !== null;
  byId("told").textContent = said;
  byId("told").classList.toggle("busy", busy);
  byId("extract").hidden = busy;
  byId("stop").hidden = !busy;
  byId("empty").hidden = busy || !byId("result").hidden || !byId("fault").hidden;
  if (busy) byId("fault").hidden = true;
  byId("result").classList.toggle("old", busy || !byId("fault").hidden);
  byId("own").hidden = byId("preset").value !== "";
}

/** Take a file that was dropped, pasted or chosen. */
function take(files, focus) {
  if (!files.length) return;
  given = files[0];
  if (focus) {
    byId("file").files = files;
    byId("extract").focus();
  }
  complain("file", files.length > 1 ? "One document at a time: the first is taken. “smidgen extract” reads folders." : fileProblem());
}

function bindFiles() {
  byId("file").addEventListener("change", () => take(byId("file").files, false));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) byId("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    take(event.dataTransfer.files, true);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files, true));
}

async function loadModels() {
  let stored = [];
  const told = byId("models-fault");
  told.hidden = true;
  try {
    stored = await modelNames();
  } catch (fault) {
    told.textContent = fault.kind === "key" ? "This server asks for a key." : fault.message;
    told.hidden = false;
    if (fault.kind === "key") showKeyForm();
  }
  const offered = [make("option", { value: NONE }, "none: the layout alone"), ...stored.map((name) => make("option", { value: name }, name))];
  byId("model").replaceChildren(...offered);
  const wanted = kept().model ?? DEFAULT_MODEL;
  byId("model").value = stored.includes(wanted) ? wanted : NONE;
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
  } catch {
    return {};
  }
}

function keep() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(asked.map((name) => [name, byId(name).value]))));
  } catch {
    // Then it lasts as long as the page.
  }
}

function bind() {
  const before = kept();
  byId("schema").value = before.schema ?? JSON.stringify(EXAMPLE, null, 2);
  byId("preset").value = before.preset ?? "invoice";
  byId("pages").value = before.pages ?? "";
  for (const name of asked) byId(name).addEventListener("input", keep);
  byId("preset").addEventListener("change", () => draw(""));
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("stop").addEventListener("click", () => running?.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
}

bind();
bindFiles();
bindKey(loadModels);
draw("");
await loadModels();
document.documentElement.dataset.ready = "";
byId("file").focus({ preventScroll: true });
