/**
 * Results: what is to be known first, tables that can be sorted, and charts.
 *
 * @typedef {[number, number|null, number|null]} Estimate A number and the ends of its 95% interval, if they are known.
 */

const EVERYWHERE = "All environments";
const SHOWN_AT_FIRST = 8; // agents in the charts
const MEASURES = {
  score: ["Score", "0 is the unsteered language model, 1 the oracle; with 95% intervals over runs."],
  return: ["Return", "Mean return of a dialogue, with 95% intervals over runs."],
  behind: ["Behind the best", "What is earned less than by the best agent on the same seeds, with 95% intervals."],
  success: ["Goal reached", "Share of dialogues, with 95% intervals over runs."],
  cost: ["Cost", "Mean cost of a dialogue, with 95% intervals over runs."],
  cpu: ["CPU time", "Of a run, training and evaluation."],
};

/** Fill the part of the page with the results. */
function drawBoard(place, data) {
  place.append(...notes(data.notes), ...boardParts(data.board), ...summaryPart(data.summary));
  if (place.childElementCount === 0)
    place.append(element("p", { class: "empty" }, "There are no results, only dialogues."));
}

function boardParts(board) {
  if (!board) return [];
  return [...overallPart(board), ...cellsPart(board), ...chartsPart(board)];
}

// --- what is to be known first ----------------------------------------------------------------------------

function notes({ broken, mixed, missing, left_out: leftOut }) {
  const parts = [];
  if (mixed.length)
    parts.push(
      note(
        "warning",
        "Results of different versions stand beside each other here; numbers may differ for that alone.",
        mixed,
      ),
    );
  if (broken.length) parts.push(note("warning", `Broken and left out: ${counted(broken.length, "item")}.`, broken));
  if (missing.length)
    parts.push(
      note(
        "",
        `${counted(missing.length, "result")} of the suite ${missing.length === 1 ? "is" : "are"} not there yet.`,
        missing,
      ),
    );
  if (leftOut)
    parts.push(
      element(
        "p",
        { class: "note" },
        `${counted(leftOut, "further dialogue")} ${leftOut === 1 ? "is" : "are"} not shown (--limit).`,
      ),
    );
  return parts;
}

function note(kind, text, lines) {
  const items = lines.map((line) => element("li", {}, line));
  return element("details", { class: `note ${kind}` }, element("summary", {}, text), element("ul", {}, ...items));
}

// --- tables -------------------------------------------------------------------------------------------------

/**
 * Return a table whose columns can be sorted. What has no value comes last in either order.
 * @param {string} caption
 * @param {Array<{label: string, value: (row: any) => any, cell?: (row: any) => Node|string, down?: boolean, hint?: string}>} columns
 * @param {any[]} rows
 * @param {number} [first] Column that is sorted by at first; without it the rows stand as they are given.
 */
function sortable(caption, columns, rows, first) {
  const body = element("tbody");
  const heads = columns.map((column, at) => {
    const button = element("button", { type: "button", title: column.hint, onclick: () => sort(at) }, column.label);
    return element("th", { scope: "col", class: column.text ? "words" : "" }, button);
  });
  let [by, down] = [null, false];
  const draw = (sorted) => body.replaceChildren(...sorted.map((row) => tableRow(columns, row)));
  const sort = (at) => {
    down = at === by ? !down : (columns[at].down ?? !columns[at].text);
    heads[by ?? at].removeAttribute("aria-sort");
    by = at;
    heads[by].setAttribute("aria-sort", down ? "descending" : "ascending");
    draw([...rows].sort((a, b) => inOrder(columns[by].value(a), columns[by].value(b), down)));
  };
  if (first === undefined) draw(rows);
  else sort(first);
  const table = element(
    "table",
    { class: "sortable", "aria-label": caption },
    element("thead", {}, element("tr", {}, ...heads)),
    body,
  );
  const region = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
  return element("div", {}, element("p", { class: "caption" }, caption), region);
}

function tableRow(columns, row) {
  const cells = columns.map((column, at) => {
    const content = column.cell
      ? column.cell(row)
      : column.text
        ? String(column.value(row) ?? NONE)
        : number(column.value(row));
    const settings = { class: column.text ? "words" : "", ...(at ? {} : { scope: "row" }) };
    return element(at ? "td" : "th", settings, content);
  });
  return element("tr", {}, ...cells);
}

/** Compare two values for sorting; those that are not there come last. */
function inOrder(a, b, down) {
  const [none, nothing] = [a === null || a === undefined, b === null || b === undefined];
  if (none || nothing) return none - nothing;
  const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), LANGUAGE, { numeric: true });
  return down ? -order : order;
}

/** Return an estimate with its interval below it. */
function estimate(value, text = number) {
  if (!value) return NONE;
  return element("span", { class: "pair" }, text(value[0]), element("small", {}, ends(value)));
}

/** Return the least and the greatest end of estimates. */
function rangeOf(estimates) {
  const known = estimates.filter(Boolean).flat().filter(Number.isFinite);
  return known.length ? [Math.min(0, ...known), Math.max(...known)] : [0, 1];
}

function overallPart({ overall, unscaled }) {
  if (!overall.length) return [];
  const [low, high] = rangeOf(overall.map((row) => row.iqm));
  const columns = [
    { label: "Agent", text: true, value: (row) => row.agent },
    {
      label: "IQM",
      hint: "Interquartile mean of the scores over environments and seeds",
      value: (row) => row.iqm?.[0],
      cell: (row) => estimate(row.iqm),
    },
    {
      label: "95% interval",
      value: (row) => row.iqm?.[0],
      cell: (row) => (row.iqm ? whisker(row.iqm, low, high) : NONE),
    },
    { label: "Mean", value: (row) => row.mean?.[0], cell: (row) => estimate(row.mean) },
    {
      label: "Gap",
      hint: "Optimality gap: how much is missing to 1, 0 where it is reached",
      down: false,
      value: (row) => row.gap?.[0],
      cell: (row) => estimate(row.gap),
    },
    { label: "Learns from", text: true, value: (row) => row.learned_from },
    {
      label: "CPU",
      hint: "Of one run in each environment, in all",
      down: false,
      value: (row) => row.cpu_seconds,
      cell: (row) => duration(row.cpu_seconds),
    },
    {
      label: "Tokens",
      value: (row) => row.tokens,
      cell: (row) => (row.tokens === null ? NONE : briefNumber(row.tokens)),
    },
    { label: "Environments", value: (row) => row.worlds, cell: (row) => `${row.worlds} of ${row.of}` },
    ...(overall.some((row) => row.over_budget.length)
      ? [{ label: "Over budget", text: true, value: (row) => row.over_budget.join(", ") || null }]
      : []),
  ];
  const left = unscaled.length ? ` Not counted, as lm or oracle is not there: ${unscaled.join(", ")}.` : "";
  const last = overall.some((row) => row.worlds < row.of)
    ? " Agents without a score in every environment stand last: theirs are of others."
    : "";
  const caption = `Over all environments; a score of 0 is the unsteered language model, 1 the oracle. IQM is the interquartile mean, gap what is missing to 1.${last}${left}`;
  return [element("h2", {}, "Leaderboard"), sortable(caption, columns, overall)];
}

function cellsPart({ worlds, agents, cells }) {
  if (!cells.length) return [];
  const found = new Map(cells.map((cell) => [JSON.stringify([cell.agent, cell.world]), cell]));
  const measures = Object.keys(MEASURES).filter((name) => cells.some((cell) => cell[name]));
  const place = element("div");
  const draw = (measure) => {
    const columns = worlds.map((world) => {
      const of = (agent) => found.get(JSON.stringify([agent, world.name]));
      return {
        label: world.name,
        down: !["cost", "cpu"].includes(measure),
        value: (agent) => of(agent)?.[measure]?.[0],
        cell: (agent) => cellOf(of(agent), measure),
      };
    });
    const table = sortable(
      MEASURES[measure][1],
      [{ label: "Agent", text: true, value: (agent) => agent }, ...columns],
      agents,
    );
    place.replaceChildren(table);
  };
  draw(measures[0]);
  const choice = select(
    "Show",
    measures.map((name) => [name, MEASURES[name][0]]),
    measures[0],
    draw,
  );
  return [element("h2", {}, "By environment"), element("div", { class: "bar" }, choice), place];
}

/** What stands in a table for an agent in an environment; what cannot be is said, and never a zero. */
function cellOf(cell, measure) {
  if (!cell || cell.status === "missing") return element("span", { class: "none" }, "missing");
  if (cell.status === "not applicable")
    return element("abbr", { class: "none", tabindex: 0, title: cell.reason }, "n/a");
  if (measure === "cpu") return duration(cell.cpu[0]);
  const node = element("span", {}, estimate(cell[measure]));
  if (measure === "cost" && cell.over_budget) node.append(element("small", { class: "over" }, "over budget"));
  if (cell.missing) node.append(element("small", { class: "none" }, `${cell.missing} missing`));
  return node;
}

function summaryPart(rows) {
  if (!rows.length) return [];
  const [low, high] = rangeOf(rows.map((row) => row.return));
  const columns = [
    { label: "Agent", text: true, value: (row) => row.agent },
    { label: "Environment", text: true, value: (row) => row.world || NONE },
    { label: "Return", value: (row) => row.return[0], cell: (row) => estimate(row.return) },
    { label: "95% interval", value: (row) => row.return[0], cell: (row) => whisker(row.return, low, high) },
    { label: "Goal reached", value: (row) => row.success[0], cell: (row) => estimate(row.success) },
    ...(rows.some((row) => row.cost[0])
      ? [{ label: "Cost", down: false, value: (row) => row.cost[0], cell: (row) => estimate(row.cost) }]
      : []),
    { label: "Turns", value: (row) => row.turns[0], cell: (row) => estimate(row.turns) },
    { label: "Dialogues", value: (row) => row.dialogues, cell: (row) => row.dialogues.toLocaleString(LANGUAGE) },
  ];
  const caption = "The dialogues of this report, with 95% intervals over dialogues.";
  return [element("h2", {}, "Dialogues shown"), sortable(caption, columns, rows, 2)];
}

// --- charts ---------------------------------------------------------------------------------------------------

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
  return row && row.worlds < row.of ? element("small", {}, `${row.worlds} of ${row.of}`) : null;
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
            label: "Compute against score",
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
    ([key, { world, unit, measure }]) =>
      new Chart({
        world: world || "Training",
        label: `${world || "Training"}: ${measure} by ${unit}`,
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
