"""Chats that go on: what the model has computed of each is kept from turn to turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dialog_gym.lm.base import Embeddings, Generation, Messages, Position, Sampling
from dialog_gym.lm.chat_session import different_rows
from dialog_gym.lm.decoding import Decoder, Replies
from dialog_gym.lm.kv_cache import KeyValueCache
from dialog_gym.lm.memory import ChatMemory, common
from dialog_gym.lm.sampling import random_numbers

if TYPE_CHECKING:
    from dialog_gym.lm.transformers_lm import TransformersLM


class TransformersSession:
    """A ``Session`` of a ``TransformersLM``.

    Every row has its tokens in columns 0, 1, ... of one shared key-value cache. ``read`` compares a prompt with
    the tokens that its row holds, keeps what they have in common, and feeds the rest of all rows in
    as few passes as pay (``Network.prefill``).
    ``write`` goes on from the logits that pass left. A reply that was steered by a prefix is forgotten at once,
    since the next prompt contains it without the prefix; an unsteered reply stays for the next ``read``.
    """

    def __init__(self, lm: TransformersLM, rows: int, *, mean: bool = False) -> None:
        """Open a session for ``rows`` chats; with ``mean``, ``read`` also tells the mean of all states."""
        if rows < 1:
            raise ValueError(f"a session needs at least one row, got {rows}")
        self.lm = lm
        self.rows = rows
        self.mean = mean
        self._sums: list[dict[int, Tensor]] = [{} for _ in range(rows)]  # of all states, by number of tokens
        self._cache = KeyValueCache(rows)
        self._ids: list[list[int]] = [[] for _ in range(rows)]  # what the cache holds
        self._lengths = [0] * rows  # tokens of the prompt last read, 0 if none
        self._logits: Tensor | None = None  # (rows, vocabulary), behind the prompts last read

    def read(self, rows: Sequence[int], prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Read one prompt in each of ``rows``; return the states, (n, hidden_size), or with the means (n, 2 ...).

        Raises:
            ValueError: A row is unknown or named twice, a prompt is malformed or longer than the model can read.
        """
        rows = different_rows(rows, self.rows)
        if len(prompts) != len(rows):
            raise ValueError(f"expected one prompt per row, got {len(prompts)} prompts for {len(rows)} rows")
        tokens = self.lm.encode(prompts)
        states = self.lm.in_batches(len(rows), lambda part: list(self.read_batch(rows[part], tokens[part])))
        return np.array(states, np.float32).reshape(-1, self.lm.hidden_size * (1 + self.mean))

    @torch.inference_mode()
    def read_batch(self, rows: Sequence[int], tokens: Sequence[list[int]]) -> NDArray[np.float32]:
        """Do what ``read`` does, for prompts that are token ids, without looking for a batch that fits."""
        kept = [min(common(self._ids[row], new), len(new) - 1) for row, new in zip(rows, tokens, strict=True)]
        if self.mean:  # go on from where the sum of the states is known
            kept = [max((n for n in self._sums[row] if n <= k), default=0) for row, k in zip(rows, kept, strict=True)]
        for row, count in zip(rows, kept, strict=True):  # should the pass be interrupted, the rest is not trusted
            self._lengths[row] = 0
            del self._ids[row][count:]
        logits, states, sums = self.lm.prefill(self._cache, rows, tokens, kept)
        if self.mean:
            states = torch.cat([states.float(), self._means(rows, tokens, kept, sums)], 1)
        if self._logits is None:
            self._logits = logits.new_zeros(self.rows, logits.shape[-1])
        self._logits[torch.tensor(rows, device=logits.device)] = logits[:, -1]
        for row, new in zip(rows, tokens, strict=True):
            self._ids[row] = new
            self._lengths[row] = len(new)
        found: NDArray[np.float32] = states.float().cpu().numpy()
        return found

    def write(
        self,
        rows: Sequence[int],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
    ) -> list[Generation]:
        """Reply to the prompts last read in ``rows``, which may be done again and again.

        Args:
            rows: Rows that have been read.
            sampling: How tokens are drawn.
            prefixes: Input embeddings, (n, prefix tokens, embedding size).
            seeds: One per row, needed above temperature 0.
            position: ``"end"`` puts the prefix right before the reply; ``"start"`` after BOS, which makes the
                model read the whole prompt again, every time.

        Raises:
            ValueError: A row was not read, or arguments do not fit.
        """
        rows = different_rows(rows, self.rows)
        if not rows:
            return []
        if unread := [row for row in rows if not self._lengths[row]]:
            raise ValueError(f"rows {unread} hold no prompt: read them before they are written")
        prefix = None if prefixes is None else self.lm.as_prefix(prefixes, len(rows))
        uniform = random_numbers(sampling, seeds, len(rows), self.lm.device)
        return self.lm.in_batches(
            len(rows),
            lambda part: self.write_batch(
                rows[part],
                sampling,
                None if uniform is None else uniform[part],
                None if prefix is None else prefix[part],
                position,
            ),
        )

    @torch.inference_mode()
    def write_batch(
        self,
        rows: Sequence[int],
        sampling: Sampling,
        uniform: Tensor | None = None,
        prefix: Tensor | None = None,
        position: Position = "end",
    ) -> list[Generation]:
        """Do what ``write`` does, without looking for a batch that fits.

        Args:
            rows: Rows that have been read.
            sampling: How tokens are drawn.
            uniform: Random numbers of ``random_numbers``, None to decode greedily.
            prefix: Embeddings that ``TransformersLM.as_prefix`` gave.
            position: Where they go.
        """
        for row in rows:  # an earlier reply to the same prompt is rewound
            del self._ids[row][self._lengths[row] :]
        if prefix is not None and position == "start":
            return self._write_from_start(rows, sampling, uniform, prefix)
        return self._write_from_end(rows, sampling, uniform, prefix)

    def prompt(self, row: int) -> list[int]:
        """Return the token ids of the prompt last read in ``row``."""
        return self._ids[row][: self._lengths[row]]

    def recall(self, memory: ChatMemory, tokens: Sequence[Sequence[int]], room: int = 1) -> None:
        """Put what ``memory`` holds of ``tokens[i]`` into row i; make room for ``room`` more than the longest."""
        room += max(map(len, tokens))
        self._cache.reserve(room)
        for row, ids in enumerate(tokens):
            held, shared = memory.find(ids)
            if held is not None:
                self._cache.put(row, held.layers, shared, room)
                self._ids[row] = list(ids[:shared])

    def remember(self, memory: ChatMemory) -> None:
        """Let ``memory`` keep what the rows hold."""
        for row, ids in enumerate(self._ids):
            memory.keep(ids, self._cache.take(row, len(ids)))

    def spread(self, rows: Sequence[int]) -> TransformersSession:
        """Return a session whose row i is a copy of row ``rows[i]``."""
        other = TransformersSession(self.lm, len(rows), mean=self.mean)
        other._ids = [list(self._ids[row]) for row in rows]
        other._lengths = [self._lengths[row] for row in rows]
        other._sums = [dict(self._sums[row]) for row in rows]
        index = torch.tensor(rows, device=self.lm.device)
        longest = max(map(len, other._ids))
        other._cache = self._cache.select(index, longest, longest + 1)
        other._logits = None if self._logits is None else self._logits[index]
        return other

    def forget(self, rows: Sequence[int] | None = None) -> None:
        """Drop what ``rows`` hold (None: all, and free the memory); they must be read before they are written."""
        if rows is None:
            self._cache = KeyValueCache(self.rows)
            self._logits = None
        for row in range(self.rows) if rows is None else different_rows(rows, self.rows):
            self._ids[row] = []
            self._sums[row] = {}
            self._lengths[row] = 0

    def _means(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], kept: Sequence[int], sums: Tensor
    ) -> Tensor:
        """Return the mean state of each prompt, (n, hidden_size), and note its sum for the next read."""
        means = []
        for row, ids, count, new in zip(rows, tokens, kept, sums, strict=True):
            known = {n: total for n, total in self._sums[row].items() if n <= count}
            total = known[count] + new if count else new
            self._sums[row] = {**known, len(ids): total}
            means.append(total / len(ids))
        return torch.stack(means)

    def _write_from_end(
        self, rows: Sequence[int], sampling: Sampling, uniform: Tensor | None, prefix: Tensor | None
    ) -> list[Generation]:
        lengths = [self._lengths[row] for row in rows]
        index = torch.tensor(rows, device=self.lm.device)
        self.lm.check_length(max(lengths) + (0 if prefix is None else prefix.shape[1]))
        room = max(lengths) + sampling.max_tokens + (0 if prefix is None else prefix.shape[1])
        mine = self._cache.is_every(rows)
        cache = self._cache if mine else self._cache.select(index, max(lengths), room)
        decoder = Decoder(self.lm, cache, lengths, sampling, uniform, prefix)
        assert self._logits is not None, "rows that were read have logits"
        replies = decoder.run(self._logits[index])
        if prefix is None:
            self._keep(rows, decoder, replies)
        return self.lm.generations(replies)

    def _keep(self, rows: Sequence[int], decoder: Decoder, replies: Replies) -> None:
        """Take the replies' columns over, behind the prompts."""
        self._cache.reserve(decoder.start + decoder.stages[-1].fed)
        for stage in decoder.stages:
            indices = stage.rows.tolist()
            chosen = torch.tensor([rows[i] for i in indices], device=self.lm.device)
            starts = torch.tensor([decoder.lengths[i] for i in indices], device=self.lm.device)
            columns = starts[:, None] + torch.arange(stage.fed, device=self.lm.device)
            self._cache.move(stage.cache, decoder.start, chosen, columns)
            for i in indices:
                said = replies.tokens[i, : min(int(replies.lengths[i]), stage.fed)]
                self._ids[rows[i]][decoder.lengths[i] :] = said.tolist()

    def _write_from_start(
        self, rows: Sequence[int], sampling: Sampling, uniform: Tensor | None, prefix: Tensor
    ) -> list[Generation]:
        tokens = [self._ids[row] for row in rows]
        lengths = [len(ids) + prefix.shape[1] for ids in tokens]
        self.lm.check_length(max(lengths))
        cache = KeyValueCache(len(rows))
        behind_bos = [int(ids[0] == self.lm.tokenizer.bos_token_id) for ids in tokens]
        nothing = [0] * len(rows)
        logits = self.lm.prefill(cache, range(len(rows)), tokens, nothing, prefix=prefix, at=behind_bos).logits
        return self.lm.generations(Decoder(self.lm, cache, lengths, sampling, uniform).run(logits[:, -1]))
