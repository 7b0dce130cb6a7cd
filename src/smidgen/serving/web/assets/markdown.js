// The part of Markdown that models write, as elements: headings, lists, quotes, code, emphasis.
// Everything else, HTML and links included, stays the text it is.

import { copyButton, make } from "./dom.js";

const FENCE = /^\s{0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(?=\S)(.+?)\*\*|\*(?=[^\s*])([^*]*[^\s*])\*(?!\*)/s;
const DEEPEST = 6;

/** Turn a text into a fragment of elements. */
export function render(text, depth = 0) {
  const lines = text.split("\n");
  const made = document.createDocumentFragment();
  let at = 0;
  while (at < lines.length) at = block(lines, at, made, depth);
  return made;
}

/** Append the block that begins at a line; return where the next begins. */
function block(lines, at, into, depth) {
  const line = lines[at];
  if (!line.trim()) return at + 1;
  if (FENCE.test(line)) return code(lines, at, into);
  if (RULE.test(line)) {
    into.append(make("hr"));
    return at + 1;
  }
  const heading = HEADING.exec(line);
  if (heading) {
    // The page's own headings are of levels 1 and 2.
    into.append(make(`h${Math.min(6, heading[1].length + 2)}`, {}, ...inline(heading[2])));
    return at + 1;
  }
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, into, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, into, depth);
  return paragraph(lines, at, into);
}

function code(lines, at, into) {
  const [, fence, language] = FENCE.exec(lines[at]);
  const body = [];
  let next = at + 1;
  while (next < lines.length && !lines[next].trim().startsWith(fence)) body.push(lines[next++]);
  const text = body.join("\n");
  const head = make("div", { class: "code-head" }, make("span", {}, language), copyButton(() => text));
  const shown = make("pre", { tabindex: "0", "aria-label": language ? `Code, ${language}` : "Code" });
  shown.append(make("code", {}, text));
  into.append(make("div", { class: "code" }, head, shown));
  return next + 1;
}

function quote(lines, at, into, depth) {
  const body = [];
  let next = at;
  for (; next < lines.length && QUOTE.test(lines[next]); next++) body.push(QUOTE.exec(lines[next])[1]);
  into.append(make("blockquote", {}, render(body.join("\n"), depth + 1)));
  return next;
}

function list(lines, at, into, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const made = make(ordered ? "ol" : "ul", ordered ? { start: parseInt(mark, 10) } : {});
  let next = at;
  while (next < lines.length) {
    const item = ITEM.exec(lines[next]);
    if (!item || item[1].length !== indent.length || /\d/.test(item[2]) !== ordered) break;
    const body = [item[3]];
    for (next++; next < lines.length && belongs(lines, next, indent.length); next++) body.push(lines[next].trimEnd());
    made.append(listItem(body, depth));
    // A blank line between two items keeps the list together.
    if (next + 1 < lines.length && !lines[next].trim() && ITEM.test(lines[next + 1])) next++;
  }
  into.append(made);
  return next;
}

/** Say whether a line continues the item before it: it is indented deeper. */
function belongs(lines, at, indent) {
  const line = lines[at];
  return line.trim() !== "" && line.length - line.trimStart().length > indent;
}

function listItem(body, depth) {
  const [first, ...rest] = body;
  const item = make("li", {}, ...inline(first));
  const narrowest = Math.min(...rest.map((line) => line.length - line.trimStart().length));
  if (rest.length) item.append(render(rest.map((line) => line.slice(narrowest)).join("\n"), depth + 1));
  return item;
}

function paragraph(lines, at, into) {
  const body = [lines[at]];
  let next = at + 1;
  for (; next < lines.length && lines[next].trim() && !begins(lines[next]); next++) body.push(lines[next]);
  into.append(make("p", {}, ...inline(body.join("\n"))));
  return next;
}

function begins(line) {
  return [FENCE, HEADING, ITEM, QUOTE].some((each) => each.test(line));
}

/** Turn the text of one block into texts, code and emphasis. */
function inline(text, depth = 0) {
  const made = [];
  let rest = text;
  for (let found = INLINE.exec(rest); found && depth < DEEPEST; found = INLINE.exec(rest)) {
    if (found.index) made.push(rest.slice(0, found.index));
    const [whole, , codeText, strong, emphasis] = found;
    if (codeText !== undefined) made.push(make("code", {}, codeText));
    else if (strong !== undefined) made.push(make("strong", {}, ...inline(strong, depth + 1)));
    else made.push(make("em", {}, ...inline(emphasis, depth + 1)));
    rest = rest.slice(found.index + whole.length);
  }
  if (rest) made.push(rest);
  return made;
}
