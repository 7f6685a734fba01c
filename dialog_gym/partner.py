"""A language model as the partner, in any task: what it says is the model's, what follows from it is the task's.

``gym.make("dialog_gym/Bargain-v0", partner="openai:MODEL@URL")`` makes such an environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.errors import naming
from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.lm.wording import Wording
from dialog_gym.task import Reply, Task


class PartnerTask(Task):
    """``task`` with a language model in the partner's place.

    All dialogues of a vector environment are put to the model in one call, each from the partner's point of view:
    its own goal is in the brief, the agent's is not. The task says what follows (``Task.settled``, ``Task.heard``).
    Random numbers come from (dialogue seed, turn). If the model fails, ``LanguageModelError`` names the dialogue, and
    the environment is as it was: the step may be tried again.

    Nobody knows a model's mind, so there is no oracle. All else, attributes included, is the task's own.

    Attributes:
        task: What is played.
        lm: The model that is the partner.
        sampling: How its words are sampled.
    """

    def __init__(self, task: Task, lm: LanguageModel | str, sampling: Sampling | None = None) -> None:
        """Let ``lm``, a model or its spec, be the partner in ``task``; default: greedy, at most 64 tokens."""
        self.task = task
        self.lm = load(lm) if isinstance(lm, str) else lm
        self.sampling = sampling or Sampling(max_tokens=64)
        self.roles, self.max_turns, self.max_chars = task.roles, task.max_turns, task.max_chars
        self.reward, self.cost, self.budget, self.signals = task.reward, task.cost, task.budget, task.signals
        self.success_above = task.success_above
        self.model_tokens, self.render_hint = task.model_tokens, task.render_hint  # type: ignore[misc]
        self._wording = Wording(task, self.lm)

    def __getattr__(self, name: str) -> Any:
        """Return what the task alone has; only asked for where this class has nothing."""
        # Copy and pickle ask before there is a task; the value of a state is that against the scripted partner.
        if name.startswith("__") or name in ("task", "value"):
            raise AttributeError(name)
        return getattr(self.task, name)

    def scenario(self, draws: Draws) -> Scenario:
        """Draw a scenario of the task."""
        return self.task.scenario(draws)

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Return what the agent finds in the task; a greeting is the task's."""
        return self.task.opening(dialogue)

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Let the model answer each dialogue that the agent's turn did not settle, in one call.

        Raises:
            LanguageModelError: The model gave no answer; the message names the dialogue.
        """
        replies = {i: settled for i, d in enumerate(dialogues) if (settled := self.task.settled(d)) is not None}
        asked = [i for i in range(len(dialogues)) if i not in replies]
        if asked:
            open_ = [dialogues[i] for i in asked]
            for i, text in zip(asked, self._said(open_), strict=True):
                replies[i] = self.task.heard(dialogues[i], text)
        return [replies[i] for i in range(len(dialogues))]

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Return how the agent's newest turn ends the dialogue, None if it does not."""
        return self.task.settled(dialogue)

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Return what follows from the partner's ``text``."""
        return self.task.heard(dialogue, text)

    def contradicts(self, dialogue: Dialogue) -> bool | None:
        """Return whether the model's newest turn contradicts the scenario, as far as the task knows."""
        return self.task.contradicts(dialogue)

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat a language model continues, in the task's notation."""
        return self.task.messages(dialogue, role)

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what is said when a language model wrote ``text`` in the task's notation."""
        return self.task.utterance(dialogue, text)

    def oracle(self, dialogue: Dialogue) -> str:
        """Refuse.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f"there is no oracle: the partner is language model {self.lm.name!r}, whose mind nobody knows"
        )

    def _said(self, dialogues: list[Dialogue]) -> list[str]:
        partner = self.roles[1]
        prompts = [self._wording.messages(dialogue, partner) for dialogue in dialogues]
        seeds = [dialogue.draws("partner model").bits() >> 1 for dialogue in dialogues]
        with naming("the partner's answer", dialogues):
            answers = self.lm.generate(prompts, self.sampling, seeds=seeds)
        return [self._wording.utterance(d, answer.text) for d, answer in zip(dialogues, answers, strict=True)]


def played_by_model(
    task: Task, partner: LanguageModel | str | None, temperature: float | None = None, tokens: int | None = None
) -> PartnerTask:
    """Return ``task`` with a language model as the partner.

    Args:
        task: What is played.
        partner: The model, or its spec.
        temperature: 0 (the default) speaks greedily.
        tokens: Longest answer; default 64.

    Raises:
        ValueError: It is said how the partner speaks, but not who it is.
    """
    if partner is None:
        raise ValueError("partner_temperature and partner_tokens go with a language model, e.g. partner='tiny'")
    return PartnerTask(task, partner, Sampling(64 if tokens is None else tokens, temperature or 0.0))
