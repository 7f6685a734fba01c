"""Episodes as Minari's files, and back: texts as observations and actions, or the vectors of prefix environments.

Written through Minari's storage, since its ``DataCollector`` needs jax. ``arrow`` and ``parquet`` need pyarrow,
``hdf5`` needs h5py. Infos per step: ``cost``, every term as ``reward_terms.NAME``, and so on; ``episode`` in the last
step is all that is left of the row, as JSON, so that reading it back loses nothing.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Space, Text

from dialog_gym import checkpoint
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.env import MAX_TRANSCRIPT
from dialog_gym.spaces import Utterance

Format = Literal["arrow", "parquet", "hdf5"]
_INFOS = {"terms": "reward_terms", "cost_terms": "cost_terms", "signals": "signals"}


def to_minari(
    episodes: Episodes,
    path: str | Path,
    *,
    dataset_id: str = "dialog_gym/episodes-v0",
    data_format: Format = "arrow",
    vectors: bool = False,
) -> int:
    """Write a Minari data set to the new folder ``path``; ``minari.MinariDataset(path)`` reads it.

    Args:
        episodes: What is written.
        path: The folder.
        dataset_id: Its id, ``(namespace/)name-vN``.
        data_format: How it lies on disk.
        vectors: States and actions as vectors instead of transcripts and utterances.

    Returns:
        How many episodes there were.

    Raises:
        DatasetError: ``path`` is there already, or there are no episodes.
        ValueError: An episode has no vectors.
    """
    from minari.dataset.minari_storage import MinariStorage

    path = Path(path).absolute()  # Minari joins any other one with itself
    if data_format == "hdf5" and importlib.util.find_spec("h5py") is None:
        raise ValueError("Minari's hdf5 format needs the package h5py; install it, or take 'arrow'")
    if path.exists():
        raise DatasetError(f"{path} is there already; export to a new folder")
    if not len(episodes):
        raise DatasetError(f"{episodes.path} has no episodes to export")
    with checkpoint.new_folder(path) as partial:
        spaces = _spaces(next(iter(episodes)), vectors)
        storage = MinariStorage.new(partial, *spaces, env_spec=_spec(episodes), data_format=data_format)
        # Minari adds up the files of the whole folder after each episode, which takes quadratic time.
        storage.get_size = lambda: 0.0
        policies: dict[str, None] = {}
        for number, row in enumerate(episodes):
            storage.update_episodes([_buffer(row, number, vectors)])
            policies.setdefault(row.policy)
        del storage.get_size
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "algorithm_name": ", ".join(policies),
                "minari_version": importlib.import_module("minari").__version__,
                "dataset_size": storage.get_size(),
                "content_hash": episodes.content_hash,
            }
        )
    return len(episodes)


def from_minari(path: str | Path) -> Iterator[Recorded]:
    """Yield the episodes of a Minari data set whose actions are texts, or that ``to_minari`` wrote.

    In data of others, what an observation adds to the one before it (or all of it) is what the partner said.

    Raises:
        DatasetError: It cannot be read, or its actions are no texts.
    """
    from minari.dataset.minari_storage import MinariStorage

    try:
        storage = MinariStorage.read(path)
    except (OSError, ValueError, AssertionError) as error:
        raise DatasetError(f"cannot read {path} as a Minari data set: {error}") from error
    for number in range(storage.total_episodes):
        (data,) = storage.get_episodes([number])
        told = [text for text in _texts(data["infos"].get("episode", ())) if text]
        if told:
            yield _restored(json.loads(told[-1]), data)
        elif isinstance(storage.action_space, Text) and isinstance(storage.observation_space, Text):
            yield _foreign(data, number)
        else:
            raise DatasetError(
                f"{path}: expected observations and actions that are texts, got {storage.observation_space} and "
                f"{storage.action_space}"
            )


def _spaces(row: Recorded, vectors: bool) -> tuple[Space[Any], Space[Any]]:
    if not vectors:
        return Utterance(MAX_TRANSCRIPT), Utterance(MAX_TRANSCRIPT)
    actions, states = _vectors(row)
    return (
        Box(-np.inf, np.inf, states.shape[1:], np.float32),
        Box(-1.0, 1.0, actions.shape[1:], np.float32),
    )


def _spec(episodes: Episodes) -> Any:
    """Return the specification of the environment, if all rows are of one that is registered; else None."""
    origins = {(row["env"], json.dumps(row["env_kwargs"])) for row in episodes.select("env", "env_kwargs")}
    env, kwargs = origins.pop()
    if origins or env not in gym.registry:
        return None
    spec = gym.spec(env)
    return replace(spec, kwargs={**spec.kwargs, **json.loads(kwargs)})


def _buffer(row: Recorded, number: int, vectors: bool) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    turns = len(row.rewards)
    cut = row.dialogue.stop_reason in ("max_turns", "")
    last = [False] * (turns - 1) + [True]
    if vectors:
        actions, observations = _vectors(row)
    else:
        actions, observations = row.dialogue.texts(row.dialogue.roles[0]), _transcripts(row.dialogue)
    rest = {name: value for name, value in Episodes.encode(row).items() if name not in ("actions", "states")}
    # Lists, since Minari cannot read back arrays of one dimension from arrow.
    infos: dict[str, Any] = {"cost": [0.0, *row.costs], "episode": [""] * turns + [json.dumps(rest)]}
    for part, name in _INFOS.items():
        infos |= {f"{name}.{term}": [0.0, *values] for term, values in getattr(row, part).items()}
    return EpisodeBuffer(
        id=number,
        seed=row.seed,
        observations=observations,
        actions=actions,
        rewards=list(row.rewards),
        terminations=[end and not cut for end in last[:turns]],
        truncations=[end and cut for end in last[:turns]],
        infos=infos,
    )


def _vectors(row: Recorded) -> tuple[Any, Any]:
    if row.actions is None or row.states is None:
        raise ValueError(
            f"the episode with seed {row.seed} has no vectors; collect in a prefix environment (NamePrefix-v0) with a "
            "policy that acts by vectors"
        )
    return row.actions, row.states


def _transcripts(dialogue: Dialogue) -> list[str]:
    """Return what the agent sees before each of its turns and at the end."""
    agent = dialogue.roles[0]
    places = [i for i, turn in enumerate(dialogue.turns) if turn.role == agent]
    seen = [replace(dialogue, turns=dialogue.turns[:i], turn=-1) for i in [*places, len(dialogue.turns)]]
    return [one.transcript(agent) for one in seen]


def _restored(row: Mapping[str, Any], data: Mapping[str, Any]) -> Recorded:
    vectors: dict[str, Any] = {"actions": None, "states": None}
    if isinstance(data["actions"], np.ndarray) and data["actions"].dtype.kind == "f":
        vectors = {"actions": data["actions"], "states": data["observations"]}
    return Episodes.decode({**row, **vectors})


def _foreign(data: Mapping[str, Any], number: int) -> Recorded:
    observations, actions = _texts(data["observations"]), _texts(data["actions"])
    turns: list[Turn] = []
    for action, before, after in zip(actions, observations, observations[1:], strict=False):
        turns.append(Turn("agent", action))
        heard = after.removeprefix(before).lstrip("\n").removeprefix(action).strip("\n")
        if heard:
            turns.append(Turn("partner", heard))
    rewards = tuple(float(reward) for reward in data["rewards"])
    stop = "max_turns" if np.any(data["truncations"]) else "terminated" if np.any(data["terminations"]) else ""
    dialogue = Dialogue(Scenario(observations[0]), ("agent", "partner"), turns=tuple(turns), stop_reason=stop)
    costs = data["infos"].get("cost")
    spent = (0.0,) * len(rewards) if costs is None else tuple(float(cost) for cost in costs[1:])
    return Recorded(number, dialogue, rewards, spent)


def _texts(values: Sequence[Any]) -> list[str]:
    """Return texts, which HDF5 gives as bytes."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
