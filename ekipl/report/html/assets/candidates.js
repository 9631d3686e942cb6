// A problem of a step with all its candidates.

function problemCard(run, step, group, steps, follow, only) {
  const groups = run.groups;
  const [place, refused, rows] = group;
  const problem = groups.problems[place];
  const facts = factsOf(groups, group);
  const out = (name, [right, all]) => (all ? el("span", { class: "badge" }, `${name} ${right} of ${all} right`) : null);
  const reasons = Object.entries(refused).map(([reason, times]) =>
    el("span", { class: "badge warn" }, `${times} \u00d7 ${reason}`),
  );
  const others = steps.filter((other) => other !== step);
  const key = `${problem[1]}/${problem[0]}`;
  return el(
    "article",
    { class: "problem", id: `problem-${step}-${problem[0]}` },
    el(
      "header",
      {},
      el("h3", {}, visible(problem[0])),
      problem[4] ? el("span", { class: "badge family" }, problem[4]) : null,
      state.scope === "all" ? el("span", { class: "badge" }, `step ${step}`) : null,
      out("policy", facts.own),
      out("external", facts.others),
      el("span", { class: "badge" }, `${facts.kept} of ${rows.length} kept`),
      facts.dead ? el("span", { class: "badge warn" }, "dead: no gradient") : null,
      reasons,
    ),
    el(
      "div",
      { class: "sides" },
      el(
        "div",
        { class: "said" },
        questionOf(groups, problem),
        others.length
          ? el(
              "p",
              { class: "also" },
              "also at ",
              others
                .slice(0, 12)
                .map((other) =>
                  el(
                    "button",
                    { type: "button", class: "link", onclick: () => follow(problem[0], other) },
                    `step ${other}`,
                  ),
                ),
              el("button", { type: "button", class: "link", onclick: () => only(key) }, "side by side"),
            )
          : null,
      ),
      el(
        "div",
        { class: "candidates" },
        heads(),
        ordered(groups, rows).map((row) => candidate(run, groups, row)),
      ),
    ),
  );
}

const heads = () =>
  el(
    "div",
    { class: "heads", "aria-hidden": "true" },
    ["", "source", "", "reward", "advantage", "answer", "text"].map((name) => el("span", {}, name)),
  );

function ordered(groups, rows) {
  if (state.order === "offered") return rows;
  const source = (row) => groups.texts[row[SOURCE]];
  const bySource = (a, b) =>
    (source(b) === "policy") - (source(a) === "policy") || (source(a) < source(b) ? -1 : source(a) > source(b) ? 1 : 0);
  const byReward = (a, b) => (b[TOTAL] ?? -1) - (a[TOTAL] ?? -1);
  return [...rows].sort((a, b) =>
    state.order === "source"
      ? bySource(a, b) || byReward(a, b)
      : byReward(a, b) || (b[KEPT] || 0) - (a[KEPT] || 0) || bySource(a, b),
  );
}

const verdictOf = (row) =>
  row[ACCURACY] === null
    ? ["ungraded", "?"]
    : isRight(row)
      ? ["right", "\u2713"]
      : row[ACCURACY] > 0
        ? ["partly right", "\u00bd"]
        : ["wrong", "\u2717"];

function candidate(run, data, row) {
  const source = data.texts[row[SOURCE]];
  const [verdict, mark] = verdictOf(row);
  const text = data.texts[row[TEXT]];
  const kept = row.length > KEPT ? row[KEPT] : null;
  const chosen = kept === null ? null : kept ? (row[GAIN] === null ? "kept" : signed(row[GAIN], 2)) : "left out";
  const details = [
    row[TOTAL] === null
      ? "not graded"
      : `reward ${number(row[TOTAL])} (format ${number(row[FORMAT])}, accuracy ${number(row[ACCURACY])})`,
    data.texts[row[DETAIL]],
    row[TOKENS] === null ? "" : `${row[TOKENS]} tokens`,
    row[CUT] ? "cut off at the limit" : "",
    kept ? `kept${row[GAIN] === null ? "" : `, advantage ${signed(row[GAIN], 3)}`}` : "",
    kept === 0 ? "left out" : "",
    row.length > KEPT ? data.texts[row[WHY]] : "",
  ].filter(Boolean);
  const body = el("div", { class: "body" });
  const open = () =>
    body.childNodes.length || body.append(el("p", { class: "note" }, details.join(" \u00b7 ")), reading(text));
  const shell = el(
    "details",
    { class: `candidate ${kept === 0 ? "out" : ""}`, open: state.texts === "open", ontoggle: open },
    el(
      "summary",
      {},
      swatch(colourOf(run, source)),
      el("span", { class: "source" }, source),
      el(
        "span",
        { class: `verdict ${verdict.split(" ")[0]}`, title: verdict },
        mark,
        el("span", { class: "aside" }, ` ${verdict}`),
      ),
      el("span", { class: "reward", title: "reward" }, row[TOTAL] === null ? DASH : number(row[TOTAL])),
      el("span", { class: "gain", title: kept ? "advantage" : "selection" }, chosen || ""),
      inOneLine(answerIn(text), 80, "final"),
      inOneLine(text, 400, "excerpt"),
    ),
    body,
  );
  if (state.texts === "open") open();
  return shell;
}
