"""The network of a language model: fed through a key-value cache, in parts and at given positions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from dialog_gym.lm.attention import Attention, Masks
from dialog_gym.lm.base import Counts
from dialog_gym.lm.kv_cache import KeyValueCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOWHERE = 1 << 30
"""Position of a column that holds nothing for its row: after every query."""

_CPU = (32, 128)
_ACCELERATOR = (512, 4096)
"""What one more pass costs, in tokens, and the most columns of a pass (the fewer, the less they see in vain)."""


class Read(NamedTuple):
    """What a network makes of prompts.

    Attributes:
        logits: Behind the last tokens of each row, (n, tokens, vocabulary).
        state: Last hidden state of the last token, (n, hidden size).
        sums: Sum of the last hidden states of all tokens fed, in float32, (n, hidden size).
    """

    logits: Tensor
    state: Tensor
    sums: Tensor


class Network:
    """A frozen causal model of transformers, and what of it is needed to feed it.

    Attributes:
        name: For people and logs.
        model: The network.
        attention: What its layers see.
        hidden_size: Length of a state: what the output layer reads, which is the last hidden state after the
            final norm.
        vocabulary: Number of token ids it knows.
        embedding_size: Length of one input embedding.
        max_positions: Most tokens it can read, None if it has no limit.
        counts: Work done so far.
    """

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        """Freeze ``model`` and check that it gives the same answer through the cache as without it.

        Raises:
            ValueError: The model cannot be read through a key-value cache with given positions.
        """
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.max_positions: int | None = getattr(
            model.config.get_text_config(decoder=True), "max_position_embeddings", None
        )
        self.counts = Counts()
        self._embeddings: torch.nn.Module = model.get_input_embeddings()
        self._decoder: torch.nn.Module = model.get_decoder()
        self.attention = Attention(model)
        head: torch.nn.Module = model.get_output_embeddings()
        self.vocabulary, self.hidden_size = cast(Tensor, head.weight).shape
        self.embedding_size = self.embedding_matrix.shape[1]
        self._check_cache()

    @property
    def device(self) -> torch.device:
        """Where the input embeddings lie."""
        return self.embedding_matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the input embeddings."""
        return self.embedding_matrix.dtype

    @property
    def embedding_matrix(self) -> Tensor:
        """The input embeddings, (vocabulary, embedding size)."""
        return cast(Tensor, self._embeddings.weight)

    def check_length(self, length: int) -> None:
        """Refuse a prompt (with its prefix) of ``length`` tokens if the model cannot read as many."""
        if self.max_positions is not None and length > self.max_positions:
            raise ValueError(
                f"a prompt of {length} tokens, system messages and newest turn alone, is longer than the "
                f"{self.max_positions} positions of {self.name}: shorten the scenario or what may be said in a turn, "
                "or take a model with a longer context"
            )

    def clamp(self, positions: Tensor) -> Tensor:
        """Return ``positions``, those of padding moved to where the model has a position."""
        last = NOWHERE if self.max_positions is None else self.max_positions - 1
        return positions.clamp(0, last)

    def prefill(
        self,
        cache: KeyValueCache,
        rows: Sequence[int],
        tokens: Sequence[Sequence[int]],
        kept: Sequence[int],
        *,
        keep: int = 1,
        prefix: Tensor | None = None,
        at: Sequence[int] = (),
    ) -> Read:
        """Feed ``tokens[i][kept[i]:]`` to row ``rows[i]`` of ``cache``, which holds the first ``kept[i]`` of them.

        Rows end together. Where some have much more to read than others, they begin in passes of their own, so
        that a dialogue that begins is not waited for by those that go on.

        Args:
            cache: Is written.
            rows: Rows of the cache.
            tokens: Token ids, of which at least one is new.
            kept: Tokens the rows hold.
            keep: Behind how many of the last tokens logits are wanted.
            prefix: Embeddings (n, prefix tokens, embedding size) to put in; then nothing is kept.
            at: Before which token of each row they go.
        """
        if prefix is not None:
            hole = [0] * prefix.shape[1]
            tokens = [[*ids[:i], *hole, *ids[i:]] for ids, i in zip(tokens, at, strict=True)]
        new = np.array([len(ids) - count for ids, count in zip(tokens, kept, strict=True)])
        ids, positions = _right_aligned(tokens, kept, int(new.max()))
        self.counts.prefilled += int(new.sum())
        embedded = None if prefix is None else self._with_prefix(ids, prefix, ids.shape[1] - new + np.array(at))
        overhead, most = _CPU if self.device.type == "cpu" else _ACCELERATOR
        width = 1 + int(positions.max())
        sums = torch.zeros((len(tokens), self.hidden_size), dtype=torch.float32, device=self.device)
        states: list[Tensor] = []
        hook = self._decoder.register_forward_hook(lambda _module, _inputs, output: states.append(output[0]))
        try:
            for first, end in passes(new.tolist(), overhead, max(most, keep), keep):
                active = np.flatnonzero(new > ids.shape[1] - end)
                where = torch.from_numpy(positions[active, first:end]).to(self.device)
                seen = 1 + int(positions[active, first:end].max())
                unseen = where.where(where >= 0, width)  # padding goes to a column behind all others
                cache.fill([rows[i] for i in active], unseen, seen, reserve=width + 1)
                masks = self.attention.masks(torch.arange(seen, device=self.device)[None, :], where)
                some = torch.from_numpy(ids[active, first:end]).to(self.device) if embedded is None else None
                fed = None if embedded is None else embedded[torch.from_numpy(active), first:end]
                logits = self.forward(cache, self.clamp(where), masks, ids=some, embeddings=fed, keep=keep)
                state = states.pop()
                sums[torch.from_numpy(active)] += (state.float() * (where >= 0).unsqueeze(-1)).sum(1)
        finally:
            hook.remove()
        return Read(logits, state[:, -1], sums)

    def forward(
        self,
        cache: KeyValueCache,
        positions: Tensor,
        masks: Masks,
        *,
        ids: Tensor | None = None,
        embeddings: Tensor | None = None,
        keep: int = 1,
    ) -> Tensor:
        """Run the network once over token ``ids`` or ``embeddings``; return the last ``keep`` logits of each row."""
        self.counts.forwards += 1
        output = self.model(
            input_ids=ids,
            inputs_embeds=embeddings,
            attention_mask=masks,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
            return_dict=True,
        )
        return cast(Tensor, output.logits)

    def _with_prefix(self, ids: np.ndarray, prefix: Tensor, first: np.ndarray) -> Tensor:
        """Return the embeddings of ``ids``, with ``prefix`` from column ``first[i]`` of row i on."""
        embedded: Tensor = self._embeddings(torch.from_numpy(ids).to(self.device))
        columns = torch.from_numpy(first)[:, None] + torch.arange(prefix.shape[1])
        embedded[torch.arange(len(ids))[:, None], columns] = prefix
        return embedded

    @torch.inference_mode()
    def _check_cache(self) -> None:
        """Refuse a model whose answer changes when it is read in two parts, through a padded cache."""
        tokens = [[token % self.vocabulary for token in (11, 7, 5, 3, 2)]] * 2
        plain = self.model(input_ids=torch.tensor(tokens[:1], device=self.device)).logits[:, -1]
        cache = KeyValueCache(2)
        self.prefill(cache, range(2), [tokens[0][:3], tokens[1][:1]], [0, 0])
        parts = self.prefill(cache, range(2), tokens, [3, 1]).logits[:, -1]
        self.counts.reset()
        apart = float((parts - plain).abs().max() / plain.abs().max().clamp(min=1.0))
        if not apart < (1e-3 if self.dtype == torch.float32 else 0.1):
            raise ValueError(
                f"{type(self.model).__name__} gives other logits (by {apart:.2g}) when a prompt is read in parts "
                "through a cache with given positions, so that chats cannot be kept from turn to turn"
            )


def passes(lengths: Sequence[int], overhead: int, most: int, keep: int = 1) -> list[tuple[int, int]]:
    """Return the columns (first, end) of each pass over rows of ``lengths`` that are aligned on the right.

    A pass feeds all rows that have something in its columns. Another pass is made where it saves more than
    ``overhead`` of padding, and where one has ``most`` columns; the last one has at least ``keep``.

    >>> passes([9, 8, 100, 7], 200, 128), passes([9, 8, 100, 7], 300, 128), passes([9, 8, 100, 7], 300, 40)
    ([(0, 91), (91, 100)], [(0, 100)], [(0, 20), (20, 60), (60, 100)])
    """
    ordered = sorted(lengths)
    longest = ordered[-1]

    def rows(distance: int) -> int:
        """Return how many rows have a token there, counted from the right end."""
        return len(ordered) - bisect_left(ordered, distance)

    cuts, padding = [0], 0
    for near, far in pairwise([0, *sorted(set(ordered))]):
        padding += (rows(cuts[-1] + 1) - rows(near + 1)) * (far - near)
        if padding > overhead and near >= max(keep, cuts[-1] + 1):
            cuts.append(near)
            padding = 0
    found = []
    for near, far in pairwise([*cuts, longest]):
        while far - near > most:
            found.append((longest - near - most, longest - near))
            near += most
        found.append((longest - far, longest - near))
    return found[::-1]


def _right_aligned(
    tokens: Sequence[Sequence[int]], kept: Sequence[int], longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the new ids and their positions, (n, longest); padding on the left has id 0, position -1."""
    ids = np.zeros((len(tokens), longest), np.int64)
    positions = np.full((len(tokens), longest), -1, np.int64)
    for row, (new, count) in enumerate(zip(tokens, kept, strict=True)):
        first = longest - len(new) + count
        ids[row, first:] = new[count:]
        positions[row, first:] = np.arange(count, len(new))
    return ids, positions
