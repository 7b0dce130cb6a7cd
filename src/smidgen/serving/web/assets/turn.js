// One prompt and the row of its answers, with the vote where names are hidden.

import { chat, Fault } from "./api.js";
import { Card } from "./card.js";
import { make } from "./dom.js";
import { messagesFor, save } from "./session.js";
import { cast } from "./votes.js";

const LETTERS = "ABCD";

/** Draws a turn, asks its models and takes the vote. */
export class Turn {
  /**
   * @param {object} turn What `session.js` says a turn is.
   * @param {(turn: Turn, seat: number) => void} again Asks for one answer once more.
   */
  constructor(turn, again) {
    this.turn = turn;
    this.cards = turn.answers.map((answer, seat) => {
      const hidden = turn.blind && !turn.vote;
      const label = hidden ? `Answer ${LETTERS[turn.order.indexOf(seat)]}` : "";
      return new Card(answer, label, () => again(this, seat));
    });
    const row = make("div", { class: "cards" }, ...turn.order.map((seat) => this.cards[seat].element));
    this.ballot = make("div", { class: "ballot", role: "group", "aria-label": "Vote", hidden: true });
    this.verdict = make("p", { class: "verdict", role: "status" });
    const prompt = make("div", { class: "prompt" }, make("h2", { class: "off-screen" }, "You"), make("p", {}, turn.prompt));
    this.element = make("section", { class: "turn" }, prompt, row, this.ballot, this.verdict);
    this.drawVote();
  }

  /**
   * Ask every model, or those of some seats.
   *
   * @param {object} settings `options` and `format`, as `settings.js` reads them.
   * @param {AbortSignal} signal Stops all of them.
   * @param {boolean} queued Ask one after another.
   */
  async ask(settings, signal, queued, seats = this.turn.order) {
    for (const seat of seats) {
      const { model } = this.turn.answers[seat];
      Object.assign(this.turn.answers[seat], fresh(model));
      this.cards[seat].draw();
    }
    const asked = [];
    for (const seat of seats) {
      const done = this.askOne(seat, settings, signal);
      if (queued) await done;
      asked.push(done);
    }
    await Promise.all(asked);
    this.drawVote();
    save();
  }

  async askOne(seat, settings, signal) {
    const answer = this.turn.answers[seat];
    const card = this.cards[seat];
    const began = performance.now();
    let first = null;
    const each = ({ message }) => {
      if (!message.content && !message.thinking) return;
      first ??= performance.now();
      answer.state = "writing";
      answer.text += message.content ?? "";
      answer.thinking += message.thinking ?? "";
      card.follow();
    };
    try {
      signal.throwIfAborted();
      const body = { model: answer.model, messages: messagesFor(this.turn, seat), stream: true, ...settings };
      const last = await chat(body, signal, each);
      answer.state = "done";
      answer.figures = figures(last, began, first ?? performance.now());
    } catch (error) {
      if (signal.aborted) answer.state = "stopped";
      else {
        answer.state = "failed";
        answer.fault = error instanceof Fault ? { kind: error.kind, message: error.message } : { message: `${error}` };
      }
    }
    card.draw();
  }

  /** Let answers be asked for again, or not. */
  allow(again) {
    for (const card of this.cards) card.allow(again);
  }

  drawVote() {
    const { turn } = this;
    const answered = turn.answers.every(({ state }) => state === "done" || state === "stopped");
    this.ballot.hidden = !turn.blind || turn.vote !== null || !answered;
    if (!this.ballot.hidden) {
      const named = turn.order.map((seat, at) => this.voteButton(`${LETTERS[at]} is best`, turn.answers[seat].model));
      const others = [this.voteButton("Equally good", "tie"), this.voteButton("None is good", "none")];
      this.ballot.replaceChildren(make("span", {}, "Which answer is best?"), ...named, ...others);
    }
    this.verdict.textContent = turn.vote ? verdictOf(turn) : "";
  }

  voteButton(label, winner) {
    return make("button", { type: "button", click: () => this.vote(winner) }, label);
  }

  vote(winner) {
    this.turn.vote = winner;
    cast(this.turn.prompt, this.turn.answers.map((answer) => answer.model), winner);
    for (const card of this.cards) card.reveal();
    this.drawVote();
    save();
  }
}

/** Return an answer that was not begun. */
export function fresh(model) {
  return { model, text: "", thinking: "", state: "waiting", fault: null, figures: null };
}

/** Return the places 0 to `count` - 1, shuffled evenly where that is wanted. */
export function places(count, shuffled) {
  const order = [...Array(count).keys()];
  for (let at = count - 1; shuffled && at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}

function verdictOf({ vote, order, answers }) {
  const named = order.map((seat, at) => `${LETTERS[at]} was ${answers[seat].model}`).join(", ");
  const words = { tie: "You found them equally good", none: "You found none good" };
  return `${words[vote] ?? `You chose ${vote}`}: ${named}.`;
}

/** Make figures of a stream's last line; where the server tells no time, this page's clock does. */
function figures(last, began, first) {
  const tokens = last.eval_count ?? 0;
  const seconds = (last.eval_duration ?? 0) / 1e9 || (performance.now() - first) / 1000;
  return {
    tokens,
    perSecond: tokens && seconds ? tokens / seconds : null,
    firstSeconds: (first - began) / 1000,
    read: last.prompt_eval_count,
    cut: last.done_reason === "length",
  };
}
