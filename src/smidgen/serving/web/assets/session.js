// What this tab was told, kept until the tab is closed.

const KEY = "smidgen.session";

/**
 * models: names, one to four; a turn: { prompt, answers, order, blind, vote };
 * an answer: { model, text, thinking, state, fault, figures } with the state waiting, writing, done, stopped or failed.
 */
export const session = {
  models: [],
  blind: false,
  queued: false,
  system: "",
  schema: "",
  options: {},
  turns: [],
};

/** Bring back what the tab had; answers that were being written are stopped ones now. */
export function restore() {
  try {
    Object.assign(session, JSON.parse(sessionStorage.getItem(KEY) ?? "{}"));
  } catch {
    sessionStorage.removeItem(KEY);
  }
  for (const answer of session.turns.flatMap((turn) => turn.answers)) {
    if (answer.state === "waiting" || answer.state === "writing") answer.state = "stopped";
  }
}

/** Keep it; return whether there was room. */
export function save() {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(session));
    return true;
  } catch {
    return false;
  }
}

/** The conversation before a turn, as the model in one place of the row had it, and the turn's prompt. */
export function messagesFor(turn, seat) {
  const messages = session.system.trim() ? [{ role: "system", content: session.system }] : [];
  for (const each of session.turns) {
    if (each === turn) break;
    const answer = each.answers[seat];
    if (!answer?.text) continue;
    messages.push({ role: "user", content: each.prompt }, { role: "assistant", content: answer.text });
  }
  return [...messages, { role: "user", content: turn.prompt }];
}
