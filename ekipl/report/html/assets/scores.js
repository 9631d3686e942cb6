// The numbers of eval: scores.json; of passk: its curves; of the others: what their answers say.

function scoresOf(run) {
  const parts = [];
  const triple = (one) => (one ? [one.mean, one.low, one.high] : null);
  if (run.splits.length) {
    const details = [...new Set(run.splits.flatMap((one) => Object.keys(one.detail || {})))];
    const header = [
      "model",
      "split",
      "problems",
      "accuracy %",
      ...details.map((name) => `${name} %`),
      "format %",
      "cut off %",
      "tokens",
      "errors",
    ];
    const rows = run.splits.map((one) => [
      one.model,
      splitName(one.split),
      one.problems,
      interval(triple(one.accuracy)),
      ...details.map((name) => interval(triple((one.detail || {})[name]))),
      percent(one.format),
      percent(one.truncated),
      number(one.length),
      one.errors,
    ]);
    parts.push(section("Accuracy", table(header, rows, { sortable: true }), dataTable(header, rows, "Copy")));
  }
  if (run.differences.length) {
    const rows = run.differences.map((one) => [
      one.model,
      one.against,
      splitName(one.split),
      points(triple(one.accuracy)),
    ]);
    parts.push(
      section(
        "Differences",
        table(["model", "against", "split", "accuracy, points"], rows),
        el("p", { class: "note" }, "Paired by problem, 95 % intervals."),
      ),
    );
  }
  const charts = Object.entries(run.passk).map(([split, curves]) => {
    const ks = [...new Set(curves.flatMap((one) => one.k))].sort((a, b) => a - b);
    const series = curves.map((one, i) => {
      const pick = (name) => ks.map((k) => one[name][one.k.indexOf(k)] ?? null);
      return { name: one.model, colour: colour(i), y: pick("mean"), low: pick("low"), high: pick("high") };
    });
    return chart({
      title: `pass@k, ${splitName(split)}`,
      note: "%, 95 % interval over problems",
      xlabel: "k",
      x: ks.map((_, i) => i),
      ticks: ks.map(String),
      series,
      percent: true,
    });
  });
  if (charts.length) parts.push(section("pass@k", el("div", { class: "charts" }, charts.filter(Boolean))));
  if (!run.splits.length && run.breakdown.length) parts.push(section("Accuracy", breakdownTable(run)));
  return parts;
}

function breakdownTable(run) {
  const names = [...new Set(run.breakdown.map(([name]) => name))];
  const kinds = new Map(
    run.breakdown.map(([, split, family, count]) => [`${split}/${family ?? ""}`, [split, family, count]]),
  );
  const cell = (name, split, family) =>
    run.breakdown.find((row) => row[0] === name && row[1] === split && row[2] === family);
  const header = ["split", "family", "problems", ...names.map((name) => `${name}, %`)];
  const rows = [...kinds.values()].map(([split, family, count]) => [
    splitName(split),
    family ?? "all",
    count,
    ...names.map((name) => interval((cell(name, split, family) || [])[4])),
  ]);
  return el(
    "div",
    {},
    table(header, rows, { sortable: true }),
    copyButton(header, () => rows),
  );
}

function spendingOf(run) {
  if (!run.spending.length) return null;
  const header = ["model", "requests", "retries", "answers", "prompt tokens", "completion tokens", "from cache", "USD"];
  const rows = run.spending.map((row) => [
    row[0],
    ...row.slice(1, 7).map((value) => number(value)),
    isNumber(row[7]) ? row[7].toFixed(4) : "unknown",
  ]);
  return section("External models", table(header, rows));
}
