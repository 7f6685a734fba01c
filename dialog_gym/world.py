"""What an embedded world is: a task whose partner is scripted, so that the truth about it is known.

Beside playing, a world tells what the best policy says (``oracle``), what a state is worth (``value``), what a
partner understands of an utterance (``attributes``) and what an attentive agent knows (``facts``). From these come
the upper end of normalised scores, the true value of every utterance, and the tiny language models
(``dialog_gym.lm.build_tiny``), which learn to speak from ``self_play``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.task import Task

Floats = npt.NDArray[np.float32]


class World(Task):
    """A task with a scripted partner whose hidden state is in ``Dialogue.state``.

    Attributes:
        world: Name of the world, lower case. Its dialogues train the tiny models, whose state map for it is
            ``facts-<world>``.
        attribute_names: What ``attributes`` returns. Names ``group:value`` form a one-hot group; any other is a
            number, 0 where the utterance has none.
        fact_names: What ``facts`` returns.
    """

    world: ClassVar[str]
    attribute_names: ClassVar[tuple[str, ...]]
    fact_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def oracle(self, dialogue: Dialogue) -> str:
        """Say what the best policy that sees the hidden state would say."""

    @abstractmethod
    def value(self, dialogue: Dialogue) -> float:
        """Return the expected sum of the rewards still to come if the oracle speaks from here on; 0 when it is over.

        Undiscounted but for what the task's reward discounts itself. It is the world's own reckoning; the tests
        compare it with Monte-Carlo estimates.
        """

    @abstractmethod
    def self_play(self, draws: Draws) -> Dialogue:
        """Return a finished dialogue of an agent of mixed quality, to train language models on."""

    @abstractmethod
    def attributes(self, dialogue: Dialogue, role: str, text: str) -> Floats:
        """Return what a partner understands of ``text``, said by ``role`` in either notation."""

    @abstractmethod
    def facts(self, dialogue: Dialogue) -> Floats:
        """Return what an attentive agent knows before it speaks, as numbers; nothing hidden is among them."""

    @abstractmethod
    def understood(self, dialogue: Dialogue) -> bool:
        """Return whether the partner finds any meaning in the newest agent turn."""

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        """Return scripted policies to compare with, by name: what an agent says in a dialogue. Chance by the turn."""
        return {"oracle": self.oracle}


def true_value(task: Task, before: Dialogue, after: Dialogue) -> float:
    """Return what the newest agent turn of ``after`` was worth: its reward and the change of ``value``.

    It is the advantage of that utterance (and of the partner's luck in answering it) under the oracle; over an
    episode the values add up to the return less the value of the beginning.

    Args:
        task: An embedded world.
        before: The dialogue in which the agent spoke.
        after: What ``advance`` made of it.

    Raises:
        NotImplementedError: ``task`` is no embedded world: nobody knows.
    """
    value: Any = getattr(task, "value", None)
    if value is None:
        raise NotImplementedError(f"{type(task).__name__} is no embedded world: the true value of a turn is not known")
    earned = float(task.reward([after])[0])
    return earned + float(value(after)) - float(value(before))
