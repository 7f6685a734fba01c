"""What is remembered of chats saves work and changes nothing."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.lm.base import Generation, Messages, Sampling
from dialog_gym.lm.memory import ChatMemory
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.lm.models import SENTENCES, llama, lm, tokenizer
from tests.lm.test_session import assert_close, chat, prefixes, replies_alike

NETWORK = llama()
TOKENIZER = tokenizer()
TOKEN_BYTES = 2 * 2 * 32 * 4  # keys and values, layers, size, bytes of a float


def remembering(limit: int = 1 << 20) -> TransformersLM:
    return TransformersLM(NETWORK, TOKENIZER, memory_bytes=limit)


def layers(count: int) -> list[torch.Tensor]:
    return [torch.zeros(1, count, 1)]  # 4 bytes a token


CHATS = st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=12)


@given(CHATS, st.integers(0, 60), st.lists(st.integers(0, 2), max_size=6))
def test_the_longest_beginning_is_found_and_the_bound_is_kept(chats, limit, wanted):
    memory = ChatMemory(limit)
    for tokens in chats:
        memory.keep(tokens, layers(len(tokens)))
        assert memory.bytes <= limit
    if limit >= 4 * sum(map(len, chats)):  # nothing was forgotten
        best = max((_begins(tokens, wanted) for tokens in chats), default=0)
        held, shared = memory.find(wanted)
        assert shared == best
        assert ([] if held is None else list(held.tokens[:best])) == wanted[:best]


def _begins(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_what_was_used_longest_ago_is_forgotten_first():
    memory = ChatMemory(4 * 6)
    memory.keep([1, 1], layers(2))
    memory.keep([2, 2], layers(2))
    memory.keep([3, 3], layers(2))
    assert memory.find([1, 1, 5])[1] == 2
    memory.keep([4, 4], layers(2))
    assert [memory.find([chat, chat])[1] for chat in (1, 2, 3, 4)] == [2, 0, 2, 2]
    memory.keep([5] * 7, layers(7))  # more than all of it
    assert len(memory) == 3
    memory.keep([4, 4, 4], layers(3))  # takes the place of its own beginning, and of another
    assert (len(memory), memory.bytes) == (2, 20)
    memory.clear()
    assert (len(memory), memory.bytes, memory.find([4])) == (0, 0, (None, 0))


def test_a_negative_memory_is_refused():
    with pytest.raises(ValueError, match="of at least 0 bytes"):
        remembering(-1)


def test_a_turn_costs_its_new_tokens():
    model = remembering()
    talks: list[list[dict[str, str]]] = [[*chat(1, seed)] for seed in range(3)]
    for turn in range(5):
        new = [len(ids) for ids in model.encode([talk[-2:] for talk in talks])]
        model.counts.reset()
        replies = model.generate(talks, Sampling(6))
        if turn:
            assert model.counts.prefilled <= sum(new) + 3 * 4  # template around the turns
        for talk, reply in zip(talks, replies, strict=True):
            talk += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": SENTENCES[turn]}]


def test_a_forked_dialogue_shares_its_past():
    model = remembering()
    past = chat(9)
    model.generate([past], Sampling(4))
    forks = [[*past, {"role": "assistant", "content": said}] for said in SENTENCES[:3]]
    model.counts.reset()
    replies = model.generate(forks, Sampling(5))
    whole = sum(map(len, model.encode(forks)))
    assert model.counts.prefilled < whole / 3
    assert replies_alike(replies, lm().generate(forks, Sampling(5)))


def test_what_is_asked_several_times_is_read_once():
    model = remembering(0)
    prompts: list[Messages] = [chat(3), chat(4, 1), chat(3), chat(3)]
    options: dict[str, Any] = {"seeds": [1, 2, 3, 1], "prefixes": prefixes(4)}
    sampling = Sampling(5, temperature=1.0)
    replies = model.generate(prompts, sampling, **options)
    assert model.counts.prefilled == sum(map(len, model.encode(prompts[:2]))) + 4 * 3
    assert replies_alike(replies, [_alone(prompts, i, options, sampling=sampling) for i in range(4)])
    assert replies[0] != replies[2]


def _alone(prompts: list[Messages], i: int, options: dict[str, Any], **fixed: Any) -> Generation:
    return lm().generate(prompts[i : i + 1], **fixed, **{name: value[i : i + 1] for name, value in options.items()})[0]


CALLS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=4),
        st.sampled_from(["greedy", "sample", "steer", "start", "embed"]),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=30)
@given(CALLS, st.sampled_from([0, 150 * TOKEN_BYTES, 1 << 30]))
def test_batched_alone_remembered_and_forgotten_dialogues_are_the_same(calls, limit):
    model = remembering(limit)
    for of, what, seed in calls:
        prompts: list[Messages] = [chat(turns, which) for turns, which in of]
        if what == "embed":
            assert_close(model.embed(prompts), [lm().embed([prompt])[0] for prompt in prompts])
            continue
        options: dict[str, Any] = {"seeds": [seed + i for i in range(len(of))]}
        if what in ("steer", "start"):
            options["prefixes"] = prefixes(len(of), seed=seed)
        fixed: dict[str, Any] = {
            "sampling": Sampling(6, temperature=float(what == "sample")),
            "position": "start" if what == "start" else "end",
        }
        together = model.generate(prompts, **fixed, **options)
        alone = [_alone(prompts, i, options, **fixed) for i in range(len(of))]
        assert replies_alike(together, alone)
        assert model.memory.bytes <= limit
