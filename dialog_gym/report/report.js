/**
 * The start: reads the data, draws what is looked at, and listens to keys.
 */

const TABS = ["results", "dialogues"];
const THEMES = { system: "light dark", light: "light", dark: "dark" };
const REMEMBERED = "dialog-gym report: theme";

/** Return the theme that was chosen last; a browser may forbid to remember it. */
function lastTheme() {
  try {
    const name = localStorage.getItem(REMEMBERED);
    return Object.hasOwn(THEMES, name) ? name : "system";
  } catch {
    return "system";
  }
}

function rememberTheme(name) {
  try {
    localStorage.setItem(REMEMBERED, name);
  } catch {
    // then it holds until the page is closed
  }
}

/** Return the data of the page: JSON, as gzip, as base64. */
async function readData() {
  if (!("DecompressionStream" in globalThis))
    throw new Error("this browser is too old to unpack it; one of 2023 or later can");
  const packed = atob(byId("data").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(unpacked).text());
}

class Report {
  constructor(data) {
    this.data = data;
    this.reader = null;
    this.setTheme(lastTheme());
    for (const tab of TABS) byId(`tab-${tab}`).addEventListener("click", () => this.show(tab));
    byId("theme").addEventListener("click", () => this.nextTheme());
    byId("help-button").addEventListener("click", () => byId("help").showModal());
    document.addEventListener("keydown", (event) => this.key(event));
    addEventListener("hashchange", () => this.show(this.asked()));
    drawBoard(byId("results"), data);
    byId("loading").remove();
    this.show(this.asked());
  }

  /** The tab that the address names, else the results. */
  asked() {
    const name = location.hash.slice(1);
    return TABS.includes(name) ? name : TABS[0];
  }

  /** Show one tab; the dialogues are listed when they are first looked at. */
  show(name) {
    for (const tab of TABS) {
      const chosen = tab === name;
      byId(tab).hidden = !chosen;
      const button = byId(`tab-${tab}`);
      button.setAttribute("aria-selected", chosen);
      button.tabIndex = chosen ? 0 : -1;
    }
    document.body.dataset.tab = name;
    if (name === "dialogues") this.reader ??= new Reader(byId(name), this.data);
    if (this.asked() !== name) history.replaceState(null, "", `#${name}`);
    hideTip();
  }

  nextTheme() {
    const names = Object.keys(THEMES);
    this.setTheme(names[(names.indexOf(this.theme) + 1) % names.length]);
    rememberTheme(this.theme);
  }

  setTheme(name) {
    this.theme = name;
    document.documentElement.style.colorScheme = THEMES[name];
    byId("theme").textContent = `Theme: ${name}`;
  }

  // --- keys ---------------------------------------------------------------------------------------------

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    if (event.key === "Escape") return this.escape();
    const kind = event.target.tagName;
    if (kind === "INPUT" || kind === "SELECT") return;
    if (event.target.getAttribute("role") === "tab" && this.tabKey(event)) return;
    const act = this.acts(event)[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** What the keys do now. */
  acts(event) {
    const reader = document.body.dataset.tab === "dialogues" ? this.reader : null;
    const always = {
      "?": () => byId("help").showModal(),
      t: () => this.nextTheme(),
      1: () => this.show("results"),
      2: () => this.show("dialogues"),
      "/": () => this.find(),
    };
    if (!reader) return always;
    const arrows = reader.pane.contains(event.target)
      ? {} // there they scroll
      : { ArrowDown: () => reader.step(1), ArrowUp: () => reader.step(-1) };
    return {
      ...always,
      ...arrows,
      j: () => reader.step(1),
      k: () => reader.step(-1),
      n: () => reader.nextFound(1),
      N: () => reader.nextFound(-1),
      c: () => reader.compareNext(),
      h: () => reader.toggleHidden(),
    };
  }

  find() {
    this.show("dialogues");
    this.reader.close();
    this.reader.box.focus();
    this.reader.box.select();
  }

  escape() {
    hideTip();
    if (document.activeElement?.closest(".turn")) return document.activeElement.blur();
    if (document.activeElement === this.reader?.box) return this.reader.list.focus();
    return this.reader?.close();
  }

  /** Move between tabs by arrows; true where the key did. */
  tabKey(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return false;
    const at = TABS.findIndex((tab) => event.target.id === `tab-${tab}`);
    const next = TABS[(at + by + TABS.length) % TABS.length];
    this.show(next);
    byId(`tab-${next}`).focus();
    return true;
  }
}

readData()
  .then((data) => {
    new Report(data);
    document.documentElement.dataset.ready = "yes";
  })
  .catch((error) => {
    byId("main").prepend(
      element("p", { class: "note warning", role: "alert" }, `The report cannot be shown: ${error.message}.`),
    );
  });
