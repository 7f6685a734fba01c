"""What all agents share: how to train, ask, save and load one, and their names.

An agent is one file with a dataclass ``Args`` (every setting, with its default), ``train(args)`` and a
subclass of ``Agent``. Its registration is one line, by string, so that listing the agents imports none:

>>> agent_names()
['dpo', 'dt', 'ilql', 'kto', 'ppo', 'rollouts', 'sacpo', 'sb3', 'stable_alignment', 'td3', 'tf', 'tf_all', 'tf_top']
"""

from __future__ import annotations

import json
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dialog_gym import checkpoint
from dialog_gym.errors import unknown

Floats = npt.NDArray[np.float32]
ArgsT = TypeVar("ArgsT")

Evaluate = Callable[["Agent"], Mapping[str, float]]
"""Scores an agent while it trains: metric by name."""


class Agent(ABC):
    """Something that acts in an environment, for many rows at once."""

    name: ClassVar[str]
    """The name it is registered and saved under."""

    @abstractmethod
    def act(self, observations: Any, infos: Mapping[str, Any] | None = None) -> Any:
        """Return one action per row of ``observations``. The same rows give the same actions."""

    def __call__(self, observations: Any, infos: Mapping[str, Any] | None = None) -> Any:
        """Act: an agent is a policy wherever ``dialog_gym.rollout`` wants one."""
        return self.act(observations, infos)

    def set(self, **settings: Any) -> Self:
        """Change how the agent speaks, if it is a language model; return the agent.

        Raises:
            KeyError: There is no such setting; the message names the nearest.
            ValueError: It has none, or a value is refused.
        """
        if settings:
            raise ValueError(
                f"{self.name} has no settings of speaking, got {', '.join(sorted(settings))}; agents that are "
                "language models have them, and where vectors steer one, the environment has: --set temperature=0"
            )
        return self

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the agent to ``folder``, replacing an agent that is there."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            CheckpointError: ``folder`` holds no agent of this kind, or a damaged one.
        """


@dataclass(frozen=True)
class AgentSpec:
    """A registered agent.

    Attributes:
        name: What the command line calls it.
        entry_point: ``"module:Class"``; the module also has ``Args`` and ``train``.
        summary: One line.
    """

    name: str
    entry_point: str
    summary: str

    @property
    def cls(self) -> type[Agent]:
        """The class, imported now."""
        module, _, name = self.entry_point.partition(":")
        cls: type[Agent] = getattr(import_module(module), name)
        return cls

    @property
    def args(self) -> type[Any]:
        """The dataclass of its settings."""
        args: type[Any] = import_module(self.entry_point.partition(":")[0]).Args
        return args

    @property
    def train(self) -> Callable[..., Agent]:
        """``train(args, *, evaluate=None)``, which returns the trained agent."""
        train: Callable[..., Agent] = import_module(self.entry_point.partition(":")[0]).train
        return train


_AGENTS: dict[str, AgentSpec] = {}


def register(name: str, entry_point: str, summary: str) -> None:
    """Make an agent known by ``name``.

    Raises:
        ValueError: The name belongs to another agent, or the entry point is not ``"module:Class"``.
    """
    if not all(entry_point.partition(":")):
        raise ValueError(f"an agent's entry point looks like 'module:Class', got {entry_point!r}")
    spec = AgentSpec(name, entry_point, summary)
    if _AGENTS.setdefault(name, spec).entry_point != entry_point:
        raise ValueError(f"agent {name!r} is already registered as {_AGENTS[name].entry_point}; choose another name")


def agent_names() -> list[str]:
    """Return the names of all agents."""
    import_module("dialog_gym.agents")  # its registration lines
    return sorted(_AGENTS)


def agent_spec(name: str) -> AgentSpec:
    """Return the agent registered under ``name``.

    Raises:
        KeyError: There is none; the message names the nearest.
    """
    if name not in agent_names():
        raise unknown("agent", name, _AGENTS)
    return _AGENTS[name]


def load_agent(folder: str | Path) -> Agent:
    """Load any agent: from the folder it was saved to, or a run folder (finished, or its last checkpoint).

    Raises:
        CheckpointError: There is no agent in it, or a damaged one.
    """
    found = agent_place(folder)
    return agent_spec(str(checkpoint.read_index(found)["kind"])).cls.load(found)


def agent_place(folder: str | Path) -> Path:
    """Return where in ``folder`` the agent lies that ``load_agent`` loads."""
    folder = Path(folder)
    places = [folder / "agent", *sorted(folder.glob("checkpoints/step-*/agent"), reverse=True)]
    return next((place for place in places if place.is_dir()), folder)


def agent_identity(folder: str | Path) -> str:
    """Return what tells the agent in ``folder`` from any other: a hash that changes with its weights and settings."""
    folder = Path(folder)
    inside = sorted(folder.rglob(checkpoint.INDEX)) + sorted(folder.rglob("checksums.json"))
    told = b"".join(path.read_bytes() for path in inside)  # they hold the checksums of all weights
    return f"agent {blake2b(told, digest_size=8).hexdigest()}"


def args_from_json(cls: type[ArgsT], data: Mapping[str, Any]) -> ArgsT:
    """Rebuild the dataclass ``cls`` from what ``asdict`` and JSON made of it (JSON has no tuples)."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass, as every Args is
    if strange := sorted(set(data) - known):
        raise unknown("setting", strange[0], known)
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


def config_of(agent: str, args: Any, *, apart_from: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a run folder compares: agent and settings, without those that leave the result alone."""
    settings = {name: value for name, value in asdict(args).items() if name not in apart_from}
    return {"agent": agent, "args": settings}


def parse(args: type[ArgsT], argv: Sequence[str] | None = None, *, prog: str | None = None) -> ArgsT:
    """Read a dataclass of settings from the command line; a ``dict`` is given as JSON text."""
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def json_text(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
        if getattr(info.type, "__origin__", info.type) is not dict:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="JSON",
            instance_from_str=lambda texts: _json_object(texts[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [json.dumps(value)],
        )

    return tyro.cli(args, args=argv, prog=prog, registry=registry)


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f'expected a JSON object such as {{"seed": 1}}, got {text!r:.80}')
    return value


def main(name: str, argv: Sequence[str] | None = None) -> None:
    """Run ``python -m dialog_gym.agents.NAME``: read the settings, train, and exit with what a person can use."""
    from dialog_gym.runs import Interrupted, RunFolderError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec = agent_spec(name)
    try:
        spec.train(parse(spec.args, argv, prog=f"python -m dialog_gym.agents.{name}"))
    except Interrupted as stop:
        logging.getLogger("dialog_gym").warning("%s", stop)
        sys.exit(130)
    except (RunFolderError, ValueError, OSError, gym.error.Error) as error:
        sys.exit(f"{type(error).__name__}: {error}")
