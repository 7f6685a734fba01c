"""Dialogues as tokens: what a language-model policy learns, and the batches that it learns from.

``token_rows`` turns each ``Told`` into a ``TokenRow``: one sequence per dialogue wherever the chat format allows it.

- *What is learned* are the tokens that the model would have to draw to say what was said: the reply as it follows its
  prompt, and the token that ends a turn. A reply longer than ``max_tokens`` is cut there and has no such token, as
  when a model is cut. All else is context.
- *Long dialogues*: a prompt is encoded as when the policy acts. Where it leaves no room for a reply in the model's
  positions the oldest turns go, whole ones, never a system message and never the newest turn. If that, or a chat
  template that rewrites the past, makes a prompt which does not go on from the turn before, the dialogue is parted
  there into two rows. So each agent turn is learned once, behind exactly what the policy will see, and no dialogue is
  cut within a turn. A system message and newest turn that alone are too long are refused.

``batch_of`` puts rows into a ``TokenBatch``: a line of tokens for each, padded on the right, or several rows in a line
(packed). Attention never crosses from row to row, so sums over what is learned are the same either way.

A batch tells of every token said, in the order of rows and places (N of them, the *actions*): which token, from which
place it is predicted, its row and turn, reward, return-to-go, and the next action of the same dialogue. Token-level
algorithms need nothing else: the state behind action i is the place from which action ``following[i]`` is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dialog_gym.agents.lm_data import Told, returns_to_go
from dialog_gym.data.columns import DatasetError
from dialog_gym.lm.base import Messages
from dialog_gym.lm.transformers_lm import TransformersLM

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

Empty = Literal["refuse", "skip", "keep"]
"""What to do with a dialogue of no environment in which the agent has a turn without words, or none that is left when
it is cut: an error, leave the dialogue out, or learn the silence (which is the token that ends a turn, alone). In an
environment an empty utterance is a turn, and is learned as one."""

Mark = Callable[[float], int]
"""Which token stands before a reply whose turn has this return-to-go."""

_CHUNK = 256  # dialogues that are tokenized together


@dataclass(frozen=True)
class TokenRow:
    """A dialogue as tokens, and which of them the agent said. A is the number of tokens said.

    Attributes:
        tokens: Token ids, (L,).
        said: Places in ``tokens`` of what is learned, ascending and at least 1, (A,). The token at place p is
            predicted from those before p.
        turns: Agent turn that each is of, counted in the dialogue from 0, (A,); -1 where it is nobody's.
        rewards: The turn's reward at its last token, else 0, (A,).
        returns: Return-to-go of the turn, discounted per turn, (A,).
        after: Return-to-go of the dialogue's turns behind this row, 0 where it ends here.
        truncated: Whether the dialogue ran out of turns, and would have gone on.
        total: Return of the whole dialogue, undiscounted.
        group: As in ``Told``.
        more: Further numbers of each token said by name, (A,): what else an algorithm needs in its batches.
    """

    tokens: Ints
    said: Ints
    turns: Ints
    rewards: Floats
    returns: Floats
    after: float = 0.0
    truncated: bool = False
    total: float = 0.0
    group: int = 0
    more: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)


@dataclass(frozen=True)
class TokenBatch:
    """Rows as tensors. N is the number of actions (tokens said) in all n rows.

    Attributes:
        tokens: Token ids, (lines, width); 0 behind the end of a line.
        positions: Position of each in its row, (lines, width).
        where: Place in the flattened ``tokens`` from which each action is predicted, (N,).
        actions: The tokens said, (N,).
        row: Row that each is of, (N,), ascending.
        turns: Agent turn that each is of, (N,).
        rewards: The turn's reward at its last token, else 0, (N,).
        returns: Return-to-go of the turn, (N,).
        following: The next action of the same row, -1 at its last, (N,).
        after: Return-to-go behind each row, (n,).
        truncated: Whether each row's dialogue ran out of turns, (n,).
        more: Further numbers by name, (N,).
    """

    tokens: Tensor
    positions: Tensor
    where: Tensor
    actions: Tensor
    row: Tensor
    turns: Tensor
    rewards: Tensor
    returns: Tensor
    following: Tensor
    after: Tensor
    truncated: Tensor
    more: Mapping[str, Tensor]

    @property
    def ends_turn(self) -> Tensor:
        """Whether an action is the last of its turn, (N,)."""
        following = self.following.clamp(min=0)
        return (self.following < 0) | (self.turns[following] != self.turns)

    def to(self, device: torch.device | str) -> TokenBatch:
        """Return the batch on ``device``."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved, more={name: value.to(device) for name, value in self.more.items()})


# --- from dialogues to rows --------------------------------------------------------------------


def token_rows(
    told: Iterable[Told],
    lm: TransformersLM,
    *,
    max_tokens: int = 32,
    gamma: float = 1.0,
    empty: Empty = "refuse",
    mark: Mark | None = None,
) -> Iterator[TokenRow]:
    """Yield the rows of dialogues, in their order; most dialogues are one row.

    Args:
        told: The dialogues.
        lm: Whose tokens they become.
        max_tokens: Longest reply in tokens, the end of its turn included.
        gamma: Discount per turn of returns-to-go.
        empty: What to do with a turn without words.
        mark: Puts a token before each reply, which is not learned (return tokens).

    Raises:
        DatasetError: A turn is empty, or a context longer than the model can read; the message says which.
        ValueError: The tokenizer has no token that ends a turn.
    """
    if not lm.chat.end_of_turn:
        raise ValueError(
            f"no token ends a turn of {lm.name}: its chat template writes none behind a reply, and its tokenizer has "
            "no EOS; set tokenizer.eos_token"
        )
    rest = iter(told)
    while chunk := list(islice(rest, _CHUNK)):
        prompts = _encoded(chunk, lm, max_tokens)
        for one in chunk:
            starts = [next(prompts) for _ in one.prompts]
            replies = [
                reply_ids(lm, text, prompt, len(start), max_tokens, marked=mark is not None)
                for text, prompt, start in zip(one.replies, one.prompts, starts, strict=True)
            ]
            if _speaks(one, replies, lm, empty):
                yield from _rows(one, starts, replies, _Form(lm, max_tokens, gamma, mark))


def join_turns(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], marks: Sequence[Sequence[int]], limit: int
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Return sequences in which every reply stands behind its prompt, as (tokens, (turn, first place) of each reply).

    A prompt that begins with all that was said before (marks left out) goes on in the same sequence, unless that
    becomes longer than ``limit``; else it begins another. A policy that builds its prompts by this function reads
    what it was trained on.

    >>> join_turns([[1, 2], [1, 2, 8, 3]], [[8], [9]], [[7], [7]], 20)
    [([1, 2, 7, 8, 3, 7, 9], [(0, 3), (1, 6)])]
    >>> join_turns([[1, 2], [2, 8, 3]], [[8], [9]], [[], []], 20)
    [([1, 2, 8], [(0, 2)]), ([2, 8, 3, 9], [(1, 3)])]
    """
    found: list[tuple[list[int], list[tuple[int, int]]]] = []
    plain: list[int] = []
    for turn, (prompt, reply, mark) in enumerate(zip(prompts, replies, marks, strict=True)):
        new = list(prompt[len(plain) :])
        fits = found and len(found[-1][0]) + len(new) + len(mark) <= limit
        if fits and list(prompt[: len(plain)]) == plain:
            tokens, places = found[-1]
            tokens += new
        else:
            tokens, places = list(prompt), []
            found.append((tokens, places))
        tokens += mark
        places.append((turn, len(tokens)))
        tokens += reply
        plain = [*prompt, *reply]
    return found


def reply_ids(
    lm: TransformersLM, text: str, prompt: Messages, start: int, max_tokens: int, *, marked: bool = False
) -> list[int]:
    """Return the tokens that say ``text`` behind ``prompt`` and end the turn, cut where a model would be cut.

    Args:
        lm: Whose tokens.
        text: What is said.
        prompt: The chat before it.
        start: Length of the encoded prompt.
        max_tokens: Longest reply.
        marked: Whether a token stands between prompt and reply.
    """
    end = lm.chat.end_of_turn[0]
    whole = [*lm.chat.encode_reply(text, prompt), end] if text.strip() else [end]
    stop = next(place for place, token in enumerate(whole) if token in lm.chat.stop_ids)
    room = max_tokens if lm.max_positions is None else min(max_tokens, lm.max_positions - start - marked)
    return whole[: min(stop + 1, room)]


def sequence_room(lm: TransformersLM, max_tokens: int) -> int:
    """Return how long a sequence with marks may be before a reply.

    A policy that acts does not know how long its reply will be, so every reply is given the same room.
    """
    return 1 << 30 if lm.max_positions is None else lm.max_positions - min(max_tokens, lm.max_positions // 4)


def learn_everything(row: TokenRow) -> TokenRow:
    """Return ``row`` with every token but the first to be learned, the partner's and the context's too."""
    said = np.arange(1, len(row), dtype=np.int32)
    turns = np.full(len(said), -1, np.int32)
    rewards, returns = np.zeros(len(said), np.float32), np.zeros(len(said), np.float32)
    turns[row.said - 1], rewards[row.said - 1], returns[row.said - 1] = row.turns, row.rewards, row.returns
    return replace(row, said=said, turns=turns, rewards=rewards, returns=returns)


@dataclass(frozen=True)
class _Form:
    lm: TransformersLM
    max_tokens: int
    gamma: float
    mark: Mark | None


def _encoded(chunk: Sequence[Told], lm: TransformersLM, max_tokens: int) -> Iterator[list[int]]:
    """Return the tokens of every prompt, as the policy encodes them when it acts."""
    try:
        return iter(lm.encode([prompt for one in chunk for prompt in one.prompts], max_tokens))
    except ValueError:
        for one in chunk:  # which of them it is
            try:
                lm.encode(one.prompts, max_tokens)
            except ValueError as error:
                raise DatasetError(f"{one.origin}: {error}") from error
        raise


def _speaks(one: Told, replies: Sequence[Sequence[int]], lm: TransformersLM, empty: Empty) -> bool:
    """Return whether a dialogue is learned from."""
    said = lm.chat.decode(replies)
    silent = [
        turn for turn, text in enumerate(one.replies) if not said[turn] and not (one.played and not text.strip())
    ]
    if silent and empty == "refuse":
        raise DatasetError(
            f"{one.origin}: agent turn {silent[0] + 1} has no words to learn, got {one.replies[silent[0]]!r:.60}; set "
            "empty to 'skip' (leave such dialogues out) or 'keep' (learn to say nothing)"
        )
    return not (silent and empty == "skip") and all(replies)


def _rows(
    one: Told, starts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], form: _Form
) -> Iterator[TokenRow]:
    to_go = returns_to_go(one.rewards, form.gamma)
    marks = [[] if form.mark is None else [form.mark(value)] for value in to_go]
    for tokens, places in join_turns(starts, replies, marks, sequence_room(form.lm, form.max_tokens)):
        said: list[int] = []
        turns: list[int] = []
        rewards: list[float] = []
        for turn, first in places:
            count = len(replies[turn])
            said += range(first, first + count)
            turns += [turn] * count
            rewards += [0.0] * (count - 1) + [one.rewards[turn]]
        behind = places[-1][0] + 1
        yield TokenRow(
            np.array(tokens, np.int32),
            np.array(said, np.int32),
            np.array(turns, np.int32),
            np.array(rewards, np.float32),
            np.array([to_go[turn] for turn in turns], np.float32),
            after=to_go[behind] if behind < len(to_go) else 0.0,
            truncated=one.truncated,
            total=one.total,
            group=one.group,
        )


# --- from rows to batches ----------------------------------------------------------------------


def batch_of(rows: Sequence[TokenRow], *, packed: bool = False) -> TokenBatch:
    """Return ``rows`` as tensors on the CPU, a line for each, or with ``packed`` as few lines as hold them.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("a batch needs at least one row")
    lines = pack([len(row) for row in rows]) if packed else [[number] for number in range(len(rows))]
    width = max(sum(len(rows[number]) for number in line) for line in lines)
    tokens = np.zeros((len(lines), width), np.int64)
    positions = np.tile(np.arange(width), (len(lines), 1))
    starts = np.zeros(len(rows), np.int64)
    for number, line in enumerate(lines):
        column = 0
        for row in line:
            end = column + len(rows[row])
            tokens[number, column:end] = rows[row].tokens
            positions[number, column:] = np.arange(width - column)
            starts[row] = number * width + column
            column = end
    counts = [len(row.said) for row in rows]
    following = np.arange(1, sum(counts) + 1)
    following[np.cumsum(counts) - 1] = -1

    def column_of(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(row, name) for row in rows]))

    return TokenBatch(
        torch.from_numpy(tokens),
        torch.from_numpy(positions),
        torch.from_numpy(np.concatenate([row.said + start - 1 for row, start in zip(rows, starts, strict=True)])),
        torch.from_numpy(np.concatenate([row.tokens[row.said] for row in rows]).astype(np.int64)),
        torch.from_numpy(np.repeat(np.arange(len(rows)), counts)),
        column_of("turns").long(),
        column_of("rewards"),
        column_of("returns"),
        torch.from_numpy(following),
        torch.tensor([row.after for row in rows], dtype=torch.float32),
        torch.tensor([row.truncated for row in rows]),
        {name: torch.from_numpy(np.concatenate([row.more[name] for row in rows])) for name in rows[0].more},
    )


def pack(lengths: Sequence[int]) -> list[list[int]]:
    """Return which of the rows of ``lengths`` share a line, each line at most as long as the longest row.

    First fit, the longest first; a line is never longer than a row that stands alone.

    >>> pack([9, 2, 7, 4, 3])
    [[0], [2, 1], [3, 4]]
    """
    lines: list[list[int]] = []
    left: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        line = next((number for number, room in enumerate(left) if room >= lengths[row]), len(lines))
        if line == len(lines):
            lines.append([])
            left.append(max(lengths))
        lines[line].append(row)
        left[line] -= lengths[row]
    return lines
