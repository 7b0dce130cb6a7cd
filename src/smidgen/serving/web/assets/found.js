// What was found: the pages with a box for each field, and tables that lead to them.

import { make } from "./dom.js";

const ROW = /^(.*)\[(\d+)\]\.([^[]*)$/;
const WIDE = "(min-width: 60rem)";

/** Draws an extraction; `sheets` and `tables` are its elements. */
export class Found {
  /** @param {object} extraction What /v1/extract answers, with pictures of its pages. */
  constructor(extraction) {
    this.fields = extraction.fields;
    this.pages = extraction.pages;
    this.plain = { ...extraction, pages: extraction.pages.map(({ picture, ...page }) => page) };
    this.summary = summaryOf(extraction);
    this.addresses = [];
    this.boxes = new Map();
    this.names = new Map();
    this.chosen = null;
    this.sheets = extraction.pages.filter((page) => page.picture).map((page) => this.sheet(page));
    this.tables = this.grouped();
  }

  /** Give the pictures' memory back. */
  release() {
    this.addresses.forEach((address) => URL.revokeObjectURL(address));
  }

  sheet(page) {
    const bytes = Uint8Array.from(atob(page.picture), (character) => character.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    this.addresses.push(address);
    const image = make("img", { src: address, alt: `Page ${page.number}` });
    const paper = make("div", { class: "paper" }, image);
    for (const [path, found] of Object.entries(this.fields)) {
      if (found.page === page.number && found.box) paper.append(this.box(path, found, page));
    }
    const note = page.source === "ocr" ? "read by OCR" : "text of the file";
    const turned = page.rotation ? `, turned by ${page.rotation}°` : "";
    return make("figure", {}, make("figcaption", { class: "note" }, `Page ${page.number}, ${note}${turned}`), paper);
  }

  box(path, found, page) {
    const [left, top, right, bottom] = found.box;
    const name = make("span", {}, path);
    const says = `${path}: ${found.value}, ${worded(found.status)}`;
    const box = make("button", { type: "button", class: `box ${found.status}`, tabindex: -1, title: says, "aria-label": says }, name);
    const share = (part, whole) => `${(100 * part) / whole}%`;
    box.style.setProperty("left", share(left, page.width));
    box.style.setProperty("top", share(top, page.height));
    box.style.setProperty("width", share(right - left, page.width));
    box.style.setProperty("height", share(bottom - top, page.height));
    if (left > page.width / 2) box.classList.add("right");
    box.addEventListener("click", () => {
      this.names.get(path).focus();
      this.choose(path, false);
      this.names.get(path).scrollIntoView({ block: "nearest" });
    });
    this.boxes.set(path, box);
    return box;
  }

  /** One table of the single fields, and one for each list. */
  grouped() {
    const single = [];
    const lists = new Map();
    for (const path of Object.keys(this.fields)) {
      const [, list, row, column] = path.match(ROW) ?? [];
      if (!list) {
        single.push(path);
        continue;
      }
      const rows = lists.get(list) ?? [];
      lists.set(list, rows);
      (rows[row] ??= new Map()).set(column, path);
    }
    const first = single.length ? [this.fieldTable(single)] : [];
    return [...first, ...[...lists].map(([list, rows]) => this.listed(list, rows))];
  }

  fieldTable(paths) {
    const rows = paths.map((path) => {
      const found = this.fields[path];
      const value = make("td", { class: "value" }, shown(found.value));
      if (found.note) value.append(make("p", { class: "note" }, found.note));
      const status = make("td", {}, make("span", { class: `status ${found.status}` }, worded(found.status)));
      if (found.value !== null) status.append(" ", make("span", { class: "sure" }, `${Math.round(100 * found.confidence)}%`));
      return make("tr", {}, make("th", { scope: "row" }, this.name(path, broken(path))), value, status);
    });
    return table("Fields", ["Field", "Value", "Status"], rows);
  }

  listed(list, rows) {
    const columns = [...rows[0].keys()];
    const drawn = rows.map((row) => make("tr", {}, ...columns.map((column) => make("td", {}, this.cell(row.get(column))))));
    return table(list, columns, drawn);
  }

  cell(path) {
    const found = this.fields[path];
    const name = this.name(path, shown(found.value), `${path}: ${found.value}, ${worded(found.status)}`);
    if (found.status !== "grounded") name.classList?.add("status", found.status);
    return name;
  }

  /** A field's name or value: a button where it has a place on a page that is shown. */
  name(path, text, label = null) {
    if (!this.boxes.has(path)) return text;
    const name = make("button", { type: "button", class: "name", "aria-label": label }, text);
    name.addEventListener("focus", () => this.choose(path, matchMedia(WIDE).matches));
    name.addEventListener("click", () => this.choose(path, true));
    name.addEventListener("keydown", (event) => this.step(event, path));
    this.names.set(path, name);
    return name;
  }

  /** Mark a field and its box. */
  choose(path, scrolls) {
    if (this.chosen) {
      this.boxes.get(this.chosen).classList.remove("on");
      this.names.get(this.chosen).removeAttribute("aria-current");
    }
    this.chosen = path;
    this.boxes.get(path).classList.add("on");
    this.names.get(path).setAttribute("aria-current", "true");
    if (scrolls) this.boxes.get(path).scrollIntoView({ block: "nearest" });
  }

  step(event, path) {
    const paths = [...this.names.keys()];
    const at = paths.indexOf(path);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: paths.length - 1 }[event.key];
    const next = paths[to];
    if (to === undefined || !next) return;
    event.preventDefault();
    this.names.get(next).focus();
  }
}

function table(name, columns, rows) {
  const heads = columns.map((column) => make("th", { scope: "col" }, column));
  const caption = make("caption", {}, name);
  return make("div", { class: "wide" }, make("table", {}, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}

function shown(value) {
  return value === null ? "–" : value === true ? "yes" : value === false ? "no" : `${value}`;
}

/** A field's path that may go on in the next line behind each of its parts. */
function broken(path) {
  const parts = path.split(/(?<=[_.])/);
  return make("span", {}, ...parts.flatMap((part) => [part, make("wbr")]));
}

function worded(status) {
  return status.replaceAll("_", " ");
}

function summaryOf({ fields, pages, model, seconds }) {
  const all = Object.values(fields);
  const there = all.filter(({ status }) => status === "grounded").length;
  const read = `${pages.length} ${pages.length === 1 ? "page" : "pages"}`;
  return `${there} of ${all.length} fields grounded · ${read} · ${seconds.toFixed(1)} s · ${model ?? "no model"}`;
}
