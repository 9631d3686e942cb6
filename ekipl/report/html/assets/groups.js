// The groups of a step: problems with their images and all candidates.

const FILTERS = [
  ["", "all problems"],
  ["nobody", "solved by nobody"],
  ["own", "solved by the policy alone"],
  ["external", "solved by external alone"],
  ["both", "solved by both"],
  ["dead", "dead (no gradient)"],
  ["refused", "refused or ungraded"],
];
const ORDERS = [
  ["reward", "by reward"],
  ["source", "by source"],
  ["offered", "as offered"],
];
const SHOWN = 24; // problems at once

// The button that shows further problems; null where none are left.
function moreButton(left, onclick) {
  return left > 0 ? el("button", { type: "button", onclick }, `Show ${Math.min(SHOWN, left)} more`) : null;
}
const [SOURCE, TEXT, TOTAL, FORMAT, ACCURACY, TOKENS, CUT, DETAIL, KEPT, GAIN, WHY] = Array(11).keys();

const isRight = (row) => row[ACCURACY] !== null && row[ACCURACY] >= 1;

function factsOf(groups, [, refused, rows]) {
  const own = rows.filter((row) => groups.texts[row[SOURCE]] === "policy");
  const others = rows.filter((row) => groups.texts[row[SOURCE]] !== "policy");
  return {
    own: [own.filter(isRight).length, own.length],
    others: [others.filter(isRight).length, others.length],
    kept: rows.filter((row) => row[KEPT]).length,
    dead: !rows.some((row) => row[GAIN]),
    refused: Object.values(refused).reduce((a, b) => a + b, 0) + rows.filter((row) => row[ACCURACY] === null).length,
  };
}

function passes(groups, group, wanted) {
  const problem = groups.problems[group[0]];
  if (wanted.problem && `${problem[1]}/${problem[0]}` !== wanted.problem) return false;
  if (wanted.family && problem[4] !== wanted.family) return false;
  if (
    wanted.source &&
    !group[2].some((row) => groups.texts[row[SOURCE]] === wanted.source && (!wanted.kept || row[KEPT]))
  )
    return false;
  const facts = factsOf(groups, group);
  const [own, others] = [facts.own[0] > 0, facts.others[0] > 0];
  const outcome = {
    nobody: !own && !others,
    own: own && !others,
    external: !own && others,
    both: own && others,
    dead: facts.dead,
    refused: facts.refused > 0,
  };
  if (wanted.filter && !outcome[wanted.filter]) return false;
  if (!wanted.q) return true;
  const q = wanted.q.toLowerCase();
  return (
    [problem[0], problem[2], problem[3]].some((text) => hasText(text, q)) ||
    group[2].some((row) => hasText(groups.texts[row[TEXT]], q))
  );
}

function groupsOf(run) {
  const groups = run.groups;
  if (!groups.steps.length) return [el("p", { class: "notice" }, "There are no groups in this run yet.")];
  const places = new Map(groups.steps.map(([step], i) => [step, i]));
  const appearances = new Map();
  for (const [step, found] of groups.steps)
    for (const [problem] of found) appearances.set(problem, [...(appearances.get(problem) || []), step]);
  let limit = SHOWN;
  const current = () => places.get(Number(state.step)) ?? groups.steps.length - 1;
  const list = el("div", { class: "problems", "aria-live": "polite" });
  const slider = el("input", {
    type: "range",
    id: "step",
    min: 0,
    max: groups.steps.length - 1,
    value: current(),
    "aria-label": "Step",
    list: null,
  });
  const label = el("output", { for: "step" });
  const count = el("p", { class: "note count" });
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: "question, answer, id",
    value: state.q || "",
    "aria-label": "Search",
  });
  const go = (place) => {
    limit = SHOWN;
    setState({ step: groups.steps[Math.max(0, Math.min(groups.steps.length - 1, place))][0] });
    show();
  };
  const change = (name) => (value) => {
    limit = SHOWN;
    setState({ [name]: value });
    show();
  };
  const follow = (id, step) => {
    setState({ step, scope: "", filter: "", family: "", q: "", source: "", problem: "" });
    draw();
    document.getElementById(`problem-${step}-${id}`)?.scrollIntoView();
  };
  const only = (key) => {
    setState({ problem: key, scope: "all", filter: "", family: "", q: "", source: "" });
    draw();
  };
  function show() {
    const place = current();
    const [step] = groups.steps[place];
    slider.value = place;
    slider.setAttribute("aria-valuetext", `step ${step}`);
    label.textContent = `step ${step}`;
    const steps = state.scope === "all" ? groups.steps : [groups.steps[place]];
    const found = steps.flatMap(([number, all]) =>
      all.filter((group) => passes(groups, group, state)).map((group) => [number, group]),
    );
    const total = steps.reduce((sum, [, all]) => sum + all.length, 0);
    count.textContent = `${found.length} of ${total} problem${total === 1 ? "" : "s"} ${state.scope === "all" ? `of ${groups.steps.length} steps` : `of step ${step}`}`;
    const more = moreButton(found.length - limit, () => {
      limit += SHOWN;
      show();
    });
    list.replaceChildren(
      ...found
        .slice(0, limit)
        .map(([number, group]) => problemCard(run, number, group, appearances.get(group[0]), follow, only)),
      ...(more ? [more] : []),
    );
    if (!found.length) list.append(el("p", { class: "notice" }, "No problem passes the filters."));
  }
  slider.addEventListener("input", () => go(Number(slider.value)));
  search.addEventListener("input", () => change("q")(search.value));
  groupsOf.move = (by) => go(current() + by);
  const families = [...new Set(groups.problems.map((problem) => problem[4]).filter(Boolean))].sort();
  const sources = sourcesOf(run);
  const bar = el(
    "div",
    { class: "bar" },
    el(
      "div",
      { class: "slider" },
      el("button", { type: "button", "aria-label": "Step before", onclick: () => go(current() - 1) }, "\u2190"),
      slider,
      el("button", { type: "button", "aria-label": "Next step", onclick: () => go(current() + 1) }, "\u2192"),
      label,
    ),
    el(
      "div",
      { class: "controls" },
      choice(
        "Look in",
        [
          ["", "this step"],
          ["all", "all steps"],
        ],
        state.scope || "",
        change("scope"),
      ),
      choice("Outcome", FILTERS, state.filter || "", change("filter")),
      families.length
        ? choice(
            "Family",
            [["", "all families"], ...families.map((name) => [name, name])],
            state.family || "",
            change("family"),
          )
        : null,
      sources.length > 1
        ? choice(
            "Has candidates of",
            [["", "any source"], ...sources.map((name) => [name, name])],
            state.source || "",
            change("source"),
          )
        : null,
      choice("Candidates", ORDERS, state.order || "reward", change("order")),
      choice(
        "Texts",
        [
          ["", "one line each"],
          ["open", "in full"],
        ],
        state.texts || "",
        change("texts"),
      ),
      el("label", { class: "control" }, el("span", {}, "Search"), search),
      state.problem
        ? el(
            "button",
            {
              type: "button",
              onclick: () => {
                setState({ problem: "", scope: "" });
                draw();
              },
            },
            "All problems again",
          )
        : null,
    ),
  );
  show();
  const left =
    groups.steps.length < groups.of
      ? el(
          "p",
          { class: "notice" },
          `To keep the page small it holds the groups of ${groups.steps.length} evenly spaced steps of ${groups.of}. ekipl view RUN --max-mb 100 holds more.`,
        )
      : null;
  return [left, run.rule ? el("p", { class: "note" }, `Selection: ${run.rule}`) : null, bar, count, list];
}
