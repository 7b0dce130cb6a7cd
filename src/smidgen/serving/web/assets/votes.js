// Blind votes: kept in this browser, counted, exported.

import { byId, download, make } from "./dom.js";

const KEY = "smidgen.votes";
const MOST = 1000;

/** Return the votes, the oldest first: { at, prompt, models, winner }, the winner a name, "tie" or "none". */
export function votes() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

/** Keep one vote more; the oldest go beyond a thousand. */
export function cast(prompt, models, winner) {
  const vote = { at: new Date().toISOString(), prompt, models, winner };
  localStorage.setItem(KEY, JSON.stringify([...votes(), vote].slice(-MOST)));
  showTally();
}

/** Count for each model how often it won, tied and lost. */
export function tally(cast) {
  const counts = new Map();
  for (const { models, winner } of cast) {
    for (const model of new Set(models)) {
      const count = counts.get(model) ?? { won: 0, tied: 0, lost: 0 };
      counts.set(model, count);
      if (winner === model) count.won++;
      else if (winner === "tie") count.tied++;
      else count.lost++;
    }
  }
  return [...counts].sort(([, one], [, other]) => other.won - one.won);
}

/** Draw the table. */
export function showTally() {
  const rows = tally(votes()).map(([model, { won, tied, lost }]) =>
    make("tr", {}, make("th", { scope: "row" }, model), ...[won, tied, lost].map((count) => make("td", {}, `${count}`))),
  );
  byId("tally-rows").replaceChildren(...rows);
  byId("tally").hidden = rows.length === 0;
  byId("no-votes").hidden = rows.length > 0;
}

/** Let the buttons below the table work. */
export function bindTally() {
  byId("export-votes").addEventListener("click", () => download("smidgen-votes.json", votes()));
  byId("clear-votes").addEventListener("click", () => {
    if (!confirm("Forget every vote?")) return;
    localStorage.removeItem(KEY);
    showTally();
  });
  window.addEventListener("storage", showTally);
  showTally();
}
