"""Model specs: what they say, and what is refused."""

from pathlib import Path

import pytest

from dialog_gym.lm import load
from dialog_gym.lm.spec import Spec, arguments, parse


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("tiny", Spec("tiny", "tiny", "", {})),
        ("tiny-bargain?device=cpu", Spec("tiny", "tiny-bargain", "", {"device": "cpu"})),
        ("hf:org/name", Spec("hf", "org/name", "", {})),
        ("hf:o/name?dtype=auto&device=cuda:1", Spec("hf", "o/name", "", {"dtype": "auto", "device": "cuda:1"})),
        ("vllm:org/name@main", Spec("vllm", "org/name@main", "", {})),
        ("openai:gpt-x@https://host/v1", Spec("openai", "gpt-x", "https://host/v1", {})),
        ("openai:gpt-x@https://host/v1/", Spec("openai", "gpt-x", "https://host/v1", {})),
        ("openai:@cf/meta/llama@http://[::1]:8000/v1", Spec("openai", "@cf/meta/llama", "http://[::1]:8000/v1", {})),
        ("openai:ft:g::id@https://h:1/v1?timeout=5", Spec("openai", "ft:g::id", "https://h:1/v1", {"timeout": "5"})),
        ("openai:what?model@https://h/v1?attempts=1", Spec("openai", "what?model", "https://h/v1", {"attempts": "1"})),
        ("openai:m@https://h/v1?cache=a%26b%3F.sqlite", Spec("openai", "m", "https://h/v1", {"cache": "a&b?.sqlite"})),
    ],
)  # fmt: skip
def test_what_a_spec_says(text, spec):
    assert parse(text) == spec


def test_a_folder_is_a_model_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd?dtype=none").mkdir()
    assert parse("odd?dtype=none") == Spec("hf", "odd?dtype=none", "", {})
    assert parse("hf:odd?dtype=none") == Spec("hf", "odd?dtype=none", "", {})
    assert parse("odd?dtype=none?dtype=float16") == Spec("hf", "odd?dtype=none", "", {"dtype": "float16"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown language model ''"),
        ("tinny", "did you mean 'tiny'"),
        ("hf:", "unknown language model 'hf:'"),
        ("gpt-x@https://host/v1", "expected 'tiny'.*'openai:MODEL@URL'"),
        ("openai:gpt-x", "for instance 'openai:gpt-x@https://api.openai.com/v1', got 'openai:gpt-x'"),
        ("openai:@https://host/v1", "named 'openai:MODEL@URL'"),
        ("openai:gpt-x@https://", "named 'openai:MODEL@URL'"),
        ("openai:gpt-x@ftp://host", "named 'openai:MODEL@URL'"),
        ("hf:name?dtype", "look like .NAME=VALUE&NAME=VALUE, got 'dtype' without a value"),
        ("hf:name?dtype=", "got 'dtype' without a value"),
        ("hf:name?dtype=a&dtype=b", "option 'dtype' is given twice"),
    ],
)
def test_what_is_no_spec(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["openai:m@https://me:hush@host/v1", "openai:m@https://host/v1?key=hush&b"])
def test_no_password_is_repeated(text):
    with pytest.raises(ValueError, match=r"got 'b'|must hold no password") as caught:
        parse(text)
    assert "hush" not in str(caught.value)


class TestArguments:
    def make(
        self, name: str, *, times: int = 1, share: float | None = None, loud: bool = False, who: str = ""
    ) -> None:
        """Take every type there is."""

    def given(self, **options: str):
        return arguments(self.make, options, ("name",))

    def test_values_have_the_types_that_are_declared(self):
        found = self.given(times="3", share="1e-3", loud="True", who="3")
        assert found == {"times": 3, "share": 0.001, "loud": True, "who": "3"}
        assert [type(value) for value in found.values()] == [int, float, bool, str]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"time": "3"}, r"no option 'time'; did you mean 'times'\? \(it has loud, share, times, who\)"),
            ({"name": "x"}, "no option 'name'"),
            ({"times": "3.5"}, "'times' must be a whole number, got '3.5'"),
            ({"share": "half"}, "'share' must be a number"),
            ({"loud": "1"}, "'loud' must be true or false"),
        ],
    )
    def test_what_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.given(**options)

    def test_what_takes_anything_gets_numbers_as_numbers(self):
        def make(name: str, **rest: object) -> None:
            """Take whatever comes."""

        found = arguments(make, {"size": "2", "share": "0.5", "fast": "true", "kind": "big"}, ("name",))
        assert found == {"size": 2, "share": 0.5, "fast": True, "kind": "big"}


def test_options_reach_the_backend():
    assert str(load("tiny?dtype=bfloat16").dtype) == "torch.bfloat16"  # type: ignore[attr-defined]
    assert str(load("tiny", dtype="bfloat16").dtype) == "torch.bfloat16"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no option 'dtpe'; did you mean 'dtype'"):
        load("tiny?dtpe=bfloat16")
    with pytest.raises(ValueError, match="no option 'concurency'; did you mean 'concurrency'"):
        load("openai:m@http://127.0.0.1:9/v1?concurency=3")


def test_one_model_is_loaded_once():
    spec = "openai:m@http://127.0.0.1:9/v1"
    one = load(spec)
    assert load(spec) is one
    assert load(spec + "?timeout=3") is not one


def test_the_models_in_the_package_run_on_any_backend_in_this_process():
    hello = [[{"role": "user", "content": "hello"}]]
    (plain,), (by_name,) = load("tiny").embed(hello), load("hf:tiny?dtype=float32").embed(hello)
    assert by_name.tolist() == pytest.approx(plain.tolist(), abs=1e-5)
