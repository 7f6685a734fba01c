"""Score recorded dialogues turn by turn, by any reward per turn: ``dialog-gym score REWARD EPISODES``.

Nothing is played and nothing is trained. What comes out is a line per dialogue, a table with a row per turn, a picture
(``dialog_gym.picture``), or a data set in which every turn earns what it was scored.
"""

from __future__ import annotations

import csv
import json as json_module
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from dialog_gym import checkpoint
from dialog_gym.commands import print_json, show_rows
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.decomposition.signals import FORMS, LocalSignal, local_signal, of_reward

STORED = ("column", "faces", "classifier", "vader")


@dataclass(frozen=True)
class ScoredDialogue:
    """A dialogue and what its turns were scored.

    Attributes:
        number: Its place in the data.
        row: The dialogue.
        rewards: One per agent turn, oldest first; None where there is none.
        predicted: The score of the whole that a learned reward predicts; None for one that learned from no score, and
            for other rewards.
    """

    number: int
    row: Recorded
    rewards: list[float | None]
    predicted: float | None = None

    def by_turn(self) -> list[float | None]:
        """Return one number per turn of both roles, None for those of the partner."""
        given, agent = iter(self.rewards), self.row.dialogue.roles[0]
        return [next(given) if turn.role == agent else None for turn in self.row.dialogue.turns]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        turns = zip(self.row.dialogue.turns, self.by_turn(), strict=True)
        return {
            "number": self.number,
            "key": _key(self.row),
            "score": self.row.score,
            "predicted": self.predicted,
            "sum": sum(value for value in self.rewards if value is not None),
            "turns": [
                {"role": turn.role, "text": turn.text, **({} if value is None else {"reward": value})}
                for turn, value in turns
            ],
        }


def scored(reward: str, rows: Iterable[Recorded]) -> Iterator[ScoredDialogue]:
    """Score dialogues one after the other.

    Args:
        reward: The folder of a learned reward, ``"true"`` (where a world knows), ``"sentiment"``, the name of a reward
            or ``"module:name"``; or a local signal that is measured or stored (``"faces"``, ``"column:affect"``).
        rows: Dialogues.

    Raises:
        ValueError: There is no such reward, it looks into the partner's hidden state, or nobody knows the truth.
    """
    learned = _learned(reward)
    signal = _signal(reward) if learned is None else None
    for number, row in enumerate(rows):
        if not row.dialogue.turn:
            yield ScoredDialogue(number, row, [])
        elif signal is not None:
            yield ScoredDialogue(number, row, signal(row))
        else:
            given = [float(value) for value in learned.turns([row.dialogue])[0]]
            predicted = learned.offset + sum(given) if learned.knows_score else None
            yield ScoredDialogue(number, row, list(given), predicted)


def _learned(reward: str) -> Any:
    if not Path(reward).is_dir():
        if "/" in reward.partition(":")[0]:
            raise FileNotFoundError(f"there is no folder {reward}; give that of a learned reward, or a reward's name")
        return None
    from dialog_gym.rewards.decomposition import load_reward

    return load_reward(reward)


def _signal(reward: str) -> LocalSignal:
    if reward == "true":
        return _truth
    if reward.partition(":")[0] in STORED:
        return local_signal(reward)
    return of_reward(_reward(reward))


def _truth(row: Recorded) -> list[float | None]:
    from dialog_gym.rewards.decomposition.worlds import true_turns

    found = true_turns(row)
    if found is None:
        raise ValueError(
            f"nobody knows the true values of the dialogue of seed {row.seed} ({row.env or 'of no environment'}): "
            "they are known of dialogues with the scripted partner of a world that is as it was"
        )
    return list(found)


def _reward(name: str) -> Reward:
    from dialog_gym.rewards.other import find_reward

    nothing: Any = None
    if name.partition("?")[0] == "score":
        raise ValueError("the score is that of the dialogue as a whole; score its turns by 'rewards': column:rewards")
    try:
        return find_reward(name, nothing)  # made of no task: the dialogues are recorded
    except AttributeError as error:  # it is made of a task
        raise ValueError(
            f"the reward {name!r} is made of an environment's task, which recorded dialogues have not; to keep the "
            "sum write them by --rewarded FOLDER --keep-sum end"
        ) from error
    except ValueError as error:
        raise ValueError(f"{error}; of recorded dialogues also 'true' and {FORMS}") from error


def _key(row: Recorded) -> str:
    return str(row.dialogue.scenario.hidden.get("id", row.seed))


# --- the command -------------------------------------------------------------------------------


def score(
    reward: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REWARD")],
    episodes: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EPISODES")],
    out: Path | None = None,
    limit: int = 0,
    html: Path | None = None,
    show: int = 0,
    rewarded: Path | None = None,
    keep_sum: Literal["none", "end", "spread"] = "none",
    json: bool = False,
) -> None:
    """Score recorded dialogues turn by turn, by a learned reward or any other; nothing is played or trained.

    Args:
        reward: Folder of a learned reward (a run of `fit reward`), true, sentiment, a name or module:name; or what is
            measured or stored: faces, vader, column:NAME.
        episodes: Data set of episodes, or corpus:NAME:PATH, for instance corpus:candor:FOLDER.
        out: File to write: JSON lines, a line per dialogue; a table with a row per turn where it ends in .csv.
        limit: Only so many dialogues; 0: all.
        html: File to write a picture to: the dialogues (20 at most), their turns coloured by what they were scored.
        show: So many dialogues are shown here in colours.
        rewarded: New data set in which every turn earns what it was scored, for agents that learn from episodes.
        keep_sum: Of these: none, or what the score exceeds the sum by at the end or spread over the turns.
        json: Print JSON.
    """
    from dialog_gym.rewards.decomposition.conversations import records

    if keep_sum != "none" and rewarded is None:
        raise ValueError("keep_sum is about the episodes that are written: add --rewarded FOLDER")
    rows = islice(records(episodes), limit or None)
    told = _Told(html, show)
    found = told.watch(scored(reward, rows))
    if rewarded is None:
        write(found, out)
    else:
        _write_rewarded(found, rewarded, keep_sum, reward, out)
    summary = {"reward": reward, "episodes": episodes, **told.summary()}
    told.finish(reward)
    return print_json(summary) if json else show_rows([summary], False)


class _Told:
    """What is noted of dialogues that pass by."""

    def __init__(self, html: Path | None, show: int) -> None:
        self.html, self.show, self.kept = html, show, list[ScoredDialogue]()
        self.dialogues, self.turns, self.missing, self.total = 0, 0, 0, 0.0

    def watch(self, found: Iterable[ScoredDialogue]) -> Iterator[ScoredDialogue]:
        """Pass ``found`` on."""
        from dialog_gym.picture import MOST

        for one in found:
            known = [value for value in one.rewards if value is not None]
            self.dialogues += 1
            self.turns += len(one.rewards)
            self.missing += len(one.rewards) - len(known)
            self.total += sum(known)
            if len(self.kept) < max(self.show, MOST if self.html else 0):
                self.kept.append(one)
            yield one

    def summary(self) -> dict[str, Any]:
        """Return the counts."""
        mean = self.total / max(self.turns - self.missing, 1)
        return {"dialogues": self.dialogues, "turns": self.turns, "missing": self.missing, "mean": round(mean, 4)}

    def finish(self, reward: str) -> None:
        """Draw what is asked for."""
        from dialog_gym.picture import as_html, as_rich

        if self.html is not None:
            self.html.parent.mkdir(parents=True, exist_ok=True)
            self.html.write_text(as_html(self.kept, reward), encoding="utf-8")
        for one in self.kept[: self.show]:
            Console(stderr=True, highlight=False).print(as_rich(one, self.kept))


def write(found: Iterable[ScoredDialogue], out: Path | None) -> None:
    """Write dialogues to a file as they come, a table where it ends in ``.csv``; None writes nothing."""
    if out is None:
        for _ in found:
            pass
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(out) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        if out.suffix != ".csv":
            for one in found:
                file.write(json_module.dumps(one.to_json(), ensure_ascii=False) + "\n")
        else:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("dialogue", "turn", "role", "text", "reward"))
            for one in found:
                turns = zip(one.row.dialogue.turns, one.by_turn(), strict=True)
                table.writerows((_key(one.row), place, *turn, value) for place, (turn, value) in enumerate(turns))


def _write_rewarded(found: Iterable[ScoredDialogue], folder: Path, keep_sum: str, name: str, out: Path | None) -> None:
    from dialog_gym.data.exchange import import_rows
    from dialog_gym.rewards.redistributed import given_to_turns

    if out is not None:
        raise ValueError("--out and --rewarded read the dialogues once each; give one of them")
    import_rows(Episodes, (given_to_turns(one.row, one.rewards, keep_sum, name) for one in found), folder)
