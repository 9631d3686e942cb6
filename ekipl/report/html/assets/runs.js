// Several runs: their curves on one axis, differences, settings; a sweep as a table and small multiples.

function comparison(data) {
  const { runs } = data;
  const splits = [...new Set(runs.flatMap((run) => run.curves.map((curve) => curve.split)))];
  const charts = splits.map((split) => {
    const having = runs.filter((run) => run.curves.some((curve) => curve.split === split));
    return accuracyChart(
      `Accuracy ${splitName(split)}`,
      having.map((run) => run.curves.find((curve) => curve.split === split)),
      having.map((run) => run.name),
      having.map((run) => colour(runs.indexOf(run))),
    );
  });
  for (const [key, title, share] of [
    ["reward/accuracy/policy", "Accuracy of the policy's own samples", true],
    ["share/kept/policy", "Share of own actions among the kept", true],
    ["group/frac_zero_variance", "Groups without gradient", true],
    ["loss/kl", "KL to the reference", false],
    ["length/tokens/policy", "Length of own actions, tokens", false],
  ])
    charts.push(metricOfAll(runs, key, title, share));
  const shown = charts.filter(Boolean);
  const gains = data.comparison.differences.map((one) => [
    one.run,
    one.against,
    splitName(one.split),
    points(one.gain),
    one.problems,
  ]);
  const header = ["run", "against", "split", "difference, points (95 % interval)", "problems"];
  return [
    section(
      "Differences",
      gains.length
        ? table(header, gains)
        : el(
            "p",
            { class: "notice" },
            "These runs have no answers to the same problems, so their differences cannot be paired.",
          ),
      gains.length
        ? el(
            "p",
            { class: "note" },
            `At the last evaluation of each run, paired by problem. ${data.comparison.differences
              .map((one) => one.at)
              .filter((at, i, all) => at && all.indexOf(at) === i)
              .join(", ")}`,
          )
        : null,
      gains.length ? copyButton(header, () => gains) : null,
    ),
    shown.length ? section("Curves", el("div", { class: "charts" }, shown)) : null,
    section("Settings that differ", settingsTable(data.comparison.settings, runs)),
  ];
}

function metricOfAll(runs, key, title, share) {
  const having = runs.filter((run) => run.metrics.values[key]);
  if (having.length < 2) return null;
  const x = [...new Set(having.flatMap((run) => run.metrics.step))].sort((a, b) => a - b);
  const series = having.map((run) => {
    const at = new Map(run.metrics.step.map((step, i) => [step, run.metrics.values[key][i]]));
    return { name: run.name, colour: colour(runs.indexOf(run)), y: x.map((step) => at.get(step) ?? null) };
  });
  return chart({ title, note: share ? "%" : "", xlabel: "step", x, series, percent: share });
}

const settingsTable = (rows, runs) =>
  rows.length
    ? table(["setting", ...runs.map((run) => run.name)], rows)
    : el("p", { class: "notice" }, "All settings are the same.");

const SHARES = /accuracy|share|gradient/;
const cellOf = (key, value) =>
  Array.isArray(value) ? interval(value) : SHARES.test(key) ? percent(value) : number(value);

function sweep(data) {
  const swept = [...new Set(data.sweep.flatMap((row) => Object.keys(row.swept)))];
  const keys = [...new Set(data.sweep.flatMap((row) => Object.keys(row.numbers)))];
  const head = (key) =>
    SHARES.test(key) || data.sweep.some((row) => Array.isArray(row.numbers[key])) ? `${key} %` : key;
  const header = [...(swept.length ? swept : ["run"]), ...keys.map(head)];
  const rows = data.sweep.map((row) => [
    ...(swept.length ? swept.map((key) => row.swept[key]) : [row.run]),
    ...keys.map((key) => cellOf(key, row.numbers[key])),
  ]);
  const estimates = keys.filter((key) => data.sweep.some((row) => Array.isArray(row.numbers[key])));
  return [
    section(
      "Runs",
      table(header, rows, { sortable: true, label: "runs" }),
      copyButton(header, () => rows),
      el(
        "p",
        { class: "note" },
        "Accuracies are in percent, with 95 % intervals over problems; shares are means over the last fifth of the steps. A click on a column sorts. sweep.csv beside this page has the same numbers.",
      ),
    ),
    estimates.length && swept.length
      ? section(
          "Over what was swept",
          el(
            "div",
            { class: "charts" },
            multiples(
              data,
              swept,
              estimates.filter((key) => key.endsWith("last")),
            ),
          ),
        )
      : null,
  ];
}

// One panel for each value of the other settings, the first setting along x, a line for each split.
function multiples(data, [along, ...others], keys) {
  const nameOf = (row) => others.map((key) => `${key}=${row.swept[key]}`).join(" ");
  const panels = [...new Set(data.sweep.map(nameOf))];
  const highest = Math.max(
    ...data.sweep.flatMap((row) => keys.flatMap((key) => (row.numbers[key] || []).filter(isNumber))),
  );
  return panels
    .map((panel) => {
      const rows = data.sweep.filter((row) => nameOf(row) === panel);
      const pick = (key, i) => rows.map((row) => (row.numbers[key] || [])[i] ?? null);
      const series = keys.map((key, i) => ({
        name: splitName(key.replace(/ last$/, "")),
        colour: colour(i),
        y: pick(key, 0),
        low: pick(key, 1),
        high: pick(key, 2),
      }));
      return chart({
        title: panel || "All runs",
        note: "accuracy at the last evaluation, %",
        xlabel: along,
        x: rows.map((_, i) => i),
        ticks: rows.map((row) => String(row.swept[along])),
        series,
        percent: true,
        top: Math.min(1, highest * 1.04),
        dots: rows.some((row) => Number.isNaN(Number(row.swept[along]))),
      });
    })
    .filter(Boolean);
}
