"""The page in a real Chromium without a window: no network, no errors, and what a reader does with it."""

import json
from types import SimpleNamespace

import pytest

from dialog_gym.benchmarks import chromium, report_size
from dialog_gym.report import page
from dialog_gym.report.payload import payload
from dialog_gym.report.sources import read_sources
from tests.report.made import EVIL, episode, evil_episode, write_bench, write_cell, write_episodes

pytest.importorskip("selenium", reason="needs selenium: pip install 'dialog-gym[dev]'")
pytestmark = pytest.mark.skipif(chromium.installed() is None, reason="needs chromium and chromedriver on the PATH")

MANY = 5000

CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => {
  const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] > 250) return colour;
  }
  return rgba(getComputedStyle(document.documentElement).backgroundColor);
};
const found = {};
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!own || !node.checkVisibility() || ["SCRIPT", "OPTION"].includes(node.tagName)) continue;
  const style = getComputedStyle(node);
  const colour = node.ownerSVGElement ? style.fill : style.color;
  const [a, b] = [light(rgba(colour)), light(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found[node.tagName + "." + node.getAttribute("class")] = ratio;
}
return found;
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    driver = chromium.start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


class Browser:
    """A page in Chromium, in the words of these tests."""

    def __init__(self, driver):
        self.driver = driver
        self.size(1280, 900)

    def size(self, width, height):
        told = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)
        self.settle()

    def settle(self):
        """Wait for two frames: what draws itself when it learns its size (charts, rows) has done so then."""
        self.js("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def scheme(self, name):
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, path, part=""):
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(f"{path.as_uri()}{part and '#' + part}")
        WebDriverWait(self.driver, 20, 0.02).until(
            lambda _: self.js(
                "return document.documentElement.dataset.ready || document.querySelector('[role=alert]')"
            )
        )
        self.settle()

    def js(self, code, *given):
        return self.driver.execute_script(code, *given)

    def all(self, css):
        return self.js("return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)", css)

    def one(self, css):
        return self.driver.find_element("css selector", css)

    def click(self, css):
        self.one(css).click()
        self.settle()

    def keys(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()
            self.settle()

    def choose(self, label, text):
        done = self.js(
            """const label = [...document.querySelectorAll("label.field")].find((one) => one.checkVisibility() &&
                 one.firstChild.textContent === arguments[0]);
               const option = [...label.lastChild.options].find((one) => one.text.startsWith(arguments[1]));
               label.lastChild.value = option.value;
               label.lastChild.dispatchEvent(new Event("change"));
               return option.text;""",
            label,
            text,
        )
        assert done
        self.settle()

    def search(self, words):
        """Put ``words`` into the search and return the milliseconds until all is drawn."""
        return self.js(
            """const box = document.querySelector("input[type=search]"), start = performance.now();
               box.value = arguments[0]; box.dispatchEvent(new Event("input")); document.body.offsetHeight;
               return performance.now() - start;""",
            words,
        )

    def wide(self):
        """How many pixels the page is wider than the window."""
        return self.js("return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth")

    def check(self, path):
        """Fail if anything was fetched but the page itself, or anything was complained of."""
        asked = []
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"].partition("#")[0])
        assert {url for url in asked if not url.startswith("data:")} <= {path.as_uri()}
        assert not self.driver.get_log("browser")


@pytest.fixture
def browser(driver):
    browser = Browser(driver)
    browser.scheme("light")
    return browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages that are looked at: of results, of texts that would be markup, of many dialogues."""
    place = tmp_path_factory.mktemp("pages")

    def written(name, *paths, title="A report"):
        path = place / f"{name}.html"
        page.write_page(path, payload(read_sources(paths, limit=0), title))
        return path

    bench = write_bench(place / "bench", costs=True)
    (bench / "cells" / "Chat--<img src=x onerror=window.hacked=1>--0.json").write_text("{")
    evil = write_episodes(place / "evil", [evil_episode(text, seed) for seed, text in enumerate(EVIL)])
    agents = ("infers", "constant")
    rows = [
        episode(agents[k % 2], k // 2, k % 7 / 7 - 0.2, words=f"{k} coins for {('oak', 'glass', 'tin')[k % 3]} (a+b)?")
        for k in range(MANY)
    ]
    told = payload(sources_of(rows), "Many")
    page.write_page(place / "many.html", told)
    return SimpleNamespace(
        bench=written("bench", bench),
        evil=written("evil", evil, title=EVIL[0]),
        many=place / "many.html",
    )


def sources_of(rows):
    """What reading a data set of ``rows`` gives, without the seconds that writing thousands takes."""
    from dialog_gym.report.sources import Sources, _of_recorded

    told = [_of_recorded(row) for row in rows]
    return Sources(dialogues=told, found=len(told))


# --- results --------------------------------------------------------------------------------------------


def test_results_open_without_network_and_without_errors(browser, pages):
    browser.open(pages.bench)
    parts = ["Leaderboard", "By environment", "Who is better than whom", "Charts", "Dialogues shown"]
    assert browser.all("#results h2") == parts
    assert browser.all("details.note > summary") == [
        "Broken and left out: 1 item.",
        "1 result of the suite is not there yet.",
    ]
    assert "<img src=x" in browser.js("return document.querySelector('details.note li').textContent")
    browser.click("#tab-dialogues")
    browser.check(pages.bench)


def test_mixed_versions_are_marked_and_results_need_no_dialogues(browser, tmp_path):
    write_cell(tmp_path, "Chat", "td3", 0, 0.5)
    write_cell(tmp_path, "Chat", "ppo", 0, 0.4, versions={"python": "3.12"})
    (tmp_path / "suite.json").write_text("{}")
    path = tmp_path / "mixed.html"
    page.write_page(path, payload(read_sources([tmp_path], mixed=True), "Mixed"))
    browser.open(path)
    assert browser.all("details.note.warning summary")[0].startswith("Results of different versions")
    assert browser.js("return document.querySelector('.note li').textContent") == "python 3.11 and 3.12"
    assert browser.all("#results h2") == ["By environment"], "without lm and oracle there is no score over all"
    assert browser.all(".sortable tbody th") == ["ppo", "td3"]
    browser.click("#tab-dialogues")
    assert browser.all(".pane .empty") == ["There are no dialogues in this report."]
    browser.keys("j", "c", "h", "n")
    browser.check(path)


def test_notes_stand_below_the_tables_and_reasons_stay_texts(browser, tmp_path):
    folder = write_bench(tmp_path / "bench")
    told = json.loads((folder / "suite.json").read_text())
    told["not_applicable"][0]["reason"] = EVIL[1]
    (folder / "suite.json").write_text(json.dumps(told))
    page.write_page(tmp_path / "page.html", payload(read_sources([folder]), "t"))
    browser.open(tmp_path / "page.html")
    notes = browser.all("#results .notes li")
    assert any("bootstrap is too narrow" in line for line in notes)
    assert f"Not applicable in Chat: dpo ({EVIL[1]})." in notes
    assert "dpo" in browser.all("#results .notes code")
    browser.check(tmp_path / "page.html")


def test_what_nobody_asked_for_is_a_dash(browser, tmp_path):
    folder = write_bench(tmp_path / "bench")
    write_cell(folder, "Bargain", "rollouts", 1, 0.4)
    page.write_page(tmp_path / "page.html", payload(read_sources([folder]), "t"))
    browser.open(tmp_path / "page.html")
    cells = """const rows = [...document.querySelectorAll('.sortable')[1].tBodies[0].rows];
        return [...rows.find((row) => row.cells[0].innerText === "rollouts").cells].map((cell) => cell.innerText)"""
    assert browser.js(cells)[2] == "–"
    assert any("nobody asked" in line for line in browser.all("#results .notes li"))


def test_tables_are_sorted_by_any_column_and_what_is_missing_comes_last(browser, pages):
    browser.open(pages.bench)
    table = "const table = document.querySelectorAll('.sortable')[arguments[0]]; "
    column = table + "return [...table.querySelectorAll('tbody th')].map((node) => node.innerText)"
    sort = table + "table.querySelectorAll('thead button')[arguments[1]].click()"
    order = table + "return table.querySelector('[aria-sort]').ariaSort"
    assert browser.js(column, 0)[:2] == ["oracle", "td3"]
    browser.js(sort, 0, 1)
    assert browser.js(column, 0)[:2] == ["oracle", "td3"]
    assert browser.js(order, 0) == "descending"
    browser.js(sort, 0, 1)
    assert browser.js(column, 0)[-2:] == ["td3", "oracle"]
    assert browser.js(order, 0) == "ascending"
    browser.js(sort, 0, 0)
    assert browser.js(column, 0) == ["dpo", "lm", "oracle", "ppo", "td3"]
    chat = 2  # the second environment, in which dpo cannot act
    for _ in range(2):
        browser.js(sort, 1, chat)
        assert browser.js(column, 1)[-1] == "dpo"
    assert browser.all(".sortable .none") == ["1 missing", "n/a"]
    assert browser.all(".notes")[1] == "Not applicable in Chat: dpo (it learns from rankings, and there are none)."
    browser.choose("Show", "Cost")
    assert "over budget" not in "".join(browser.all(".sortable"))


def test_who_has_no_result_has_no_place_in_the_table_of_environments_and_is_named_below(browser, tmp_path):
    folder = write_bench(tmp_path / "bench")
    told = json.loads((folder / "suite.json").read_text())
    agents, worlds = ("lm", "oracle", "ppo", "td3", "dpo", "sacpo"), ("Bargain", "CaSiNo", "Chat")
    pairs = [(agent, "CaSiNo") for agent in agents] + [("sacpo", world) for world in worlds if world != "CaSiNo"]
    why = [{"agent": agent, "world": world, "reason": f"no {world} here"} for agent, world in pairs]
    (folder / "suite.json").write_text(json.dumps(told | {"not_applicable": told["not_applicable"] + why}))
    page.write_page(tmp_path / "page.html", payload(read_sources([folder]), "t"))
    browser.open(tmp_path / "page.html")
    cells = "const table = document.querySelectorAll('.sortable')[1]; "
    named = cells + "return [...table.querySelectorAll(arguments[0])].map((node) => node.innerText)"
    assert browser.js(named, "thead th") == ["Agent", "Bargain", "Chat"]
    assert sorted(browser.js(named, "tbody th")) == ["dpo", "lm", "oracle", "ppo", "td3"]
    notes = browser.all("#results .notes")[1]
    assert "Not applicable in CaSiNo: everybody (no CaSiNo here)." in notes
    assert "Not applicable in Bargain: sacpo (no Bargain here)." in notes


def test_two_agents_are_told_from_either_side(browser, pages):
    browser.open(pages.bench)
    table = "[...document.querySelectorAll('.sortable')][2]"
    rows = f"return [...{table}.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
    assert browser.js("return document.querySelectorAll('.bar select')[1].value") == "td3", "the best that learns"
    above = {other: told for other, *told in browser.js(rows)}
    assert above["ppo"] == ["1.000", "", "2 of 2"]
    assert above["oracle"][0] == "0.000"
    browser.choose("Agent", "ppo")
    below = {other: told for other, *told in browser.js(rows)}
    assert below["td3"] == ["0.000", "", "2 of 2"]
    assert below["dpo"] == ["0.000", "", "1 of 2"], "dpo cannot act in Chat"
    assert below["lm"][0].startswith("1.000")
    assert "ppo" not in below


def test_dialogues_of_different_environments_stand_on_different_scales(browser, tmp_path):
    rows = [episode("a", seed, 0.1 * seed) for seed in range(1, 4)]
    rows += [episode("a", seed, 100.0 * seed, env="dialog_gym/Far-v0") for seed in range(1, 4)]
    rows += [episode("b", 1, 0.4), episode("b", 1, 400.0, env="dialog_gym/Far-v0")]
    page.write_page(tmp_path / "page.html", payload(sources_of(rows), "t"))
    browser.open(tmp_path / "page.html")
    cells = "const cells = (row) => [...row.cells].slice(0, 2).map((cell) => cell.innerText.split('\\n')[0]); "
    shown = cells + "return [...document.querySelectorAll('.sortable tbody tr')].map(cells)"
    places = "return [...document.querySelectorAll('.estimate .value')].map((path) => path.getAttribute('d'))"
    assert browser.js(shown) == [["b", "0.400"], ["a", "0.200"]], "of Bargain, the highest first"
    drawn = browser.js(places)
    browser.choose("Environment", "Far")
    assert browser.js(shown) == [["b", "400.0"], ["a", "200.0"]]
    assert browser.js(places) == drawn == ["M120,2V14", "M60,2V14"], "each on its own scale, from 0 to the highest"


def test_the_theme_is_remembered_where_the_browser_allows_it(browser, pages):
    scheme = "return [document.documentElement.style.colorScheme, document.getElementById('theme').innerText]"
    try:
        browser.open(pages.bench)
        browser.keys("t", "t")
        browser.open(pages.bench)
        assert browser.js(scheme) == ["dark", "Theme: dark"]
        browser.js("localStorage.setItem('dialog-gym report: theme', 'toString')")
        browser.open(pages.bench)
        assert browser.js(scheme) == ["light dark", "Theme: system"], "no theme of ours"
    finally:
        browser.js("localStorage.clear()")
    forbid = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } });"
    told = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": forbid})
    try:
        browser.open(pages.bench)
        browser.keys("t")
        assert browser.js(scheme) == ["light", "Theme: light"]
        browser.check(pages.bench)
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", told)


def test_charts_tell_their_values(browser, pages):
    browser.open(pages.bench)
    assert len(browser.all(".charts svg")) == 3, "profiles, compute, curves"
    assert "rankings are not counted; of a resumed run only the last start" in browser.all(".chart figcaption")[1]
    assert "by updates (return on training items, scaled by" in browser.all(".chart figcaption")[2]
    browser.js("document.querySelector('.charts').scrollIntoView()")
    point = browser.js(
        """const mark = document.querySelectorAll('.chart')[2].querySelector('.mark').getBoundingClientRect();
           return [mark.x + mark.width / 2, mark.y + mark.height / 2];"""
    )
    browser.js(
        """document.elementFromPoint(...arguments).dispatchEvent(new PointerEvent('pointermove',
           { clientX: arguments[0], clientY: arguments[1], bubbles: true }))""",
        *point,
    )
    assert " updates" in browser.one("#tip").text
    before = len(browser.all(".charts .series"))
    browser.js("document.querySelector('.legend button[aria-pressed=true]').click()")
    assert len(browser.all(".charts .series")) < before
    browser.js("document.querySelector('.chart .numbers summary').click()")
    assert "of runs score more than" in browser.one(".chart details.numbers").text
    browser.choose("Environment", "Bargain")
    assert "Bargain: cost against return" in browser.all(".chart figcaption")
    assert browser.one(".limit text").get_attribute("textContent") == "budget 0.200"
    browser.js("document.querySelectorAll('.legend button[aria-pressed=true]').forEach((one) => one.click())")
    seen = "return [...document.querySelectorAll('.chart')].filter((chart) => chart.checkVisibility()).length"
    assert browser.js(seen) == 0, "a chart of nobody is not there"
    browser.js("document.querySelector('.legend button').click()")
    assert browser.js(seen) > 0
    browser.check(pages.bench)


# --- dialogues --------------------------------------------------------------------------------------------


def test_filters_and_order(browser, pages):
    browser.open(pages.bench, "dialogues")
    assert browser.all(".count") == ["8 dialogues"]
    returns = [float(text) for text in browser.all(".row .number")]
    assert returns == sorted(returns, reverse=True)
    browser.choose("Order", "Return, lowest")
    assert [float(text) for text in browser.all(".row .number")] == sorted(returns)
    browser.choose("Agent", "td3")
    assert browser.all(".count") == ["4 of 8 dialogues"]
    browser.choose("Goal", "Not reached")
    assert browser.all(".pane .empty") == ["No dialogue is like that. Change the search or the filters."]
    browser.open(pages.many, "dialogues")
    browser.choose("Goal", "Not reached")
    assert browser.all(".count") == ["1,430 of 5,000 dialogues"], "two of seven: 2 * 714 + 2"
    browser.choose("Goal", "Any")
    browser.choose("Ended by", "left")
    assert browser.all(".count") == ["1,430 of 5,000 dialogues"]
    browser.choose("Environment", "Bargain")
    browser.choose("Order", "Seed")
    assert {text.split("\n")[0] for text in browser.all(".facts div:last-child")} == {"seed"}
    assert browser.all(".facts div:last-child dd") == ["0"]


def test_dialogues_of_several_environments_are_ordered_by_how_they_stand_in_their_own(browser, tmp_path):
    near = [episode("a", seed, reward) for seed, reward in ((1, 0.1), (2, 0.9), (3, 0.5), (4, 0.9))]
    far = [episode("a", seed, reward, env="dialog_gym/Far-v0") for seed, reward in ((1, 900.0), (2, 100.0))]
    page.write_page(tmp_path / "page.html", payload(sources_of(near + far), "t"))
    browser.open(tmp_path / "page.html", "dialogues")
    assert browser.all(".row .number") == ["0.900", "0.900", "900.0", "0.500", "0.100", "100.0"]
    browser.choose("Order", "Return, lowest")
    assert browser.all(".row .number") == ["0.100", "100.0", "0.500", "0.900", "0.900", "900.0"]
    browser.choose("Environment", "Far")
    assert browser.all(".row .number") == ["100.0", "900.0"]


def test_search_finds_words_and_quoted_words_and_marks_them(browser, pages):
    browser.open(pages.many, "dialogues")
    browser.search("GLASS")
    assert browser.all(".count") == ["1,667 of 5,000 dialogues"]
    assert set(browser.all(".turns mark")) == {"glass"}
    browser.search('"4998 coins" tin')
    assert browser.all(".count") == ["0 of 5,000 dialogues"], "4998 = 3 * 1666 is of oak"
    browser.search('"4998 coins" oak')
    assert browser.all(".count") == ["1 of 5,000 dialogues"]
    assert browser.all(".turns mark") == ["4998 coins", "oak"]
    browser.search("(a+b)?")
    assert browser.all(".count") == ["5,000 dialogues"], "signs mean themselves"
    assert browser.all(".turns mark") == ["(a+b)?"]
    browser.search("secret")
    assert browser.all(".count") == ["0 of 5,000 dialogues"], "what is hidden is not searched"


def test_keys(browser, pages):
    from selenium.webdriver.common.keys import Keys

    browser.open(pages.many)
    chosen = "return document.querySelector('.row[aria-selected=true]')?.dataset.at"
    browser.keys("2")
    assert browser.js("return location.hash") == "#dialogues"
    browser.keys("j", "j", Keys.ARROW_DOWN, "k")
    assert browser.js(chosen) == "2"
    browser.keys("/", "oak", Keys.ESCAPE)
    assert browser.js("return document.activeElement.className") == "list"
    browser.keys("j", Keys.END)
    assert browser.js(chosen) == "1666"
    assert browser.js("return document.querySelector('.list').getAttribute('aria-activedescendant')") == "row-1666"
    browser.keys(Keys.HOME, Keys.PAGE_DOWN, Keys.PAGE_UP, "N")
    assert browser.js(chosen) == "0"
    marks = "return [...document.querySelectorAll('.pane mark')].map((one) => one.classList.contains('current'))"
    assert browser.js(marks)[-1:] == [True], "the one before the first is the last"
    browser.keys("n")
    assert browser.js(marks).index(True) == 0
    browser.keys("h")
    assert "Secret: take 7." in browser.one(".hidden-part").text
    browser.keys("j")
    assert "Secret: take 7." in browser.one(".hidden-part").text, "it stays as it was asked for"
    browser.keys("h", "?")
    assert browser.one("#help").is_displayed()
    browser.keys(Keys.ESCAPE)
    assert not browser.one("#help").is_displayed()
    browser.keys("t", "t", "1")
    assert browser.js("return [document.documentElement.style.colorScheme, location.hash]") == ["dark", "#results"]
    browser.js("localStorage.clear()")
    browser.check(pages.many)


def test_two_agents_on_the_same_seed_stand_side_by_side(browser, pages):
    browser.open(pages.many, "dialogues")
    browser.choose("Agent", "infers")
    browser.keys("c")
    names = "return [...document.querySelectorAll('.transcript h3')].map((node) => node.innerText)"
    seeds = "return [...document.querySelectorAll('.facts div:last-child dd')].map((node) => node.innerText)"
    sides = "return [...document.querySelectorAll('.transcript')].map((node) => node.getBoundingClientRect().x)"
    first = browser.js(seeds)
    assert browser.js(names) == ["infers", "constant"]
    assert first[0] == first[1]
    left, right = browser.js(sides)
    assert left < right
    browser.keys("j")
    assert browser.js(names) == ["infers", "constant"], "the same agents on the next seed"
    second = browser.js(seeds)
    assert second[0] == second[1] != first[0]
    browser.keys("c")
    assert browser.js(names) == ["infers"]


def test_the_key_steps_through_all_that_stand_beside_though_they_have_one_name(browser, tmp_path):
    others = [episode(agent, 1, reward) for agent, reward in (("constant", 0.5), ("constant", 0.4), ("lm", 0.3))]
    rows = [episode("infers", seed, 0.9) for seed in (1, 2)] + others + [episode("constant", 2, 0.2)]
    page.write_page(tmp_path / "page.html", payload(sources_of(rows), "Twins"))
    browser.open(tmp_path / "page.html", "dialogues")
    browser.choose("Agent", "infers")
    returns = "return [...document.querySelectorAll('.facts div:first-child dd')].map((node) => node.innerText)"
    chosen = "return document.querySelector('.reading .field select').value"
    seen = []
    for _ in range(5):
        browser.keys("c")
        seen.append((browser.js(chosen), *browser.js(returns)[1:]))
    steps = [("constant", "0.500"), ("constant (2)", "0.400"), ("lm", "0.300"), ("",), ("constant", "0.500")]
    assert seen == steps
    browser.choose("Beside it", "constant (2)")
    assert browser.js(returns) == ["0.900", "0.400"]
    browser.keys("j")
    assert browser.js(returns) == ["0.900"], "there is no second one on this seed"
    browser.keys("c")
    assert browser.js(returns) == ["0.900", "0.200"]


def test_turns_are_coloured_and_tell_their_terms_when_pointed_at_or_focused(browser, pages):
    browser.open(pages.many, "dialogues")
    turns = "return [...document.querySelectorAll('.turn')].map((node) => node.className)"
    assert browser.js(turns) == ["turn agent ", "turn", "turn agent good", "turn"]
    assert not browser.one(".terms").is_displayed()
    browser.js("document.querySelectorAll('.turn.agent')[1].focus()")
    assert "term: style −0.250" in browser.js("return document.querySelectorAll('.terms')[1].innerText").replace(
        "\t", " "
    )
    assert browser.js("return document.querySelectorAll('.terms')[1].checkVisibility()")
    browser.choose("Colour by", "signal: affect")
    assert browser.js(turns) == ["turn agent bad", "turn", "turn agent good", "turn"]
    shares = browser.js(
        "return [...document.querySelectorAll('.turn.agent')].map((n) => n.style.getPropertyValue('--share'))"
    )
    assert shares == ["100%", "50%"]


def test_texts_that_would_be_markup_stay_texts(browser, pages):
    browser.open(pages.evil)
    assert browser.js("return document.title") == EVIL[0]
    browser.click("#tab-dialogues")
    browser.search('script window.hacked "')
    browser.search("")
    shown = set()
    for _ in EVIL:
        shown.add(browser.js("return document.querySelector('.turn .text').textContent"))
        browser.keys("h", "h", "c", "j")
    kept = {text for text in EVIL if text.isprintable()}
    assert len(shown) == len(EVIL)
    assert kept <= shown
    (strange,) = [text for text in shown if "red" in text]
    assert strange == "�right to left� and � nothing, �[31mred�"
    own = browser.js(
        "return [...document.querySelectorAll('script,img,iframe,style,base,svg[onload],[onerror]')].length"
    )
    assert own == 3, "the data, the script and the style"
    assert browser.js("return window.hacked === undefined")
    browser.check(pages.evil)  # an alert would have made every command above fail


def test_the_policy_stops_what_would_reach_out(browser, pages):
    browser.open(pages.evil)
    stopped = browser.js(
        """const stopped = new Set();
           document.addEventListener("securitypolicyviolation", (event) => stopped.add(event.effectiveDirective));
           const image = new Image();
           image.src = "http://127.0.0.1:9/x.png";
           document.body.append(image);
           try { document.body.innerHTML += "<b>x</b>"; } catch (error) { stopped.add(error.name); }
           const told = async () => {
             for (let waited = 0; stopped.size < 4 && waited < 100; waited++)
               await new Promise((done) => setTimeout(done, 100));
             return [...stopped].sort();
           };
           return fetch("http://127.0.0.1:9/").then(() => ["fetched"], told);"""
    )
    assert stopped == ["TypeError", "connect-src", "img-src", "require-trusted-types-for"]


# --- sizes and colours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_shows_all_without_scrolling_sideways(browser, pages, width):
    browser.size(width, 780)
    browser.open(pages.bench)
    assert browser.wide() <= 0
    browser.choose("Environment", "Bargain")
    assert browser.wide() <= 0
    browser.click("#tab-dialogues")
    assert browser.wide() <= 0
    assert not browser.one(".reading").is_displayed()
    browser.click(".row")
    assert browser.one(".pane").is_displayed()
    assert not browser.one(".side").is_displayed()
    browser.keys("c")
    assert browser.wide() <= 0
    browser.click(".back")
    assert browser.one(".list").is_displayed()


def test_long_words_do_not_widen_a_phone(browser, pages):
    browser.size(360, 780)
    browser.open(pages.evil, "dialogues")
    browser.click(".row")
    browser.keys("h")
    assert browser.wide() <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(browser, pages, scheme):
    browser.scheme(scheme)
    browser.open(pages.bench)
    paper = browser.js("return getComputedStyle(document.documentElement).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    browser.js("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert browser.js(CONTRAST) == {}
    browser.open(pages.many, "dialogues")
    browser.search("coins")
    browser.choose("Colour by", "signal: affect")
    browser.keys("c", "h")
    assert browser.js(CONTRAST) == {}


def test_everything_that_can_be_used_has_a_name(browser, pages):
    browser.open(pages.bench)
    browser.click("#tab-dialogues")
    nameless = browser.js(
        """return [...document.querySelectorAll("button, select, input, [role=listbox], [role=region], summary")]
             .filter((node) => !(node.ariaLabel || node.textContent.trim() || node.labels?.length))
             .map((node) => node.outerHTML);"""
    )
    assert nameless == []
    assert browser.js("return document.documentElement.lang") == "en"


# --- many -------------------------------------------------------------------------------------------------


def test_thousands_of_dialogues_open_and_are_searched_fast(browser, pages):
    browser.open(pages.many, "dialogues")
    assert browser.all(".count") == ["5,000 dialogues"]
    assert len(browser.all(".row")) < 60, "only what is seen is drawn"
    loaded = browser.js("return performance.now()")
    assert loaded < 10_000
    times = [browser.search(words) for words in ("oak", "4321", '"coins for tin"', "nothing of this", "")]
    assert sorted(times)[2] < 500, f"{times} ms, on a machine that may be busy; benchmarks/report_size.py measures"
    browser.js("document.querySelector('.list').scrollTop = 54 * 4000")
    browser.settle()
    places = browser.js("return [...document.querySelectorAll('.row')].map((node) => Number(node.dataset.at))")
    assert 4000 in places


def test_a_damaged_file_says_so(browser, pages, tmp_path):
    text = pages.bench.read_text()
    start = text.index('id="data">') + len('id="data">')
    damaged = tmp_path / "damaged.html"
    damaged.write_text(text[: start + 100] + "AAAA" + text[start + 200 :])
    browser.open(damaged)
    assert browser.one("[role=alert]").text.startswith("The report cannot be shown")


def test_the_benchmark_measures_what_it_says(tmp_path, capsys):
    report_size.main(["--dialogues", "14", "--repeat", "1", "--out", str(tmp_path / "page.html"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["dialogues"] == 14
    assert told["page_mb"] == pytest.approx((tmp_path / "page.html").stat().st_size / 1e6)
    assert set(told["search_ms"]) == set(report_size.SEARCHES)
    assert min(told["load_ms"], told["list_ms"]) > 0
    with pytest.raises(ValueError, match="at least 7 dialogues"):
        report_size.Settings(dialogues=6)
