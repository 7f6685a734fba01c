"""Out of memory, out of positions, adapters, number formats, padding sides."""

from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Messages, Sampling
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.lm.models import SENTENCES, STRICT_TEMPLATE, llama, lm, tokenizer
from tests.lm.test_session import assert_close, chat, prefixes, replies_alike


class Small(LlamaForCausalLM):
    """Runs out of memory when a pass has more rows than fit."""

    fit = 1_000

    @wraps(LlamaForCausalLM.forward)  # its signature is looked at
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:  # type: ignore[override]
        if len(input_ids if inputs_embeds is None else inputs_embeds) > self.fit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


def small(fit: int) -> TransformersLM:
    torch.manual_seed(0)
    network: Any = Small(lm().model.config)
    network.load_state_dict(lm().model.state_dict())
    model = TransformersLM(network, tokenizer())
    network.fit = fit
    return model


PROMPTS: list[Messages] = [chat(turns % 5, turns) for turns in range(13)]


@pytest.mark.parametrize("position", ["end", "start"])
def test_batches_are_halved_until_they_fit(position, caplog):
    model = small(4)
    sampling = Sampling(6, temperature=1.0)
    options: dict[str, Any] = {"prefixes": prefixes(13), "seeds": list(range(13)), "position": position}
    replies = model.generate(PROMPTS, sampling, **options)
    assert model.batch_size == 4  # 13, 7, 4
    assert "from now on at most 4 in a batch" in caplog.text
    assert replies_alike(replies, lm().generate(PROMPTS, sampling, **options))
    assert_close(model.embed(PROMPTS), lm().embed(PROMPTS))
    for mine, other in zip(
        model.logprobs(PROMPTS, SENTENCES[:1] * 13), lm().logprobs(PROMPTS, SENTENCES[:1] * 13), strict=True
    ):
        assert_close(mine, other)


def test_a_session_halves_its_batches_too():
    model = small(3)
    session, other = model.session(13, mean=True), lm().session(13, mean=True)
    for turns in (0, 2):
        prompts = [chat(turns + row % 3, row) for row in range(13)]
        assert_close(session.read(range(13), prompts), other.read(range(13), prompts))
        for steer in (None, prefixes(13)):
            written = session.write(range(13), Sampling(5), prefixes=steer)
            assert replies_alike(written, other.write(range(13), Sampling(5), prefixes=steer))
    assert model.batch_size == 2


def test_the_memory_of_chats_is_given_up_before_batches_are_halved():
    model = small(13)
    model.generate(PROMPTS, Sampling(2))
    assert model.memory.bytes
    network: Any = model.model
    calls = []
    network.register_forward_pre_hook(lambda *_: calls.append(model.memory.bytes) if network.fit == 3 else None)
    network.fit = 3
    model.generate(PROMPTS[:4], Sampling(2))
    assert calls[0] > 0
    assert calls[1] == 0
    assert model.batch_size == 2


def test_a_dialogue_that_does_not_fit_alone_is_an_error():
    with pytest.raises(LanguageModelError, match="runs out of memory on a single dialogue") as caught:
        small(0).generate(PROMPTS, Sampling(2))
    assert caught.value.prompt == 0


def said(turns: int, words: str = "a b") -> list[dict[str, str]]:
    talk = [{"role": ("user", "assistant")[i % 2], "content": f"{words} {i}"} for i in range(turns)]
    return [{"role": "system", "content": "sell it"}, *talk]


def test_old_turns_are_dropped_whole_and_the_scenario_stays():
    model = TransformersLM(llama(positions=120), tokenizer())
    seen = set()
    for turns in range(1, 41):
        prompt = said(turns)
        ids = model.encode([prompt])[0]
        assert len(ids) <= 120 - 30
        text = model.tokenizer.decode(ids)
        first = next(n for n in range(turns) if text == model.chat.render([prompt[0], *prompt[1 + n :]]))
        assert first % 4 == 0 or turns - first < 4
        seen.add(first)
        if first:
            assert len(model.chat.encode([[prompt[0], *prompt[1 + max(first - 4, 0) :]]])[0]) > 90
    assert len(seen) > 5
    replies = model.generate([said(40), said(3)], Sampling(30))
    alone = [model.generate([said(turns)], Sampling(30))[0] for turns in (40, 3)]
    assert replies_alike(replies, alone)
    assert max(len(reply.tokens) for reply in replies) == 30


def test_few_long_turns_are_dropped_one_by_one():
    model = TransformersLM(llama(positions=120), tokenizer(STRICT_TEMPLATE))
    prompt = said(3, "abcdefgh " * 3)
    full = len(model.chat.encode([prompt])[0])
    assert full > 90
    text = model.tokenizer.decode(model.encode([prompt])[0])
    assert text == model.chat.render([prompt[0], *prompt[2:]])


def test_the_scenario_and_the_newest_turn_are_never_cut():
    model = TransformersLM(llama(positions=120), tokenizer())
    prompt = [{"role": "system", "content": "x" * 100}, *said(5)[1:]]
    assert model.tokenizer.decode(model.encode([prompt])[0]) == model.chat.render([prompt[0], prompt[-1]])
    with pytest.raises(ValueError, match="system messages and newest turn alone, is longer than the 120 positions"):
        model.encode([[{"role": "system", "content": "x" * 200}, *said(5)[1:]]])
    with pytest.raises(ValueError, match="system messages and newest turn alone, is longer than the 120 positions"):
        model.encode([[*said(5), {"role": "user", "content": "x" * 200}]])


def test_a_continuation_has_room_behind_a_long_history():
    model = TransformersLM(llama(positions=120), tokenizer())
    scores = model.logprobs([said(40)], [SENTENCES[0][:20]])
    assert np.isfinite(scores[0]).all()


def lora(folder: Path, **settings: Any) -> Any:
    """Train nothing, but make an adapter that matters, and save it."""
    torch.manual_seed(1)
    network: Any = llama(**settings)
    config: Any = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted: Any = get_peft_model(network, config)
    adapted.save_pretrained(folder)
    return adapted.eval()


def test_an_adapter_changes_the_model_as_peft_does(tmp_path):
    adapted = lora(tmp_path / "adapter")
    llama().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model = TransformersLM.from_pretrained(base, device="cpu", adapter=adapter)
    assert model.name == f"{base}+{adapter}"
    ids = torch.tensor(model.encode([chat(3)]))
    with torch.no_grad():
        wanted = adapted(ids).logits[0, -1]
        assert_close(model.model(ids).logits[0, -1], wanted)
        assert (lm().model(ids).logits[0, -1] - wanted).abs().max() > 0.1
    assert model.generate([chat(3)], Sampling(4))[0].tokens[0] == int(wanted.argmax())


def test_a_foreign_adapter_is_refused(tmp_path):
    lora(tmp_path / "adapter", tie_word_embeddings=False)
    network = llama()
    config = network.config
    config.hidden_size, config.intermediate_size = 16, 24
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=r"cannot put the adapter .* weights made for this very model"):
        TransformersLM.from_pretrained(tmp_path / "base", device="cpu", adapter=tmp_path / "adapter")
    with pytest.raises(ValueError, match="cannot put the adapter '/no/such/adapter'"):
        TransformersLM.from_pretrained(tmp_path / "base", device="cpu", adapter="/no/such/adapter")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "auto"])
def test_weights_are_read_in_the_format_asked_for(tmp_path, dtype):
    llama(dtype="bfloat16").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = TransformersLM.from_pretrained(tmp_path, dtype=dtype, device="cpu")
    assert model.dtype == (torch.float16 if dtype == "float16" else torch.bfloat16)
    session = model.session(2)
    for turns in (1, 3):
        prompts = [chat(turns), chat(turns + 1, 1)]
        states = session.read(range(2), prompts)
        assert states.dtype == np.float32
        np.testing.assert_allclose(states, lm().embed(prompts), atol=0.15)
        replies = session.write(range(2), Sampling(5), prefixes=prefixes(2))
        assert all(np.isfinite(reply.logprobs).all() for reply in replies)


def test_the_padding_side_of_a_tokenizer_does_not_matter():
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2])]
    for side in ("left", "right"):
        made = tokenizer()
        made.padding_side = side
        model = TransformersLM(llama(), made)
        assert replies_alike(model.generate(prompts, Sampling(8)), lm().generate(prompts, Sampling(8)))
