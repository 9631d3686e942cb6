// The answers of evaluations: one model, or two side by side.

const CHANGES = [
  ["", "all problems"],
  ["gained", "gained"],
  ["lost", "lost"],
  ["right", "right in both"],
  ["wrong", "right in neither"],
  ["ungraded", "not graded"],
];
const VERDICTS = [
  ["", "all problems"],
  ["right", "right"],
  ["wrong", "not right"],
  ["ungraded", "not graded"],
];

function shareOf(rows) {
  const graded = (rows || []).filter((row) => row[ACCURACY] !== null);
  return graded.length ? graded.reduce((sum, row) => sum + row[ACCURACY], 0) / graded.length : null;
}

function changeOf(first, second) {
  const [a, b] = [shareOf(first), shareOf(second)];
  if (a === null || b === null) return "ungraded";
  return b > a ? "gained" : b < a ? "lost" : b >= 1 ? "right" : "wrong";
}

function answersOf(run) {
  const told = run.answers;
  const byName = new Map(told.points.map(([name, rows]) => [name, new Map(rows)]));
  const names = [...byName.keys()];
  const parts = [];
  if (run.breakdown.length) parts.push(section("Accuracy by split and family", breakdownTable(run)));
  if (!names.length) return [...parts, el("p", { class: "notice" }, "This run kept no answers of its evaluations.")];
  const list = el("div", { class: "problems", "aria-live": "polite" });
  const count = el("p", { class: "note count" });
  const pick = (key, other) => (names.includes(state[key]) ? state[key] : other);
  const first = pick("a", names[0]);
  const isTraining = run.command === "train";
  const second = names.length > 1 ? pick("b", isTraining ? names.at(-1) : names[1]) : null;
  const changes = second ? CHANGES : VERDICTS;
  const filter = () => (changes.some(([key]) => key === state.change) ? state.change : "");
  let limit = SHOWN;
  const change = (name, anew) => (value) => {
    limit = SHOWN;
    setState({ [name]: value });
    if (anew) draw();
    else show();
  };
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: "question, answer, id",
    value: state.q || "",
    "aria-label": "Search",
  });
  search.addEventListener("input", () => change("q")(search.value));
  const q = () => (state.q || "").toLowerCase();
  const outcome = (place) => {
    if (second) return changeOf(byName.get(first).get(place), byName.get(second).get(place));
    const share = shareOf(byName.get(first).get(place));
    return share === null ? "ungraded" : share >= 1 ? "right" : "wrong";
  };
  function show() {
    const known = told.problems
      .map((problem, place) => [problem, place])
      .filter(
        ([problem]) => (!state.split || problem[1] === state.split) && (!state.family || problem[4] === state.family),
      );
    const rowsAt = (place) => [first, second].filter(Boolean).flatMap((name) => byName.get(name).get(place) || []);
    const searched = known.filter(
      ([problem, place]) =>
        !q() ||
        [problem[0], problem[2], problem[3]].some((text) => hasText(text, q())) ||
        rowsAt(place).some((row) => hasText(told.texts[row[TEXT]], q())),
    );
    const sums = {};
    for (const [, place] of searched) sums[outcome(place)] = (sums[outcome(place)] || 0) + 1;
    const found = searched.filter(([, place]) => !filter() || outcome(place) === filter());
    count.textContent =
      `${found.length} of ${told.problems.length} problems shown \u00b7 ` +
      changes
        .slice(1)
        .filter(([key]) => sums[key])
        .map(([key, name]) => `${name} ${sums[key]}`)
        .join(" \u00b7 ");
    const more = moreButton(found.length - limit, () => {
      limit += SHOWN;
      show();
    });
    list.replaceChildren(
      ...found.slice(0, limit).map(([problem, place]) =>
        answerCard(
          run,
          told,
          problem,
          outcome(place),
          [first, second].filter(Boolean).map((name) => [name, byName.get(name).get(place)]),
        ),
      ),
      ...(more ? [more] : []),
    );
    if (!found.length) list.append(el("p", { class: "notice" }, "No problem passes the filters."));
  }
  const values = (place) => [...new Set(told.problems.map((problem) => problem[place]).filter(Boolean))].sort();
  const options = (all, found, name = (x) => x) => [["", all], ...found.map((value) => [value, name(value)])];
  const bar = el(
    "div",
    { class: "bar" },
    el(
      "div",
      { class: "controls" },
      choice(
        isTraining ? "Before" : "Model",
        names.map((name) => [name, name]),
        first,
        change("a", true),
      ),
      second
        ? choice(
            isTraining ? "After" : "Against",
            names.map((name) => [name, name]),
            second,
            change("b", true),
          )
        : null,
      choice(second ? "Change" : "Verdict", changes, filter(), change("change")),
      choice("Split", options("all splits", values(1), splitName), state.split || "", change("split")),
      values(4).length
        ? choice("Family", options("all families", values(4)), state.family || "", change("family"))
        : null,
      el("label", { class: "control" }, el("span", {}, "Search"), search),
    ),
  );
  show();
  const left =
    told.kept < told.of
      ? el(
          "p",
          { class: "notice" },
          `To keep the page small it holds the answers to ${told.kept} evenly spaced problems of ${told.of}; the table counts all.`,
        )
      : null;
  return [...parts, section(second ? "Side by side" : "Answers", left, bar, count, list)];
}

const OUTCOMES = { gained: "gained", lost: "lost", right: "right", wrong: "not right", ungraded: "not graded" };

function answerCard(run, told, problem, outcome, sides) {
  return el(
    "article",
    { class: "problem" },
    el(
      "header",
      {},
      el("h3", {}, visible(problem[0])),
      el("span", { class: "badge" }, splitName(problem[1])),
      problem[4] ? el("span", { class: "badge family" }, problem[4]) : null,
      el("span", { class: `badge ${outcome}` }, OUTCOMES[outcome]),
    ),
    el(
      "div",
      { class: "sides" },
      el("div", { class: "said" }, questionOf(told, problem)),
      el(
        "div",
        { class: "pair" },
        sides.map(([name, rows]) =>
          el(
            "div",
            {},
            el("h4", {}, name),
            rows && rows.length
              ? rows.slice(0, SHOWN).map((row) => answerOf(told, row))
              : el("p", { class: "missing" }, "no answer"),
            rows && rows.length > SHOWN
              ? el("p", { class: "note" }, `${rows.length - SHOWN} further answers are not shown`)
              : null,
          ),
        ),
      ),
    ),
  );
}

function answerOf(told, row) {
  const [verdict, mark] = verdictOf(row);
  const details = [
    verdict,
    row[TOTAL] === null ? "" : `reward ${number(row[TOTAL])}`,
    told.texts[row[DETAIL]],
    row[TOKENS] === null ? "" : `${row[TOKENS]} tokens`,
    row[CUT] ? "cut off" : "",
  ].filter(Boolean);
  return el(
    "div",
    { class: "answered" },
    el(
      "p",
      { class: "note" },
      el("span", { class: `verdict ${verdict.split(" ")[0]}` }, mark),
      ` ${details.join(" \u00b7 ")}`,
    ),
    reading(told.texts[row[TEXT]]),
  );
}
