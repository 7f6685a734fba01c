"""Episodes: whole dialogues with what every turn earned, the data of offline reinforcement learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dialog_gym import checkpoint
from dialog_gym.data.columns import JsonRow
from dialog_gym.data.store import Table
from dialog_gym.dialogue import Dialogue, Json
from dialog_gym.rollout import PER_TURN, Episode, Named, Vectors


@dataclass(frozen=True)
class Recorded(Episode):
    """An episode, and where it comes from.

    Attributes:
        env: Id of the environment, ``""`` if it was none.
        env_kwargs: Its arguments.
        policy: Who spoke for the agent.
        score: What the dialogue as a whole was given (a survey, a judge), if it was.
    """

    env: str = ""
    env_kwargs: Mapping[str, Json] = field(default_factory=dict)
    policy: str = ""
    score: float | None = None

    @classmethod
    def of(
        cls,
        episode: Episode,
        env: str = "",
        env_kwargs: Mapping[str, Json] | None = None,
        policy: str = "",
        score: float | None = None,
    ) -> Recorded:
        """Return ``episode`` with its origin."""
        played = {one.name: getattr(episode, one.name) for one in fields(Episode)}
        return cls(**played, env=env, env_kwargs=dict(env_kwargs or {}), policy=policy, score=score)


class Episodes(Table[Recorded]):
    """Whole dialogues on disk; a row is a ``Recorded``.

    >>> import tempfile
    >>> from dialog_gym.dialogue import Dialogue, Scenario
    >>> talk = Dialogue(Scenario("A talk."), ("you", "me")).said("you", "Hi!").said("me", "Hello.")
    >>> folder = tempfile.mkdtemp()
    >>> with Episodes.writing(folder) as writer:
    ...     writer.add(Recorded(0, talk, rewards=(1.0,), costs=(0.0,), policy="polite"))
    >>> [(episode.policy, episode.total) for episode in Episodes.load(folder)]
    [('polite', 1.0)]
    """

    kind: ClassVar[str] = "episodes"
    columns: ClassVar[Mapping[str, str]] = {
        "seed": "integer",
        "env": "text",
        "env_kwargs": "json",
        "policy": "text",
        "rewards": "numbers",
        "costs": "numbers",
        **dict.fromkeys(PER_TURN, "named"),
        "score": "number",
        "dialogue": "json",
        "actions": "vectors",
        "states": "vectors",
    }
    shown: ClassVar[Mapping[str, str]] = {
        "messages": "chat",
        "reward": "number",
        "success": "truth",
        "stop_reason": "text",
    }

    @staticmethod
    def encode(row: Recorded) -> JsonRow:
        """Return an episode as JSON values.

        Raises:
            ValueError: The seed is no integer from 0 to 2**63 - 1, or there is not one number per agent turn.
        """
        if not 0 <= row.seed < 2**63:
            raise ValueError(f"the seed of an episode must be from 0 to 2**63 - 1, got {row.seed}")
        turns = row.dialogue.turn
        named = {part: _named(getattr(row, part), turns, part) for part in PER_TURN}
        return {
            "seed": int(row.seed),
            "env": row.env,
            "env_kwargs": dict(row.env_kwargs),
            "policy": row.policy,
            "rewards": _numbers(row.rewards, turns, "rewards"),
            "costs": _numbers(row.costs, turns, "costs"),
            **named,
            "score": None if row.score is None else float(row.score),
            "dialogue": row.dialogue.to_json(),
            "actions": _vectors(row.actions, turns, "actions"),
            "states": _vectors(row.states, turns + 1, "states"),
        }

    @staticmethod
    def decode(data: JsonRow) -> Recorded:
        """Return the episode that ``encode`` was given."""
        terms, costs, signals = ({name: tuple(values) for name, values in data[part].items()} for part in PER_TURN)
        actions, states = (None if (v := data[part]) is None else np.array(v, np.float32) for part in _VECTORS)
        return Recorded(
            data["seed"],
            Dialogue.from_json(data["dialogue"]),
            tuple(data["rewards"]),
            tuple(data["costs"]),
            terms,
            costs,
            signals,
            actions,
            states,
            data["env"],
            data["env_kwargs"],
            data["policy"],
            data["score"],
        )

    @staticmethod
    def show(row: Recorded) -> JsonRow:
        """Return the chat as the agent's role has it, the return, and how the dialogue ended."""
        ended = row.dialogue
        return {
            "messages": ended.messages(ended.roles[0]),
            "reward": row.total,
            "success": ended.success,
            "stop_reason": ended.stop_reason,
        }


_VECTORS = ("actions", "states")


def transitions(episodes: Iterable[Episode]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the steps of episodes with vectors as the arrays a replay buffer reads, one row per agent turn.

    The arrays are named as in D4RL: ``observations``, ``actions``, ``rewards``, ``next_observations``,
    ``terminals`` (the dialogue ended) and ``truncations`` (it ran out of turns). The steps of an episode follow each
    other.

    Raises:
        ValueError: There is no episode, or one has no vectors: it was not played in a prefix environment.
    """
    parts: dict[str, list[Any]] = {}
    for number, episode in enumerate(episodes):
        if episode.actions is None or episode.states is None:
            raise ValueError(
                f"episode {number} (seed {episode.seed}) has no vectors; collect in a prefix environment "
                "(NamePrefix-v0) with a policy that acts by vectors"
            )
        last = np.zeros(len(episode.rewards), np.float32)
        last[-1:] = 1
        cut = episode.dialogue.stop_reason == "max_turns"
        step = {
            "observations": episode.states[:-1],
            "actions": episode.actions,
            "rewards": np.array(episode.rewards, np.float32),
            "next_observations": episode.states[1:],
            "terminals": last * (not cut),
            "truncations": last * cut,
        }
        for name, array in step.items():
            parts.setdefault(name, []).append(array)
    if not parts:
        raise ValueError("expected at least one episode, got none")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def write_buffer(path: str | Path, episodes: Iterable[Episode]) -> int:
    """Write the steps of episodes with vectors as a replay buffer's file, and return how many there were.

    Raises:
        ValueError: See ``transitions``.
    """
    from safetensors.numpy import save_file

    path, arrays = Path(path), transitions(episodes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(path) as partial:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
    return len(arrays["rewards"])


def _numbers(values: Iterable[float], turns: int, name: str) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != turns:
        raise ValueError(f"{name} must have one number for each of the {turns} agent turns, got {len(numbers)}")
    return numbers


def _named(named: Named, turns: int, part: str) -> dict[str, list[float]]:
    return {name: _numbers(values, turns, f"{part}[{name!r}]") for name, values in named.items()}


def _vectors(vectors: Vectors | None, count: int, name: str) -> list[list[float]] | None:
    if vectors is None:
        return None
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or len(array) != count:
        raise ValueError(f"{name} must have shape ({count}, size), got {array.shape}")
    rows: list[list[float]] = array.tolist()
    return rows
