"""How a person reads a dialogue: plain text for logs and files, colours on a terminal."""

from __future__ import annotations

import textwrap

from dialog_gym.dialogue import Dialogue

WIDTH = 88  # columns


def as_text(dialogue: Dialogue, hint: str = "") -> str:
    """Return the dialogue as plain text of at most ``WIDTH`` columns."""
    agent = dialogue.roles[0]
    lines = [*_wrapped(dialogue.brief(agent), "  "), *([f"  ({hint})"] if hint else []), ""]
    margin = max(map(len, dialogue.roles)) + 3
    for role, text in dialogue.turns:
        name = f"{'> ' if role == agent else '  '}{role}".ljust(margin)
        lines += _wrapped(visible(text) or "(says nothing)", name)
    return "\n".join([*lines, "", f"  {_status(dialogue)}"])


def show(dialogue: Dialogue, hint: str = "") -> None:
    """Print the dialogue to standard output, in colour where ``rich`` is installed and a terminal listens."""
    text = as_text(dialogue, hint)
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(text)  # noqa: T201 - showing is what was asked for
        return
    painted = Text(text)
    painted.highlight_regex(r"(?m)^> .*$", "bold cyan")
    painted.highlight_regex(r"\$[\d.,]*\d", "green")
    Console(soft_wrap=True).print(painted)


def _status(dialogue: Dialogue) -> str:
    if not dialogue.stop_reason:
        return f"turn {dialogue.turn}, going on"
    reached = "goal reached" if dialogue.success else "goal not reached"
    return f"ended after turn {dialogue.turn}: {dialogue.stop_reason}, {reached}"


def _wrapped(text: str, first: str) -> list[str]:
    rest = " " * len(first)
    lines = [line for part in text.splitlines() or [""] for line in textwrap.wrap(part, WIDTH - len(first)) or [""]]
    return [(first if i == 0 else rest) + line for i, line in enumerate(lines)]


def visible(text: str) -> str:
    """Replace control characters, so that a transcript cannot move the cursor of who reads it."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
