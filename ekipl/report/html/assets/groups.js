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
const ORDERS = [["reward", "by reward"], ["source", "by source"], ["offered", "as offered"]];
const SHOWN = 24; // problems at once
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
  if (wanted.source && !group[2].some((row) => groups.texts[row[SOURCE]] === wanted.source && (!wanted.kept || row[KEPT]))) return false;
  const facts = factsOf(groups, group);
  const [own, others] = [facts.own[0] > 0, facts.others[0] > 0];
  const outcome = { nobody: !own && !others, own: own && !others, external: !own && others, both: own && others, dead: facts.dead, refused: facts.refused > 0 };
  if (wanted.filter && !outcome[wanted.filter]) return false;
  if (!wanted.q) return true;
  const q = wanted.q.toLowerCase();
  return [problem[0], problem[2], problem[3]].some((text) => hasText(text, q)) || group[2].some((row) => hasText(groups.texts[row[TEXT]], q));
}

function groupsOf(run) {
  const groups = run.groups;
  if (!groups.steps.length) return [el("p", { class: "notice" }, "There are no groups in this run yet.")];
  const places = new Map(groups.steps.map(([step], i) => [step, i]));
  const appearances = new Map();
  for (const [step, found] of groups.steps) for (const [problem] of found) appearances.set(problem, [...(appearances.get(problem) || []), step]);
  let limit = SHOWN;
  const current = () => places.get(Number(state.step)) ?? groups.steps.length - 1;
  const list = el("div", { class: "problems", "aria-live": "polite" });
  const slider = el("input", { type: "range", id: "step", min: 0, max: groups.steps.length - 1, value: current(), "aria-label": "Step", list: null });
  const label = el("output", { for: "step" });
  const count = el("p", { class: "note count" });
  const search = el("input", { type: "search", id: "search", placeholder: "question, answer, id", value: state.q || "", "aria-label": "Search" });
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
    const found = steps.flatMap(([number, all]) => all.filter((group) => passes(groups, group, state)).map((group) => [number, group]));
    const total = steps.reduce((sum, [, all]) => sum + all.length, 0);
    count.textContent = `${found.length} of ${total} problem${total === 1 ? "" : "s"} ${state.scope === "all" ? `of ${groups.steps.length} steps` : `of step ${step}`}`;
    const more = found.length > limit ? el("button", { type: "button", onclick: () => { limit += SHOWN; show(); } }, `Show ${Math.min(SHOWN, found.length - limit)} more`) : null;
    list.replaceChildren(...found.slice(0, limit).map(([number, group]) => problemCard(run, number, group, appearances.get(group[0]), follow, only)), ...(more ? [more] : []));
    if (!found.length) list.append(el("p", { class: "notice" }, "No problem passes the filters."));
  }
  slider.addEventListener("input", () => go(Number(slider.value)));
  search.addEventListener("input", () => change("q")(search.value));
  groupsOf.move = (by) => go(current() + by);
  const families = [...new Set(groups.problems.map((problem) => problem[4]).filter(Boolean))].sort();
  const sources = sourcesOf(run);
  const bar = el("div", { class: "bar" },
    el("div", { class: "slider" }, el("button", { type: "button", "aria-label": "Step before", onclick: () => go(current() - 1) }, "\u2190"), slider, el("button", { type: "button", "aria-label": "Next step", onclick: () => go(current() + 1) }, "\u2192"), label),
    el("div", { class: "controls" },
      choice("Look in", [["", "this step"], ["all", "all steps"]], state.scope || "", change("scope")),
      choice("Outcome", FILTERS, state.filter || "", change("filter")),
      families.length ? choice("Family", [["", "all families"], ...families.map((name) => [name, name])], state.family || "", change("family")) : null,
      sources.length > 1 ? choice("Has candidates of", [["", "any source"], ...sources.map((name) => [name, name])], state.source || "", change("source")) : null,
      choice("Candidates", ORDERS, state.order || "reward", change("order")),
      choice("Texts", [["", "one line each"], ["open", "in full"]], state.texts || "", change("texts")),
      el("label", { class: "control" }, el("span", {}, "Search"), search),
      state.problem ? el("button", { type: "button", onclick: () => { setState({ problem: "", scope: "" }); draw(); } }, "All problems again") : null));
  show();
  const left = groups.steps.length < groups.of ? el("p", { class: "notice" }, `To keep the page small it holds the groups of ${groups.steps.length} evenly spaced steps of ${groups.of}. ekipl view RUN --max-mb 100 holds more.`) : null;
  return [left, run.rule ? el("p", { class: "note" }, `Selection: ${run.rule}`) : null, bar, count, list];
}

function problemCard(run, step, group, steps, follow, only) {
  const groups = run.groups;
  const [place, refused, rows] = group;
  const problem = groups.problems[place];
  const facts = factsOf(groups, group);
  const out = (name, [right, all]) => (all ? el("span", { class: "badge" }, `${name} ${right} of ${all} right`) : null);
  const reasons = Object.entries(refused).map(([reason, times]) => el("span", { class: "badge warn" }, `${times} \u00d7 ${reason}`));
  const others = steps.filter((other) => other !== step);
  const key = `${problem[1]}/${problem[0]}`;
  return el("article", { class: "problem", id: `problem-${step}-${problem[0]}` },
    el("header", {}, el("h3", {}, visible(problem[0])), problem[4] ? el("span", { class: "badge family" }, problem[4]) : null, state.scope === "all" ? el("span", { class: "badge" }, `step ${step}`) : null, out("policy", facts.own), out("external", facts.others), el("span", { class: "badge" }, `${facts.kept} of ${rows.length} kept`), facts.dead ? el("span", { class: "badge warn" }, "dead: no gradient") : null, reasons),
    el("div", { class: "sides" },
      el("div", { class: "said" }, questionOf(groups, problem),
        others.length ? el("p", { class: "also" }, "also at ", others.slice(0, 12).map((other) => el("button", { type: "button", class: "link", onclick: () => follow(problem[0], other) }, `step ${other}`)), el("button", { type: "button", class: "link", onclick: () => only(key) }, "side by side")) : null),
      el("div", { class: "candidates" }, heads(), ordered(groups, rows).map((row) => candidate(run, groups, row)))));
}

const heads = () => el("div", { class: "heads", "aria-hidden": "true" }, ["", "source", "", "reward", "advantage", "answer", "text"].map((name) => el("span", {}, name)));

function ordered(groups, rows) {
  if (state.order === "offered") return rows;
  const source = (row) => groups.texts[row[SOURCE]];
  const bySource = (a, b) => (source(b) === "policy") - (source(a) === "policy") || (source(a) < source(b) ? -1 : source(a) > source(b) ? 1 : 0);
  const byReward = (a, b) => (b[TOTAL] ?? -1) - (a[TOTAL] ?? -1);
  return [...rows].sort((a, b) => (state.order === "source" ? bySource(a, b) || byReward(a, b) : byReward(a, b) || (b[KEPT] || 0) - (a[KEPT] || 0) || bySource(a, b)));
}

const verdictOf = (row) => (row[ACCURACY] === null ? ["ungraded", "?"] : isRight(row) ? ["right", "\u2713"] : row[ACCURACY] > 0 ? ["partly right", "\u00bd"] : ["wrong", "\u2717"]);

function candidate(run, data, row) {
  const source = data.texts[row[SOURCE]];
  const [verdict, mark] = verdictOf(row);
  const text = data.texts[row[TEXT]];
  const kept = row.length > KEPT ? row[KEPT] : null;
  const chosen = kept === null ? null : kept ? (row[GAIN] === null ? "kept" : signed(row[GAIN], 2)) : "left out";
  const details = [
    row[TOTAL] === null ? "not graded" : `reward ${number(row[TOTAL])} (format ${number(row[FORMAT])}, accuracy ${number(row[ACCURACY])})`,
    data.texts[row[DETAIL]],
    row[TOKENS] === null ? "" : `${row[TOKENS]} tokens`,
    row[CUT] ? "cut off at the limit" : "",
    kept ? `kept${row[GAIN] === null ? "" : `, advantage ${signed(row[GAIN], 3)}`}` : "",
    kept === 0 ? "left out" : "",
    row.length > KEPT ? data.texts[row[WHY]] : "",
  ].filter(Boolean);
  const body = el("div", { class: "body" });
  const open = () => body.childNodes.length || body.append(el("p", { class: "note" }, details.join(" \u00b7 ")), reading(text));
  const shell = el("details", { class: `candidate ${kept === 0 ? "out" : ""}`, open: state.texts === "open", ontoggle: open },
    el("summary", {}, swatch(colourOf(run, source)), el("span", { class: "source" }, source), el("span", { class: `verdict ${verdict.split(" ")[0]}`, title: verdict }, mark, el("span", { class: "aside" }, ` ${verdict}`)), el("span", { class: "reward", title: "reward" }, row[TOTAL] === null ? DASH : number(row[TOTAL])), el("span", { class: "gain", title: kept ? "advantage" : "selection" }, chosen || ""), inOneLine(answerIn(text), 80, "final"), inOneLine(text, 400, "excerpt")),
    body);
  if (state.texts === "open") open();
  return shell;
}
