"""Models with windows, other attention, other families; what cannot be rewound is refused."""

from typing import Any

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.lm.models import llama, lm, tokenizer
from tests.lm.test_session import assert_close, chat, prefixes, reference, replies_alike

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MODELS = {
    "mistral, window 8": lambda: MistralForCausalLM(MistralConfig(**SIZES, head_dim=8, sliding_window=8)),
    "qwen2, one layer with window 8": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    ),
    "gemma3, window 8": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    ),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=320,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            init_std=0.3,
            bos_token_id=0,
            eos_token_id=1,
        )
    ),
    "llama, eager": lambda: llama(attn_implementation="eager"),
}


@pytest.mark.parametrize("name", MODELS)
def test_other_models_write_what_their_generate_writes(name):
    torch.manual_seed(0)
    model = TransformersLM(MODELS[name](), tokenizer())
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2])]
    session = model.session(3)
    session.read(range(3), [prompt[:2] for prompt in prompts])
    assert_close(session.read(range(3), prompts), model.embed(prompts))
    written = session.write(range(3), Sampling(12))
    assert [list(reply.tokens) for reply in written] == [reference(model, prompt, 12) for prompt in prompts]
    steered = session.write(range(3), Sampling(6), prefixes=prefixes(3))
    assert replies_alike(steered, model.generate(prompts, Sampling(6), prefixes=prefixes(3)))


def test_a_recurrent_model_is_refused():
    model = MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ValueError, match="MambaForCausalLM cannot be steered and rewound"):
        TransformersLM(model, tokenizer())


def test_attention_that_takes_no_mask_is_refused():
    model = llama()
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="load the model with attn_implementation='sdpa'"):
        TransformersLM(model, tokenizer())


def test_a_model_that_ignores_positions_is_refused(monkeypatch):
    model = llama()
    forward = model.model.rotary_emb.forward
    monkeypatch.setattr(model.model.rotary_emb, "forward", lambda x, position_ids: forward(x, position_ids * 0 + 3))
    monkeypatch.setattr(model.model.embed_tokens, "forward", lambda ids: torch.randn(*ids.shape, 32))
    with pytest.raises(ValueError, match="gives other logits"):
        TransformersLM(model, tokenizer())


def test_a_folder_is_loaded_once_while_it_is_used(tmp_path):
    lm().model.save_pretrained(tmp_path)
    lm().tokenizer.save_pretrained(tmp_path)
    first = load(str(tmp_path), device="cpu")
    assert load(f"hf:{tmp_path}", device="cpu") is not first
    assert load(str(tmp_path), device="cpu") is first
    assert isinstance(first, LanguageModel)
    assert_close(first.embed([chat(3)]), lm().embed([chat(3)]))
    assert load(str(tmp_path), dtype="bfloat16", device="cpu").embed([chat(3)]).shape == (1, 32)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tinny", "unknown language model 'tinny'.*did you mean 'tiny'"),
        ("hf:", "unknown language model 'hf:'"),
        ("", "unknown language model ''"),
        ("hf:/no/such/folder", "cannot load a causal language model from '/no/such/folder'"),
    ],
)
def test_unknown_models_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec)


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype must be float32, bfloat16, float16 or auto, got 'int3'"):
        TransformersLM.from_pretrained(tmp_path, dtype="int3")
