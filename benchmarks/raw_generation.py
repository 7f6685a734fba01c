"""What a language model is asked for in a roll-out, and bare ways to do the same work.

Two kinds of raw generation stand beside a roll-out:

* *The same prompts and lengths*: what ``Replay`` does with the batches of the roll-out, as it asked for them. Each
  batch is padded on the left, fed from its first token on and decoded until its longest reply has ended, by
  transformers' own ``generate`` or by a bare loop over the network with transformers' ``DynamicCache``. Only tokens
  that the roll-out's replies have count. There is no prefix, text, state, environment, or memory of earlier turns.
* *The same work on average*: a ``BareLoop`` has as many rows, tokens cached before a reply, tokens fed and tokens
  generated per reply as the roll-out on average. Rows are equally long, nothing is padded, no reply ends early.

Both run transformers as it comes, with its ``sdpa`` attention, on a copy of the model.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from dialog_gym.lm.base import Generation
from dialog_gym.lm.decoding import Decoder
from dialog_gym.lm.session import TransformersSession
from dialog_gym.lm.transformers_lm import TransformersLM

Job = Callable[[], int]
"""Does some work, the same every time, and returns how many units it was."""


class Batch(NamedTuple):
    """Replies that were asked for together: token ids of their prompts, and tokens per reply."""

    prompts: list[list[int]]
    lengths: list[int]


class Load(NamedTuple):
    """What a roll-out asked of its language model, per reply on average.

    Attributes:
        cached: Tokens kept from the turn before.
        fed: Tokens fed to it: of the prompt, and of the prefix.
        generated: Tokens of the reply.
        passes: Passes of the whole batch or what was left of it, until its longest reply had ended.
        total: Tokens fed and generated in the whole roll-out.
        replies: Replies in the whole roll-out.
        batches: The replies by batch.
    """

    cached: float
    fed: float
    generated: float
    passes: float
    total: int
    replies: int
    batches: list[Batch]


def watch(lm: TransformersLM, job: Job) -> Load:
    """Run ``job`` and return what it asked of ``lm``."""
    kept: list[int] = []
    passes: list[int] = []
    batches: list[Batch] = []
    prefill, run, write = lm.prefill, Decoder.run, TransformersSession.write_batch

    def counted(cache: Any, rows: Any, tokens: Any, before: Sequence[int], **rest: Any) -> Any:
        kept.extend(before)
        return prefill(cache, rows, tokens, before, **rest)

    def ran(decoder: Decoder, logits: Any) -> Any:
        replies = run(decoder, logits)
        passes.append(replies.tokens.shape[1])
        return replies

    def written(session: TransformersSession, rows: Sequence[int], *rest: Any, **more: Any) -> list[Generation]:
        prompts = [session.prompt(row) for row in rows]
        replies = write(session, rows, *rest, **more)
        batches.append(Batch(prompts, [len(reply.tokens) for reply in replies]))
        return replies

    lm.counts.reset()
    with (
        mock.patch.object(lm, "prefill", counted),
        mock.patch.object(Decoder, "run", ran),
        mock.patch.object(TransformersSession, "write_batch", written),
    ):
        replies = job()
    counts = lm.counts
    means = (sum(kept) / len(kept), counts.prefilled / replies, counts.generated / replies, statistics.mean(passes))
    return Load(*means, counts.prefilled + counts.generated, replies, batches)


def stock(lm: TransformersLM) -> Any:
    """Return a copy of the model of ``lm`` that attends as transformers does."""
    model: Any = copy.deepcopy(lm.model)
    model.set_attn_implementation("sdpa")
    return model


class Replay:
    """The batches of a roll-out once more, each from nothing."""

    def __init__(self, lm: TransformersLM, batches: Sequence[Batch]) -> None:
        """Pad the prompts of ``batches``."""
        self.model = stock(lm)
        self.batches = [(*_padded(batch.prompts, lm.device), max(batch.lengths)) for batch in batches]
        self.tokens = sum(sum(batch.lengths) for batch in batches)

    @torch.inference_mode()
    def generate(self) -> int:
        """Have transformers' ``generate`` do it; return the tokens that count."""
        for ids, mask, longest in self.batches:
            config = GenerationConfig(max_new_tokens=longest, do_sample=False, pad_token_id=0)
            self.model.generate(ids, attention_mask=mask, generation_config=config)
        return self.tokens

    @torch.inference_mode()
    def loop(self) -> int:
        """Do it in a loop over the network; return the tokens that count."""
        for ids, mask, longest in self.batches:
            cache = DynamicCache()
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            fed, seen = ids, mask
            for _ in range(longest):
                output = self.model(
                    input_ids=fed,
                    attention_mask=seen,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                fed = output.logits[:, -1].argmax(-1, keepdim=True)
                seen = torch.cat([seen, seen.new_ones(len(seen), 1)], 1)
                positions = positions[:, -1:] + 1
        return self.tokens


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    return ids, mask


class BareLoop:
    """The least there is to do for replies: call the network, take the argmax, again and again."""

    def __init__(self, lm: TransformersLM, rows: int, asked: Load, replies: int) -> None:
        """Make ``replies`` replies in each of ``rows`` rows, as long as those of ``asked``."""
        self.model, self.rows, self.replies = stock(lm), rows, replies
        self.cached, self.fed = round(asked.cached), max(1, round(asked.fed))
        self.generated, self.passes = max(1, round(asked.generated)), max(1, round(asked.passes))
        self.ids = torch.arange(rows * (self.cached + self.fed), device=lm.device).reshape(rows, -1) % lm.vocabulary
        self.cache = DynamicCache()
        self._generate(self.cache, self.ids, 1)

    def decode(self) -> int:
        """Generate behind a prompt that is fed once; return the number of tokens."""
        return self._converse(self.cached + self.fed - 1, self.ids[:, -1:], self.generated) * self.generated

    def feed_and_decode(self) -> int:
        """Feed and generate for every reply; return the number of tokens."""
        fed = self._converse(self.cached, self.ids[:, self.cached :], self.generated)
        return fed * (self.fed + self.generated)

    def wait_for_longest(self) -> int:
        """Feed and generate as long as the longest reply is; return the number of tokens that count."""
        fed = self._converse(self.cached, self.ids[:, self.cached :], self.passes)
        return fed * (self.fed + self.generated)

    def _converse(self, kept: int, ids: Tensor, tokens: int) -> int:
        """Generate ``tokens`` behind ``kept`` cached tokens and ``ids``, again and again; return how many times."""
        layers: list[Any] = self.cache.layers
        for _ in range(self.replies):
            for layer in layers:
                layer.keys, layer.values = layer.keys[:, :, :kept], layer.values[:, :, :kept]
            self._generate(self.cache, ids, tokens)
        return self.replies * self.rows

    @torch.inference_mode()
    def _generate(self, cache: DynamicCache, ids: Tensor, tokens: int) -> None:
        for _ in range(tokens):
            output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            ids = output.logits[:, -1].argmax(-1, keepdim=True)
