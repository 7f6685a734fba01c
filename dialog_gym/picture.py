"""Dialogues coloured by what their turns were scored: one self-contained HTML file, or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dialog_gym.render import visible

if TYPE_CHECKING:
    from dialog_gym.scoring import ScoredDialogue

MOST = 20  # dialogues in a picture
GOOD, BAD = (26, 120, 90), (190, 70, 20)  # green and orange-red, which are told apart without seeing red and green too
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 52rem; padding: 0 1rem; color: #222;
       background: #fff; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.turn { display: grid; grid-template-columns: 6rem 1fr 4.5rem; gap: .6rem; padding: .3rem .6rem;
        border-left: .4rem solid transparent; margin: 2px 0; }
.role { color: #666; overflow-wrap: anywhere; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.key { display: inline-block; padding: 0 .6rem; }
"""


def colour(value: float, scale: float) -> tuple[int, int, int]:
    """Return the colour of ``value``: white at 0, full ``GOOD`` at ``scale`` and above, ``BAD`` at -``scale``.

    >>> colour(0.0, 1.0), colour(2.0, 1.0) == GOOD
    ((255, 255, 255), True)
    """
    share = min(abs(value) / scale, 1.0) if scale > 0 else 0.0
    red, green, blue = (round(255 + share * (part - 255)) for part in (GOOD if value >= 0 else BAD))
    return red, green, blue


def scale_of(dialogues: Sequence[ScoredDialogue]) -> float:
    """Return what is shown in full colour: what 95% of the turns do not exceed, in size; 1 where nothing is known."""
    return full_colour(value for one in dialogues for value in one.rewards if value is not None)


def full_colour(values: Iterable[float]) -> float:
    """Return what 95% of ``values`` do not exceed, in size; 1 where there are none, or nothing but zeros.

    >>> full_colour([0.0, -2.0, 2.0]), full_colour([])
    (2.0, 1.0)
    """
    sizes = [abs(value) for value in values]
    return float(np.quantile(sizes, 0.95)) or 1.0 if sizes else 1.0


def as_html(dialogues: Sequence[ScoredDialogue], title: str) -> str:
    """Return a page that needs no other file; whatever was said stands in it as text, never as markup."""
    scale = scale_of(dialogues)
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_safe(title)}</title><style>{_STYLE}</style>',
        f"<h1>Turns coloured by {_safe(title)}</h1><p>",
        *(
            f'<span class="key" style="{_paint(value, scale)}">{value:+.3g}</span>'
            for value in (-scale, -scale / 2, 0.0, scale / 2, scale)
        ),
        "</p>",
    ]
    for one in dialogues:
        parts.append(f"<h2>{_safe(_heading(one))}</h2>")
        for turn, value in zip(one.row.dialogue.turns, one.by_turn(), strict=True):
            number, paint = ("", "") if value is None else (f"{value:+.3f}", _paint(value, scale))
            parts.append(
                f'<div class="turn" style="{paint}"><span class="role">{_safe(turn.role)}</span>'
                f'<span class="text">{_safe(turn.text)}</span><span class="number">{number}</span></div>'
            )
    return "\n".join([*parts, "</html>", ""])


def as_rich(one: ScoredDialogue, all_of_them: Sequence[ScoredDialogue]) -> Any:
    """Return a dialogue as a ``rich`` text for a terminal, in the same colours; control characters are replaced."""
    from rich.text import Text

    scale, text = scale_of(all_of_them), Text(f"{_heading(one)}\n", style="bold")
    for turn, value in zip(one.row.dialogue.turns, one.by_turn(), strict=True):
        number = " " * 8 if value is None else f"{value:+8.3f}"
        style = "not bold dim" if value is None else "not bold black on rgb({},{},{})".format(*_light(value, scale))
        text.append(f"{number}  {visible(turn.role)}: {visible(turn.text)}\n", style=style)
    return text


def _heading(one: ScoredDialogue) -> str:
    key = one.row.dialogue.scenario.hidden.get("id", one.row.seed)
    known = {"score": one.row.score, "predicted": one.predicted}
    told = [f"{name} {value:.3f}" for name, value in known.items() if value is not None]
    return ", ".join([f"dialogue {key}", *told])


def _paint(value: float, scale: float) -> str:
    solid, light = colour(value, scale), _light(value, scale)
    return "border-color: rgb({},{},{}); background: rgb({},{},{})".format(*solid, *light)


def _light(value: float, scale: float) -> tuple[int, int, int]:
    """Return a colour on which black can be read."""
    return colour(value / 2, scale)


def _safe(text: str) -> str:
    return escape(visible(text))
