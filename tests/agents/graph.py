"""The random-walk graph as a dialogue: a text environment in which every optimum is known, and a model for it.

After the toy example of trlx (``examples/randomwalks``): a random directed graph, walks that are drawn at random as
data, and the question whether an algorithm finds the shortest way to node 0 from walks that mostly do not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from dialog_gym.data.collect import scripted
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.lm.tiny_corpus import chat_text, train_tokenizer
from dialog_gym.lm.tiny_training import new_llama
from dialog_gym.rewards.base import Reward
from dialog_gym.rollout import make_rows, play
from dialog_gym.task import Reply, Task

GRAPH = "tests.agents.graph:toy/Walk-v0"


class Arrival(Reward):
    """1 for the shortest way to the goal, falling to 0 at the longest that is allowed; 0 for any other turn."""

    name, low, high = "arrival", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array([self.one(d) for d in dialogues], np.float32)

    def one(self, d: Dialogue) -> float:
        if not d.success:
            return 0.0
        best, limit = d.scenario.hidden["shortest"], d.scenario.hidden["limit"]
        return float(1 - (d.state["steps"] - best) / (limit - best + 1))


class Walk(Task):
    """Walk on a graph of twelve nodes, ``n0`` to ``n11``, from a given one to ``n0``.

    The agent names the next node (``per_turn=1``), or up to ``per_turn`` of them; the partner says where it stands.
    It ends at the goal, at the first step that is no edge, and after ``limit`` steps.

    Args:
        degree: Edges out of each node.
        per_turn: Most steps in an utterance; ``limit`` makes the whole walk one utterance.
        limit: Most steps.
        graph: Seed of the graph.
    """

    max_chars = 200
    model_tokens = tuple(f"n{node}" for node in range(12))
    reward = Arrival()

    def __init__(self, degree: int = 3, per_turn: int = 1, limit: int = 8, graph: int = 0) -> None:
        self.roles = ("walker", "guide")
        self.per_turn, self.limit, self.max_turns = per_turn, limit, -(-limit // per_turn)
        rng, nodes = random.Random(graph), len(self.model_tokens)
        self.far: dict[int, int] = {}
        while len(self.far) < nodes:  # the first graph in which every node leads to the goal
            self.edges = {node: rng.sample([n for n in range(nodes) if n != node], degree) for node in range(nodes)}
            self.far = distances(self.edges)
        self.starts = [n for n, distance in self.far.items() if 1 < distance <= limit]

    def scenario(self, draws: Draws) -> Scenario:
        start = draws.choice(self.starts)
        hidden = {"start": start, "shortest": self.far[start], "limit": self.limit}
        return Scenario(f"from n{start} .", {}, hidden)

    def opening(self, dialogue: Dialogue) -> Dialogue:
        state = {"at": dialogue.scenario.hidden["start"], "steps": 0}
        return Dialogue(dialogue.scenario, self.roles, dialogue.seed, state=state)

    def reply(self, dialogues):
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Reply:
        at, steps = dialogue.state["at"], dialogue.state["steps"]
        words = dialogue.turns[-1].text.split()[: self.per_turn]
        for word in words:
            node = int(word[1:]) if word[:1] == "n" and word[1:].isdigit() else -1
            if node not in self.edges[at]:
                return Reply("", {"at": at, "steps": steps}, "lost")
            at, steps = node, steps + 1
            if at == 0:
                return Reply("", {"at": at, "steps": steps}, "arrived", True)
            if steps == self.limit:
                return Reply("", {"at": at, "steps": steps}, "tired")
        return Reply(f"at n{at}", {"at": at, "steps": steps}) if words else Reply("", None, "lost")

    def oracle(self, dialogue: Dialogue) -> str:
        """Take the shortest way."""
        at, said = dialogue.state["at"], list[str]()
        while at and len(said) < self.per_turn:
            at = min(self.edges[at], key=lambda n: self.far[n])
            said.append(f"n{at}")
        return " ".join(said)

    def wander(self, dialogue: Dialogue) -> str:
        """Take edges at random: the policy of the data."""
        at, said, draws = dialogue.state["at"], list[str](), dialogue.draws("wander")
        while at and len(said) < self.per_turn:
            at = draws.choice(self.edges[at])
            said.append(f"n{at}")
        return " ".join(said)

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        return {"wander": self.wander}


def distances(edges: Mapping[int, list[int]]) -> dict[int, int]:
    """Return how many steps each node is from node 0, of those that lead there."""
    far = {0: 0}
    for distance in range(1, len(edges)):
        found = [node for node, ends in edges.items() if node not in far and not far.keys().isdisjoint(ends)]
        far |= dict.fromkeys(found, distance)
    return far


def _make(render_mode: str | None = None, **settings: Any) -> DialogueEnv:
    return DialogueEnv(Walk(**settings), render_mode=render_mode)


def _make_rows(num_envs: int, **settings: Any) -> DialogueVectorEnv:
    ours = {name: settings.pop(name) for name in ("autoreset_mode", "render_mode") if name in settings}
    return DialogueVectorEnv(Walk(**settings), num_envs, **ours)


if "toy/Walk-v0" not in gym.registry:
    gym.register("toy/Walk-v0", entry_point=_make, vector_entry_point=_make_rows)  # type: ignore[arg-type]


def random_walks(folder: Path, count: int, seed: int = 0, **settings: Any) -> Path:
    """Write ``count`` random walks as a data set, and return its folder."""
    rows = make_rows(GRAPH, 32, settings)
    wander: Any = rows.unwrapped.task.wander  # type: ignore[attr-defined]
    with Episodes.writing(folder) as writer:
        for _, episode in play(scripted(wander), rows, count, seed=seed):
            writer.add(Recorded.of(episode, GRAPH, settings, "wander"))
    return folder


def walker(folder: Path, width: int = 32, layers: int = 2, context: int = 128, **settings: Any) -> str:
    """Write an untrained model that has a token for each node, and return its spec."""
    task = Walk(**settings)
    chat = [{"role": "system", "content": "from n1 ."}, {"role": "assistant", "content": "n2"}]
    chat += [{"role": "user", "content": "at n2"}]
    tokenizer = train_tokenizer([chat_text(chat)] * 2, task.model_tokens, 300 + len(task.model_tokens), context)
    with torch.random.fork_rng():
        model = new_llama(tokenizer, width, layers, 2, seed=0, context=context)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"
