// Texts of models and data: tags are set apart, and hidden characters stand out.

const TAG = /(<\/?[A-Za-z_][\w-]{0,20}>)/;
const OPEN = /^<([A-Za-z_][\w-]{0,20})>$/;

function visible(text) {
  return text.split(HIDDEN).map((part, i) => (i % 2 ? el("span", { class: "hidden-character" }, codeOf(part)) : part));
}

// The text in one block; what stands between <think> or <answer> and its end has a block of its own.
function reading(text) {
  const root = el("div", { class: "text", dir: "auto" });
  const open = [[root, ""]];
  for (const part of text.split(TAG)) {
    const [into, name] = open.at(-1);
    const begins = part.match(OPEN);
    if (begins && (begins[1] === "think" || begins[1] === "answer") && open.length < 8) {
      const block = el("div", { class: begins[1] }, el("span", { class: "tag" }, part));
      into.append(block);
      open.push([block, begins[1]]);
    } else if (open.length > 1 && part === `</${name}>`) {
      into.append(el("span", { class: "tag" }, part));
      open.pop();
    } else if (part.trim() || into !== root)
      into.append(...(TAG.test(part) ? [el("span", { class: "tag" }, part)] : visible(part)));
  }
  return root;
}

// The last answer in the text, as far as it fits a column, and the text without its tags on one line.
const answerIn = (text) => (text.match(/<answer>([^]*?)(<\/answer>|$)(?![^]*<answer>)/) || ["", ""])[1].trim();
const inOneLine = (text, most, kind) =>
  el(
    "span",
    { class: kind, dir: "auto" },
    visible(
      text
        .replace(/<\/?(think|answer)>/g, " ")
        .replace(/\s+/g, " ")
        .trim()
        .slice(0, most),
    ),
  );

const picturesOf = (data, problem) =>
  el(
    "div",
    { class: "pictures" },
    problem[5].map((place, i) => {
      const address = data.images[place];
      const alt = `image ${i + 1} of ${problem[5].length}`;
      if (!address || !address.startsWith("data:image/webp;base64,"))
        return el("p", { class: "missing" }, `${alt}: its file is not here`);
      const picture = el("img", { src: address, alt, loading: "lazy" });
      return el(
        "button",
        {
          type: "button",
          class: "picture",
          "aria-label": `${alt}, larger or smaller`,
          onclick: (event) => event.currentTarget.classList.toggle("large"),
        },
        picture,
      );
    }),
  );

const questionOf = (data, problem) => [
  picturesOf(data, problem),
  problem[2]
    ? el("div", { class: "question" }, reading(problem[2]))
    : el("p", { class: "missing" }, "The question is not in this run's files."),
  problem[3]
    ? el("p", { class: "gold" }, el("span", {}, "gold answer"), el("b", { dir: "auto" }, visible(problem[3])))
    : null,
];

const hasText = (text, wanted) => text.toLowerCase().includes(wanted);
