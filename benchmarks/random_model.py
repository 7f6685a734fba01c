"""Random language models: what they say is nonsense, what they cost is real."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from dialog_gym.lm import WEIGHTS

PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""What is said and nothing else, for comparison with libraries that put plain text to a model."""


def save_random_model(
    folder: Path, *, template: str | None = None, end_every: int = 0, width: int = 96, layers: int = 3
) -> Path:
    """Write a random Llama with the tokenizer of ``tiny`` to ``folder``, and return it.

    Args:
        folder: Where to.
        template: Chat template; None for that of ``tiny``.
        end_every: Every so many token ids, one ends a reply, so that replies differ in length; 0 for none but EOS.
        width: Hidden size; from 256 on heads are of 64, and four share their keys.
        layers: Number of layers.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(WEIGHTS / "tiny"))
    if template is not None:
        tokenizer.chat_template = template
    heads = 4 if width < 256 else width // 64
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads if width < 256 else heads // 4,
            max_position_embeddings=4096,
            initializer_range=0.2,  # ten times the usual: no two tokens are about equally probable
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = LlamaForCausalLM(config)
    ends = [tokenizer.eos_token_id, *(range(7, len(tokenizer), end_every) if end_every else ())]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return folder
