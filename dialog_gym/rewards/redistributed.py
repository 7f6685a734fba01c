"""A final score given to the turns: by a reward per turn, and what is left over at the end.

A learned reward per turn (``dialog_gym.rewards.decomposition``) says what each utterance adds to the score of a
conversation. Its sum is near the score, not the score. ``keep_sum`` makes it so: what is left over, the *residual*, is
known when the dialogue is over and not before. So a reward that is earned while a dialogue is played can only have it
at the end (``"end"``); in recorded episodes it can also be spread over all turns (``"spread"``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward, checked
from dialog_gym.rewards.compose import Batch, Composite, before_turn
from dialog_gym.rollout import Episode

KeepSum = Literal["none", "end", "spread"]
EpisodeT = TypeVar("EpisodeT", bound=Episode)


class Redistributed(Composite):
    """What ``shares`` says of each turn, instead of a score at the end; the score is still reported.

    With ``keep_sum="end"`` the last turn also earns what the score exceeds the sum of all shares by, so that the
    return of an episode is the score. The shares are asked again for the turns before, so they must be a function of
    what was said (a learned reward is; one that looks into the hidden state is refused).
    """

    def __init__(self, score: Reward, shares: Reward, keep_sum: str = "none") -> None:
        """Give ``score`` to the turns.

        Args:
            score: What the environment pays: 0 until a dialogue is over.
            shares: What each turn is said to be worth.
            keep_sum: ``"none"`` or ``"end"``.

        Raises:
            ValueError: An unknown ``keep_sum``, or both have a term of the same name.
        """
        if keep_sum not in ("none", "end"):
            raise ValueError(
                f"keep_sum must be 'none' or 'end', got {keep_sum!r}; what is left over is known only when a dialogue "
                "is over, so only recorded episodes can have it spread (dialog_gym.rewards.redistributed.redistribute)"
            )
        self.keep_sum = keep_sum
        ends = (-math.inf, math.inf) if keep_sum == "end" else (shares.low, shares.high)
        super().__init__(f"redistributed({shares.name})", (score, shares), *ends)

    def combined(self, batch: Batch) -> Floats:
        """Return what each newest turn earns.

        Raises:
            ValueError: ``score`` pays before the end, so that there is no final score to keep.
        """
        score, shares = self.parts
        paid, given = batch.scores(score), batch.scores(shares)
        if self.keep_sum == "none":
            return given
        over = np.array([bool(dialogue.stop_reason) for dialogue in batch.dialogues])
        if np.any(paid[~over] != 0):
            raise ValueError(
                f"keep_sum needs a score at the end, but {score.name!r} pays {float(paid[~over].sum()):g} in a "
                "dialogue that goes on; use keep_sum='none'"
            )
        whole = given.copy()
        rows = np.flatnonzero(over).tolist()
        for row, before in zip(rows, _sums_before(shares, [batch.dialogues[row] for row in rows]), strict=True):
            whole[row] = paid[row] - before
        return whole


def _sums_before(shares: Reward, dialogues: Sequence[Dialogue]) -> list[float]:
    """Return what ``shares`` gave the turns before the newest, in all, asked as one batch."""
    earlier: list[list[Dialogue]] = []
    for dialogue in dialogues:
        parts = [dialogue]
        while parts[-1].turn > 1:
            parts.append(before_turn(parts[-1]))
        earlier.append(parts[1:])
    scores = iter(Batch([part for parts in earlier for part in parts]).scores(shares).tolist())
    return [sum(next(scores) for _ in parts) for parts in earlier]


def redistribute(episode: EpisodeT, shares: Reward, keep_sum: KeepSum = "spread") -> EpisodeT:
    """Return a recorded episode whose score is given to its turns.

    What the turns earn then are the shares, with what is left over at the end (``"end"``), in equal parts on every
    turn (``"spread"``), or left out (``"none"``). The terms of the new episode are ``score`` (at the last turn) and
    the shares by their name. The score is that of the episode as a whole (``Recorded.score``) if it has one, else its
    return. For agents that learn from episodes; while a dialogue is played, ``Redistributed`` is what can be known.

    Raises:
        ValueError: The agent says nothing in it, or an unknown ``keep_sum``.
    """
    from dialog_gym.rewards.decomposition.signals import up_to_each_turn

    given = checked(shares, up_to_each_turn(episode.dialogue))
    return given_to_turns(episode, given, keep_sum, shares.name)


def given_to_turns(episode: EpisodeT, given: Sequence[float | None], keep_sum: str, name: str) -> EpisodeT:
    """Return ``redistribute(episode, ...)`` where what the turns are said to be worth is known, under ``name``.

    Raises:
        ValueError: There is not one number per agent turn, an unknown ``keep_sum``, or the name is "score".
    """
    if keep_sum not in ("none", "end", "spread"):
        raise ValueError(f"keep_sum must be 'none', 'end' or 'spread', got {keep_sum!r}")
    if name == "score":
        raise ValueError("the term 'score' is the score itself; give the reward another name: .named('other')")
    values = [value for value in given if value is not None]
    if not values or len(values) != episode.dialogue.turn:
        raise ValueError(
            f"episode of seed {episode.seed}: expected a number for each of at least one turn of the agent, got "
            f"{len(values)} for {episode.dialogue.turn}"
        )
    own = episode.score if isinstance(episode, Recorded) else None
    score = episode.total if own is None else own
    rewards = np.array(values)
    left = score - rewards.sum()
    if keep_sum == "end":
        rewards[-1] += left
    elif keep_sum == "spread":
        rewards += left / len(rewards)
    terms = {"score": (*(0.0,) * (len(values) - 1), score), name: tuple(values)}
    return replace(episode, rewards=tuple(rewards.tolist()), terms=terms)
