"""What is particular to the engine in this process: options, errors, counts, interruption."""

import json
import signal
import sys
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from dialog_gym.lm import load
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.vllm_lm import VllmLM
from tests.vllm.dialogues import ROWS, prefixes, prompts

GREEDY = Sampling(max_tokens=24)


def test_what_was_read_before_is_not_read_again(engine):
    asked = [[*prompt, {"role": "user", "content": "one more word, " * 200}] for prompt in prompts()]
    before = engine.counts.prefilled
    engine.generate(asked, GREEDY)
    first = engine.counts.prefilled - before
    generated = engine.counts.generated
    replies = engine.generate(asked, GREEDY)
    assert engine.counts.prefilled - before - first < first / 4
    assert engine.counts.generated - generated == sum(len(one.tokens) for one in replies)


@pytest.mark.parametrize("calls", [10, 1_000, 3_000, 10_000, 10_007, 30_000])
def test_nothing_of_an_interrupted_call_reaches_the_next(engine, calls):
    """Ctrl-C is pressed when so many functions were called: anywhere, in the middle of the scheduler too."""
    expected = [one.text for one in engine.generate(prompts(), GREEDY)]
    long = Sampling(max_tokens=3000, temperature=2.0)
    talk = [[{"role": "user", "content": f"{i}"}] for i in range(64)]
    called = iter(range(calls))

    def profile(frame, event, arg):
        if event == "call" and next(called, None) is None:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(profile)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        while True:  # an end may be drawn early, by all of them
            engine.generate(talk, long, seeds=range(64))
    assert [one.text for one in engine.generate(prompts(), GREEDY)] == expected
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_ends_a_program_waits_for_the_end_of_a_step_alone(engine):
    talk = [[{"role": "user", "content": f"{i}"}] for i in range(8)]
    steps: list[int] = []
    step = engine.engine.llm_engine.step

    def counted():
        steps.append(len(steps))
        if len(steps) == 3:
            signal.raise_signal(signal.SIGTERM)
        return step()

    def stop(number, frame):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    engine.engine.llm_engine.step = counted
    try:
        with pytest.raises(SystemExit, match="143"):
            engine.generate(talk, Sampling(max_tokens=300, temperature=2.0), seeds=range(8))
    finally:
        signal.signal(signal.SIGTERM, before)
        vars(engine.engine.llm_engine).pop("step", None)
    assert len(steps) == 3


def test_prompts_that_do_not_fit_are_refused(engine):
    endless = [{"role": "system", "content": "so " * 6000}]
    with pytest.raises(ValueError, match=r"prompt 1 has \d+ tokens.*no room for a reply.*max_model_len"):
        engine.generate([prompts(1)[0], endless], GREEDY)
    with pytest.raises(ValueError, match=r"expected prefixes of shape"):
        engine.generate(prompts(), GREEDY, prefixes=np.zeros((ROWS, 2, 7), np.float32))
    with pytest.raises(ValueError, match="one seed per prompt"):
        engine.generate(prompts(), GREEDY, seeds=[1])
    with pytest.raises(ValueError, match=r"vLLM refuses .*temperature must be in \[0, 2\]"):
        engine.generate(prompts(), Sampling(temperature=3.0), seeds=range(ROWS))
    with pytest.raises(ValueError, match="one continuation per prompt"):
        engine.logprobs(prompts(), ["yes"])


def test_a_long_history_loses_its_oldest_turns_as_it_does_in_transformers(engine, reference):
    long = [[*prompt, *({"role": "user", "content": f"{i}, " * 200} for i in range(12))] for prompt in prompts(4)]
    assert min(map(len, engine.chat.encode(long))) > engine.max_positions
    assert engine.generate(long, GREEDY) == _about(reference.generate(long, GREEDY))
    steered = engine.generate(long, GREEDY, prefixes=prefixes(engine, 4))
    assert steered == _about(reference.generate(long, GREEDY, prefixes=prefixes(reference, 4)))
    scores = zip(engine.logprobs(long, ["yes"] * 4), reference.logprobs(long, ["yes"] * 4), strict=True)
    assert all(np.allclose(mine, theirs, atol=1e-3) for mine, theirs in scores)


def _about(replies):
    """Let the log-probabilities of ``replies`` differ by 1e-3 where they are compared."""
    return [reply._replace(logprobs=pytest.approx(reply.logprobs, abs=1e-3)) for reply in replies]


def test_no_prompts_are_no_work(engine):
    assert engine.generate([], GREEDY) == []
    assert engine.logprobs([], []) == []


def test_a_model_that_does_not_load_is_an_error_that_says_what_to_do(folder, tmp_path):
    with pytest.raises(ValueError, match="cannot read the input embeddings of"):
        load(f"vllm:{tmp_path}")
    with pytest.raises(ValueError, match=r"(?s)vLLM cannot load .*'hf:NAME_OR_PATH'"):
        VllmLM.from_pretrained(folder, no_such_option=1)
    with pytest.raises(ValueError, match=r"expected .* to hold a LoRA adapter .*adapter_config.json"):
        VllmLM.from_pretrained(folder, adapter=str(tmp_path))
    adapter, _ = _adapter(folder, tmp_path)
    layer = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 8)}
    safetensors.torch.save_file(layer, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"changes embed_tokens, .* merge it into the model"):
        VllmLM.from_pretrained(folder, adapter=str(adapter))


def test_a_spec_takes_options_and_an_adapter_changes_what_is_said(folder, engine, tmp_path):
    adapter, merged = _adapter(folder, tmp_path)
    lm: Any = load(f"vllm:{folder}?adapter={adapter}&max_model_len=512&enforce_eager=true&max_num_seqs=8")
    try:  # with 8 at a time, some are read while others go on
        assert lm.max_positions == 512
        mine = lm.generate(prompts(), GREEDY)
        steered = lm.generate(prompts(), GREEDY, prefixes=prefixes(lm))
    finally:
        lm.close()  # which leaves the other engine alone
    reference = load(f"hf:{merged}")
    assert [one.text for one in mine] == [one.text for one in reference.generate(prompts(), GREEDY)]
    assert [one.text for one in mine] != [one.text for one in engine.generate(prompts(), GREEDY)]
    theirs = reference.generate(prompts(), GREEDY, prefixes=prefixes(reference))
    assert [one.text for one in steered] == [one.text for one in theirs]


def _adapter(folder, out):
    """Return the folders of a LoRA adapter for the model, and of the model with it merged."""
    rank, alpha = 4, 8
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    merged, low_rank = dict(weights), dict[str, torch.Tensor]()
    draw = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if name.endswith("q_proj.weight"):
            a = torch.randn(rank, weight.shape[1], generator=draw) / 8
            b = torch.randn(weight.shape[0], rank, generator=draw) / 8
            key = f"base_model.model.{name.removesuffix('.weight')}"
            low_rank |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
            merged[name] = weight + alpha / rank * b @ a
    (out / "adapter").mkdir()
    safetensors.torch.save_file(low_rank, out / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj"], "bias": "none"}
    (out / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM"}))
    (out / "merged").mkdir()
    for file in folder.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (out / "merged" / file.name).write_bytes(file.read_bytes())
    safetensors.torch.save_file(merged, out / "merged" / "model.safetensors", {"format": "pt"})
    (out / "merged" / "steer").symlink_to(folder / "steer")
    return out / "adapter", out / "merged"
