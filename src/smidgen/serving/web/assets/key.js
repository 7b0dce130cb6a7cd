// The field for the key of a server that asks for one.

import { useKey } from "./api.js";
import { byId, complain } from "./dom.js";

/** Let a key be given; `use` tries it. */
export function bindKey(use) {
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      useKey(byId("key").value.trim());
    } catch (fault) {
      complain("key", fault.message);
      return;
    }
    complain("key", "");
    await use();
  });
}

/** Show where the key goes. */
export function showKeyForm() {
  byId("key-form").hidden = false;
}
