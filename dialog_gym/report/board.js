/**
 * Results: what is to be known first, tables that can be sorted, and charts (`board_charts.js`).
 *
 * @typedef {[number, number|null, number|null]} Estimate A number and the ends of its 95% interval, if they are known.
 */

const MEASURES = {
  score: ["Score", "0 is the unsteered language model, 1 the oracle; with 95% intervals over runs."],
  return: ["Return", "Mean return of a dialogue, with 95% intervals over runs."],
  behind: [
    "Behind the best",
    "Return less that of the best agent (lm and oracle left out) on the same seeds, with 95% intervals for new runs on new dialogues; of a single run for new dialogues alone.",
  ],
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
  return [
    ...overallPart(board),
    ...listed(board.notes),
    ...cellsPart(board),
    ...listed(board.reasons),
    ...duelsPart(board),
    ...chartsPart(board),
  ];
}

// --- what is to be known first ----------------------------------------------------------------------------

function notes({ broken, mixed, missing, left_out: leftOut }) {
  const parts = [];
  if (mixed.length)
    parts.push(
      note(
        "warning",
        "Results of different versions or settings stand beside each other here; numbers may differ for that alone.",
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

/** Return sentences of `leaderboard_notes.py` as a list; what stands between two backticks is a name. */
function listed(lines) {
  const parts = (line) => line.split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
  return lines.length
    ? [element("ul", { class: "notes" }, ...lines.map((line) => element("li", {}, ...parts(line))))]
    : [];
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

function overallPart({ overall }) {
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
  const caption =
    "Over environments, as the notes below say; a score of 0 is the unsteered language model, 1 the oracle. Gap is what is missing to 1.";
  return [element("h2", {}, "Leaderboard"), sortable(caption, columns, overall)];
}

/** Who is better than whom: one agent is chosen, the others are told beside it. */
function duelsPart({ agents, duels }) {
  if (!duels.length) return [];
  const most = Math.max(...duels.map((duel) => duel.worlds));
  const caption =
    "How probable it is that a run of the chosen agent scores higher than one of the other, in an environment that " +
    "both have, drawn at random; a tie counts half. 95% intervals for new runs on these dialogues: where ½ is outside, they are told apart there. " +
    "There is none where there are too few runs, or where in each environment the runs of one are all above the other's.";
  const columns = [
    { label: "Beside", text: true, value: (row) => row.other },
    {
      label: "Is better",
      hint: "Probability of improvement",
      value: (row) => row.better[0],
      cell: (row) => estimate(row.better),
    },
    {
      label: "95% interval",
      hint: "From 0 to 1; the line in the middle is ½",
      value: (row) => row.better[0],
      cell: (row) => whisker(row.better, 0, 1, [0, 0.5, 1]),
    },
    { label: "Environments", value: (row) => row.worlds, cell: (row) => `${row.worlds} of ${most}` },
  ];
  const named = agents.filter((agent) => duels.some((duel) => duel.agent === agent || duel.other === agent));
  const place = element("div");
  const draw = (agent) => place.replaceChildren(sortable(caption, columns, besides(agent, duels)));
  const first = named.find((agent) => !["oracle", "lm"].includes(agent)) ?? named[0];
  draw(first);
  const choice = select(
    "Agent",
    named.map((agent) => [agent, agent]),
    first,
    draw,
  );
  return [element("h2", {}, "Who is better than whom"), element("div", { class: "bar" }, choice), place];
}

/** Return how `agent` does beside each other one. */
function besides(agent, duels) {
  return duels.flatMap(({ agent: one, other, better: [value, low, high], worlds }) => {
    if (one === agent) return [{ other, better: [value, low, high], worlds }];
    const back = (share) => (share === null ? null : 1 - share);
    return other === agent ? [{ other: one, better: [back(value), back(high), back(low)], worlds }] : [];
  });
}

/** A table of agents and environments that have results; notes name what is missing and what is not applicable. */
function cellsPart({ worlds, agents, cells }) {
  const done = cells.filter((cell) => cell.status === "done");
  if (!done.length) return [];
  const shown = worlds.filter(({ name }) => done.some((cell) => cell.world === name));
  const rows = agents.filter((agent) => done.some((cell) => cell.agent === agent));
  const found = new Map(cells.map((cell) => [JSON.stringify([cell.agent, cell.world]), cell]));
  const measures = Object.keys(MEASURES).filter((name) => cells.some((cell) => cell[name]));
  const place = element("div");
  const draw = (measure) => {
    const columns = shown.map((world) => {
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
      rows,
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
  if (!cell || cell.status === "not asked") return element("span", { class: "none" }, NONE);
  if (cell.status === "missing") return element("span", { class: "none" }, "missing");
  if (cell.status === "not applicable") return element("span", { class: "none" }, "n/a");
  if (measure === "cpu") return duration(cell.cpu[0]);
  const node = element("span", {}, estimate(cell[measure]));
  if (measure === "cost" && cell.over_budget) node.append(element("small", { class: "over" }, "over budget"));
  if (cell.missing) node.append(element("small", { class: "none" }, `${cell.missing} missing`));
  return node;
}

/** What was earned in the dialogues of one environment at a time: returns of different ones have no scale in common. */
function summaryPart(rows) {
  if (!rows.length) return [];
  const worlds = [...new Set(rows.map((row) => row.world))];
  const place = element("div");
  const draw = (world) => place.replaceChildren(summaryTable(rows.filter((row) => row.world === world)));
  draw(worlds[0]);
  const choice = select(
    "Environment",
    worlds.map((world) => [world, world || "not known"]),
    worlds[0],
    draw,
  );
  return [element("h2", {}, "Dialogues shown"), element("div", { class: "bar" }, choice), place];
}

function summaryTable(rows) {
  const [low, high] = rangeOf(rows.map((row) => row.return));
  const columns = [
    { label: "Agent", text: true, value: (row) => row.agent },
    { label: "Return", value: (row) => row.return[0], cell: (row) => estimate(row.return) },
    { label: "95% interval", value: (row) => row.return[0], cell: (row) => whisker(row.return, low, high, [0]) },
    { label: "Goal reached", value: (row) => row.success[0], cell: (row) => estimate(row.success) },
    ...(rows.some((row) => row.cost[0])
      ? [{ label: "Cost", down: false, value: (row) => row.cost[0], cell: (row) => estimate(row.cost) }]
      : []),
    { label: "Turns", value: (row) => row.turns[0], cell: (row) => estimate(row.turns) },
    { label: "Dialogues", value: (row) => row.dialogues, cell: (row) => row.dialogues.toLocaleString(LANGUAGE) },
  ];
  const caption =
    "The dialogues of this report, those of all runs of an agent together. The 95% intervals are about these runs " +
    "alone, and take dialogues as independent; those above are over runs.";
  return sortable(caption, columns, rows, 1);
}
