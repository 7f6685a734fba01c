"""A session gives what the model itself gives, whatever it holds from earlier turns."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.lm.base import Generation, Messages, Sampling
from dialog_gym.lm.network import passes
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.lm.models import SENTENCES, llama, lm, tokenizer

KINDS = ["llama", "gpt2"]


def assert_close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def chat(turns: int, seed: int = 0) -> list[dict[str, str]]:
    """A chat of ``turns`` utterances after the system message; a longer one continues a shorter one."""
    said = [{"role": "system", "content": f"you sell bicycle {seed}"}]
    for i in range(turns):
        said.append(
            {"role": ("user", "assistant")[i % 2], "content": SENTENCES[(i * 7 + seed) % 5][: 9 + 5 * (seed % 7)]}
        )
    return said


def reference(model: TransformersLM, prompt: Messages, steps: int, prefix: torch.Tensor | None = None) -> list[int]:
    """Greedy tokens of transformers' own ``generate``."""
    ids = torch.tensor(model.encode([prompt]))
    network: Any = model.model
    options = {
        "max_new_tokens": steps,
        "do_sample": False,
        "pad_token_id": 1,
        "eos_token_id": sorted(model.chat.stop_ids),
    }
    with torch.no_grad():
        if prefix is None:
            return list(network.generate(ids, **options)[0, ids.shape[1] :].tolist())
        embedded = torch.cat([network.get_input_embeddings()(ids), prefix[None]], 1)
        mask = torch.ones(embedded.shape[:2], dtype=torch.long)
        return list(network.generate(inputs_embeds=embedded, attention_mask=mask, **options)[0].tolist())


def prefixes(rows: int, tokens: int = 3, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(rows, tokens, 32, generator=torch.Generator().manual_seed(seed))


def tokens(replies: list[Generation]) -> list[list[int]]:
    return [list(reply.tokens) for reply in replies]


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_batches_write_what_generate_writes(kind):
    model = lm(kind)
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2, 0, 3])]
    assert tokens(model.generate(prompts, Sampling(12))) == [reference(model, prompt, 12) for prompt in prompts]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_before_the_reply_is_embeddings_before_the_reply(kind):
    model = lm(kind)
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2])]
    given_prefixes = prefixes(3)
    wanted = [reference(model, p, 12, prefix) for p, prefix in zip(prompts, given_prefixes, strict=True)]
    assert tokens(model.generate(prompts, Sampling(12), prefixes=given_prefixes.numpy())) == wanted
    assert wanted != [reference(model, p, 12) for p in prompts]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_at_the_start_goes_behind_bos(kind):
    model = lm(kind)
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2])]
    given_prefixes = prefixes(3)
    session = model.session(3)
    session.read(range(3), prompts)
    written = session.write(range(3), Sampling(8), prefixes=given_prefixes, position="start")
    for prompt, prefix, reply in zip(prompts, given_prefixes, written, strict=True):
        ids = model.encode([prompt])[0]
        assert ids[0] == model.tokenizer.bos_token_id
        embedded = model.model.get_input_embeddings()(torch.tensor(ids))
        whole = torch.cat([embedded[:1], prefix, embedded[1:]])[None]
        assert whole.shape[1] == len(ids) + 3
        with torch.no_grad():
            logits = model.model(inputs_embeds=whole).logits[0, -1]
        assert reply.tokens[0] == int(logits.argmax())
    assert session.write(range(3), Sampling(8)) == model.generate(prompts, Sampling(8))


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_last_hidden_state_after_the_final_norm(kind):
    model = lm(kind)
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2])]
    states = model.embed(prompts)
    assert states.dtype == np.float32
    for state, prompt in zip(states, prompts, strict=True):
        hidden = model.model.base_model(torch.tensor(model.encode([prompt]))).last_hidden_state[0, -1]
        assert_close(state, hidden.detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steered", [False, True])
def test_many_turns_equal_a_fresh_start_at_every_turn(kind, steered):
    model = lm(kind)
    session = model.session(4)
    talks = [chat(1, seed) for seed in range(4)]
    for turn in range(4):
        if turn == 2:
            talks[1] = chat(1, 9)  # a new dialogue in row 1
        steer = prefixes(4, seed=turn) if steered else None
        assert_close(session.read(range(4), talks), model.embed(talks))
        replies = session.write(range(4), Sampling(9), prefixes=steer)
        assert replies_alike(replies, model.generate(talks, Sampling(9), prefixes=steer))
        for talk, reply in zip(talks, replies, strict=True):
            talk += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": SENTENCES[turn]}]


def replies_alike(ours: list[Generation], theirs: list[Generation]) -> bool:
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.logprobs, b.logprobs)
    return [a[:2] for a in ours] == [b[:2] for b in theirs]


ACTIONS = st.tuples(
    st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=4, max_size=4),
    st.sampled_from(["read", "write", "steer", "start", "sample", "forget"]),
    st.integers(0, 1000),
)


@settings(max_examples=40)
@given(st.lists(ACTIONS, min_size=1, max_size=6), st.sampled_from(KINDS))
def test_whatever_happened_before_a_row_answers_like_a_fresh_one(actions, kind):
    model = lm(kind)
    session = model.session(4)
    for rows, lengths, what, seed in actions:
        prompts = [chat(turns, of) for turns, of in lengths][: len(rows)]
        assert_close(session.read(rows, prompts), model.embed(prompts))
        options: dict[str, Any] = {}
        if what in ("steer", "start"):
            options = {"prefixes": prefixes(len(rows), seed=seed), "position": "end" if what == "steer" else "start"}
        if what == "sample":
            options = {"seeds": [seed + row for row in rows]}
        if what == "forget":
            session.forget(rows[:1])
            session.read(rows[:1], prompts[:1])
        if what != "read":
            sampling = Sampling(6, temperature=float(what == "sample"))
            once = session.write(rows, sampling, **options)
            assert replies_alike(once, model.generate(prompts, sampling, **options))
            assert replies_alike(session.write(rows, sampling, **options), once)


def test_only_what_is_new_is_computed():
    model = lm()
    session = model.session(2)
    talks = [chat(2, 1), chat(2, 2)]
    session.read([0, 1], talks)
    session.write([0, 1], Sampling(5), prefixes=prefixes(2))
    longer = [chat(4, 1), chat(4, 2)]
    new = sum(len(b) - len(a) for a, b in zip(model.encode(talks), model.encode(longer), strict=True))
    model.counts.reset()
    session.read([0, 1], longer)
    assert model.counts.forwards == 1
    assert new <= model.counts.prefilled <= new + 4  # the generation prompt is replaced
    model.counts.reset()
    replies = session.write([0, 1], Sampling(5))
    assert model.counts.forwards == max(len(reply.tokens) for reply in replies) - 1
    assert model.counts.prefilled == 0
    assert model.counts.generated == sum(len(reply.tokens) for reply in replies)


def test_a_dialogue_that_begins_is_not_waited_for_by_those_that_go_on():
    model = lm()
    session = model.session(24)
    session.read(range(24), [chat(3, seed) for seed in range(24)])
    prompts = [chat(9, 30), *(chat(4, seed) for seed in range(1, 23)), chat(12, 31)]
    model.counts.reset()
    fed: list[int] = []
    network: Any = model.model
    hook = network.register_forward_pre_hook(
        lambda _, __, inputs: fed.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    states = session.read(range(24), prompts)
    hook.remove()
    assert 2 <= len(fed) < 6
    assert sum(fed) < model.counts.prefilled + 32 * len(fed)  # padding
    assert_close(states, [model.embed([prompt])[0] for prompt in prompts])
    assert replies_alike(session.write(range(24), Sampling(5)), model.generate(prompts, Sampling(5)))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 40), st.integers(1, 30), st.data())
def test_passes_feed_every_token_once(lengths, overhead, most, data):
    keep = data.draw(st.integers(1, min(most, *lengths)))
    longest = max(lengths)
    found = passes(lengths, overhead, most, keep)
    assert [column for first, end in found for column in range(first, end)] == list(range(longest))
    assert keep <= found[-1][1] - found[-1][0]
    assert all(end - first <= most for first, end in found)
    area = sum((end - first) * sum(length > longest - end for length in lengths) for first, end in found)
    uncut = [pair for pair in found if pair[1] < longest - keep]
    assert area <= sum(lengths) + overhead * (len(found) + 1) + len(lengths) * keep
    assert len(uncut) <= len(set(lengths)) + longest // most


def test_an_unsteered_reply_is_not_read_again():
    model = lm()
    session = model.session(1)
    talk = chat(1)
    session.read([0], [talk])
    reply = session.write([0], Sampling(8))[0]
    ids = model.encode([talk])[0]
    assert session._ids[0] == [*ids, *reply.tokens[:7]]
    steered = session.write([0], Sampling(8), prefixes=prefixes(1))[0]
    assert session._ids[0] == ids
    assert steered.tokens != reply.tokens


def test_what_was_forgotten_must_be_read_again():
    session = lm().session(3)
    session.read([0, 1], [chat(1), chat(2)])
    session.forget([0])
    with pytest.raises(ValueError, match=r"rows \[0\] hold no prompt"):
        session.write([0, 1], Sampling(4))
    session.forget()
    with pytest.raises(ValueError, match=r"rows \[1\] hold no prompt"):
        session.write([1], Sampling(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.read([0, 0], [chat(1)] * 2), "different numbers from 0 to 2"),
        (lambda s: s.read([3], [chat(1)]), "different numbers from 0 to 2"),
        (lambda s: s.read([0, 1], [chat(1)]), "one prompt per row"),
        (lambda s: s.write([2], Sampling()), "hold no prompt"),
        (lambda s: s.write([0], Sampling(temperature=1.0)), "needs seeds"),
        (lambda s: s.write([0], Sampling(), seeds=[1, 2]), "one seed per row"),
        (
            lambda s: s.write([0], Sampling(), prefixes=np.zeros((1, 2, 31))),
            r"expected prefixes of shape \(1, prefix tokens, 32\)",
        ),
        (
            lambda s: s.write([0], Sampling(), prefixes=np.zeros((2, 2, 32))),
            r"expected prefixes of shape \(1, prefix tokens, 32\)",
        ),
        (lambda s: s.write([0], Sampling(), prefixes=np.full((1, 2, 32), np.nan)), "must be finite"),
        (lambda s: s.read([0], [[{"role": "critic", "content": "x"}]]), "a message needs a role"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    session = lm().session(3)
    session.read([0], [chat(1)])
    with pytest.raises(ValueError, match=message):
        call(session)


def test_nothing_to_do_is_nothing_done():
    session = lm().session(2)
    assert session.read([], []).shape == (0, 32)
    assert session.write([], Sampling()) == []
    assert lm().generate([], Sampling()) == []
    assert lm().embed([]).shape == (0, 32)
    assert lm().logprobs([], []) == []


def test_prompts_beyond_the_last_position_are_refused_and_replies_end_there():
    model = TransformersLM(llama(positions=40), tokenizer())
    long = [{"role": "system", "content": SENTENCES[0]}, {"role": "user", "content": "a" * 60}]
    with pytest.raises(ValueError, match=r"a prompt of \d+ tokens, system messages and newest turn alone, is longer"):
        model.embed([long])
    prompts = [[{"role": "user", "content": text}] for text in ("a" * 25, "b")]
    lengths = [len(ids) for ids in model.encode(prompts)]
    model.is_stop[:] = False
    replies = model.generate(prompts, Sampling(30), prefixes=prefixes(2))
    assert [len(reply.tokens) for reply in replies] == [
        40 - length - 3 + 1 if length > 10 else 30 for length in lengths
    ]
    assert {reply.stop for reply in replies} == {"length"}
    with pytest.raises(ValueError, match="longer than the 40 positions"):
        model.generate(prompts, Sampling(30), prefixes=prefixes(2, 40))


def test_finished_rows_are_dropped_without_a_trace(monkeypatch):
    model = TransformersLM(llama(), tokenizer())
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2, 0, 3, 5, 1, 2])]
    model.is_stop[:] = False
    free = model.generate(prompts, Sampling(16))
    model.is_stop[list(range(0, 320, 9))] = True  # rows end at different times
    session = model.session(8)
    session.read(range(8), prompts)
    replies = session.write(range(8), Sampling(16))
    lengths = [len(reply.tokens) for reply in replies]
    assert len(set(lengths)) > 3
    assert [list(r.tokens) for r in replies] == [list(f.tokens[:n]) for f, n in zip(free, lengths, strict=True)]
    held = [[*ids, 7] for ids in session._ids]  # goes on from whatever the rows hold of their replies
    assert all(len(ids) > len(prompt) for ids, prompt in zip(held, model.encode(prompts), strict=True))
    monkeypatch.setattr(model.chat, "encode", lambda *_: held)
    model.counts.reset()
    resumed = session.read(range(8), prompts)
    assert model.counts.prefilled == 8
    assert_close(resumed, model.session(8).read(range(8), prompts))


def test_logprobs_are_those_of_the_tokens_drawn():
    model = lm()
    prompts = [chat(turns, seed) for seed, turns in enumerate([1, 4, 2])]
    replies = model.generate(prompts, Sampling(9, temperature=0.8, top_p=0.9), seeds=[1, 2, 3])
    before = model.counts.forwards
    scores = model.logprobs(prompts, [reply.tokens for reply in replies])
    assert model.counts.forwards <= before + 2
    for reply, score in zip(replies, scores, strict=True):
        assert_close(score, reply.logprobs)
    said_score, nothing = model.logprobs(prompts[:2], ["hello there", ""])
    assert nothing.shape == (0,)
    ids = model.encode(prompts[:1])[0]
    said = model.tokenizer("hello there", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        table = model.model(torch.tensor([ids + said])).logits[0].log_softmax(-1)
    wanted = [float(table[len(ids) - 1 + i, token]) for i, token in enumerate(said)]
    assert_close(said_score, wanted)


def test_bfloat16_runs():
    model = TransformersLM(llama(dtype="bfloat16"), tokenizer())
    prompts = [chat(1), chat(3)]
    assert model.embed(prompts).dtype == np.float32
    assert len(model.generate(prompts, Sampling(5), prefixes=prefixes(2))) == 2


def test_the_model_is_frozen_and_global_randomness_untouched():
    model = lm()
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    state = torch.random.get_rng_state()
    model.generate([chat(1)], Sampling(5, temperature=1.0), seeds=[3])
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", KINDS)
def test_mean_states_are_those_of_a_fresh_reading_whatever_was_rewound(kind: str) -> None:
    model = lm(kind)
    size = model.hidden_size
    session = model.session(2, mean=True)
    for turns in ((1, 3), (3, 5), (2, 5), (4, 7), (0, 1)):
        prompts = [chat(turns[0], 1), chat(turns[1], 2)]
        states = session.read([0, 1], prompts)
        ids = model.encode(prompts)
        for row, tokens_ in enumerate(ids):
            with torch.no_grad():
                hidden = model.model.get_decoder()(torch.tensor([tokens_]))[0][0].numpy()
            assert_close(states[row, :size], hidden[-1])
            assert_close(states[row, size:], hidden.mean(0))
        session.write([0, 1], Sampling(max_tokens=3))  # an unsteered reply stays in the cache, its states do not
