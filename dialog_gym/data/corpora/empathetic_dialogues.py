"""EmpatheticDialogues (Rashkin et al. 2019, arXiv:1811.00207): one tells what happened, the other listens.

CSV with ``conv_id``, ``utterance_idx``, ``prompt`` (the situation), ``utterance``, and the emotion as ``context`` or
``label``. Turns count from 1 and take turns, the speaker's are odd.
"""

from __future__ import annotations

from collections.abc import Iterator

from dialog_gym.data.corpora.base import grouped, recorded
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.episodes import Recorded

ROLES = ("listener", "speaker")


def read(source: Source, quoted: bool = True) -> Iterator[Recorded]:
    """Yield the conversations.

    ``scenario.private``: the speaker's situation. ``scenario.hidden``: ``id``, ``prompt``, ``emotion`` (a word or the
    number of one, ``""`` where it is not given).

    Args:
        source: The files.
        quoted: Whether cells may be quoted. The first publication has no quotes around its cells, but has quotes in
            them: read it with ``quoted=False``.
    """
    rows = source.rows() if source.is_hub else source.csv("*.csv", quoted=quoted)
    for number, key, group in grouped(source, rows, "conv_id"):
        with source.record(number, key):
            places = [int(row["utterance_idx"]) for row in group]
            if places != list(range(1, len(group) + 1)):
                raise ValueError(f"utterance_idx must go from 1 on without a gap, got {places!r:.60}")
            prompt = _plain(group[0]["prompt"])
            emotion = str(group[0].get("context") or group[0].get("label") or "")
            yield recorded(
                ROLES,
                [(ROLES[place % 2], _plain(row["utterance"])) for place, row in zip(places, group, strict=True)],
                number,
                public="One of the two tells what happened.",
                private={"speaker": f"What happened to you: {prompt}"},
                hidden={"id": key, "prompt": prompt, "emotion": emotion},
            )


def _plain(text: str) -> str:
    """Return a text with its commas, which are ``_comma_`` in the files."""
    return text.replace("_comma_", ",")
