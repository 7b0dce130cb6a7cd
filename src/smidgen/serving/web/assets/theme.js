// Runs before anything is drawn, so that the page never flashes in the wrong colours.
"use strict";
(() => {
  const KEY = "smidgen.theme";

  /** Draw in "light" or "dark"; anything else follows the system. */
  function apply(theme) {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }

  let kept = "system";
  try {
    kept = localStorage.getItem(KEY) ?? kept;
  } catch {
    // Storage may be forbidden; the system's colours do.
  }
  apply(kept);
  document.addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    choice.value = document.documentElement.dataset.theme ?? "system";
    choice.addEventListener("change", () => {
      apply(choice.value);
      try {
        localStorage.setItem(KEY, choice.value);
      } catch {
        // Then the choice lasts as long as the page.
      }
    });
  });
})();
