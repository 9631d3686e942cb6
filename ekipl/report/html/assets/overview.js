// The first screen of a run: what was trained on what, the result, and its curves.

const FACTS = [
  ["model", "model.path"],
  ["task", "task._target_"],
  ["data", "data.kind"],
  ["reward", "reward"],
  ["prompt", "prompt.strategy"],
];
const OF_TRAINING = [
  ["method", "method.name"],
  ["selection", "selection.rule"],
];
const OF_SAMPLING = [
  ["samples", "samples"],
  ["pass@k samples", "passk.samples"],
  ["temperature", "decoding.temperature"],
  ["problems of a split, at most", "limit"],
  ["seed", "seed"],
];
const SYMBOLS = ["N", "M", "G", "I", "B", "mu", "eps", "beta", "seed", "problems_per_step"];

function overview(data, run) {
  const settings = Object.fromEntries(run.settings);
  const facts = [...FACTS, ...(run.command === "train" ? OF_TRAINING : OF_SAMPLING)]
    .filter(([, key]) => settings[key] && settings[key] !== "None")
    .map(([name, key]) => [name, name === "task" ? settings[key].split(".").at(-1) : settings[key]]);
  if (settings["data.root"] && settings["data.root"] !== "None") facts.push(["data folder", settings["data.root"]]);
  if (run.command === "train")
    facts.push(["steps", run.step === null ? "none yet" : `${run.step}${run.wanted ? ` of ${run.wanted}` : ""}`]);
  if (run.command === "train")
    facts.push([
      "symbols",
      SYMBOLS.filter((key) => key in settings && settings[key] !== "None")
        .map((key) => `${key.replace("problems_per_step", "problems a step")} = ${settings[key]}`)
        .join(", "),
    ]);
  facts.push(["last written", run.written], ["folder", run.folder]);
  const unfinished = run.command === "train" && run.wanted && (run.step ?? 0) < run.wanted;
  return [
    unfinished ? el("p", { class: "notice" }, `This run is at step ${run.step ?? 0} of ${run.wanted}.`) : null,
    outcomes(run),
    run.sentence ? el("p", { class: "lead" }, run.sentence) : null,
    el(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) =>
        el("div", { class: value.length > 40 ? "wide" : null }, el("dt", {}, name), el("dd", {}, value)),
      ),
    ),
    ...resultsOf(run),
    ...(run.command === "train" ? trainingOf(run) : scoresOf(run)),
    spendingOf(run),
  ];
}

// The result in large figures: the last evaluation, and the gain over the first.
function outcomes(run) {
  if (!run.results.length) return null;
  return el(
    "dl",
    { class: "outcomes" },
    run.results.map((one) => {
      const [mean, low, high] = one.last;
      const gain = one.gain ? `${points(one.gain[0])} points since step ${one.at[0]}` : "";
      return el(
        "div",
        {},
        el("dt", {}, `${splitName(one.split)}, step ${one.at[2]}`),
        el(
          "dd",
          {},
          `${percent(mean)} %`,
          el("span", {}, isNumber(low) ? `${percent(low)} to ${percent(high)}` : ""),
          el("span", {}, gain),
        ),
      );
    }),
  );
}

function resultsOf(run) {
  if (!run.results.length) return [];
  const [start, best, end] = run.results[0].at;
  const cells = run.results.map((one) => {
    const gain = one.gain ? [points(one.gain[0]), one.gain[1]] : [DASH, DASH];
    return [splitName(one.split), interval(one.first), interval(one.best), interval(one.last), ...gain];
  });
  const header = [
    "accuracy in % (95 % interval)",
    `step ${start}`,
    `best, step ${best}`,
    `last, step ${end}`,
    "last \u2212 first, points",
    "problems",
  ];
  const note =
    run.curves.length && run.curves[0].at.length > 2
      ? `The best of ${run.curves[0].at.length} evaluations (highest ${splitName(run.results[0].split)}) is better than it would be on other problems. `
      : "";
  return [
    section(
      "Result",
      table(header, cells),
      el(
        "p",
        { class: "note" },
        note +
          (run.results.some((one) => one.gain)
            ? "Differences are paired by problem."
            : "This run kept no answers of its evaluations, so differences cannot be paired."),
      ),
    ),
  ];
}

function accuracyChart(title, curves, names, colours, xlabel = "step") {
  const x = [...new Set(curves.flatMap((curve) => curve.at.map(([step]) => step)))].sort((a, b) => a - b);
  const series = curves.map((curve, i) => {
    const at = new Map(curve.at.map(([step], j) => [step, curve.estimates[j]]));
    const pick = (k) => x.map((step) => at.get(step)?.[k] ?? null);
    return { name: names[i], colour: colours[i], y: pick(0), low: pick(1), high: pick(2) };
  });
  return x.length
    ? chart({ title, note: "%, with 95 % intervals over problems", xlabel, x, series, percent: true })
    : null;
}

function trainingOf(run) {
  const { step: x, values, width } = run.metrics;
  const sources = sourcesOf(run);
  const mean = width > 1 ? `means of ${width} steps` : "";
  const note = (text) => [text, mean].filter(Boolean).join(", ");
  const bySource = (prefix) =>
    sources
      .filter((source) => values[prefix + source])
      .map((source) => ({ name: source, colour: colourOf(run, source), y: values[prefix + source] }));
  const named = (pairs) =>
    pairs.filter(([key]) => values[key]).map(([key, name], i) => ({ name, colour: colour(i), y: values[key] }));
  const starting = (prefix) =>
    Object.keys(values).filter((key) => key.startsWith(prefix) && key !== "time/step" && key !== "time/evaluate");
  const charts = [
    accuracyChart(
      "Accuracy on held-out problems",
      run.curves,
      run.curves.map((curve) => splitName(curve.split)),
      run.curves.map((_, i) => colour(i)),
    ),
  ];
  const draw = (spec) => x.length && charts.push(chart({ xlabel: "step", x, ...spec }));
  draw({
    title: "Who was offered",
    note: note("% of candidates"),
    series: bySource("share/offered/"),
    percent: true,
    stacked: true,
    top: 1,
  });
  draw({
    title: "Who was kept",
    note: note("% of kept actions"),
    series: bySource("share/kept/"),
    percent: true,
    stacked: true,
    top: 1,
  });
  draw({
    title: "Accuracy of candidates",
    note: note("% by source, training problems"),
    series: bySource("reward/accuracy/"),
    percent: true,
  });
  draw({
    title: "Reward",
    note: note("mean over actions"),
    series: named([
      ["reward/kept", "kept"],
      ["reward/offered", "offered"],
    ]),
  });
  draw({
    title: "Groups without gradient",
    note: note("%, all advantages are 0"),
    series: named([["group/frac_zero_variance", "dead groups"]]),
    percent: true,
  });
  draw({ title: "KL to the reference", note: note("nats a token"), series: named([["loss/kl", "KL"]]) });
  draw({ title: "Entropy", note: note("nats a token, own actions"), series: named([["loss/entropy", "entropy"]]) });
  draw({ title: "Length", note: note("tokens of an action"), series: bySource("length/tokens/") });
  draw({
    title: "Cut off at the limit",
    note: note("% of actions"),
    series: bySource("length/truncated/"),
    percent: true,
  });
  draw({ title: "Gradient norm", note: note("before it is clipped"), series: named([["loss/grad_norm", "2-norm"]]) });
  draw({
    title: "Seconds a step, by phase",
    note: mean,
    series: starting("time/").map((key, i) => ({ name: key.slice(5), colour: colour(i), y: values[key] })),
    stacked: true,
  });
  draw({
    title: "Refused candidates",
    note: note("a step, by reason"),
    series: starting("group/refused/").map((key, i) => ({ name: key.slice(14), colour: colour(i), y: values[key] })),
  });
  return [section("Over training", el("div", { class: "charts" }, charts.filter(Boolean)), anyMetric(run))];
}

function anyMetric(run) {
  const names = Object.keys(run.metrics.values).sort();
  if (!names.length) return null;
  const holder = el("div", { class: "charts" });
  const show = (name) => {
    const drawn =
      name &&
      chart({
        title: name,
        xlabel: "step",
        x: run.metrics.step,
        series: [{ name, colour: colour(0), y: run.metrics.values[name] }],
      });
    holder.replaceChildren(...(drawn ? [drawn] : []));
  };
  return el(
    "div",
    { class: "any" },
    choice("Any metric", [["", "choose one"], ...names.map((name) => [name, name])], "", show),
    holder,
  );
}
