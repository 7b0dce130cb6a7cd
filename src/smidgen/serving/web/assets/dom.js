// Elements out of names, attributes and texts; never out of HTML.

/**
 * Make an element.
 *
 * @param {string} name Its tag.
 * @param {object} attributes Those of the markup; functions listen to the event of that name; null and false are left out.
 * @param {...(Node|string)} children Elements, or texts that stay texts.
 */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Return the element of that id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Say below a field what is wrong with it; an empty text takes it back. */
export function complain(name, problem) {
  byId(name).setAttribute("aria-invalid", `${problem !== ""}`);
  const told = byId(`${name}-fault`);
  told.textContent = problem;
  told.hidden = !problem;
}

/** Hand over a value as a JSON file. */
export function download(name, value) {
  const file = new Blob([JSON.stringify(value, null, 2)], { type: "application/json" });
  const address = URL.createObjectURL(file);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Put a text on the clipboard, also where the page came over plain HTTP from another machine. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { readonly: true, class: "off-screen" });
    field.value = text;
    const before = document.activeElement;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    before?.focus();
  }
}

/** A button that copies what `text()` returns, and says so. */
export function copyButton(text, label = "Copy") {
  const button = make("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    await copy(text());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}
