"""Models behind a server: a real one on loopback, which answers from the tiny model and misbehaves on call."""

import json
import logging
import multiprocessing
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dialog_gym.benchmarks.api_server import ApiServer, Fault
from dialog_gym.errors import LanguageModelError, UnsupportedError
from dialog_gym.lm import WEIGHTS, load, load_prefix
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.lm.openai_lm import OpenAILM
from dialog_gym.lm.prefix import PcaMap

FAST: dict[str, Any] = {"backoff": 0.001, "attempts": 3, "timeout": 20.0}
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["score"],
    "additionalProperties": False,
}
STEERABLE = WEIGHTS / "tiny-bargain"


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "you are the buyer . limit <p90> ."}, {"role": "user", "content": text}]


CHATS = [chat(f"how about <p{price}>?") for price in (60, 62, 70, 88)]


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


@pytest.fixture(scope="module")
def steerable():
    return load("tiny-bargain")


@pytest.fixture
def server(tiny):
    with ApiServer(tiny) as running:
        yield running


@pytest.fixture
def vllm(steerable):
    """A server that takes what vLLM's takes."""
    with ApiServer(steerable) as running:
        yield running


def client(to: ApiServer, /, **options: Any) -> OpenAILM:
    return OpenAILM("tiny", to.url, **{**FAST, **options})


class TestReplies:
    def test_they_are_the_models(self, server, tiny):
        said = client(server).generate(CHATS, Sampling(8))
        assert [(one.text, one.stop) for one in said] == [
            (one.text, one.stop) for one in tiny.generate(CHATS, Sampling(8))
        ]
        assert said[0].tokens == said[0].logprobs == (), "the server was not asked for them"

    def test_they_come_in_the_order_of_the_prompts(self):
        with ApiServer(lambda body: body["messages"][-1]["content"], faults={"500": 0.3}) as server:
            prompts = [chat(f"number {i}") for i in range(64)]
            said = client(server, attempts=20).generate(prompts, Sampling())
        assert [one.text for one in said] == [f"number {i}" for i in range(64)]

    def test_what_is_asked(self, server):
        lm = client(server)
        lm.generate(CHATS[:1], Sampling(9))
        lm.generate(CHATS[:1], Sampling(9, 0.7, 0.9), seeds=[2**60 + 5])
        greedy, sampled = (request.body for request in server.requests)
        assert greedy == {"model": "tiny", "messages": CHATS[0], "max_tokens": 9, "temperature": 0.0}
        assert sampled == {**greedy, "temperature": 0.7, "top_p": 0.9, "seed": (2**60 + 5) % 2**31}

    def test_seeds_make_the_difference(self, server):
        lm = client(server)
        sampling = Sampling(12, 1.0)
        said = [one.text for one in lm.generate([CHATS[0]] * 6, sampling, seeds=range(6))]
        assert len(set(said)) > 1
        assert [one.text for one in lm.generate([CHATS[0]] * 6, sampling, seeds=range(6))] == said

    def test_logprobs_where_they_are_asked_for(self, server, tiny):
        (said,) = client(server, logprobs=True).generate(CHATS[:1], Sampling(8))
        np.testing.assert_allclose(said.logprobs, tiny.generate(CHATS[:1], Sampling(8))[0].logprobs, atol=1e-4)

    def test_a_schema(self, server):
        (said,) = client(server).generate(CHATS[:1], Sampling(), schema=SCHEMA)
        assert json.loads(said.text)["score"] in range(10)
        about = server.requests[0].body["response_format"]
        assert about == {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}

    def test_none(self, server):
        assert client(server).generate([], Sampling()) == []

    def test_no_more_at_once_than_allowed(self):
        with ApiServer(lambda body: "yes", latency=0.02) as server:
            client(server, concurrency=3).generate([chat(str(i)) for i in range(20)], Sampling())
            assert server.most_at_once == 3
            assert server.counts == {"requests": 20, "ok": 20}

    def test_the_same_question_twice_is_asked_once(self, server):
        said = client(server).generate([CHATS[0], CHATS[1], CHATS[0]], Sampling(4))
        assert said[0] == said[2]
        assert server.counts["requests"] == 2

    def test_it_is_a_language_model(self, server):
        assert isinstance(client(server), LanguageModel)

    def test_sessions(self, server, tiny):
        session = client(server).session(3)
        assert session.read([0, 2], CHATS[:2]).shape == (2, 0)
        said = session.write([2, 0], Sampling(8))
        assert [one.text for one in said] == [one.text for one in tiny.generate([CHATS[1], CHATS[0]], Sampling(8))]
        session.forget([2])
        with pytest.raises(ValueError, match="row 2 holds no prompt"):
            session.write([0, 2], Sampling())
        for rows in ([3], [0, 0]):
            with pytest.raises(ValueError, match="different numbers from 0 to 2"):
                session.read(rows, CHATS[: len(rows)])


class TestCapabilities:
    def test_what_is_supported(self, server):
        assert client(server).supports == {"json"}
        assert client(server, json=False).supports == set()
        assert client(server, server="vllm").supports == {"json", "logprobs"}
        assert client(server, prefix=str(STEERABLE)).supports == {"json", "logprobs", "prefix"}

    def test_what_is_not_is_refused(self, server):
        lm = client(server, json=False)
        with pytest.raises(UnsupportedError, match=r"'prefix'.*'vllm:NAME_OR_PATH'"):
            lm.generate(CHATS[:1], Sampling(), prefixes=np.zeros((1, 2, 96)))
        with pytest.raises(UnsupportedError, match="'json'"):
            lm.generate(CHATS[:1], Sampling(), schema=SCHEMA)
        with pytest.raises(UnsupportedError, match=r"'state'.*'tiny'"):
            lm.embed(CHATS)
        with pytest.raises(UnsupportedError, match="'logprobs'"):
            lm.logprobs(CHATS[:1], ["yes"])
        with pytest.raises(UnsupportedError, match="'prefix'"):
            load_prefix("pca", lm)
        assert server.counts["requests"] == 0

    def test_bad_arguments(self, server):
        lm = client(server)
        with pytest.raises(ValueError, match="needs seeds"):
            lm.generate(CHATS, Sampling(temperature=1.0))
        with pytest.raises(ValueError, match="got 1 seeds for 4 prompts"):
            lm.generate(CHATS, Sampling(temperature=1.0), seeds=[1])
        with pytest.raises(ValueError, match="one continuation per prompt"):
            client(server, server="vllm").logprobs(CHATS, ["yes"])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"concurrency": 0}, "concurrency must be at least 1"),
            ({"attempts": 0}, "attempts must be at least 1"),
            ({"timeout": 0.0}, "timeout must be a positive number"),
            ({"backoff": float("inf")}, "backoff must be a positive number"),
            ({"server": "llama"}, "server must be 'vllm'"),
            ({"price_in": -1.0}, "prices must be at least 0"),
            ({"prefix": "no/such/folder"}, "cannot read the input embeddings of 'no/such/folder'"),
            ({"prefix": str(STEERABLE), "dtype": "int8"}, "dtype must be float32"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            OpenAILM("tiny", "http://127.0.0.1:9/v1", **options)


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("429", "429"),
            ("500", "500"),
            ("cut", "connection"),
            ("malformed", "malformed"),
            (Fault("429", retry_after=0.001), "429"),
        ],
    )
    def test_what_passes_is_tried_again(self, server, tiny, fault, kind):
        server.faults = lambda request: fault if request.attempt < 2 else None
        lm = client(server)
        assert lm.generate(CHATS[:1], Sampling(8))[0].text == tiny.generate(CHATS[:1], Sampling(8))[0].text
        assert lm.counts.retries == {kind: 2}
        assert lm.counts.requests == server.counts["requests"] == 3

    @pytest.mark.parametrize(
        "odd",
        [
            {"logprobs": {"content": [{"token": "hi"}]}},
            {"logprobs": {"content": ["hi"]}},
            {"logprobs": {"token_logprobs": [None]}},
            {"logprobs": {"token_logprobs": 1.0}},
            {"token_ids": ["x"]},
            {"token_ids": 7},
        ],
    )
    def test_an_answer_of_another_form_is_a_malformed_one(self, server, tiny, monkeypatch, odd):
        proper, odd_ones = ApiServer.answer, iter([True, True])

        def answer(self, request):
            found = proper(self, request)
            if "<p70>" in str(request.body) and next(odd_ones, False):
                found["choices"][0].update(odd)
            return found

        monkeypatch.setattr(ApiServer, "answer", answer)
        lm = client(server)
        assert lm.generate(CHATS, Sampling(8))[2].text == tiny.generate(CHATS, Sampling(8))[2].text
        assert lm.counts.retries == {"malformed": 2}
        odd_ones = iter([True] * 3)
        with pytest.raises(
            LanguageModelError, match="malformed after 3 attempts: the answer cannot be read"
        ) as caught:
            lm.generate(CHATS, Sampling(8))
        assert caught.value.prompt == 2

    def test_a_time_out_is_tried_again(self, server):
        server.faults = lambda request: "timeout" if request.attempt < 1 else None
        lm = client(server, timeout=0.5)
        lm.generate(CHATS[:1], Sampling(2))
        assert lm.counts.retries["timeout"] >= 1

    def test_an_answer_without_text_is_tried_again(self):
        said = iter(["", "", "yes"])
        with ApiServer(lambda body: next(said)) as flaky:
            lm = client(flaky)
            assert lm.generate(CHATS[:1], Sampling())[0].text == "yes"
        assert lm.counts.retries == {"empty": 2}

    def test_a_server_that_is_not_there(self):
        with pytest.raises(LanguageModelError, match="connection after 3 attempts"):
            OpenAILM("tiny", "http://127.0.0.1:9/v1", **FAST).generate(CHATS[:1], Sampling())

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("429", "HTTP 429 after 3 attempts"),
            ("500", "HTTP 500 after 3 attempts: it is the server's fault"),
            ("cut", "connection after 3 attempts"),
            ("malformed", "malformed after 3 attempts"),
            (Fault("429", retry_after=3600.0), "HTTP 429 after 1 attempt: .*asks to wait 3600 s"),
            ("refused", "HTTP 400 after 1 attempt: it is the server's fault"),
            ("filter", "content_filter after 1 attempt"),
        ],
    )
    def test_in_the_end_it_is_an_error(self, server, fault, message):
        server.faults = lambda request: fault if "<p70>" in str(request.body) else None
        lm = client(server)
        with pytest.raises(LanguageModelError, match=message) as caught:
            lm.generate(CHATS, Sampling(2))
        assert f"'openai:tiny@{server.url}' gave no answer to prompt 2 of the batch" in str(caught.value)
        assert caught.value.prompt == 2

    def test_the_prompt_is_counted_in_what_was_asked(self, server):
        server.faults = lambda request: "refused" if "<p70>" in str(request.body) else None
        with pytest.raises(LanguageModelError) as caught:
            client(server).generate([CHATS[0], CHATS[0], CHATS[1], CHATS[2]], Sampling(2))
        assert caught.value.prompt == 3

    def test_too_few_tokens_are_no_passing_fault(self, server):
        server.faults = lambda request: "empty"
        with pytest.raises(LanguageModelError, match="1 attempt: the answer has no text: max_tokens is too small"):
            client(server).generate(CHATS[:1], Sampling(2))

    def test_after_a_failure_nothing_new_is_asked(self, server):
        server.faults = lambda request: "refused"
        with pytest.raises(LanguageModelError):
            client(server, concurrency=2).generate([chat(str(i)) for i in range(50)], Sampling(2))
        assert server.counts["requests"] <= 4

    def test_many_with_faults_of_all_kinds(self):
        faults = {"429": 0.06, "500": 0.06, "cut": 0.06, "malformed": 0.06}
        with ApiServer(lambda body: body["messages"][-1]["content"], faults=faults) as server:
            lm = client(server, attempts=12)
            prompts = [chat(f"number {i}") for i in range(300)]
            assert [one.text for one in lm.generate(prompts, Sampling())] == [f"number {i}" for i in range(300)]
        assert server.counts["ok"] == 300
        expected = Counter({kind: server.counts[kind] for kind in ("429", "500", "malformed")})
        assert lm.counts.retries == expected + Counter(connection=server.counts["cut"])
        assert min(lm.counts.retries.values()) > 0

    def test_a_redirection_is_not_followed(self, server, monkeypatch):
        monkeypatch.setenv("MY_KEY", "sk-hush")
        moved = ApiServer(lambda body: "stolen")
        with moved:
            server.faults = lambda request: Fault("moved", message=f"{moved.url}/chat/completions")
            with pytest.raises(LanguageModelError, match="HTTP 307 after 1 attempt"):
                client(server, key_env="MY_KEY").generate(CHATS[:1], Sampling(2))
            assert moved.counts["requests"] == 0


class TestKeys:
    KEY = "sk-very-secret-0123456789"

    def test_the_server_is_shown_the_key(self, server, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", f" {self.KEY}\n")
        client(server).generate(CHATS[:1], Sampling(2))
        assert server.requests[0].headers["authorization"] == f"Bearer {self.KEY}"

    def test_no_key_where_there_is_none(self, server, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        client(server).generate(CHATS[:1], Sampling(2))
        assert "authorization" not in server.requests[0].headers

    def test_nobody_else_is_shown_the_key(self, server, monkeypatch, caplog, tmp_path):
        monkeypatch.setenv("MY_KEY", self.KEY)
        server.faults = lambda request: Fault("refused", message=f"incorrect key: {self.KEY}, {self.KEY!r}")
        with caplog.at_level(logging.DEBUG):
            lm = client(server, key_env="MY_KEY", cache=str(tmp_path / "answers.sqlite"))
            with pytest.raises(LanguageModelError, match=r"incorrect key: \*\*\*, '\*\*\*'") as caught:
                lm.generate(CHATS[:1], Sampling(2))
            server.faults = None
            lm.generate(CHATS[:1], Sampling(2))
        error: BaseException | None = caught.value
        while error is not None:
            assert self.KEY not in repr(error) + str(vars(error))
            error = error.__cause__ or error.__context__
        shown = [repr(lm), str(vars(lm)), str(vars(lm._calls)), lm.name, str(lm.counts), caplog.text]
        assert not [text for text in shown if self.KEY in text]
        assert not [file for file in tmp_path.iterdir() if self.KEY.encode() in file.read_bytes()]

    @pytest.mark.parametrize("before", range(150, 200, 7))
    def test_no_part_of_the_key_is_shown_where_an_answer_is_cut(self, server, monkeypatch, before):
        monkeypatch.setenv("MY_KEY", self.KEY)
        monkeypatch.setattr(
            ApiServer, "answer", lambda self, request: {"said": "x" * before + TestKeys.KEY + "y" * 900}
        )
        with pytest.raises(LanguageModelError, match="no choices") as caught:
            client(server, key_env="MY_KEY").generate(CHATS[:1], Sampling(2))
        assert self.KEY[:6] not in str(caught.value)

    def test_a_key_that_is_missing(self, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(ValueError, match="variable OPENAI_API_KEY holds no key: export OPENAI_API_KEY="):
            OpenAILM("gpt-x", "https://api.openai.com/v1")
        with pytest.raises(ValueError, match="variable MY_KEY holds no key"):
            OpenAILM("gpt-x", "http://127.0.0.1:9/v1", key_env="MY_KEY")

    def test_a_key_that_is_none(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-hush\nX-Other: 1")
        with pytest.raises(ValueError, match="characters that no key has") as caught:
            OpenAILM("gpt-x", "https://api.openai.com/v1")
        assert "hush" not in str(caught.value)


class TestCache:
    def test_what_was_answered_is_not_asked_again(self, server, tmp_path):
        options = {"cache": str(tmp_path / "answers.sqlite")}
        sampled: Any = {"sampling": Sampling(8, 1.0), "seeds": [1, 2, 3, 4]}
        first = client(server, **options)
        said = first.generate(CHATS, Sampling(8)), first.generate(CHATS, **sampled)
        asked = server.counts["requests"]
        again = client(server, **options)
        assert (again.generate(CHATS, Sampling(8)), again.generate(CHATS, **sampled)) == said
        assert server.counts["requests"] == asked == 8
        assert (again.counts.hits, again.counts.requests, again.counts.prefilled) == (8, 0, 0)

    def test_everything_that_matters_is_in_the_key(self, server, tmp_path):
        lm = client(server, cache=str(tmp_path / "answers.sqlite"))
        lm.generate(CHATS[:1], Sampling(8))
        elsewhere = OpenAILM("other", server.url, cache=str(tmp_path / "answers.sqlite"))
        others: list[tuple[OpenAILM, dict[str, Any]]] = [
            (elsewhere, {"prompts": CHATS[:1], "sampling": Sampling(8)}),
            (lm, {"prompts": CHATS[1:2], "sampling": Sampling(8)}),
            (lm, {"prompts": CHATS[:1], "sampling": Sampling(7)}),
            (lm, {"prompts": CHATS[:1], "sampling": Sampling(8, 0.5), "seeds": [1]}),
            (lm, {"prompts": CHATS[:1], "sampling": Sampling(8, 0.5), "seeds": [2]}),
            (lm, {"prompts": CHATS[:1], "sampling": Sampling(8, 0.5, 0.5), "seeds": [2]}),
            (lm, {"prompts": CHATS[:1], "sampling": Sampling(8), "schema": SCHEMA}),
        ]
        for count, (model, arguments) in enumerate(others, start=2):
            model.generate(**arguments)
            assert server.counts["requests"] == count
        assert lm.counts.hits == 0

    def test_a_failure_loses_nothing_that_was_paid_for(self, server, tmp_path):
        server.faults = lambda request: "500" if "<p70>" in str(request.body) else None
        options = {"cache": str(tmp_path / "answers.sqlite")}
        with pytest.raises(LanguageModelError):
            client(server, **options).generate(CHATS, Sampling(4))
        answered, server.faults = server.counts["ok"], None
        lm = client(server, **options)
        assert len(lm.generate(CHATS, Sampling(4))) == 4
        assert (lm.counts.hits, lm.counts.requests) == (answered, 4 - answered)
        assert answered == 3, "those under way when one failed"

    def test_answers_may_be_retracted(self, server, tmp_path):
        lm = client(server, cache=str(tmp_path / "answers.sqlite"))
        lm.generate(CHATS, Sampling(4), schema=SCHEMA)
        lm.retract(CHATS[:1], Sampling(4), schema=SCHEMA)
        lm.generate(CHATS, Sampling(4), schema=SCHEMA)
        assert (lm.counts.hits, lm.counts.requests) == (3, 5)


class TestCounts:
    def test_tokens_and_money(self, server, tiny):
        lm = client(server, price_in=2.0, price_out=10.0)
        lm.generate(CHATS, Sampling(5))
        prompts = sum(map(len, tiny.encode(CHATS)))
        assert (lm.counts.prefilled, lm.counts.generated) == (prompts, 20)
        assert lm.counts.cost == pytest.approx((2 * prompts + 10 * 20) / 1e6)
        lm.counts.reset()
        assert (lm.counts.requests, lm.counts.cost, lm.counts.retries) == (0, 0.0, {})

    def test_what_was_of_no_use_is_paid_for_too(self, server):
        server.faults = lambda request: "filter"
        lm = client(server)
        with pytest.raises(LanguageModelError):
            lm.generate(CHATS[:1], Sampling(5))
        assert lm.counts.generated == 5


class TestVllm:
    """What only vLLM's server can do."""

    @pytest.fixture
    def remote(self, vllm):
        return client(vllm, prefix=str(STEERABLE), dtype="float32")

    @pytest.mark.parametrize("position", ["end", "start"])
    def test_steering_there_is_steering_here(self, remote, steerable, position):
        actions = np.random.default_rng(0).uniform(-1, 1, (8, 16)).astype(np.float32)
        prefixes = load_prefix("steer", remote)(actions, np.zeros((8, 0)))
        prompts = CHATS * 2
        here = steerable.generate(prompts, Sampling(), prefixes=prefixes, position=position)
        there = remote.generate(prompts, Sampling(), prefixes=prefixes, position=position)
        assert [(one.text, one.tokens, one.stop) for one in there] == [(x.text, x.tokens, x.stop) for x in here]
        assert len({one.text for one in there}) > 4, "actions are heard"
        for one, other in zip(there, here, strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)

    def test_unsteered_replies(self, remote, steerable, vllm):
        here, there = (lm.generate(CHATS, Sampling()) for lm in (steerable, remote))
        assert [(one.text, one.tokens) for one in there] == [(one.text, one.tokens) for one in here]
        assert {request.path for request in vllm.requests} == {"/v1/completions"}

    def test_scores_that_nobody_wants_are_not_asked_for(self, remote, vllm):
        asked = client(vllm, prefix=str(STEERABLE), dtype="float32", logprobs=False)
        said = asked.generate(CHATS, Sampling())
        assert [one.text for one in said] == [one.text for one in remote.generate(CHATS, Sampling())]
        assert all(one.logprobs == () for one in said)

    def test_maps_belong_to_the_model_wherever_it_runs(self, remote, steerable, tiny):
        assert remote.fingerprint() == steerable.fingerprint() != tiny.fingerprint()
        there, here = load_prefix("pca", remote), load_prefix("pca", steerable)
        assert isinstance(there, PcaMap)
        assert isinstance(here, PcaMap)
        assert bool((there.components == here.components).all())

    def test_prefixes_that_do_not_fit(self, remote):
        with pytest.raises(ValueError, match=r"expected prefixes of shape \(4, prefix tokens, 96\)"):
            remote.generate(CHATS, Sampling(), prefixes=np.zeros((4, 2, 95)))
        with pytest.raises(ValueError, match="must be finite"):
            remote.generate(CHATS, Sampling(), prefixes=np.full((4, 2, 96), np.nan))

    def test_prefixes_are_in_the_key_of_an_answer(self, vllm, tmp_path):
        lm = client(vllm, prefix=str(STEERABLE), cache=str(tmp_path / "answers.sqlite"))
        prefixes = np.random.default_rng(0).normal(size=(1, 2, 96)).astype(np.float32)
        for changed in (prefixes, -prefixes, None, prefixes):
            lm.generate(CHATS[:1], Sampling(4), prefixes=changed)
        lm.generate(CHATS[:1], Sampling(4), prefixes=prefixes, position="start")
        assert (lm.counts.requests, lm.counts.hits) == (4, 1)

    @pytest.mark.parametrize("tokenizer", ["here", "there"])
    def test_scoring_a_text(self, vllm, steerable, tokenizer):
        lm = client(vllm, prefix=str(STEERABLE)) if tokenizer == "here" else client(vllm, server="vllm")
        texts: list[Any] = ["deal!", "no, <p70> is my last word.", steerable.generate(CHATS, Sampling())[2].tokens, ""]
        there, here = lm.logprobs(CHATS, texts), steerable.logprobs(CHATS, texts)
        assert [len(one) for one in there] == [len(one) for one in here]
        for one, other in zip(there, here, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
        assert lm.logprobs([], []) == []

    @pytest.mark.parametrize(
        "odd", [[None], [None] * 99, [None, *[{"0": {"logprob": -1.0}}] * 99], [None, *[{}] * 99]]
    )
    def test_a_table_of_other_tokens_is_a_malformed_answer(self, vllm, monkeypatch, odd):
        proper = ApiServer.answer

        def answer(self, request):
            found = proper(self, request)
            if request.body["prompt"][-2:] == asked:
                found["choices"][0]["prompt_logprobs"] = odd
            return found

        monkeypatch.setattr(ApiServer, "answer", answer)
        asked = [7, 9]
        with pytest.raises(LanguageModelError, match="prompt 1 of the batch: malformed after 3 attempts") as caught:
            client(vllm, prefix=str(STEERABLE)).logprobs(CHATS[:2], [[7, 8], asked])
        assert caught.value.prompt == 1

    def test_a_server_that_is_not_vllms(self):
        with (
            ApiServer(lambda body: "yes", faults=lambda request: "refused") as server,
            pytest.raises(LanguageModelError, match="HTTP 400"),
        ):
            client(server, server="vllm").logprobs(CHATS[:1], ["yes"])


def test_ctrl_c_stops_at_once(server):
    server.faults = lambda request: "timeout"
    code = f"""
import threading
from dialog_gym.lm import Sampling, load
lm = load("openai:tiny@{server.url}?timeout=600")
threading.Timer(0.1, print, ["asking"], {{"flush": True}}).start()
lm.generate([[{{"role": "user", "content": str(i)}}] for i in range(40)], Sampling(4))
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "asking\n"
    while not server.counts["requests"]:
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "KeyboardInterrupt" in said
    assert "Unclosed" not in said


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_asks_for_itself(server):
    lm = client(server)
    (said,) = lm.generate(CHATS[:1], Sampling(4))
    answers: Any = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: answers.put(lm.generate(CHATS[1:2], Sampling(4))[0].text)
    )
    child.start()
    assert answers.get(timeout=60) == load("tiny").generate(CHATS[1:2], Sampling(4))[0].text
    child.join(timeout=60)
    assert child.exitcode == 0
    assert lm.generate(CHATS[:1], Sampling(4)) == [said]


def test_the_server_speaks_the_protocol_as_the_official_client_has_it(server, tiny):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as official:
        said = official.chat.completions.create(
            model="tiny", messages=CHATS[0], max_tokens=8, temperature=0, logprobs=True
        )
        (expected,) = tiny.generate(CHATS[:1], Sampling(8))
        assert said.choices[0].message.content == expected.text
        assert [token.logprob for token in said.choices[0].logprobs.content] == pytest.approx(expected.logprobs)
        server.faults = lambda request: Fault("429", message="slow down")
        with pytest.raises(openai.RateLimitError, match="slow down"):
            official.chat.completions.create(model="tiny", messages=CHATS[0])
