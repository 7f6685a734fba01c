"""The benchmark of backends runs on vLLM's, and raw generation does the same work."""

import pytest

from dialog_gym.benchmarks.backends import Rollout, Settings, measure, raw_ways
from dialog_gym.lm import load


@pytest.mark.parametrize("prefix", ["", "steer"])
def test_engine_and_server_are_measured(engine, server, folder, prefix):
    specs = {
        engine.name: {"LLM.generate, texts", "LLM.generate, ids"},
        f"openai:steerable@{server}?prefix={folder}&dtype=float32": {"requests"},
    }
    for spec, ways in specs.items():
        report = measure(Settings(spec, rows=(4,), steps=2, repeats=1, prefix=prefix))
        assert {line["way"] for line in report["lines"]} == ways
        assert all(line["rollout"] > 0 and line["raw"] > 0 for line in report["lines"])


def test_raw_generation_makes_the_tokens_that_the_roll_out_made(engine, server, folder):
    for lm in (engine, load(f"openai:steerable@{server}?prefix={folder}&dtype=float32")):
        rollout = Rollout(Settings(steps=2), lm, 4)
        said = rollout.play(7)
        ways, _ = raw_ways(lm, 4)
        assert {way(rollout.recorder.asked)() for way in ways.values()} == {said}
