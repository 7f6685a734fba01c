"""How players look in tables and plots: groups, labels, colours and markers, from a file or by their names.

A file is JSON or YAML::

    {"groups": {"stepwise": {"players": {"run-3": "H > S .1"}, "colour": "tab:green", "marker": "o"}}}

``players`` may be a list (the names are the labels). Players in no group stand alone. Without a file, players whose
names begin alike up to a number, a space or an ``@`` are one group: ``P-SACPO .25`` and ``P-SACPO .5``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialog_gym.tournament.matches import TournamentError

COLOURS = tuple(f"C{i}" for i in range(10))  # matplotlib's own
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BASE_COLOUR = "black"


@dataclass(frozen=True)
class Look:
    """How a player is shown.

    Attributes:
        label: Its name for people.
        group: Players of one group have one colour and are joined by a line.
        colour: Any that matplotlib knows.
        marker: Likewise.
    """

    label: str
    group: str
    colour: str
    marker: str

    @property
    def short(self) -> str:
        """The label without what its group has in common, for plots that name groups elsewhere.

        >>> [Look(label, "P-SACPO", "", "").short for label in ("P-SACPO .25", "P-SACPO")]
        ['.25', 'P-SACPO']
        """
        return self.label.removeprefix(self.group).strip(" @") or self.label


def looks(players: Sequence[str], base: str, path: Path | None = None) -> dict[str, Look]:
    """Return how each player is shown; ``path`` is a file of groups, None groups by the names.

    Raises:
        TournamentError: The file cannot be read, or names a player that there is not.
    """
    told = {} if path is None else _read(path, players)
    found: dict[str, Look] = {}
    order: dict[str, int] = {}
    for player in players:
        group, label, colour, marker = told.get(player, (group_of(player), player, "", ""))
        place = order.setdefault(group, len(order))
        plain = BASE_COLOUR if player == base else COLOURS[place % len(COLOURS)]
        found[player] = Look(label, group, colour or plain, marker or MARKERS[place % len(MARKERS)])
    return found


def group_of(name: str) -> str:
    """Return the part of a name that its group has in common.

    >>> [group_of(name) for name in ("P-SACPO .25", "H>S@0.1", "base")]
    ['P-SACPO', 'H>S', 'base']
    """
    return re.split(r"[\s@]|(?<=\D)[\d.]+$", name, maxsplit=1)[0] or name


def _read(path: Path, players: Sequence[str]) -> dict[str, tuple[str, str, str, str]]:
    data = _parsed(path)
    groups = data.get("groups") if isinstance(data, Mapping) else None
    if not isinstance(groups, Mapping):
        raise TournamentError(f'{path}: expected {{"groups": {{NAME: {{"players": ...}}}}}}, got {str(data)!r:.80}')
    found = {}
    for group, about in groups.items():
        members = about.get("players", ()) if isinstance(about, Mapping) else ()
        labels = dict(members) if isinstance(members, Mapping) else {name: name for name in members}
        for player, label in labels.items():
            if player not in players:
                raise TournamentError(f"{path}: group {group!r} names {player!r}, and there are {list(players)}")
            found[player] = (str(group), str(label), str(about.get("colour", "")), str(about.get("marker", "")))
    return found


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text)
        import yaml  # type: ignore[import-untyped]

        return yaml.safe_load(text)
    except ModuleNotFoundError as error:
        raise TournamentError(f"{path}: reading YAML needs pyyaml (pip install pyyaml); or write JSON") from error
    except (OSError, ValueError) as error:
        raise TournamentError(f"cannot read the groups in {path}: {error}") from error
    except Exception as error:  # yaml's own
        raise TournamentError(f"{path} is no YAML: {error}") from error
