"""What is to be known beside the tables of a leaderboard: sentences that its Markdown and the report show alike.

A name between two backticks is that of a row; nothing else is markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dialog_gym.benchmarks.leaderboard import Entry, Leaderboard

NEVER = "not applicable"
NOT_ASKED = "\N{EN DASH}"


def notes(board: Leaderboard) -> list[str]:
    """Return how the numbers over worlds are to be read, and what makes them weaker than they look."""
    lines = [
        "Scores are normalised: 0 is the unsteered language model (`lm`), 1 the oracle. Intervals are 95% over runs: "
        "Student's t in a world, a stratified bootstrap over worlds; a number without one comes from one run. IQM: "
        "interquartile mean.",
        "Those intervals are for new runs: the dialogues, and what `lm` and `oracle` earn in them, are taken as exact."
        " The interval of a difference between two agents in one world is for new runs on new dialogues; with zero "
        "inside they are not told apart.",
        "CPU minutes are those of one run in each of the worlds, with its evaluation. What is made once for all is not"
        " counted (language models, recorded dialogues, rankings), though who learns by playing pays for its own; of "
        "a run that was stopped and resumed only the last start is counted.",
    ]
    if spared := _spared(board):
        lines.append(
            "Over worlds means over those in which every agent can act that can act in more than half of them; left "
            f"out: {', '.join(spared)}."
        )
    if any(set(total.worlds) < set(board.totals[0].worlds) for total in board.totals):
        lines.append("Who has runs in fewer worlds stands below, and is not to be compared with those above.")
    if any(len(total.worlds) == 1 for total in board.totals):
        lines.append("Over one world the bootstrap is too narrow; see the interval in that world.")
    if any(total.runs == 2 for total in board.totals):
        lines.append(
            "Of two runs the bootstrap draws one at a time: take three or more to trust an interval over worlds."
        )
    tried = [world for world in board.unscaled if any(board.entry(world, one).status != NEVER for one in board.agents)]
    if tried:
        lines.append(f"In no score, as `lm` or `oracle` is not there or they earn the same: {', '.join(tried)}.")
    if any(entry.status == "not asked" for entry in board.entries):
        lines.append(f"{NOT_ASKED} is where nobody asked for a run.")
    return lines


def reasons(board: Leaderboard) -> list[str]:
    """Say what is not applicable: worlds of one agent and reason together, and then agents of the same ones."""
    return list(_reasons(board.entries))


def marks(board: Leaderboard) -> list[str]:
    """Return what plots and files of numbers have to carry along, as they may be seen alone."""
    mixed = [f"Mixed versions or settings: {'; '.join(board.mixed)}"] if board.mixed else []
    return [*mixed, f"Files left out: {len(board.broken)}"] if board.broken else mixed


def _spared(board: Leaderboard) -> list[str]:
    """Return the worlds with a scale that the first total does not count."""
    counted = set(board.totals[0].worlds) if board.totals else set()
    return [world for world in board.worlds if counted and world not in counted | set(board.unscaled)]


def _reasons(entries: Sequence[Entry]) -> Iterator[str]:
    every = len({entry.agent for entry in entries})
    worlds: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry.status == NEVER:
            worlds.setdefault((entry.reason, entry.agent), []).append(entry.world)
    agents: dict[tuple[str, str], list[str]] = {}
    for (reason, agent), found in sorted(worlds.items()):
        agents.setdefault((", ".join(found), reason), []).append(f"`{agent}`")
    for (where, reason), names in agents.items():
        who = ", ".join(names) if len(names) < every else "everybody"
        yield f"Not applicable in {where}: {who}" + (f" ({reason})." if reason else ".")
