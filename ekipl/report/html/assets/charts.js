// Line and stacked charts as SVG, with the numbers under the pointer or the arrow keys, and as a table.

const MARGIN = { left: 46, right: 14, top: 10, bottom: 30 };
const HEIGHT = 210;

function niceTicks(low, high, count) {
  const span = high - low || 1;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step)
    ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

function movingMean(values, width) {
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - width + 1), i + 1).filter(isNumber);
    return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
  });
}

function path(xs, ys) {
  let text = "";
  let pen = "M";
  xs.forEach((x, i) => {
    if (!isNumber(ys[i])) pen = "M";
    else {
      text += `${pen}${x.toFixed(1)} ${ys[i].toFixed(1)}`;
      pen = "L";
    }
  });
  return text;
}

// spec: title, note, xlabel, x (shared), series [{name, colour, y, low, high}], percent (shares), stacked, ticks (texts
// for x), dots (without lines), top (of the y axis).
function chart(spec) {
  const series = spec.series.filter((one) => one.y.some(isNumber));
  if (!series.length) return null;
  const show = spec.percent ? (value) => `${percent(value)} %` : (value) => number(value);
  const holder = el("div", { class: "plot" });
  const tip = el("div", { class: "tip", "aria-live": "polite", hidden: true });
  const legend = el(
    "ul",
    { class: "legend" },
    series.map((one) => el("li", {}, swatch(one.colour), one.name)),
  );
  const header = [
    spec.xlabel,
    ...series.flatMap((one) => (one.low ? [one.name, `${one.name} low`, `${one.name} high`] : [one.name])),
  ];
  const rows = spec.x.map((x, i) =>
    [
      spec.ticks ? spec.ticks[i] : x,
      ...series.flatMap((one) => (one.low ? [one.y[i], one.low[i], one.high[i]] : [one.y[i]])),
    ].map((cell) => (isNumber(cell) ? number(cell, 5) : (cell ?? DASH))),
  );
  const figure = el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("strong", {}, spec.title), spec.note ? el("span", {}, spec.note) : null),
    holder,
    tip,
    legend,
    dataTable(header, rows),
  );
  const draw = () => {
    const width = Math.max(240, holder.clientWidth || 480);
    if (holder.dataset.width !== String(width)) {
      holder.dataset.width = width;
      holder.replaceChildren(drawn(spec, series, width, show, tip, holder));
    }
  };
  new ResizeObserver(draw).observe(holder);
  return figure;
}

const swatch = (fillColour) =>
  svg(
    "svg",
    { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("rect", { width: 10, height: 10, rx: 2, fill: fillColour }),
  );

function stackedOf(series) {
  let below = series[0].y.map(() => 0);
  return series.map((one) => {
    const top = one.y.map((value, i) => below[i] + (isNumber(value) ? value : 0));
    const layer = { ...one, bottom: below, top };
    below = top;
    return layer;
  });
}

function rangeOf(spec, series, layers) {
  const all = spec.stacked
    ? layers.at(-1).top
    : series.flatMap((one) => [...one.y, ...(one.low || []), ...(one.high || [])]);
  const known = all.filter(isNumber);
  const low = Math.min(0, ...known);
  const high = Math.max(...known, low + 1e-9);
  return [low, spec.top ?? high + (high - low) * 0.04];
}

function drawn(spec, series, width, show, tip, holder) {
  const layers = spec.stacked ? stackedOf(series) : [];
  const [low, high] = rangeOf(spec, series, layers);
  const inner = width - MARGIN.left - MARGIN.right;
  const tall = HEIGHT - MARGIN.top - MARGIN.bottom;
  const [first, last] = [spec.x[0], spec.x.at(-1)];
  const pad = spec.ticks ? 0.5 : 0;
  const atX = (x) => MARGIN.left + ((x - first + pad) / (last - first + 2 * pad || 1)) * inner;
  const atY = (y) => (isNumber(y) ? MARGIN.top + (1 - (y - low) / (high - low)) * tall : null);
  const xs = spec.x.map(atX);
  const parts = axes(spec, width, low, high, atX, atY, show);
  if (spec.stacked) {
    for (const one of layers) {
      const edge = path(xs, one.top.map(atY));
      const back = path([...xs].reverse(), one.bottom.map(atY).reverse()).replace(/^M/, "L");
      parts.push(
        svg("path", {
          d: `${edge}${back}Z`,
          fill: one.colour,
          "fill-opacity": 0.82,
          stroke: "var(--paper)",
          "stroke-width": 1,
        }),
      );
    }
  } else for (const one of series) parts.push(...lineOf(spec, one, xs, atY));
  const guide = svg("line", { class: "guide", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
  const drawing = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      tabindex: 0,
      role: "img",
      "aria-label": `${spec.title}. ${readAt(spec, series, spec.x.length - 1, show)} Arrow keys read the other points.`,
    },
    parts,
    guide,
  );
  let place = -1;
  const point = (i) => {
    place = Math.max(0, Math.min(spec.x.length - 1, i));
    guide.setAttribute("x1", xs[place]);
    guide.setAttribute("x2", xs[place]);
    guide.setAttribute("visibility", "visible");
    tip.replaceChildren(...tipOf(spec, series, place, show));
    tip.hidden = false;
    tip.style.left = `${Math.min(Math.max(0, xs[place] - 60), Math.max(0, holder.clientWidth - tip.offsetWidth))}px`;
  };
  const leave = () => {
    guide.setAttribute("visibility", "hidden");
    tip.hidden = true;
    place = -1;
  };
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    point(xs.reduce((best, x, i) => (Math.abs(x - at) < Math.abs(xs[best] - at) ? i : best), 0));
  });
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    point(place < 0 && move < 0 ? spec.x.length - 1 : place + move);
  });
  return drawing;
}

function axes(spec, width, low, high, atX, atY, show) {
  const parts = [];
  for (const tick of niceTicks(low, high, 4)) {
    parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: atY(tick), y2: atY(tick) }));
    const label = spec.percent ? String(Math.round(1000 * tick) / 10) : number(tick);
    parts.push(svg("text", { class: "tick", x: MARGIN.left - 7, y: atY(tick) + 4, "text-anchor": "end" }, label));
  }
  const few = Math.max(2, Math.floor(width / 60));
  const marks = spec.ticks
    ? spec.x
    : spec.x.length > 1
      ? niceTicks(spec.x[0], spec.x.at(-1), few - 1).filter(Number.isInteger)
      : spec.x;
  marks.forEach((mark, i) => {
    const label = spec.ticks ? spec.ticks[i] : number(mark);
    if (spec.ticks && marks.length > few && i % Math.ceil(marks.length / few)) return;
    parts.push(
      svg("text", { class: "tick", x: atX(mark), y: HEIGHT - MARGIN.bottom + 15, "text-anchor": "middle" }, label),
    );
  });
  parts.push(svg("text", { class: "tick", x: width - MARGIN.right, y: HEIGHT - 4, "text-anchor": "end" }, spec.xlabel));
  return parts;
}

function lineOf(spec, one, xs, atY) {
  const parts = [];
  const ys = one.y.map(atY);
  if (one.low) {
    const edge = path(xs, one.high.map(atY));
    const back = path([...xs].reverse(), one.low.map(atY).reverse()).replace(/^M/, "L");
    if (!spec.ticks && xs.length > 1)
      parts.push(svg("path", { d: `${edge}${back}Z`, fill: one.colour, "fill-opacity": 0.13 }));
    xs.forEach((x, i) => {
      const ends = [one.low[i], one.high[i]].map(atY);
      if (ends.every(isNumber))
        parts.push(
          svg("line", {
            x1: x,
            x2: x,
            y1: ends[0],
            y2: ends[1],
            stroke: one.colour,
            "stroke-opacity": 0.4,
            "stroke-width": 1.5,
          }),
        );
    });
  }
  const many = xs.length > 60 && !one.low;
  if (many)
    parts.push(
      svg("path", { d: path(xs, ys), fill: "none", stroke: one.colour, "stroke-opacity": 0.22, "stroke-width": 1 }),
    );
  const smooth = many ? movingMean(one.y, Math.ceil(xs.length / 30)).map(atY) : ys;
  if (!spec.dots)
    parts.push(
      svg("path", {
        d: path(xs, smooth),
        fill: "none",
        stroke: one.colour,
        "stroke-width": 2,
        "stroke-linejoin": "round",
      }),
    );
  if (xs.length <= 40)
    xs.forEach(
      (x, i) =>
        isNumber(ys[i]) &&
        parts.push(
          svg("circle", { cx: x, cy: ys[i], r: 3, fill: one.colour, stroke: "var(--paper)", "stroke-width": 1 }),
        ),
    );
  return parts;
}

const bandOf = (one, i, show) =>
  one.low && isNumber(one.low[i]) ? ` (${show(one.low[i])} to ${show(one.high[i])})` : "";
const readAt = (spec, series, i, show) =>
  `${spec.xlabel} ${spec.ticks ? spec.ticks[i] : number(spec.x[i])}: ${series.map((one) => `${one.name} ${show(one.y[i])}`).join(", ")}.`;

function tipOf(spec, series, i, show) {
  const rows = series.map((one) =>
    el("div", {}, swatch(one.colour), el("span", {}, one.name), el("b", {}, show(one.y[i]) + bandOf(one, i, show))),
  );
  return [
    el("strong", {}, `${spec.xlabel} ${spec.ticks ? spec.ticks[i] : number(spec.x[i])}`),
    ...(spec.stacked ? rows.reverse() : rows),
  ];
}
