/**
 * Charts as SVG. Colours are told apart by people who see red and green alike; shapes and dashes tell them apart too.
 *
 * @typedef {{x: number, y: number, low?: number|null, high?: number|null, left?: number|null, right?: number|null,
 *   text: string}} Point
 * @typedef {{name: string, style: number, points: Point[]}} Series
 * @typedef {{world: string, label: string, x: string, y: string, lines: boolean, log?: boolean, limit?: number|null,
 *   yRange?: [number, number], series: Series[]}} Spec
 */

const COLOURS = 7;
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const SHAPES = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
  "M-3.5,-3.5h7v7h-7z",
  "M0,-4.5L4.5,3.5H-4.5z",
  "M0,-5L5,0L0,5L-5,0z",
  "M0,4.5L4.5,-3.5H-4.5z",
  "M-4.5,-1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",
];
const MARGIN = { top: 10, right: 14, bottom: 40, left: 52 };
const NEAR = 40; // pixels within which a point is pointed at

/** Return the settings that give a node the look of series `style`. */
function look(style) {
  return { class: `series s${style % COLOURS}` };
}

function dash(style) {
  return DASHES[Math.floor(style / COLOURS) % DASHES.length];
}

function mark(style, x, y) {
  return drawn("path", { d: SHAPES[style % SHAPES.length], transform: `translate(${x},${y})`, class: "mark" });
}

/** Return a small picture of a series for a legend. */
function swatch(style) {
  return drawn(
    "svg",
    { width: 26, height: 12, "aria-hidden": "true", ...look(style) },
    drawn("path", { d: "M0,6H26", "stroke-dasharray": dash(style), class: "line" }),
    mark(style, 13, 6),
  );
}

/** A chart that is drawn anew when its place changes its width. */
class Chart {
  /** @param {Spec} spec */
  constructor(spec) {
    this.spec = spec;
    this.visible = () => true;
    this.node = element("figure", { class: "chart" });
    this.width = 0;
    new ResizeObserver(() => this.node.clientWidth !== this.width && this.draw()).observe(this.node);
  }

  /** Show those series alone whose name `visible` accepts. */
  filter(visible) {
    this.visible = visible;
    this.node.hidden = !this.spec.series.some((one) => visible(one.name));
    this.draw();
  }

  draw() {
    const width = this.node.clientWidth;
    this.width = width;
    if (!width) return;
    const { spec } = this;
    const series = spec.series.filter((one) => this.visible(one.name));
    const box = { width, height: Math.round(Math.min(Math.max(width * 0.55, 220), 360)) };
    const scales = scalesOf(spec, series, box);
    const svg = drawn(
      "svg",
      {
        width: box.width,
        height: box.height,
        role: "img",
        "aria-label": `${spec.label}. The numbers follow as a table.`,
      },
      ...axes(spec, scales, box),
      limitLine(spec, scales, box),
      ...series.map((one) => seriesOf(one, spec, scales)),
    );
    svg.addEventListener("pointermove", (event) => showNearest(event, svg, series, scales));
    svg.addEventListener("pointerleave", hideTip);
    const open = this.node.querySelector("details")?.open ?? false;
    this.node.replaceChildren(element("figcaption", {}, spec.label), svg, numbersOf(series, open));
  }
}

// --- scales and axes ----------------------------------------------------------------------------------

function scalesOf(spec, series, box) {
  const points = series.flatMap((one) => one.points);
  const xs = points.flatMap(({ x, left, right }) => [x, left, right]);
  const ys = points.flatMap(({ y, low, high }) => [y, low, high]);
  const across = [MARGIN.left, box.width - MARGIN.right];
  const up = [box.height - MARGIN.bottom, MARGIN.top];
  return {
    x: scale([...xs, spec.limit], across, { log: spec.log, apart: 70 }),
    y: spec.yRange ? scale(spec.yRange, up, { room: 0 }) : scale(ys, up, {}),
  };
}

/** Return a function from values to pixels, and its ticks. */
function scale(values, [from, to], { log = false, room = 0.04, apart = 45 }) {
  const known = values.filter((value) => Number.isFinite(value) && (!log || value > 0)).map(log ? Math.log10 : Number);
  let [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const more = room * (high - low);
  [low, high] = [low - more, high + more];
  const place = (value) => from + ((to - from) * ((log ? Math.log10(value) : value) - low)) / (high - low);
  const count = Math.abs(to - from) / apart;
  return Object.assign(place, { ticks: log ? logTicks(low, high, count) : ticksOf(low, high, count) });
}

/** Return powers of ten between 10^low and 10^high, with 2 and 5 of each where there is room; round numbers if few. */
function logTicks(low, high, count) {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, at) => Math.floor(low) + at);
  for (const digits of [[1, 2, 5], [1]]) {
    const ticks = powers.flatMap((power) => digits.map((digit) => digit * 10 ** power));
    const inside = ticks.filter((tick) => low <= Math.log10(tick) && Math.log10(tick) <= high);
    if (inside.length <= count + 1) return inside.length > 1 ? inside : ticksOf(10 ** low, 10 ** high, count);
  }
  return powers.filter((power) => low <= power && power <= high).map((power) => 10 ** power);
}

/** Return round numbers from `low` to `high`, about `count` of them. */
function ticksOf(low, high, count) {
  const rough = (high - low) / Math.max(count, 2);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * power >= rough) * power;
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step)
    ticks.push(Number(at.toPrecision(12)));
  return ticks;
}

function axes(spec, { x, y }, { width, height }) {
  const bottom = height - MARGIN.bottom;
  return [
    ...y.ticks.map((tick) =>
      drawn(
        "g",
        { class: "tick", transform: `translate(0,${y(tick)})` },
        drawn("path", { d: `M${MARGIN.left},0H${width - MARGIN.right}` }),
        drawn("text", { x: MARGIN.left - 6, dy: "0.32em", "text-anchor": "end" }, briefNumber(tick)),
      ),
    ),
    ...x.ticks.map((tick) =>
      drawn(
        "g",
        { class: "tick", transform: `translate(${x(tick)},${bottom})` },
        drawn("path", { d: "M0,0v4" }),
        drawn("text", { y: 17, "text-anchor": "middle" }, briefNumber(tick)),
      ),
    ),
    drawn("path", { class: "axis", d: `M${MARGIN.left},${bottom}H${width - MARGIN.right}` }),
    drawn(
      "text",
      { class: "label", x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 5, "text-anchor": "middle" },
      spec.x,
    ),
    drawn(
      "text",
      { class: "label", transform: `translate(12,${(MARGIN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
      spec.y,
    ),
  ];
}

/** Return a tick's number in few letters: 0.5, 1,200, 30k, 2M. */
function briefNumber(value) {
  const size = Math.abs(value);
  const options =
    size >= 10000 ? { notation: "compact", maximumSignificantDigits: 3 } : { maximumSignificantDigits: 4 };
  return value.toLocaleString(LANGUAGE, options).replace("-", "−");
}

function limitLine({ limit, label }, { x }, { height }) {
  if (limit === null || limit === undefined) return null;
  return drawn(
    "g",
    { class: "limit" },
    drawn("path", { d: `M${x(limit)},${MARGIN.top}V${height - MARGIN.bottom}` }),
    drawn(
      "text",
      { x: x(limit) - 4, y: MARGIN.top + 10, "text-anchor": "end", "aria-label": label },
      `budget ${number(limit)}`,
    ),
  );
}

// --- series ---------------------------------------------------------------------------------------------

function seriesOf(one, spec, { x, y }) {
  const at = one.points.map((point) => ({ ...point, px: x(point.x), py: y(point.y) }));
  const parts = spec.lines
    ? [bandOf(at, y), drawn("path", { d: pathOf(at), "stroke-dasharray": dash(one.style), class: "line" })]
    : at.flatMap((point) => whiskersOf(point, x, y));
  const every = spec.lines ? Math.max(Math.ceil(at.length / 8), 1) : 1;
  const marks = at.filter((_, place) => place % every === 0).map(({ px, py }) => mark(one.style, px, py));
  return drawn("g", look(one.style), ...parts, ...marks);
}

function pathOf(points) {
  return points.map(({ px, py }, at) => `${at ? "L" : "M"}${px.toFixed(1)},${py.toFixed(1)}`).join("");
}

function bandOf(points, y) {
  const known = points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high));
  if (known.length < 2) return null;
  const above = known.map(({ px, high }) => ({ px, py: y(high) }));
  const below = known.map(({ px, low }) => ({ px, py: y(low) })).reverse();
  return drawn("path", { d: `${pathOf([...above, ...below])}Z`, class: "band" });
}

function whiskersOf({ px, py, low, high, left, right }, x, y) {
  const parts = [];
  if (Number.isFinite(low)) parts.push(drawn("path", { d: `M${px},${y(low)}V${y(high)}`, class: "whisker" }));
  if (Number.isFinite(left)) parts.push(drawn("path", { d: `M${x(left)},${py}H${x(right)}`, class: "whisker" }));
  return parts;
}

/** Return the numbers of a chart as a table, for those who do not see it. */
function numbersOf(series, open) {
  const rows = series.flatMap((one) =>
    one.points.map((point) => element("tr", {}, element("td", {}, one.name), element("td", {}, point.text))),
  );
  const details = element("details", { class: "numbers" }, element("summary", {}, "Numbers"));
  const fill = () =>
    details.open &&
    details.children.length === 1 &&
    details.append(
      element(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers of the chart" },
        element("table", {}, element("tbody", {}, ...rows)),
      ),
    );
  details.addEventListener("toggle", fill);
  details.open = open;
  return details;
}

// --- pointing ---------------------------------------------------------------------------------------------

/** Tell the values of the point that is nearest to the pointer. */
function showNearest(event, svg, series, { x, y }) {
  const area = svg.getBoundingClientRect();
  const [left, top] = [event.clientX - area.left, event.clientY - area.top];
  let [best, least] = [null, NEAR];
  for (const one of series) {
    for (const point of one.points) {
      const away = Math.hypot(x(point.x) - left, y(point.y) - top);
      if (away < least) [best, least] = [{ one, point }, away];
    }
  }
  if (best) showTip(`${best.one.name}: ${best.point.text}`, event.clientX, event.clientY);
  else hideTip();
}

function showTip(text, left, top) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(left + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${top - height - 12 > 0 ? top - height - 12 : top + 16}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

/** Return an estimate with its interval as a small drawing on the scale from `low` to `high`, with lines at `at`. */
function whisker([value, from, to], low, high, at = [0, 1]) {
  const width = 120;
  const place = (number) => (width * (Math.max(low, Math.min(number, high)) - low)) / (high - low || 1);
  const lines = at
    .filter((line) => low <= line && line <= high)
    .map((line) => drawn("path", { class: "zero", d: `M${place(line)},1V15` }));
  const interval = Number.isFinite(from)
    ? drawn("path", { class: "interval", d: `M${place(from)},8H${place(to)}` })
    : null;
  return drawn(
    "svg",
    { class: "estimate", width: width + 8, height: 16, viewBox: `-4 0 ${width + 8} 16`, "aria-hidden": "true" },
    ...lines,
    interval,
    drawn("path", { class: "value", d: `M${place(value)},2V14` }),
  );
}
