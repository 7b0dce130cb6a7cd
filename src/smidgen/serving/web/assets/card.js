// One model's answer to one prompt.

import { copyButton, make } from "./dom.js";
import { render } from "./markdown.js";

const LONGEST_MARKDOWN = 60_000;
const LONGEST_LIVE = 8_000;
const EVERY_MS = 90;

const REMEDIES = {
  gone: () => "Is smidgen serve still running? Start it again, then ask again.",
  missing: (model) => `List the stored models with “smidgen list”; get this one with “smidgen pull ${model}”.`,
  key: () => "Give the server's key under Settings, then ask again.",
  busy: () => "Too many requests wait at the moment. Ask again in a while.",
};

/** Draws an answer and follows it as it is written. */
export class Card {
  /**
   * @param {object} answer What `session.js` says an answer is.
   * @param {string} label Shown instead of the model's name until it is told; empty where there is nothing to hide.
   * @param {() => void} again Asks once more.
   */
  constructor(answer, label, again) {
    this.answer = answer;
    this.label = label;
    this.name = make("h3", { class: "name" });
    this.figures = make("p", { class: "figures" });
    this.thought = make("div", { class: "thought" });
    this.thinking = make("details", { class: "thinking" }, make("summary", {}, "Thinking"), this.thought);
    this.text = make("div", { class: "text", "aria-live": "polite" });
    this.fault = make("div", { class: "fault", role: "alert", hidden: true });
    this.again = make("button", { type: "button", class: "quiet again", click: again }, "Regenerate");
    const tools = make("div", { class: "tools" }, copyButton(() => answer.text), this.again);
    const head = make("header", {}, this.name, this.figures);
    this.element = make("article", { class: "card" }, head, this.thinking, this.text, this.fault, tools);
    this.tools = tools;
    this.timer = null;
    this.draw();
  }

  /** Draw soon: pieces that come fast are drawn together. */
  follow() {
    this.timer ??= setTimeout(() => this.draw(), EVERY_MS);
  }

  /** Show the model's name and figures, which a blind vote hid. */
  reveal() {
    this.label = "";
    this.draw();
  }

  /** Let it be asked for again, or not. */
  allow(again) {
    this.again.disabled = !again;
  }

  /** Draw what there is. */
  draw() {
    clearTimeout(this.timer);
    this.timer = null;
    const { answer } = this;
    const writes = answer.state === "waiting" || answer.state === "writing";
    this.element.dataset.state = answer.state;
    this.element.setAttribute("aria-label", `Answer of ${this.label || answer.model}`);
    this.name.textContent = this.label || answer.model;
    this.figures.textContent = this.label ? (writes ? "writes …" : "") : figuresOf(answer);
    this.thinking.hidden = !answer.thinking;
    this.thought.textContent = answer.thinking;
    this.text.setAttribute("aria-busy", `${writes}`);
    this.drawText(writes);
    this.drawFault();
    this.tools.hidden = writes;
  }

  drawText(writes) {
    const { text } = this.answer;
    const plain = text.length > (writes ? LONGEST_LIVE : LONGEST_MARKDOWN);
    this.text.classList.toggle("plain", plain);
    if (plain && this.shown && text.startsWith(this.shown)) this.text.append(text.slice(this.shown.length));
    else this.text.replaceChildren(plain ? text : render(text));
    this.shown = plain && writes ? text : "";
  }

  drawFault() {
    const { fault, model } = this.answer;
    this.fault.hidden = !fault;
    this.fault.replaceChildren();
    if (!fault) return;
    const named = this.label ? fault.message.replaceAll(model, this.label) : fault.message;
    this.fault.append(make("strong", {}, named));
    const remedy = REMEDIES[fault.kind]?.(this.label ? "NAME" : model);
    if (remedy) this.fault.append(make("p", {}, remedy));
  }
}

/** Word the figures: tokens, tokens per second, time to the first token, tokens read. */
function figuresOf({ state, figures }) {
  if (state === "waiting") return "waits …";
  const parts = [];
  if (state === "stopped") parts.push("stopped");
  if (figures?.tokens !== undefined) parts.push(count(figures.tokens, "token"));
  if (figures?.perSecond) parts.push(`${figures.perSecond.toFixed(figures.perSecond < 100 ? 1 : 0)} tok/s`);
  if (figures?.firstSeconds !== undefined) parts.push(`first after ${figures.firstSeconds.toFixed(2)} s`);
  if (figures?.read !== undefined) parts.push(`${figures.read} read`);
  if (figures?.cut) parts.push("cut at the limit");
  return parts.join(" · ");
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
