"""A leaderboard as Markdown, for papers and READMEs, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dialog_gym.benchmarks.leaderboard import Entry, Leaderboard, Total
from dialog_gym.benchmarks.leaderboard_notes import NOT_ASKED, notes, reasons
from dialog_gym.benchmarks.statistics import Estimate, markdown_table
from dialog_gym.checkpoint import write_text

BEGIN, END = "<!-- leaderboard -->", "<!-- /leaderboard -->"
OVER = "†"
MANY = 12  # agents in worlds whose missing runs are told one by one
COLUMNS = ("table", "world", "agent", "other", "measure", "value", "low", "high", "runs", "note")


def summary(board: Leaderboard) -> str:
    """Return the table over worlds, those of scores by world, and the notes, as Markdown.

    Scores are normalised; in worlds without a scale they are mean returns, in a table of their own.
    """
    returns = _by_world(board, board.unscaled, _return)
    tables = [
        _totals(board),
        _by_world(board, [world for world in board.worlds if world not in board.unscaled], _score),
        f"Mean returns where nothing is normalised:\n\n{returns}" if returns else "",
    ]
    over = any(OVER in table for table in tables)
    return "\n\n".join(part for part in (*tables, _notes(board, over)) if part)


def markdown(board: Leaderboard) -> str:
    """Return everything as Markdown: the summary, a table for each world, and who is better than whom."""
    parts = ["## Over all worlds", summary(board)]
    for world in board.worlds:
        parts += [f"## {world}", _world(board, world)]
    if board.duels:
        parts += ["## Probability that a run of the row is better than one of the column", _duels(board)]
    return "\n\n".join(parts) + "\n"


def write_into(path: Path, text: str) -> bool:
    """Put ``text`` between the markers ``<!-- leaderboard -->`` and ``<!-- /leaderboard -->`` of a file.

    Returns:
        Whether the file is another one now; the same text again changes nothing.

    Raises:
        ValueError: The markers are not there once each, in this order.
    """
    old = read_with_markers(path)
    line = "\r\n" if "\r\n" in old else "\n"
    before, rest = old.split(BEGIN)
    new = line.join([before + BEGIN, "", *text.strip().splitlines(), "", END + rest.split(END)[1]])
    if new == old:
        return False
    _write(path, new)
    return True


def read_with_markers(path: Path) -> str:
    """Return the text of a file that has the markers; its ends of lines as they are.

    Raises:
        ValueError: The markers are not there once each, in this order.
    """
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if (text.count(BEGIN), text.count(END)) != (1, 1) or text.index(BEGIN) > text.index(END):
        raise ValueError(
            f"{path} should have {BEGIN} once and {END} once after it, got {text.count(BEGIN)} and {text.count(END)}; "
            "put them on lines of their own where the leaderboard is to be"
        )
    return text


def write_markdown(path: Path, board: Leaderboard) -> None:
    """Write everything as Markdown."""
    _write(path, markdown(board))


def write_csv(path: Path, board: Leaderboard) -> None:
    """Write one line per number, with its interval: tables ``total``, ``world`` and ``duel``.

    Where versions are mixed or files were left out, lines of the table ``results`` come first; they have a note and no
    number.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_numbers(board))
    _write(path, file.getvalue())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


# --- Markdown -------------------------------------------------------------------------------------


def _totals(board: Leaderboard) -> str:
    head = ("agent", "worlds", "runs", "IQM", "mean", "optimality gap", "CPU min")
    rows = [
        (
            _named(total.agent, over=bool(total.over_budget)),
            f"{len(total.worlds)} of {total.of}",
            f"{total.runs}",
            *(_with_ends(number, 2) for number in (total.iqm, total.mean, total.gap)),
            _minutes(total.cpu_seconds),
        )
        for total in board.totals
    ]
    return markdown_table(head, rows) if rows else ""


def _minutes(seconds: float) -> str:
    """Return minutes, short ones with more decimals.

    >>> _minutes(1.2), _minutes(90), _minutes(6000)
    ('0.02', '1.5', '100.0')
    """
    return f"{seconds / 60:.{1 if seconds >= 60 else 2}f}"


def _by_world(board: Leaderboard, worlds: Sequence[str], shown: Callable[[Entry], str]) -> str:
    """Return a table of what is ``shown`` of each agent in each of ``worlds``, "" where there is no run."""
    done = [entry for entry in board.entries if entry.status == "done" and entry.world in worlds]
    columns = [world for world in worlds if any(entry.world == world for entry in done)]
    agents = [agent for agent in board.agents if any(entry.agent == agent for entry in done)]
    rows = [(_named(agent), *(shown(board.entry(world, agent)) for world in columns)) for agent in agents]
    return markdown_table(("agent", *columns), rows) if rows else ""


def _score(entry: Entry) -> str:
    return _with_half(entry, entry.normalised, 2)


def _return(entry: Entry) -> str:
    return _with_half(entry, entry.score, 3)


def _with_half(entry: Entry, number: Estimate | None, digits: int) -> str:
    """Return a number of an entry with half of its interval, or why there is none."""
    if number is None:
        return {"not applicable": "n/a", "not asked": NOT_ASKED}.get(entry.status, entry.status)
    value, low, high = number
    shown = f"{value:.{digits}f}"
    if low is not None and high is not None:
        shown += f" ± {(high - low) / 2:.{digits}f}"
    lost = f" ({entry.runs} of {entry.runs + entry.missing} runs)" if entry.missing else ""
    return shown + (f" {OVER}" if entry.over_budget else "") + lost


def _notes(board: Leaderboard, over: bool) -> str:
    budget = [f"{OVER} costs more than the world allows."] if over else []
    lines = [*notes(board), *budget, *reasons(board), *_left_out(board)]
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _left_out(board: Leaderboard) -> list[str]:
    """Return which runs are missing, which files were left out, and how versions differ."""
    lines = []
    if board.missing:
        lines.append(f"Missing runs ({len(board.missing)}): {', '.join(_lost(board))}.")
    if board.broken:
        lines.append(f"Files left out ({len(board.broken)}): {'; '.join(board.broken)}.")
    if board.mixed:
        lines.append(f"**Mixed versions or settings**: {'; '.join(board.mixed)}.")
    return lines


def _lost(board: Leaderboard) -> list[str]:
    """Return how many runs are missing, of each agent in each world; in each world where that would be many."""
    lost = [(f"{one.agent} in {one.world}", one.missing) for one in board.entries if one.missing]
    if len(lost) > MANY:
        worlds = {world: sum(board.entry(world, agent).missing for agent in board.agents) for world in board.worlds}
        lost = [(world, count) for world, count in worlds.items() if count]
    return [f"{name} ({count})" for name, count in lost]


def _world(board: Leaderboard, world: str) -> str:
    entries = [board.entry(world, agent) for agent in board.agents]
    done = [entry for entry in entries if entry.status == "done"]
    done.sort(key=lambda entry: -(entry.score.value if entry.score else 0.0))
    parts = _of_runs(done) if done else ["No run."]
    for status in ("not applicable", "missing"):
        if names := [f"`{entry.agent}`" for entry in entries if entry.status == status]:
            parts.append(f"{status.capitalize()}: {', '.join(names)}.")
    return "\n\n".join(parts)


def _of_runs(done: Sequence[Entry]) -> list[str]:
    costly = any(entry.budget is not None or (entry.cost is not None and entry.cost.value != 0) for entry in done)
    behind = f"beside {done[0].best}" if done[0].best else "beside the best"
    costs = ("cost",) if costly else ()
    head = ("agent", "runs", "return", "normalised", behind, "resolvable", "success", *costs, "CPU s", "tokens")
    note = (
        f'Episodes per run: {min(entry.episodes for entry in done)}. "{behind}": return less that of the best learner '
        "or baseline, paired by seeds, with 95% intervals for new runs on new dialogues; = where zero is inside. "
        "Resolvable: the least true difference that so many runs would find on these dialogues four times in five."
    )
    return [markdown_table(head, [_row(entry, costly) for entry in done]), note]


def _row(entry: Entry, costly: bool) -> Sequence[str]:
    gain = entry.behind
    behind = ""
    if gain is not None:
        behind = _with_ends(Estimate(gain.mean, *(gain.over_both or (None, None))), 3)
        behind += " =" if gain.told_apart is False else ""
    return (
        _named(entry.agent),
        f"{entry.runs}" + (f" of {entry.runs + entry.missing}" if entry.missing else ""),
        _with_ends(entry.score, 3),
        _with_ends(entry.normalised, 2),
        behind,
        f"{gain.resolvable:.3f}" if gain is not None and gain.resolvable is not None else "",
        _with_ends(entry.success, 2),
        *([_cost(entry)] if costly else []),
        f"{entry.cpu_seconds:.0f}" if entry.cpu_seconds is not None else "",
        _count(entry.tokens) if entry.tokens is not None else "",
    )


def _count(number: float) -> str:
    """Return a large number in short.

    >>> _count(950), _count(53_460), _count(1_240_000)
    ('950', '53k', '1.2M')
    """
    if number < 1e6:
        return f"{number:.0f}" if number < 1e3 else f"{number / 1e3:.0f}k"
    return f"{number / 1e6:.1f}M"


def _cost(entry: Entry) -> str:
    if entry.budget is None:
        return _with_ends(entry.cost, 3)
    relation = f"> {entry.budget:g} {OVER}" if entry.over_budget else f"<= {entry.budget:g}"
    return f"{_with_ends(entry.cost, 3)} {relation}"


def _duels(board: Leaderboard) -> str:
    agents = [total.agent for total in board.totals]
    most = max(len(duel.worlds) for duel in board.duels)
    known: dict[tuple[str, str], str] = {}
    for duel in board.duels:
        of = f" ({len(duel.worlds)})" if len(duel.worlds) < most else ""
        known[duel.agent, duel.other] = f"{duel.better.value:.2f}{of}"
        known[duel.other, duel.agent] = f"{1 - duel.better.value:.2f}{of}"
    rows = [(_named(agent), *(known.get((agent, other), "") for other in agents)) for agent in agents]
    note = (
        f"Over the worlds that both have: {most}, or as many as in brackets. Ties count half; the CSV has intervals."
    )
    return f"{markdown_table(('', *map(_named, agents)), rows)}\n\n{note}"


def _with_ends(number: Estimate | None, digits: int) -> str:
    if number is None:
        return ""
    value, low, high = number
    shown = f"{value:.{digits}f}"
    return shown if low is None or high is None else f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"


def _named(agent: str, over: bool = False) -> str:
    return _cell(agent) + (f" {OVER}" if over else "")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


# --- CSV ------------------------------------------------------------------------------------------

Line = tuple[str | float | int | None, ...]


def _numbers(board: Leaderboard) -> Iterator[Line]:
    for measure, told in (("mixed", board.mixed), ("left out", board.broken)):
        for note in told:
            yield ("results", "", "", "", measure, None, None, None, None, note)
    for total in board.totals:
        yield from _of_total(total)
    for entry in board.entries:
        yield from _of_entry(entry)
    for duel in board.duels:
        yield ("duel", "", duel.agent, duel.other, "better", *duel.better, "", f"{len(duel.worlds)} worlds")


def _of_total(total: Total) -> Iterator[Line]:
    note = f"{len(total.worlds)} of {total.of} worlds"
    for name, number in (("iqm", total.iqm), ("mean", total.mean), ("median", total.median), ("gap", total.gap)):
        yield ("total", "", total.agent, "", name, *number, total.runs, note)
    yield ("total", "", total.agent, "", "cpu_seconds", total.cpu_seconds, None, None, total.runs, note)


def _of_entry(entry: Entry) -> Iterator[Line]:
    start = ("world", entry.world, entry.agent)
    if entry.status != "done":
        yield (*start, "", "status", None, None, None, 0, f"{entry.status}{': ' * bool(entry.reason)}{entry.reason}")
        return
    note = f"{entry.missing} runs missing" if entry.missing else ""
    over = f"more than {entry.budget:g}" if entry.over_budget else ""
    shown = ("return", entry.score, note), ("normalised", entry.normalised, note), ("success", entry.success, note)
    for name, number, told in (*shown, ("cost", entry.cost, over or note)):
        if number is not None:
            yield (*start, "", name, *number, entry.runs, told)
    if entry.behind is not None:
        low, high = entry.behind.over_both or (None, None)
        yield (*start, entry.best, "difference", entry.behind.mean, low, high, entry.behind.runs, "")
    for name, value in (("budget", entry.budget), ("cpu_seconds", entry.cpu_seconds), ("tokens", entry.tokens)):
        if value is not None:
            yield (*start, "", name, value, None, None, entry.runs, "")
