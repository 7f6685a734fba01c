import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from dialog_gym.agents.lm_tokens import batch_of
from dialog_gym.benchmarks import lm_training
from dialog_gym.benchmarks.lm_training import Settings, contestants, labelled, logged, training_of
from dialog_gym.benchmarks.throughput import Line

TINY = Settings(dialogues=4, batch=2, updates=1, contexts=2, n=2, repeats=1, memory=False)


@pytest.fixture(scope="module")
def data():
    with logged(TINY) as folder:
        yield folder


def test_transformers_has_the_same_loss_on_the_same_tokens(data):
    training = training_of("dt", TINY, data)
    batch, network = batch_of(training.train_rows[:3]), training.agent.network
    tokens, labels = labelled(batch)
    assert int((labels != -100).sum()) == len(batch.actions)
    with torch.no_grad():
        theirs = network.plain(input_ids=tokens, labels=labels).loss
        ours = F.cross_entropy(network(batch.tokens, batch.positions, batch.where).logits, batch.actions)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["tf", "ilql", "ppo"])
def test_every_contestant_does_the_same_again_and_again(data, method):
    jobs = contestants(method, TINY, data)
    assert list(jobs) == ["ours", "the same network", "transformers"]
    assert len({job() for job in (*jobs.values(), jobs["ours"])}) == 1


def test_the_report_tells_ratios_and_aims(data, monkeypatch):
    monkeypatch.setattr(lm_training, "peak_of", lambda method, side, settings: 2e6)
    lines = list(lm_training.training_lines("dt", Settings(**{**asdict(TINY), "memory": True}), data))
    rates = {line.what: line.cpu for line in lines}
    assert rates["dt: ours / the same network"] == pytest.approx(rates["dt: ours"] / rates["dt: the same network"])
    assert rates["dt: peak memory, ours"] == 2.0
    assert [line.aim for line in lines if line.aim] == [">= 0.85"]
    console = Console(record=True, width=120)
    told = [{**line._asdict(), "met": line.met} for line in [*lines, Line("a", "", 0.5, None, ">= 0.85")]]
    lm_training.show({"lines": told, "load_average": None}, console)
    assert "NO" in console.export_text()


def test_candidates_stand_beside_raw_generation(data):
    lines = {line.what: line for line in lm_training.candidate_lines(TINY, data)}
    for by in ("beam", "sample"):
        assert lines[f"candidates by {by}: ratio"].aim == ">= 0.85"
        assert lines[f"candidates by {by}: ours"].cpu > 0


def test_memory_is_that_of_a_process_and_not_of_whom_it_was_started_by():
    code = "import torch; from dialog_gym.benchmarks.lm_training import most_memory as most; before = most()"
    code += "; held = torch.ones(50_000_000); print(most() - before)"
    held = torch.ones(100_000_000)  # 400 MB here, 200 MB there
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert float(done.stdout) == pytest.approx(200e6, rel=0.2)
    assert len(held) == 100_000_000


def test_the_memory_of_a_contestant_is_told(capsys):
    lm_training.own_peak(json.dumps({"method": "tf", "side": "transformers", "settings": asdict(TINY)}))
    assert float(capsys.readouterr().out) >= 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"methods": ("sac",)}, "no method named 'sac'"), ({"repeats": 0}, "repeats must be"), ({"batch": 3}, "divide")],
)
def test_what_cannot_be_measured_is_refused(settings, message):
    with pytest.raises((ValueError, KeyError), match=message):
        Settings(**settings)
