"""Tiny random models and tokenizers, made on the spot."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dialog_gym.lm.transformers_lm import TransformersLM

SENTENCES = [
    "hello there, how much do you want for the old bicycle?",
    "I would take ninety dollars, it is in very good shape.",
    "that is too much for me, could you do seventy?",
    "fine, you have a deal! thank you so much.",
    "no way, I will not go below eighty five, sorry.",
]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    special = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(SENTENCES, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", additional_special_tokens=special[2:]
    )
    made.chat_template = template
    return made


def llama(*, positions: int = 512, dtype: str = "float32", **settings: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        **settings,
    )
    network: Any = LlamaForCausalLM(config)
    return cast(LlamaForCausalLM, network.to(getattr(torch, dtype)))


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=320,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config)


@cache
def lm(kind: str = "llama") -> TransformersLM:
    """A model without a memory of its own, so that what it says is always computed afresh."""
    return TransformersLM(gpt2() if kind == "gpt2" else llama(), tokenizer(), name=kind, memory_bytes=0)
