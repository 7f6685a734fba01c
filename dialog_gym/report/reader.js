/**
 * The list of dialogues with its filters, and the transcripts beside it.
 */

const ROW_HEIGHT = 54; // pixels, as in report.css
const SPARE_ROWS = 8; // above and below what is seen
const ANY = "";
const ORDERS = {
  best: ["Return, highest first", (a, b) => b.standing - a.standing],
  worst: ["Return, lowest first", (a, b) => a.standing - b.standing],
  cost: ["Cost, highest first", (a, b) => b.cost - a.cost],
  turns: ["Turns, most first", (a, b) => b.turns.length - a.turns.length],
  seed: ["Seed", (a, b) => a.seed.length - b.seed.length || (a.seed < b.seed ? -1 : a.seed > b.seed ? 1 : 0)],
};

class Reader {
  /**
   * @param {HTMLElement} place
   * @param {Object} data What the page was told (payload.py).
   */
  constructor(place, data) {
    this.data = data;
    this.rows = data.dialogues;
    this.wanted = { world: ANY, agent: ANY, goal: ANY, stop: ANY, order: "best", query: "" };
    this.any = null; // what is marked
    this.shown = []; // numbers of rows, in the order of the list
    this.at = 0; // place in `shown`
    this.others = null; // who stands beside, as `beside` names it, or null
    this.by = "reward";
    this.hidden = false;
    this.twins = twins(this.rows);
    rank(this.rows);
    this.build(place);
    this.search();
  }

  // --- the frame ---------------------------------------------------------------------------------

  build(place) {
    this.count = element("p", { class: "count", role: "status" });
    this.inner = element("div", { class: "rows", role: "presentation" });
    this.list = element(
      "div",
      {
        class: "list",
        role: "listbox",
        tabindex: 0,
        "aria-label": "Dialogues",
        onkeydown: (event) => this.listKey(event),
      },
      this.inner,
    );
    this.list.addEventListener("scroll", () => this.drawRows(), { passive: true });
    this.inner.addEventListener("click", (event) => this.clicked(event));
    this.pane = element("div", { class: "pane", tabindex: -1 });
    this.bar = element("div", { class: "bar" });
    place.append(
      element("div", { class: "side" }, this.filters(), this.count, this.list),
      element("div", { class: "reading" }, this.bar, this.pane),
    );
    new ResizeObserver(() => this.drawRows()).observe(this.list);
  }

  filters() {
    this.box = element("input", {
      type: "search",
      placeholder: "Search what was said",
      "aria-label": "Search what was said",
      oninput: () => this.want("query", this.box.value),
      onkeydown: (event) => this.boxKey(event),
    });
    const choice = (label, name, options) =>
      select(label, options, this.wanted[name], (value) => this.want(name, value));
    const orders = Object.entries(ORDERS).filter(([name]) => name !== "cost" || this.rows.some((row) => row.cost));
    return element(
      "form",
      { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      this.box,
      choice(
        "Environment",
        "world",
        valuesOf(this.rows, (row) => row.world, "All"),
      ),
      choice(
        "Agent",
        "agent",
        valuesOf(this.rows, (row) => row.agent, "All"),
      ),
      choice("Goal", "goal", [
        [ANY, "Any"],
        ["yes", "Reached"],
        ["no", "Not reached"],
      ]),
      choice(
        "Ended by",
        "stop",
        valuesOf(this.rows, (row) => row.stop, "Anything"),
      ),
      choice(
        "Order",
        "order",
        orders.map(([name, [label]]) => [name, label]),
      ),
    );
  }

  // --- what is listed -----------------------------------------------------------------------------

  want(name, value) {
    this.wanted[name] = value;
    this.search();
  }

  /** Find and order the rows that are wanted, and open the first. */
  search() {
    const { all, any } = searchTerms(this.wanted.query);
    this.any = any;
    const compare = ORDERS[this.wanted.order][1];
    this.shown = [...this.rows.keys()]
      .filter((at) => this.fits(this.rows[at]) && all.every((term) => term.test(said(this.rows[at], this.data))))
      .sort((a, b) => compare(this.rows[a], this.rows[b]) || a - b);
    const [found, every] = [this.shown.length, this.rows.length];
    this.count.textContent =
      found === every
        ? counted(every, "dialogue")
        : `${found.toLocaleString(LANGUAGE)} of ${counted(every, "dialogue")}`;
    this.inner.style.height = `${found * ROW_HEIGHT}px`;
    this.list.scrollTop = 0;
    this.go(0);
  }

  fits(row) {
    const { world, agent, goal, stop } = this.wanted;
    return (
      (world === ANY || row.world === world) &&
      (agent === ANY || row.agent === agent) &&
      (goal === ANY || row.success === (goal === "yes")) &&
      (stop === ANY || row.stop === stop)
    );
  }

  /** Draw the rows of the list that can be seen. */
  drawRows() {
    const first = Math.max(Math.floor(this.list.scrollTop / ROW_HEIGHT) - SPARE_ROWS, 0);
    const last = Math.min(first + Math.ceil(this.list.clientHeight / ROW_HEIGHT) + 2 * SPARE_ROWS, this.shown.length);
    const items = [];
    for (let at = first; at < last; at++) items.push(this.item(at));
    this.inner.replaceChildren(...items);
    if (first <= this.at && this.at < last) this.list.setAttribute("aria-activedescendant", `row-${this.at}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  item(at) {
    const row = this.rows[this.shown[at]];
    const text = this.any ? said(row, this.data) : firstWords(row, this.data);
    const node = element(
      "div",
      {
        class: "row",
        role: "option",
        id: `row-${at}`,
        "data-at": at,
        "aria-selected": at === this.at,
        "aria-setsize": this.shown.length,
        "aria-posinset": at + 1,
      },
      element(
        "span",
        {
          class: row.success ? "goal yes" : "goal",
          role: "img",
          "aria-label": row.success ? "goal reached" : "goal not reached",
        },
        row.success ? "●" : "○",
      ),
      element(
        "span",
        { class: "who" },
        called(row),
        element("span", { class: "where" }, [row.world, row.stop].filter(Boolean).join(" · ")),
      ),
      element("span", { class: "number" }, number(row.total)),
      element("span", { class: "snippet" }, ...marked(snippet(text, this.any), this.any)),
    );
    node.style.top = `${at * ROW_HEIGHT}px`;
    return node;
  }

  clicked(event) {
    const item = event.target.closest(".row");
    if (!item) return;
    this.go(Number(item.dataset.at));
    this.open();
  }

  // --- moving ---------------------------------------------------------------------------------------

  /** Show the dialogue at place `at` of the list. */
  go(at) {
    this.at = Math.max(0, Math.min(at, this.shown.length - 1));
    const top = this.at * ROW_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    const below = top + ROW_HEIGHT - this.list.clientHeight;
    if (below > this.list.scrollTop) this.list.scrollTop = below;
    this.drawRows();
    this.drawPane();
  }

  /** Go `by` places on in the list. */
  step(by) {
    this.go(this.at + by);
  }

  /** On a narrow screen, show the transcript in the list's place. */
  open() {
    document.body.classList.add("reading-one");
    if (narrow()) this.pane.focus();
  }

  /** Go back to the list; false where it is there already. */
  close() {
    if (!document.body.classList.contains("reading-one") || !narrow()) return false;
    document.body.classList.remove("reading-one");
    this.go(this.at);
    this.list.focus();
    return true;
  }

  listKey(event) {
    const page = Math.max(Math.floor(this.list.clientHeight / ROW_HEIGHT) - 1, 1);
    const places = { Home: -Infinity, End: Infinity, PageUp: -page, PageDown: page };
    if (event.key in places) this.step(places[event.key]);
    else if (event.key === "Enter") this.open();
    else return;
    event.preventDefault();
  }

  boxKey(event) {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    this.list.focus();
  }

  // --- transcripts ----------------------------------------------------------------------------------

  /** The row that is read, undefined where none is found. */
  get row() {
    return this.rows[this.shown[this.at]];
  }

  /** Rows of other agents and of other runs on the same scenario and seed, each by a name of its own. */
  get beside() {
    return this.row ? named(this.twins.get(twinKey(this.row)).filter((row) => row !== this.row)) : new Map();
  }

  drawPane() {
    const { row } = this;
    this.pane.scrollTop = 0;
    if (!row) {
      this.bar.replaceChildren();
      const why = this.rows.length
        ? "No dialogue is like that. Change the search or the filters."
        : "There are no dialogues in this report.";
      this.pane.replaceChildren(element("p", { class: "empty" }, why));
      return;
    }
    const { beside } = this;
    const other = beside.get(this.others);
    const rows = other ? [row, other] : [row];
    this.drawBar(row, [...beside.keys()], other ? this.others : ANY);
    this.pane.classList.toggle("two", rows.length === 2);
    this.pane.replaceChildren(...rows.map((one) => transcript(one, this.view(one))));
    this.pane.querySelector("mark")?.scrollIntoView({ block: "nearest" });
  }

  view(row) {
    return {
      scenario: this.data.scenarios[row.scenario],
      scales: this.data.scales[row.world] ?? {},
      by: this.colouring(row),
      any: this.any,
      hidden: this.hidden,
      onHidden: (open) => {
        this.hidden = open;
        for (const part of this.pane.querySelectorAll("details.hidden-part")) part.open = open;
      },
    };
  }

  /** What colours the turns: what was chosen where the dialogue has it, else the reward. */
  colouring(row) {
    return this.by in row.numbers ? this.by : "reward";
  }

  drawBar(row, others, chosen) {
    const names = Object.keys(row.numbers);
    const by = this.colouring(row);
    const button = (text, label, act) =>
      element("button", { type: "button", "aria-label": label, onclick: act }, text);
    const parts = [
      element("button", { type: "button", class: "back", onclick: () => this.close() }, "← List"),
      element(
        "span",
        { class: "place" },
        `${(this.at + 1).toLocaleString(LANGUAGE)} of ${this.shown.length.toLocaleString(LANGUAGE)}`,
      ),
      button("↑", "Dialogue before", () => this.step(-1)),
      button("↓", "Next dialogue", () => this.step(1)),
      select(
        "Beside it",
        [[ANY, others.length ? "nobody" : "no other on this seed"], ...others.map((name) => [name, name])],
        chosen,
        (value) => this.compare(value || null),
      ),
      names.length > 1
        ? select(
            "Colour by",
            names.map((name) => [name, name]),
            by,
            (value) => this.colour(value),
          )
        : null,
      scaleKey(by, (this.data.scales[row.world] ?? {})[by]),
    ];
    this.bar.replaceChildren(...parts.filter(Boolean));
  }

  compare(name) {
    this.others = name;
    this.drawPane();
  }

  colour(name) {
    this.by = name;
    this.drawPane();
  }

  /** Put the next dialogue on this seed beside, after the last none. */
  compareNext() {
    const names = [...this.beside.keys()];
    this.compare(names[names.indexOf(this.others) + 1] ?? null);
  }

  toggleHidden() {
    const part = this.pane.querySelector("details.hidden-part");
    if (part) part.open = !part.open;
  }

  /** Scroll to the next place that was found, or the one before. */
  nextFound(by) {
    const places = [...this.pane.querySelectorAll("mark")];
    if (!places.length) return;
    const at = places.findIndex((place) => place.classList.contains("current"));
    const next = places[at < 0 ? (by > 0 ? 0 : places.length - 1) : (at + by + places.length) % places.length];
    places[at]?.classList.remove("current");
    next.classList.add("current");
    next.scrollIntoView({ block: "center" });
  }
}

/** Return what was said in a dialogue and what both knew, as one text; made once. */
function said(row, data) {
  row.said ??= [data.scenarios[row.scenario].public, ...row.turns.map(([, text]) => text)].join("\n");
  return row.said;
}

function firstWords(row, data) {
  const agent = data.scenarios[row.scenario].roles[0];
  return (row.turns.find(([role]) => role === agent) ?? row.turns[0] ?? ["", ""])[1];
}

/** Return rows by what they have in common: environment, seed and scenario. */
function twins(rows) {
  return grouped(rows, twinKey);
}

function twinKey(row) {
  return JSON.stringify([row.world, row.seed, row.scenario]);
}

/** Give each row its `standing`: the share of dialogues in its environment that earned less. Returns of different
 * environments have no scale in common. */
function rank(rows) {
  for (const group of grouped(rows, (row) => row.world).values()) {
    group.sort((a, b) => a.total - b.total);
    let below = 0;
    group.forEach((row, at) => {
      if (row.total > group[below].total) below = at;
      row.standing = below / group.length;
    });
  }
}

/** Return rows by their key, in their order. */
function grouped(rows, keyOf) {
  const found = new Map();
  for (const row of rows) {
    const key = keyOf(row);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(row);
  }
  return found;
}

/** Return rows by name: whose it is, with a number where that is somebody's who was named already. */
function named(rows) {
  const found = new Map();
  for (const row of rows) {
    let name = called(row);
    for (let count = 2; found.has(name); count++) name = `${called(row)} (${count})`;
    found.set(name, row);
  }
  return found;
}

/** Return the options of a select: all values that there are, each with its count. */
function valuesOf(rows, of, all) {
  const counts = new Map();
  for (const row of rows) counts.set(of(row), (counts.get(of(row)) ?? 0) + 1);
  const names = [...counts.keys()]
    .filter((name) => name !== "")
    .sort((a, b) => a.localeCompare(b, LANGUAGE, { numeric: true }));
  return [
    [ANY, `${all} (${names.length})`],
    ...names.map((name) => [name, `${name} (${counts.get(name).toLocaleString(LANGUAGE)})`]),
  ];
}

/** The key of the colours. */
function scaleKey(name, scale) {
  if (!scale) return null;
  const [low, high] = name.startsWith("cost") ? ["good", "bad"] : ["bad", "good"];
  const patch = (kind, share, text) => {
    const node = element("span", { class: `key ${kind}` }, text);
    node.style.setProperty("--share", share);
    return node;
  };
  return element(
    "span",
    { class: "scale", "aria-label": `Colours from ${number(-scale)} to ${number(scale)}` },
    patch(low, "100%", number(-scale)),
    patch(low, "50%", ""),
    patch("", "0%", "0"),
    patch(high, "50%", ""),
    patch(high, "100%", signed(scale)),
  );
}

function narrow() {
  return matchMedia("(max-width: 760px)").matches;
}
