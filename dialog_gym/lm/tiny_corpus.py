"""Self-played dialogues as a language model learns them: worlds, chats as token ids, and the tokenizer.

For ``dialog_gym.lm.build_tiny``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from rich.progress import track
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import load_task
from dialog_gym.errors import unknown
from dialog_gym.world import World


@dataclass(frozen=True)
class Corpus:
    """What is played of a world.

    Attributes:
        tasks: Class and settings of its tasks, played in turn.
        own: Dialogues for a model of this world alone.
        shared: Dialogues for the model of all worlds.
        passes: Passes over the agents' dialogues in joint tuning.
    """

    tasks: tuple[tuple[str, dict[str, Any]], ...]
    own: int
    shared: int
    passes: float = 1.6


CORPORA = {
    "bargain": Corpus(
        (
            ("dialog_gym.envs.bargain:Bargain", {"side": "buyer"}),
            ("dialog_gym.envs.bargain:Bargain", {"side": "seller"}),
        ),
        own=16_000,
        shared=9_000,
        passes=3.2,
    ),
    "social": Corpus(
        (
            ("dialog_gym.envs.social_goal:SocialGoal", {"side": "first"}),
            ("dialog_gym.envs.social_goal:SocialGoal", {"side": "second"}),
        ),
        own=8_000,
        shared=9_000,
    ),
    "redteam": Corpus((("dialog_gym.envs.red_team:RedTeam", {}),), own=8_000, shared=4_500),
    "chat": Corpus((("dialog_gym.envs.chat:Chat", {}),), own=8_000, shared=4_500, passes=4.0),
    "advice": Corpus(
        (("dialog_gym.envs.advice:Advice", {}), ("dialog_gym.envs.advice:Advice", {"max_turns": 3})),
        own=16_000,
        shared=9_000,
        passes=3.2,
    ),
    "support": Corpus((("dialog_gym.envs.response_support:Support", {}),), own=8_000, shared=4_500, passes=3.2),
}
"""What the tiny models learn from, by world."""
Played = Sequence[tuple[World, Dialogue]]

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Layout:
    """Where each world's numbers stand in rows that have room for those of all worlds.

    Attributes:
        attributes: Columns of each world's attributes.
        facts: Columns of each world's facts.
    """

    attributes: dict[str, slice]
    facts: dict[str, slice]

    @classmethod
    def of(cls, tasks: Sequence[World]) -> Layout:
        """Lay out the worlds of ``tasks``."""
        by_world = {task.world: task for task in tasks}
        return cls(
            _blocks({world: len(task.attribute_names) for world, task in by_world.items()}),
            _blocks({world: len(task.fact_names) for world, task in by_world.items()}),
        )


def _blocks(sizes: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(sizes.values())).tolist()
    return {world: slice(end - size, end) for (world, size), end in zip(sizes.items(), ends, strict=True)}


def _placed(rows: Sequence[np.ndarray], blocks: Mapping[str, slice], world: str) -> np.ndarray:
    wide = np.zeros((len(rows), max(block.stop for block in blocks.values())), np.float32)
    if len(rows):
        wide[:, blocks[world]] = np.stack(rows)
    return wide


@dataclass(frozen=True)
class Chat:
    """A dialogue as one role tells it: token ids, and where the agent's replies stand.

    Attributes:
        world: Whose dialogue it is.
        ids: Tokens, system message first.
        replies: First token and the token after the last (the end of turn included) of each reply to steer;
            none where the partner tells.
        attributes: What each reply says, (replies, attributes of all worlds).
        facts: What is known before each reply, (replies, facts of all worlds).
    """

    world: str
    ids: list[int]
    replies: list[tuple[int, int]]
    attributes: np.ndarray
    facts: np.ndarray


def load_worlds(worlds: Sequence[str]) -> list[World]:
    """Return the tasks of ``worlds``.

    Raises:
        KeyError: There is no such world; the message names the nearest.
    """
    for world in worlds:
        if world not in CORPORA:
            raise unknown("world", world, CORPORA)
    tasks = [load_task(task, settings) for world in worlds for task, settings in CORPORA[world].tasks]
    return cast(list[World], tasks)


def self_play(tasks: Sequence[World], count: int, seed: int) -> list[tuple[World, Dialogue]]:
    """Play ``count`` dialogues, the tasks in turn."""
    return [
        (task, task.self_play(Draws(seed, "self-play", k)))
        for k, task in ((k, tasks[k % len(tasks)]) for k in track(range(count), "play", transient=True))
    ]


def chat_text(messages: Sequence[dict[str, str]]) -> str:
    """Return a whole chat in the notation of ``TEMPLATE``."""
    end = {"assistant": END}
    return "".join(f"<|{m['role']}|> {m['content']}{end.get(m['role'], '')}" for m in messages)


def train_tokenizer(
    texts: Iterable[str], world_tokens: Sequence[str], vocabulary: int, context: int = 512
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE; each world token (with its leading space) is one token from the start.

    Args:
        texts: What it learns from, in the notation of ``TEMPLATE``.
        world_tokens: Tokens of a task's own.
        vocabulary: Most tokens, those of the task included.
        context: Longest text of a model that uses it, in tokens.
    """
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
        model_max_length=context,
    )
    fast.chat_template = TEMPLATE
    return fast


def encode(played: Played, tokenizer: PreTrainedTokenizerFast, layout: Layout) -> list[Chat]:
    """Return the dialogues as token ids, read from both sides."""
    return [
        encode_chat(task, dialogue, role, tokenizer, layout)
        for task, dialogue in track(played, "encode", transient=True)
        for role in dialogue.roles
    ]


def encode_chat(
    task: World, dialogue: Dialogue, role: str, tokenizer: PreTrainedTokenizerFast, layout: Layout
) -> Chat:
    """Return one dialogue as ``role`` tells it."""
    ids = tokenizer(chat_text(task.messages(dialogue, role)), add_special_tokens=False)["input_ids"]
    if role != dialogue.roles[0]:
        return Chat(task.world, ids, [], np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    texts = dialogue.texts(role)
    told = [task.attributes(before, role, said) for before, said in zip(befores(dialogue), texts, strict=True)]
    known = [task.facts(before) for before in befores(dialogue)]
    return Chat(
        task.world,
        ids,
        reply_spans(ids, tokenizer),
        _placed(told, layout.attributes, task.world),
        _placed(known, layout.facts, task.world),
    )


def reply_spans(ids: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int]]:
    """Return where the assistant's messages stand in a chat: first token, and the one after the end of turn."""
    opens, ends = (tokenizer.convert_tokens_to_ids(token) for token in (ASSISTANT, END))
    starts = [place + 1 for place, token in enumerate(ids) if token == opens]
    stops = [place + 1 for place, token in enumerate(ids) if token == ends]
    return list(zip(starts, stops, strict=True))


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
