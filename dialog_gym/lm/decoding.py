"""Token by token: the loop that writes replies for a batch of rows that hold prompts of different lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dialog_gym.lm.base import Sampling
from dialog_gym.lm.kv_cache import KeyValueCache
from dialog_gym.lm.network import NOWHERE
from dialog_gym.lm.sampling import draw, log_probability

if TYPE_CHECKING:
    from dialog_gym.lm.attention import Masks
    from dialog_gym.lm.transformers_lm import TransformersLM


class Replies(NamedTuple):
    """What the loop drew for n rows.

    Attributes:
        tokens: Token ids, (n, longest reply); a row's are the first ``lengths`` of its entries.
        logprobs: Their log-probabilities, likewise.
        lengths: Tokens per reply, the end-of-turn token included.
        ended: Whether the model ended the reply.
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    lengths: NDArray[np.int64]
    ended: NDArray[np.bool_]


@dataclass(slots=True)
class Stage:
    """Rows that are decoded together, in a cache of their own.

    Attributes:
        cache: Holds prompts in columns below ``start``, prefix and reply from there on, for all its rows.
        rows: Which of the n rows they are, (m,).
        key_positions: Position of each column in its row's sequence, or ``NOWHERE``, (m, capacity).
        positions: Position of each coming token, (m, prefix tokens + longest reply).
        seen: Mask of the columns for a token behind them all, or None if it differs from token to token.
        fed: How many tokens of each reply the cache holds.
    """

    cache: KeyValueCache
    rows: Tensor
    key_positions: Tensor
    positions: Tensor
    seen: Tensor | None
    fed: int = 0


@dataclass(slots=True)
class Decoder:
    """Writes replies behind the prompts that a cache holds.

    Attributes:
        lm: The model.
        cache: Row i holds the prompt of ``lengths[i]`` tokens; columns from the longest prompt on are overwritten.
        lengths: Tokens per prompt.
        sampling: How tokens are drawn.
        uniform: Random numbers, (n, longest reply); None to decode greedily.
        prefix: Embeddings that go before the reply, (n, prefix tokens, embedding size), or None.
        stages: The batches the loop ran, of ever fewer rows; a later one holds all that the earlier did of its rows.
    """

    lm: TransformersLM
    cache: KeyValueCache
    lengths: list[int]
    sampling: Sampling
    uniform: Tensor | None = None
    prefix: Tensor | None = None
    stages: list[Stage] = field(default_factory=list)

    @property
    def start(self) -> int:
        """First column of the prefix, or of the reply if there is none."""
        return max(self.lengths)

    def run(self, logits: Tensor | None) -> Replies:
        """Return one reply per row; ``logits`` (n, vocabulary) are those behind the prompts (or behind the prefix)."""
        steps = self.sampling.max_tokens
        self.stages = [self._first_stage(steps)]
        if self.prefix is not None:
            logits = self._feed_prefix(self.prefix)
        assert logits is not None, "without a prefix, the logits behind the prompts are needed"
        tokens = torch.zeros((len(self.lengths), steps), dtype=torch.long, device=logits.device)
        scores = torch.zeros((len(self.lengths), steps), dtype=torch.float32, device=logits.device)
        room = self._room()
        done = torch.zeros(len(self.lengths), dtype=torch.bool, device=logits.device)
        for step in range(steps):
            rows = self.stages[-1].rows
            token = draw(logits, self.sampling, None if self.uniform is None else self.uniform[rows, step])
            tokens[rows, step] = token
            scores[rows, step] = log_probability(logits, token)
            done |= self.lm.is_stop[token]
            if room is not None:
                done |= room[rows] <= step + 1
            if step + 1 == steps:
                break
            alive = self._alive(done, step)
            if alive == 0:
                break
            if self._narrows(alive, len(done)):
                token, done = self._narrow(~done, token)
            logits = self._feed(token, step)
        return self._collect(tokens[:, : step + 1], scores[:, : step + 1], room)

    def _first_stage(self, steps: int) -> Stage:
        device = self.lm.device
        ahead = steps + (0 if self.prefix is None else self.prefix.shape[1])
        lengths = torch.tensor(self.lengths, device=device)[:, None]
        columns = torch.arange(self.start + ahead, device=device)[None, :]
        key_positions = torch.where(columns < lengths, columns, NOWHERE)
        key_positions[:, self.start :] = positions = lengths + torch.arange(ahead, device=device)[None, :]
        rows = torch.arange(len(self.lengths), device=device)
        masks = self.lm.attention.masks(key_positions, positions[:, -1:]) if self.lm.attention.window is None else None
        seen = masks if isinstance(masks, Tensor) else None
        return Stage(self.cache, rows, key_positions, self.lm.clamp(positions), seen)

    def _feed_prefix(self, prefix: Tensor) -> Tensor:
        count = prefix.shape[1]
        self.lm.counts.prefilled += len(self.lengths) * count
        return self._pass(self.start, count, embeddings=prefix)

    def _feed(self, token: Tensor, step: int) -> Tensor:
        self.stages[-1].fed = step + 1
        column = self.start + step + (0 if self.prefix is None else self.prefix.shape[1])
        return self._pass(column, 1, ids=token[:, None])

    def _pass(self, column: int, count: int, **inputs: Any) -> Tensor:
        stage = self.stages[-1]
        ahead = column - self.start
        positions = stage.positions[:, ahead : ahead + count]
        if stage.seen is not None and count == 1:
            masks: Masks = stage.seen[..., : column + 1]
        else:
            masks = self.lm.attention.masks(stage.key_positions[:, : column + count], positions)
        stage.cache.append(column, stage.key_positions.shape[1])
        return self.lm.forward(stage.cache, positions, masks, **inputs)[:, -1]

    def _room(self) -> Tensor | None:
        """Return how many tokens each row may draw before the model's positions end, or None if all may draw all."""
        if self.lm.max_positions is None:
            return None
        used = 0 if self.prefix is None else self.prefix.shape[1]
        room = [self.lm.max_positions - length - used + 1 for length in self.lengths]
        if min(room) >= self.sampling.max_tokens:
            return None
        return torch.tensor(room, device=self.lm.device)

    def _alive(self, done: Tensor, step: int) -> int:
        """Return how many rows go on; on an accelerator, where asking costs a wait, ask at every eighth token."""
        if self.lm.device.type != "cpu" and step % 8 != 7:
            return len(done)
        return len(done) - int(done.sum())

    def _narrows(self, alive: int, rows: int) -> bool:
        """Say whether to go on with fewer rows: on a CPU a step costs by the row, elsewhere hardly."""
        return self.lm.device.type == "cpu" and 2 * alive <= rows

    def _narrow(self, alive: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        stage = self.stages[-1]
        chosen = alive.nonzero()[:, 0]
        used = self.start + stage.fed + (0 if self.prefix is None else self.prefix.shape[1])
        cache = stage.cache.select(chosen, used, stage.key_positions.shape[1])
        seen = None if stage.seen is None else stage.seen[chosen]
        rest = (stage.rows[chosen], stage.key_positions[chosen], stage.positions[chosen], seen)
        self.stages.append(Stage(cache, *rest, fed=stage.fed))
        return token[chosen], torch.zeros(len(chosen), dtype=torch.bool, device=token.device)

    def _collect(self, tokens: Tensor, scores: Tensor, room: Tensor | None) -> Replies:
        drawn = tokens.cpu().numpy()
        stops = self.lm.is_stop.cpu().numpy()[drawn]
        longest = np.full(len(drawn), drawn.shape[1])
        if room is not None:
            longest = np.minimum(longest, room.cpu().numpy())
        first = np.where(stops.any(axis=1), stops.argmax(axis=1) + 1, NOWHERE)
        lengths = np.minimum(first, longest)
        self.lm.counts.generated += int(lengths.sum())
        return Replies(drawn, scores.cpu().numpy(), lengths, first <= longest)
