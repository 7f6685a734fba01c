"""How a task is put to a language model: in the task's own notation, or in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import LanguageModel
from dialog_gym.task import Task


class Wording:
    """What a model reads of a dialogue of ``task``, and what is made of its reply.

    A task may have a notation of its own for models that know its tokens (``Task.model_tokens``, as those do that
    ship with the package). All others read and write what people do, and are told to speak for one role alone.

    Attributes:
        task: What is played.
        plain: Whether the model reads plain words.
    """

    def __init__(self, task: Task, lm: LanguageModel) -> None:
        """Find out what ``lm`` reads."""
        self.task = task
        self.plain = bool(task.model_tokens) and not _knows(getattr(lm, "tokenizer", None), task.model_tokens)

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat that a model continues to speak as ``role``."""
        if not self.plain:
            return self.task.messages(dialogue, role)
        chat = dialogue.messages(role)
        (other,) = {*dialogue.roles} - {role}
        chat[0]["content"] += f"\nYou talk to the {other}. Say only your next words, in one or two sentences."
        return chat

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what is said when a model wrote ``text``, no longer than the task allows."""
        said = text.strip() if self.plain else self.task.utterance(dialogue, text)
        return said[: self.task.max_chars]


def _knows(tokenizer: Any, words: Sequence[str]) -> bool:
    """Return whether each of ``words`` is one token, within a sentence."""
    if tokenizer is None:
        return False
    ids = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    return all(len(one) == 1 for one in ids)
