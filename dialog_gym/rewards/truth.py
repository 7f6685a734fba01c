"""What the newest agent turn was truly worth, where the world knows it: the upper line of every learned reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.compose import newest_turn
from dialog_gym.task import Task
from dialog_gym.world import true_value


class TrueValue(Reward):
    """The world's own value of the newest agent turn.

    Of a world that knows what a turn does to the partner (``Chat-v0``: by how much it moved the mood, -1.2 to 1.2)
    that; of all others the turn's reward and the change of the world's ``value`` (``dialog_gym.world.true_value``). As
    the value before the turn depends on the partner's state then, the dialogue is played again up to there, from its
    seed. Read more: ``dialog_gym.rewards.decomposition.worlds`` knows the same of whole episodes.
    """

    name, low, high = "true", -math.inf, math.inf

    def __init__(self, task: Task) -> None:
        """Ask ``task``, whose own reward counts.

        Raises:
            ValueError: It is no embedded world, or a language model is the partner.
        """
        if not hasattr(task, "value"):
            raise ValueError(
                f"{type(task).__name__} does not know the true value of a turn: it is no embedded world, or its "
                "partner is a language model"
            )
        self.task = task

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the true value of each newest agent turn.

        Raises:
            ValueError: A dialogue does not come out the same when it is played again.
        """
        world: Any = self.task
        if hasattr(world, "true_moves"):
            return np.array([world.true_moves(dialogue)[-1] for dialogue in dialogues], np.float32)
        return np.array([true_value(world, self._before(dialogue), dialogue) for dialogue in dialogues], np.float32)

    def _before(self, dialogue: Dialogue) -> Dialogue:
        """Return the dialogue before its newest agent turn, with the partner's state then."""
        agent, partner = dialogue.roles
        last = newest_turn(dialogue)
        first = next(place for place, turn in enumerate(dialogue.turns) if turn.role == agent)
        opened = self.task.opening(Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed))
        state = replace(opened, turns=dialogue.turns[:first], turn=-1)
        for text in dialogue.texts(agent)[:-1]:
            said = state.said(agent, text)
            (reply,) = self.task.reply([said])
            answered = said.said(partner, reply.text) if reply.text else said
            state = replace(answered, state=reply.state if reply.state is not None else state.state, turn=-1)
        if state.turns != dialogue.turns[:last]:
            raise ValueError(
                f"the dialogue of seed {dialogue.seed} does not come out the same when it is played again, so the "
                "true value of its turns is not known"
            )
        return state
