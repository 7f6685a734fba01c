"""Prompts as embeddings: as the model itself would embed them, from the files of any model, sharded or not."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GemmaConfig, GemmaForCausalLM

from dialog_gym.lm.prefix import embeddings_fingerprint
from dialog_gym.lm.prompt_embeds import PromptEmbedder, as_base64
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.lm.models import gpt2, llama, tokenizer

CHATS = [[{"role": "user", "content": text}] for text in ("hello", "that is too much for me", "")]


def gemma() -> GemmaForCausalLM:
    torch.manual_seed(0)
    return GemmaForCausalLM(
        GemmaConfig(
            vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        )
    )  # fmt: skip


def saved(model: Any, folder: Any, **options: Any) -> str:
    model.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("position", ["end", "start"])
@pytest.mark.parametrize("make", [llama, gpt2, gemma, lambda: llama(tie_word_embeddings=True)])
def test_it_embeds_as_the_model_does(make, position, tmp_path):
    """The model that reads the embeddings goes on as the one that reads the words, prefix and all."""
    folder = saved(make(), tmp_path)
    lm, embedder = TransformersLM.from_pretrained(folder), PromptEmbedder.from_pretrained(folder)
    assert embedder.encode(CHATS) == lm.encode(CHATS)
    assert embedder.chat.stop_ids == lm.chat.stop_ids
    prefixes = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(0))
    prompts = embedder.embed(CHATS, prefixes, position)
    for row, (ids, embedded, prefix) in enumerate(zip(lm.encode(CHATS), prompts, prefixes, strict=True)):
        at = len(ids) if position == "end" else 1  # behind BOS
        words: Any = lm.model.get_input_embeddings()(torch.tensor(ids))
        expected = torch.cat([words[:at], prefix, words[at:]])
        torch.testing.assert_close(embedded, expected, msg=f"prompt {row}")
    plain = embedder.embed(CHATS)
    assert [len(row) for row in plain] == [len(row) - 2 for row in prompts]


@pytest.mark.parametrize("make", [llama, gpt2, gemma])
def test_a_model_has_one_fingerprint_wherever_it_is_read(make, tmp_path):
    folder = saved(make(), tmp_path)
    embedder = PromptEmbedder.from_pretrained(folder)
    for dtype in ("float32", "bfloat16"):
        lm = TransformersLM.from_pretrained(folder, dtype)
        assert embedder.fingerprint() == lm.fingerprint() == embeddings_fingerprint(lm.embedding_matrix, 32)
        assert PromptEmbedder.from_pretrained(folder, dtype).fingerprint() == lm.fingerprint()


def test_weights_in_several_files(tmp_path):
    whole = PromptEmbedder.from_pretrained(saved(llama(), tmp_path / "whole"))
    folder = tmp_path / "parts"
    parts = PromptEmbedder.from_pretrained(saved(llama(), folder, max_shard_size="40KB"))
    assert len(set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())) > 1
    assert torch.equal(parts.embedding_matrix, whole.embedding_matrix)


def test_only_the_embeddings_are_read(tmp_path):
    folder = tmp_path / "parts"
    saved(llama(), folder, max_shard_size="40KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = index["model.embed_tokens.weight"]
    for file in {*index.values()} - {needed}:
        (folder / file).unlink()
    assert PromptEmbedder.from_pretrained(str(folder)).embedding_matrix.shape == (320, 32)


def test_prompts_are_in_the_dtype_of_the_server(tmp_path):
    folder = saved(llama(), tmp_path)
    for dtype, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        embedder = PromptEmbedder.from_pretrained(folder, dtype)
        assert embedder.embed(CHATS, np.zeros((3, 1, 32)))[0].dtype == expected


def test_what_is_sent_is_what_torch_saves():
    embeddings = torch.randn(7, 4).to(torch.bfloat16)
    sent = as_base64(embeddings.T[:2].T)
    assert torch.equal(torch.load(io.BytesIO(base64.b64decode(sent)), weights_only=True), embeddings[:, :2])
    assert sent == as_base64(embeddings[:, :2].clone()), "the same numbers are the same text: the key of an answer"


class TestRefusals:
    def test_no_such_model(self, tmp_path):
        with pytest.raises(ValueError, match=r"cannot read the input embeddings of .*give a folder with config\.json"):
            PromptEmbedder.from_pretrained(str(tmp_path))

    def test_no_embeddings_in_the_weights(self, tmp_path):
        folder = saved(llama(), tmp_path)
        other = saved(gpt2(), tmp_path / "other")
        (tmp_path / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
        with pytest.raises(ValueError, match=r"no tensor 'model.embed_tokens.weight' of shape \(320, 32\)"):
            PromptEmbedder.from_pretrained(folder)
        assert PromptEmbedder.from_pretrained(other).embedding_size == 32

    @pytest.mark.parametrize(
        ("prefixes", "message"),
        [
            (np.zeros((2, 1, 32)), r"expected prefixes of shape \(3, prefix tokens, 32\), got \(2, 1, 32\)"),
            (np.zeros((3, 1, 31)), r"got \(3, 1, 31\)"),
            (np.zeros((3, 32)), r"got \(3, 32\)"),
            (np.full((3, 1, 32), np.inf), "prefixes must be finite"),
        ],
    )
    def test_prefixes_that_do_not_fit(self, tmp_path, prefixes, message):
        embedder = PromptEmbedder.from_pretrained(saved(llama(), tmp_path))
        with pytest.raises(ValueError, match=message):
            embedder.embed(CHATS, prefixes)
