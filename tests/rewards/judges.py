"""Scripted models for tests of judges, and dialogues to judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.lm.base import Counts, Generation


class Scripted:
    """A language model whose replies are a function of the messages; it remembers what it was asked."""

    name, hidden_size = "scripted", 0

    def __init__(
        self, answer: Callable[[list[dict[str, str]]], str], *, json: bool = False, stop: Any = "end"
    ) -> None:
        self.answer, self.stop = answer, stop
        self.supports = frozenset({"json"} if json else ())
        self.counts = Counts()
        self.calls: list[list[Any]] = []
        self.schemas: list[Any] = []

    def generate(self, prompts, sampling, *, prefixes=None, seeds=None, position="end", schema=None):
        assert sampling.temperature == 0
        self.calls.append([list(prompt) for prompt in prompts])
        self.schemas.append(schema)
        return [Generation(self.answer(list(prompt)), (), (), self.stop) for prompt in prompts]

    def embed(self, prompts):
        raise NotImplementedError

    def logprobs(self, prompts, continuations):
        raise NotImplementedError

    def session(self, rows, *, mean=False):
        raise NotImplementedError


def dialogue(*texts: str, seed: int = 7, stop: str = "deal") -> Dialogue:
    """Return a dialogue of agent and partner in turn."""
    roles = ("buyer", "seller")
    turns = tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts))
    scenario = Scenario("A bicycle.", {"buyer": "Pay little.", "seller": "Get much."}, {"limit": 4711})
    return Dialogue(scenario, roles, seed, turns, {"mood": "hidden"}, stop)


def verdict(**scores: Any) -> str:
    """Return an answer as judges should give it."""
    return json.dumps({"reasoning": "because", **scores})
