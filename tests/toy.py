"""A small task with everything a task can do: chance, hidden state, a greeting, an end, a cost."""

from __future__ import annotations

import numpy as np

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Reply, Task


class Hits(Reward):
    """1 for a turn that names the number, else a tenth of its length modulo 10."""

    name, low, high = "hits", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array([d.success or len(d.texts("agent")[-1]) % 10 / 100 for d in dialogues], np.float32)


class Shouting(Reward):
    name, low, high = "shouting", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array([d.texts("agent")[-1].isupper() for d in dialogues], np.float32)


class GuessTask(Task):
    """Name the partner's number, which creeps upward by chance while you talk."""

    max_turns, max_chars = 4, 300
    reward, cost = Hits(), Shouting()

    def __init__(self, greet: bool = False, highest: int = 5) -> None:
        self.roles = ("agent", "partner")
        self.greet, self.highest = greet, highest
        self.batches: list[int] = []

    def scenario(self, draws: Draws) -> Scenario:
        number = draws.integer(0, self.highest)
        return Scenario("A guessing game.", {"agent": "Name it.", "partner": f"It is {number}."}, {"number": number})

    def opening(self, dialogue: Dialogue) -> Dialogue:
        dialogue = Dialogue(
            dialogue.scenario, dialogue.roles, dialogue.seed, state={"number": dialogue.scenario.hidden["number"]}
        )
        return dialogue.said("partner", "Well?") if self.greet else dialogue

    def reply(self, dialogues):
        self.batches.append(len(dialogues))
        return [self._answer(dialogue) for dialogue in dialogues]

    def _answer(self, dialogue: Dialogue) -> Reply:
        text, number = dialogue.turns[-1].text, dialogue.state["number"]
        if text == str(number):
            return Reply("Yes!", stop_reason="named", success=True)
        if text == "bye":
            return Reply("", stop_reason="left")
        draws = dialogue.draws("partner")
        word = draws.choice(("No.", "Näh. 🙂", "Try\nagain."))
        return Reply(word, {"number": number + (draws.uniform() < 0.3)})

    def oracle(self, dialogue: Dialogue) -> str:
        return str(dialogue.state["number"])
