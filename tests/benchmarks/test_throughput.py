import json
import time
from functools import partial

import gymnasium as gym
import pytest

from dialog_gym.benchmarks import throughput
from dialog_gym.benchmarks.raw_generation import BareLoop, Load, Replay, watch
from dialog_gym.benchmarks.throughput import Echo, Line, Rate, Settings, Stopwatch
from dialog_gym.env import DialogueVectorEnv
from dialog_gym.lm import WEIGHTS, load
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.transformers_lm import TransformersLM


@pytest.fixture(scope="module")
def report():
    return throughput.measure(Settings(rows=3, repeats=1, steps=2))


def line(report, what):
    (found,) = [line for line in report["lines"] if line["what"] == what]
    return found


def test_every_figure_is_measured(report):
    assert [line["what"] for line in report["lines"] if not line["cpu"] > 0] == ["torch imported by them"]
    assert report["per_reply"]["generated"] > 0
    assert sum(report["shares"].values()) == pytest.approx(1.0)
    assert set(report["versions"]) >= {"python", "commit", "torch", "gymnasium"}
    json.dumps(report)


def test_aims_stand_beside_the_figures(report):
    aims = [(line["what"].partition(":")[0], line["aim"]) for line in report["lines"] if line["aim"]]
    assert aims == [
        ("prefix", ">= 8"),
        ("tokens generated", ">= 0.85"),
        ("tokens generated", ">= 0.85"),
        ("tokens generated", ">= 0.8"),
        ("tokens processed", ">= 0.8"),
        ("engine alone", "<= 8"),
        ("engine alone", ">= 200000"),
        ("Bargain-v0", ">= 30000"),
        ("both", "<= 0.5"),
        ("torch imported by them", "<= 0"),
    ]


def test_ratios_are_those_of_the_rates(report):
    one, ours = (line(report, f"prefix: ({name}")["cpu"] for name in ("a) one dialogue", "c) ours, 3 rows"))
    assert line(report, "prefix: (c)/(a)")["cpu"] == pytest.approx(ours / one)
    made, bare = (line(report, f"tokens processed: ({name}")["cpu"] for name in ("c) ours", "d) bare loop"))
    assert line(report, "tokens processed: (c)/(d)")["cpu"] == pytest.approx(made / bare)


def test_tokens_per_second_are_steps_per_second_times_tokens_per_step(report):
    steps = line(report, "prefix: (c) ours, 3 rows")["cpu"]
    load = report["per_reply"]
    assert line(report, "tokens generated: (c) ours, all its time")["cpu"] == pytest.approx(steps * load["generated"])
    processed = steps * (load["generated"] + load["fed"])
    assert line(report, "tokens processed: (c) ours")["cpu"] == pytest.approx(processed)


@pytest.mark.parametrize(("aim", "value", "met"), [(">= 8", 8.0, True), ("<= 8", 8.1, False), ("", 1.0, None)])
def test_an_aim_is_met_on_its_own_side(aim, value, met):
    assert Line("speed", "", value, None, aim).met is met


@pytest.mark.parametrize(("mode", "turns"), [("disabled", 24), ("next_step", 22)])
def test_steps_in_which_a_row_begins_anew_are_no_turns(mode, turns):
    env = DialogueVectorEnv(Echo(), 2, autoreset_mode=mode)  # ten turns each
    assert throughput.together(env, throughput.phrases(2, 12)) == turns


def test_one_dialogue_begins_anew_where_it_ends():
    env = gym.make("dialog_gym/Bargain-v0")
    assert throughput.singly(env, ["Goodbye."] * 3) == 3


def test_the_bare_loop_does_what_it_is_asked_for():
    lm = load("tiny-bargain")
    assert isinstance(lm, TransformersLM)
    bare = BareLoop(lm, 2, Load(5.4, 3.6, 2.5, 4.0, 0, 0, []), replies=3)
    assert (bare.cached, bare.fed, bare.generated, bare.passes) == (5, 4, 2, 4)
    assert bare.decode() == 3 * 2 * 2
    assert bare.cache.get_seq_length() == 5 + 4 - 1 + 2
    assert bare.feed_and_decode() == 3 * 2 * (4 + 2)
    assert bare.cache.get_seq_length() == 5 + 4 + 2 - 1  # the last token is drawn and not fed
    assert bare.wait_for_longest() == 3 * 2 * (4 + 2)
    assert bare.cache.get_seq_length() == 5 + 4 + 4 - 1


def test_a_replay_has_the_prompts_and_lengths_of_the_roll_out():
    lm = TransformersLM.from_pretrained(WEIGHTS / "tiny", device="cpu")
    prompts = [[{"role": "user", "content": "hello " * n}] for n in (1, 3)]
    replies = []

    def job():
        replies.extend(lm.generate(prompts, Sampling(8)))
        return 2

    asked = watch(lm, job)
    lengths = [len(reply.tokens) for reply in replies]
    assert asked.batches == [(lm.encode(prompts), lengths)]
    assert (asked.generated, asked.replies) == (sum(lengths) / 2, 2)
    replay = Replay(lm, asked.batches)
    assert replay.generate() == replay.loop() == sum(lengths)


def test_a_stopwatch_charges_each_second_once(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 6.0])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    watch = Stopwatch()
    inner = watch.timed("inner", lambda: None)
    watch.timed("outer", inner)()
    assert watch.seconds == {"inner": 3.0, "outer": 3.0}


def test_jobs_alternate_and_the_median_counts(monkeypatch):
    now, calls = [0.0], []
    costs = {"a": iter([9.0, 1.0, 4.0, 2.0]), "b": iter([1.0] * 4)}  # the first is the warm-up
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    monkeypatch.setattr(time, "perf_counter", lambda: 2 * now[0])

    def job(name):
        calls.append(name)
        now[0] += next(costs[name])
        return 8

    rates = throughput.alternate({name: partial(job, name) for name in "ab"}, 3)
    assert calls == ["a", "b"] * 4
    assert rates == {"a": Rate(4.0, 2.0), "b": Rate(8.0, 4.0)}


def test_nothing_can_be_measured_zero_times():
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        Settings(rows=0)
    with pytest.raises(ValueError, match="repeats must be at least 1, got -1"):
        Settings(repeats=-1)


def test_the_command_prints_a_table_with_aims(report, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "measure", lambda settings: report)
    throughput.main(["--rows", "3"])
    printed = capsys.readouterr().out
    assert "prefix: (c)/(a)" in printed
    assert ">= 200000" in printed
    assert "load average" in printed
    throughput.main(["--json"])
    assert json.loads(capsys.readouterr().out)["lines"] == json.loads(json.dumps(report["lines"]))


def test_the_command_answers_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        throughput.main(["--help"])
    assert "--rows" in capsys.readouterr().out
