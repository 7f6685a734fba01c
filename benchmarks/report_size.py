"""How large a report of many dialogues is, and how fast it is made, opened and searched.

The dialogues are played by scripted policies of Bargain and Chat; the page is opened in a Chromium without a window::

    python -m dialog_gym.benchmarks.report_size --dialogues 5000

Times are wall times, of pages the median of some; a machine that does other things beside is slower.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.chromium import start
from dialog_gym.data.collect import collect
from dialog_gym.report import payload, read_sources, write_page

PLAYED = (
    *(("dialog_gym/Bargain-v0", policy) for policy in ("oracle", "infers", "constant", "random")),
    *(("dialog_gym/Chat-v0", policy) for policy in ("oracle", "infers", "random")),
)
SEARCHES = {"one word": "song", "two words": "deal offer", "a phrase": '"would you take"', "nothing": "zebra crossing"}
WAIT_READY = """
const done = arguments[arguments.length - 1];
const look = () => (document.documentElement.dataset.ready ? done(performance.now()) : setTimeout(look, 1));
look();
"""
SHOW_LIST = """
const start = performance.now();
document.getElementById("tab-dialogues").click();
document.body.offsetHeight;
return performance.now() - start;
"""
SEARCH = """
const box = document.querySelector("input[type=search]"), start = performance.now();
box.value = arguments[0];
box.dispatchEvent(new Event("input"));
document.body.offsetHeight;
return performance.now() - start;
"""


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
        dialogues: How many there are in the report, at least 7.
        repeat: How often the page is opened.
        out: Keep the page here.
        json: Print JSON.
    """

    dialogues: int = 5000
    repeat: int = 5
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.dialogues < len(PLAYED) or self.repeat < 1:
            raise ValueError(
                f"expected at least {len(PLAYED)} dialogues and 1 repetition, got {self.dialogues} and {self.repeat}"
            )


def measure(settings: Settings) -> dict[str, Any]:
    """Play, make the page, open it, search in it; return sizes in MB and times in seconds or milliseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (env, policy) in enumerate(PLAYED):
            each, more = divmod(settings.dialogues, len(PLAYED))
            collect(env, policy, each + (number < more), folder / f"data-{number}", seed=1_000_000)
        page = (settings.out or folder / "report.html").resolve()
        made = _make(folder, page)
        return {**made, **_look(page, folder / "profile", settings.repeat)}


def _make(folder: Path, page: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    sources = read_sources([folder], limit=0)
    read = time.perf_counter()
    size = write_page(page, payload(sources, "How large is it?"))
    words = sum(len(turn.text.encode()) for told in sources.dialogues for turn in told.episode.dialogue.turns)
    return {
        "dialogues": len(sources.dialogues),
        "turns": sum(len(told.episode.dialogue.turns) for told in sources.dialogues),
        "text_mb": words / 1e6,
        "page_mb": size / 1e6,
        "read_seconds": read - begin,
        "make_seconds": time.perf_counter() - read,
    }


def _look(page: Path, profile: Path, repeat: int) -> dict[str, Any]:
    driver = start(profile)
    try:
        loads, lists = [], []
        for _ in range(repeat):
            driver.get("about:blank")
            driver.get(page.as_uri())
            loads.append(float(driver.execute_async_script(WAIT_READY)))
            lists.append(float(driver.execute_script(SHOW_LIST)))
        first = float(driver.execute_script(SEARCH, "gather all texts once"))
        found = {
            name: median(float(driver.execute_script(SEARCH, words)) for _ in range(repeat))
            for name, words in SEARCHES.items()
        }
        version = driver.capabilities["browserVersion"]
    finally:
        driver.quit()
    return {
        "chromium": version,
        "load_ms": median(loads),
        "list_ms": median(lists),
        "first_search_ms": first,
        "search_ms": found,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print what was measured as a table."""
    table = Table("what", "measured", box=None, header_style="bold", pad_edge=False)
    table.add_row("dialogues, turns", f"{report['dialogues']:,}, {report['turns']:,}")
    table.add_row("text, page", f"{report['text_mb']:.2f} MB, {report['page_mb']:.2f} MB")
    table.add_row("read, make the page", f"{report['read_seconds']:.1f} s, {report['make_seconds']:.1f} s")
    table.add_row("navigation to interactive", f"{report['load_ms']:.0f} ms (Chromium {report['chromium']})")
    table.add_row("first look at the dialogues", f"{report['list_ms']:.0f} ms")
    table.add_row("first search", f"{report['first_search_ms']:.0f} ms")
    for name, took in report["search_ms"].items():
        table.add_row(f"search for {name}", f"{took:.0f} ms")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure with the settings in ``argv`` (None: of the command line)."""
    logging.basicConfig(level=logging.WARNING)
    command.run("report_size", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
