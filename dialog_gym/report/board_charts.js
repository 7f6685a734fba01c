/**
 * The charts of the results: profiles, compute and cost against score, and how scores rose.
 */

const EVERYWHERE = "All environments";
const SHOWN_AT_FIRST = 8; // agents in the charts

function chartsPart(board) {
  const charts = [...profileCharts(board), ...costCharts(board), ...curveCharts(board)];
  if (!charts.length) return [];
  const named = new Set(charts.flatMap((chart) => chart.spec.series.map((one) => one.name)));
  const agents = board.agents.filter((agent) => named.has(agent));
  const worlds = [...new Set(charts.map((chart) => chart.spec.world))];
  const grid = element("div", { class: "charts" });
  const draw = (world) =>
    grid.replaceChildren(...charts.filter((chart) => chart.spec.world === world).map((chart) => chart.node));
  draw(worlds[0]);
  const choice =
    worlds.length > 1
      ? select(
          "Environment",
          worlds.map((world) => [world, world]),
          worlds[0],
          draw,
        )
      : "";
  return [element("h2", {}, "Charts"), element("div", { class: "bar" }, choice), legend(agents, board, charts), grid];
}

function styleOf(board, agent) {
  return board.agents.indexOf(agent);
}

/** Return buttons that show and hide agents in all charts. */
function legend(agents, board, charts) {
  const visible = new Set(agents.slice(0, SHOWN_AT_FIRST));
  const buttons = agents.map((agent) => {
    const act = () => {
      if (!visible.delete(agent)) visible.add(agent);
      draw();
    };
    return element(
      "button",
      { type: "button", onclick: act },
      swatch(styleOf(board, agent)),
      agent,
      partial(board, agent),
    );
  });
  const draw = () => {
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", visible.has(agents[at])));
    charts.forEach((chart) => chart.filter((name) => visible.has(name)));
  };
  draw();
  return element("div", { class: "legend", role: "group", "aria-label": "Agents in the charts" }, ...buttons);
}

/** Say where an agent has results in a part of the environments only: over all of them it compares with few. */
function partial({ overall }, agent) {
  const row = overall.find((one) => one.agent === agent);
  const counted = Math.max(...overall.map((one) => one.worlds));
  return row && row.worlds < counted ? element("small", {}, `${row.worlds} of ${row.of}`) : null;
}

function profileCharts(board) {
  if (!board.profiles) return [];
  const { taus, agents } = board.profiles;
  const series = agents.map(({ agent, value, low, high }) => ({
    name: agent,
    style: styleOf(board, agent),
    points: taus.map((tau, at) =>
      point(
        tau,
        [value[at], low?.[at], high?.[at]],
        `${number(100 * value[at], 1)}% of runs score more than ${number(tau)}`,
      ),
    ),
  }));
  return [
    new Chart({
      world: EVERYWHERE,
      label: "Performance profiles",
      x: "score τ",
      y: "share of runs above τ",
      lines: true,
      yRange: [0, 1],
      series,
    }),
  ];
}

function point(x, [y, low, high], text) {
  return { x, y, low: low ?? null, high: high ?? null, text };
}

function costCharts(board) {
  const done = board.cells.filter((cell) => cell.status === "done");
  const compute = board.overall.filter((row) => row.learned_from && row.cpu_seconds > 0);
  const charts =
    compute.length < 2
      ? []
      : [
          new Chart({
            world: EVERYWHERE,
            label:
              "Compute against score (shared models, recorded dialogues and rankings are not counted; of a resumed run only the last start is)",
            x: "CPU hours of one run in each environment",
            y: "IQM",
            lines: false,
            log: true,
            series: compute.map((row) => ({
              name: row.agent,
              style: styleOf(board, row.agent),
              points: [
                point(
                  row.cpu_seconds / 3600,
                  row.iqm,
                  `IQM ${withEnds(row.iqm)}, ${duration(row.cpu_seconds)} of CPU`,
                ),
              ],
            })),
          }),
        ];
  const costly = board.worlds.filter(({ name }) => done.some((cell) => cell.world === name && cell.cost?.[0]));
  return [
    ...charts,
    ...costly.map(
      ({ name, budget }) =>
        new Chart({
          world: name,
          label: `${name}: cost against return`,
          x: "cost of a dialogue",
          y: "return",
          lines: false,
          limit: budget,
          series: done
            .filter((cell) => cell.world === name)
            .map((cell) => ({
              name: cell.agent,
              style: styleOf(board, cell.agent),
              points: [
                {
                  ...point(cell.cost[0], cell.return, `return ${withEnds(cell.return)}, cost ${withEnds(cell.cost)}`),
                  left: cell.cost[1],
                  right: cell.cost[2],
                },
              ],
            })),
        }),
    ),
  ];
}

function withEnds(value) {
  return ends(value) ? `${number(value[0])} (${ends(value)})` : number(value[0]);
}

/** One chart for each environment and unit: what is counted in updates stands not beside what is counted in episodes. */
function curveCharts(board) {
  const kind = ({ world, unit, measure }) => JSON.stringify([world, unit, measure]);
  const kinds = new Map(board.curves.map((curve) => [kind(curve), curve]));
  return [...kinds].map(
    ([key, { world, unit, measure, note }]) =>
      new Chart({
        world: world || "Training",
        label: `${world || "Training"}: ${measure} by ${unit}${note && ` (${note})`}`,
        x: unit,
        y: measure,
        lines: true,
        series: board.curves.filter((curve) => kind(curve) === key).map((curve) => curveSeries(board, curve)),
      }),
  );
}

function curveSeries(board, curve) {
  const points = curve.at.map((at, place) => {
    const value = [curve.value[place], curve.low?.[place] ?? null, curve.high?.[place] ?? null];
    return point(at, value, `${withEnds(value)} after ${Math.round(at).toLocaleString(LANGUAGE)} ${curve.unit}`);
  });
  return { name: curve.agent, style: styleOf(board, curve.agent), points };
}
