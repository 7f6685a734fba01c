/**
 * One dialogue: what the agent was told, the turns in colour, how it ended, and on request what was hidden.
 *
 * @typedef {{world: string, agent: string, run: string, seed: string, scenario: number, turns: Array<[string, string]>,
 *   numbers: Object<string, number[]>, total: number, cost: number, state: Object, stop: string, success: boolean,
 *   score?: number}} Row
 * @typedef {{scenario: Object, scales: Object<string, number>, by: string, any: RegExp|null, hidden: boolean,
 *   onHidden: (open: boolean) => void}} View
 */

/**
 * Return a dialogue as an article.
 * @param {Row} row
 * @param {View} view
 */
function transcript(row, view) {
  return element(
    "article",
    { class: "transcript", "aria-label": `${called(row)}, seed ${row.seed}` },
    element("h3", {}, called(row)),
    facts(row),
    brief(view.scenario, view.any),
    element("ol", { class: "turns" }, ...turns(row, view)),
    element("p", { class: row.success ? "end success" : "end" }, ending(row)),
    hiddenPart(row, view),
  );
}

function facts(row) {
  const told = [
    ["return", number(row.total)],
    ...(row.cost ? [["cost", number(row.cost)]] : []),
    ...(row.score === undefined ? [] : [["score", number(row.score)]]),
    ["seed", row.seed],
  ];
  const pairs = told.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  return element("dl", { class: "facts" }, ...pairs);
}

/** What the agent knows before the first word. */
function brief(scenario, any) {
  const goal = scenario.private[scenario.roles[0]];
  return element(
    "div",
    { class: "brief" },
    element("p", { dir: "auto" }, ...marked(scenario.public, any)),
    goal ? element("p", { dir: "auto" }, goal) : null,
  );
}

function turns(row, view) {
  const agent = view.scenario.roles[0];
  let spoken = 0;
  return row.turns.map(([role, text]) => {
    const numbers = role === agent ? turnNumbers(row, spoken++) : null;
    return turn(role, text, numbers, view);
  });
}

/** Return the numbers of the agent's turn `at`, by name. */
function turnNumbers(row, at) {
  return Object.entries(row.numbers).map(([name, values]) => [name, values[at]]);
}

function turn(role, text, numbers, view) {
  const shown = numbers?.find(([name]) => name === view.by)?.[1];
  const parts = [
    element("span", { class: "role" }, role),
    element("span", { class: "text", dir: "auto" }, ...marked(text || "(says nothing)", view.any)),
    element("span", { class: "number" }, shown === undefined ? "" : shown ? signed(shown) : "0"),
  ];
  if (!numbers) return element("li", { class: "turn" }, ...parts);
  const item = element("li", { class: `turn agent ${tone(shown, view.by)}`, tabindex: 0 }, ...parts, terms(numbers));
  item.style.setProperty("--share", `${Math.round(100 * share(shown, view.scales[view.by]))}%`);
  return item;
}

/** Return whether a number is good or bad; of costs more is worse. */
function tone(value, name) {
  if (!value) return "";
  return value > 0 === !name.startsWith("cost") ? "good" : "bad";
}

/** Return how much of the full colour a number is worth, 0 to 1. */
function share(value, scale) {
  return value ? Math.min(Math.abs(value) / (scale || 1), 1) : 0;
}

/** What is shown when a turn is pointed at. */
function terms(numbers) {
  const rows = numbers.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, number(value))),
  );
  return element("table", { class: "terms" }, element("tbody", {}, ...rows));
}

function ending(row) {
  const goal = row.success ? "goal reached" : "goal not reached";
  return row.stop ? `Ended: ${row.stop}, ${goal}.` : "Goes on.";
}

/** What the agent does not see: the partner's goal, hidden parameters, the partner's state at the end. */
function hiddenPart(row, view) {
  const { roles, private: goals, hidden } = view.scenario;
  const others = Object.entries(goals).filter(([role]) => role !== roles[0]);
  const details = element(
    "details",
    { class: "hidden-part", ontoggle: () => view.onHidden(details.open) },
    element("summary", {}, "Hidden from the agent"),
    ...others.map(([role, goal]) => element("p", { dir: "auto" }, `${role}: ${goal}`)),
    values("Parameters", hidden),
    values("State at the end", row.state),
  );
  details.open = view.hidden;
  return details;
}

function values(title, named) {
  const names = Object.keys(named);
  if (!names.length) return null;
  const rows = names.map((name) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", { dir: "auto" }, plain(named[name]))),
  );
  return element("table", { class: "values" }, element("caption", {}, title), element("tbody", {}, ...rows));
}

function plain(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}
