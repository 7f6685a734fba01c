"""A learned reward: a transformer with one number as its output, trained on rankings by ``train_reward_model``.

A folder has what ``transformers`` saves (``model.safetensors``, tokenizer) and ``reward_model.json`` with the
normalisation: ``score = (output - mean) / std``, cut to [-limit, limit].
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import Messages
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.compose import newest_turn
from dialog_gym.rewards.utterance import Memory
from dialog_gym.task import Task

SETTINGS = "reward_model.json"
_Key = tuple[tuple[str, str], ...]  # a chat as (role, content)


class RewardModel(Reward):
    """Score the newest agent turn, in the context of what was said before it, by a trained model.

    The score is in standard deviations of the scores of its training pairs, in [-limit, limit]. The partner's answer
    is not shown to it. Every chat is scored once; ``scores`` takes chats that are no dialogues.

    Attributes:
        settings: What ``reward_model.json`` says.
        memory: The scores known so far.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        limit: float | None = None,
        task: Task | None = None,
        name: str = "reward_model",
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        """Load the model in ``folder``.

        Args:
            folder: What ``train_reward_model`` wrote; or any model of transformers with one output, by folder or name.
            limit: Largest score; None: as saved. A model without ``reward_model.json`` needs it, its scores are not
                normalised.
            task: Whose notation the model reads (``Task.messages``); None: the words as people read them.
            name: Of this reward.
            batch_size: Chats per forward pass.
            device: Where the model runs; None: a GPU if there is one.

        Raises:
            ValueError: There is no such model, it has more than one output, or there is no limit.
        """
        file = Path(folder) / SETTINGS
        if file.is_file():
            self.settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        elif limit is None:
            raise ValueError(f"there is no {file}: train_reward_model writes it; for another model give limit=...")
        else:
            self.settings = {"mean": 0.0, "std": 1.0}
        self.limit = float(self.settings["limit"] if limit is None else limit)
        self.low, self.high, self.name, self.task, self.batch_size = -self.limit, self.limit, name, task, batch_size
        self.model, self.tokenizer = load_scalar_model(folder, device)
        self.memory: Memory[_Key, float] = Memory(self._computed, 20_000)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the normalised score of each newest agent turn.

        Raises:
            ValueError: The agent of a dialogue has said nothing yet.
        """
        return self.scores([self._chat(dialogue) for dialogue in dialogues])

    def scores(self, chats: Sequence[Messages]) -> Floats:
        """Return the normalised score of each chat, shape ``(n,)``."""
        keys = [tuple((message["role"], message["content"]) for message in chat) for chat in chats]
        return np.array(self.memory(keys), np.float32)

    def _chat(self, dialogue: Dialogue) -> Messages:
        place = newest_turn(dialogue)
        if place is None:
            raise ValueError(f"the agent has said nothing yet in the dialogue of seed {dialogue.seed}")
        turns = dialogue.turns[: place + 1]
        heard = Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed, turns, dialogue.state)
        agent = dialogue.roles[0]
        return heard.messages(agent) if self.task is None else self.task.messages(heard, agent)

    def _computed(self, keys: list[_Key]) -> list[float]:
        chats = [[{"role": role, "content": content} for role, content in key] for key in keys]
        raw = raw_scores(self.model, self.tokenizer, chats, self.batch_size, self.settings.get("max_length"))
        normal = (raw - self.settings["mean"]) / self.settings["std"]
        found: list[float] = normal.clip(-self.limit, self.limit).tolist()
        return found


def load_scalar_model(folder: str | Path, device: str | None) -> tuple[Any, Any]:
    """Return a model with one output and its tokenizer; the output is new where the model had none.

    Raises:
        ValueError: There is no such model, or it has more than one output.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        with quiet():  # that the output is new is what is wanted
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            model = AutoModelForSequenceClassification.from_pretrained(str(folder), num_labels=1, dtype="float32")
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"cannot load a model with one output from {str(folder)!r}: give a folder with config.json, weights and "
            f"tokenizer, or the name of one on a hub that can be reached ({error!s:.300})"
        ) from error
    prepare(model, tokenizer)
    return model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the reports and progress bars of transformers off the screen."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def prepare(model: Any, tokenizer: Any) -> None:
    """Make both agree on padding, which is on the right; the newest words survive truncation."""
    tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id


def token_ids(model: Any, tokenizer: Any, chats: Sequence[Messages], max_length: int | None) -> list[list[int]]:
    """Return the tokens of each chat, by the tokenizer's chat template or, without one, as ``role: content`` lines."""
    if tokenizer.chat_template:
        texts = [tokenizer.apply_chat_template(list(chat), tokenize=False) for chat in chats]
    else:
        texts = ["\n".join(f"{m['role']}: {m['content']}" for m in chat) for chat in chats]
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 2**20)
    found: list[list[int]] = tokenizer(
        texts,
        truncation=True,
        max_length=min(longest, max_length or longest),
        add_special_tokens=not tokenizer.chat_template,  # a template writes them itself
    )["input_ids"]
    return found


def raw_scores(
    model: Any, tokenizer: Any, chats: Sequence[Messages], batch_size: int, max_length: int | None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the model's output for each chat, shape ``(n,)``; chats of like length share a batch."""
    import torch

    ids = token_ids(model, tokenizer, chats, max_length)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = np.zeros(len(ids))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        longest = max(len(ids[row]) for row in rows)
        tokens = torch.full((len(rows), longest), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for place, row in enumerate(rows):
            tokens[place, : len(ids[row])] = torch.tensor(ids[row])
            mask[place, : len(ids[row])] = 1
        with torch.inference_mode():
            outputs = model(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device))
        found[rows] = outputs.logits[:, 0].float().cpu().numpy()
    return found
