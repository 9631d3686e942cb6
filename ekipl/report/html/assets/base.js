// Elements, numbers, tables and the state of the page. Whatever comes from a run is put on the page as text: nothing
// here, or in the other files, reads markup.

const SVG = "http://www.w3.org/2000/svg";

// Characters that are not to be seen, or that turn the text around them: they are shown by their number.
const HIDDEN =
  /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb])/;
const codeOf = (character) => `U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
const told = (value) =>
  String(value)
    .split(HIDDEN)
    .map((part, i) => (i % 2 ? `[${codeOf(part)}]` : part))
    .join("");

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : name === "value" ? value : told(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false)
      node.append(child instanceof Node ? child : told(child));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers. A missing one is a dash.

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const DASH = "\u2013";

function number(value, digits = 3) {
  if (!isNumber(value)) return DASH;
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

const percent = (value) => (isNumber(value) ? (100 * value).toFixed(1) : DASH);
const signed = (value, digits = 1) =>
  isNumber(value) ? (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits) : DASH;

function interval(estimate) {
  if (!estimate || !isNumber(estimate[0])) return DASH;
  const [mean, low, high] = estimate.map(percent);
  return low === DASH ? mean : `${mean} (${low} to ${high})`;
}

function points(estimate) {
  if (!estimate || !isNumber(estimate[0])) return DASH;
  const [mean, low, high] = estimate.map((value) => (isNumber(value) ? signed(100 * value) : DASH));
  return low === DASH ? mean : `${mean} (${low} to ${high})`;
}

const SPLITS = { id: "in distribution", ood: "out of distribution" };
const splitName = (split) => SPLITS[split] || split;

// Colours: places in the palette of page.css, which the colour-blind can tell apart.

const COLOURS = 8;
const colour = (place) => `var(--c${place % COLOURS})`;

function sourcesOf(run) {
  const found = new Set();
  for (const name of Object.keys(run.metrics.values)) {
    if (name.startsWith("share/offered/")) found.add(name.slice("share/offered/".length));
  }
  return [...found].sort((a, b) => (b === "policy") - (a === "policy") || (a < b ? -1 : 1));
}

function colourOf(run, source) {
  const place = sourcesOf(run).indexOf(source);
  return colour(place < 0 ? COLOURS - 1 : place);
}

// State, kept in the address, so that a link shows the same and a reload of a live page loses nothing.

const state = {};

function readState() {
  for (const name of Object.keys(state)) delete state[name];
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) state[name] = value;
}

function setState(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") delete state[name];
    else state[name] = String(value);
  }
  const text = new URLSearchParams(state).toString();
  try {
    history.replaceState(null, "", `#${text}`);
  } catch (error) {
    location.hash = text; // a browser that keeps files apart
  }
}

// Tables: sorted by a click on a header, and copied as CSV.

const quoted = (cell) => (/[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
// A spreadsheet would take such a text for a formula.
const harmless = (cell) => (/^[=+\-@\t\r]/.test(cell) && !/^[-+]?[\d.]+(e[-+]?\d+)?$/i.test(cell) ? `'${cell}` : cell);
const csv = (header, rows) =>
  [header, ...rows].map((row) => row.map((cell) => quoted(harmless(String(cell ?? "")))).join(",")).join("\n") + "\n";

function copyButton(header, rows) {
  const button = el("button", { type: "button", class: "quiet" }, "Copy as CSV");
  button.addEventListener("click", async () => {
    const text = csv(header, rows());
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch (error) {
      const area = el("textarea", { class: "csv", rows: 6, readonly: true, "aria-label": "CSV" });
      area.value = text;
      button.replaceWith(area); // where the browser keeps the clipboard to itself
      area.select();
    }
  });
  return button;
}

const rank = (cell) => {
  const value = parseFloat(String(cell).replaceAll(",", "").replace("\u2212", "-"));
  return Number.isNaN(value) ? null : value;
};

function table(header, rows, options = {}) {
  const numeric = header.map(
    (_, i) => rows.length > 0 && rows.every((row) => row[i] === DASH || /^[-+\u2212(]?[\d.,]/.test(String(row[i]))),
  );
  const body = el("tbody");
  const show = (ordered) =>
    body.replaceChildren(
      ...ordered.map((row) =>
        el(
          "tr",
          {},
          row.map((cell, i) =>
            el(i ? "td" : "th", { class: numeric[i] ? "number" : null, scope: i ? null : "row" }, String(cell ?? DASH)),
          ),
        ),
      ),
    );
  let last = null;
  const sort = (i, head) => {
    const down = last === i;
    last = down ? null : i;
    const value = (row) => (numeric[i] ? (rank(row[i]) ?? -Infinity) : String(row[i]));
    const ordered = [...rows].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    show(down ? ordered.reverse() : ordered);
  };
  const heads = header.map((name, i) => {
    const head = el("th", { scope: "col", class: numeric[i] ? "number" : null });
    head.append(
      options.sortable ? el("button", { type: "button", class: "sort", onclick: () => sort(i, head) }, name) : name,
    );
    return head;
  });
  show(rows);
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": options.label || header.join(", ") },
    el("table", {}, el("thead", {}, el("tr", {}, heads)), body),
  );
}

function dataTable(header, rows, title = "Numbers") {
  return el(
    "details",
    { class: "data" },
    el("summary", {}, title),
    copyButton(header, () => rows),
    table(header, rows),
  );
}

// Controls.

function choice(label, options, value, onchange) {
  const select = el("select", { "aria-label": label, onchange: (event) => onchange(event.target.value) });
  for (const [key, name] of options)
    select.append(el("option", { value: key, selected: String(key) === String(value) }, name));
  return el("label", { class: "control" }, el("span", {}, label), select);
}

const section = (title, ...children) => el("section", {}, el("h2", {}, title), children);
