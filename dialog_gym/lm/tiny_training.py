"""Models, batches, learning rates and updates for ``dialog_gym.lm.build_tiny`` and ``speaker_build``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dialog_gym.chance import global_random_state_kept
from dialog_gym.lm.tiny_corpus import END, PAD


def new_llama(
    tokenizer: PreTrainedTokenizerFast, width: int, layers: int, heads: int, *, seed: int, context: int = 512
) -> LlamaForCausalLM:
    """Return an untrained Llama.

    Args:
        tokenizer: Of ``tiny_corpus.train_tokenizer``.
        width: Hidden size.
        layers: Transformer layers.
        heads: Attention heads.
        seed: Of the weights.
        context: Most tokens.
    """
    end, pad = (cast(int, tokenizer.convert_tokens_to_ids(token)) for token in (END, PAD))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    with global_random_state_kept():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def batches(lengths: Sequence[int], size: int, epochs: float, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield batches of like length in random order, so that little is padding."""
    for epoch in range(math.ceil(epochs)):
        order = np.argsort(np.array(lengths) + rng.uniform(0, 12, len(lengths)))
        groups = [order[i : i + size].tolist() for i in range(0, len(order), size)]
        share = min(1.0, epochs - epoch)
        for i in rng.permutation(len(groups))[: round(share * len(groups))]:
            yield groups[i]


def cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule of ``share`` of the rates that ``optimiser`` has."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: share(i, steps))


def share(i: int, steps: int) -> float:
    """Return the share of its peak that a rate has in step ``i``: rising over a fiftieth, then falling as a cosine."""
    warm = max(1, steps // 50)
    return min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, i / steps))))


def step(loss: Tensor, parameters: Any, optimiser: torch.optim.Optimizer, schedule: Any) -> None:
    """Take one step down ``loss``, its gradient clipped to length 1."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    schedule.step()
