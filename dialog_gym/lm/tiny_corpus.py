"""Self-played dialogues as a language model learns them: worlds, chats as token ids, and the tokenizer.

For ``dialog_gym.lm.build_tiny``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.progress import track
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.task import Task

WORLDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "bargain": [
        ("dialog_gym.envs.bargain:Bargain", {"side": "buyer"}),
        ("dialog_gym.envs.bargain:Bargain", {"side": "seller"}),
    ],
}
"""The tasks of each world. Each has ``self_play``, ``facts``, ``attributes``, ``attribute_names`` and ``parsed``."""

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Chat:
    """A dialogue as one role tells it: token ids, and where the agent's replies stand.

    Attributes:
        ids: Tokens, system message first.
        replies: First token and the token after the last (the end of turn included) of each reply to steer;
            none where the partner tells.
        attributes: What each reply says, (replies, attributes).
        facts: What is known before each reply, (replies, facts).
    """

    ids: list[int]
    replies: list[tuple[int, int]]
    attributes: np.ndarray
    facts: np.ndarray


def self_play(tasks: Sequence[Task], count: int, seed: int) -> list[tuple[Task, Dialogue]]:
    """Play ``count`` dialogues, the tasks in turn."""
    return [
        (task, task.self_play(Draws(seed, "self-play", k)))  # type: ignore[attr-defined]
        for k, task in ((k, tasks[k % len(tasks)]) for k in track(range(count), "play", transient=True))
    ]


def chat_text(messages: Sequence[dict[str, str]]) -> str:
    """Return a whole chat in the notation of ``TEMPLATE``."""
    end = {"assistant": END}
    return "".join(f"<|{m['role']}|> {m['content']}{end.get(m['role'], '')}" for m in messages)


def train_tokenizer(texts: Iterator[str], world_tokens: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE; each world token (with its leading space) is one token from the start."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r" ?[\p{L}']+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    own = [AddedToken(f" {token}", normalized=False) for token in world_tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(own),
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(own)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    fast.chat_template = TEMPLATE
    return fast


def encode(played: Sequence[tuple[Task, Dialogue]], tokenizer: PreTrainedTokenizerFast) -> list[Chat]:
    """Return the dialogues as token ids, read from both sides."""
    return [
        encode_chat(task, dialogue, role, tokenizer)
        for task, dialogue in track(played, "encode", transient=True)
        for role in dialogue.roles
    ]


def encode_chat(task: Task, dialogue: Dialogue, role: str, tokenizer: PreTrainedTokenizerFast) -> Chat:
    """Return one dialogue as ``role`` tells it."""
    ids = tokenizer(chat_text(task.messages(dialogue, role)), add_special_tokens=False)["input_ids"]
    if role != dialogue.roles[0]:
        return Chat(ids, [], np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    opens, ends = (tokenizer.convert_tokens_to_ids(token) for token in (ASSISTANT, END))
    starts = [place + 1 for place, token in enumerate(ids) if token == opens]
    stops = [place + 1 for place, token in enumerate(ids) if token == ends]
    told = [task.attributes(dialogue, role, text) for text in dialogue.texts(role)]  # type: ignore[attr-defined]
    known = [task.facts(before) for before in befores(dialogue)]  # type: ignore[attr-defined]
    replies = list(zip(starts, stops, strict=True))
    return Chat(ids, replies, np.asarray(told, np.float32), np.asarray(known, np.float32))


def befores(whole: Dialogue) -> list[Dialogue]:
    """Return what was visible of ``whole`` before each turn of the agent; the hidden state is the last one."""
    return [
        Dialogue(whole.scenario, whole.roles, whole.seed, whole.turns[:place], whole.state)
        for place, turn in enumerate(whole.turns)
        if turn.role == whole.roles[0]
    ]


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return the rows as one matrix, filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
