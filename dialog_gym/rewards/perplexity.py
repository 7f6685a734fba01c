"""How surprising what the agent says is to a language model: a guard for fluency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, require
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.compose import newest_turn
from dialog_gym.rewards.utterance import Memory
from dialog_gym.task import Task

_Chat = tuple[tuple[tuple[str, str], ...], str]  # the messages before, as (role, content), and what was said


class Perplexity(Reward):
    """Log-perplexity of the newest agent turn in its context: minus the mean log-probability of its tokens, in nats.

    0 is what the model was sure of; a penalty for what it would never say: ``-0.1 * Perplexity("tiny")``. Cut to
    [``low``, ``high``]. A turn without tokens gets ``high``: nothing was said that could be fluent.

    Attributes:
        lm: The model; it needs ``"logprobs"``.
    """

    def __init__(
        self,
        lm: LanguageModel | str,
        *,
        low: float = 0.0,
        high: float = 10.0,
        task: Task | None = None,
        name: str = "perplexity",
    ) -> None:
        """Read through ``lm``.

        Args:
            lm: A language model or its spec.
            low: Least score, at least 0.
            high: Largest score.
            task: Whose notation the model reads (``Task.messages``); None: the words as people read them.
            name: Of this reward.

        Raises:
            UnsupportedError: The model tells no log-probabilities.
            ValueError: It is not 0 <= low < high.
        """
        if not 0.0 <= low < high < float("inf"):
            raise ValueError(f"expected 0 <= low < high nats per token, got {low} and {high}")
        self.lm = load(lm) if isinstance(lm, str) else lm
        require(self.lm, ("logprobs",), "perplexity")
        self.low, self.high, self.task, self.name = float(low), float(high), task, name
        self._memory: Memory[_Chat, float] = Memory(self._measured, 10_000)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the log-perplexity of each newest agent turn.

        Raises:
            LanguageModelError: The model failed.
            ValueError: The agent of a dialogue has said nothing yet.
        """
        return np.array(self._memory([self._chat(dialogue) for dialogue in dialogues]), np.float32)

    def _chat(self, dialogue: Dialogue) -> _Chat:
        place = newest_turn(dialogue)
        if place is None:
            raise ValueError(f"the agent has said nothing yet in the dialogue of seed {dialogue.seed}")
        turns = dialogue.turns[: place + 1]
        heard = Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed, turns, dialogue.state)
        agent = dialogue.roles[0]
        chat = heard.messages(agent) if self.task is None else self.task.messages(heard, agent)
        *before, last = [(message["role"], message["content"]) for message in chat]
        return tuple(before), last[1]

    def _measured(self, chats: list[_Chat]) -> list[float]:
        told = [chat for chat in chats if chat[1].strip()]
        prompts = [[{"role": role, "content": content} for role, content in before] for before, _ in told]
        try:
            found = dict(zip(told, self.lm.logprobs(prompts, [said for _, said in told]), strict=True)) if told else {}
        except LanguageModelError as error:
            turn = "one of them" if error.prompt is None else repr(told[error.prompt][1][:80])
            raise LanguageModelError(
                f"reward {self.name!r} could not read {len(told)} turns with {self.lm.name}, {turn}: {error}"
            ) from error
        surprises = [-float(np.mean(found[chat])) if chat in found else self.high for chat in chats]
        return [min(max(surprise, self.low), self.high) for surprise in surprises]
