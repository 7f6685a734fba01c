"""State maps: what they fit, that they stay with their model, and what a speaker observes through one."""

import json

import numpy as np
import pytest

from dialog_gym.env import begin
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm import load
from dialog_gym.lm.speaker import Speaker
from dialog_gym.lm.state_map import StateMap, load_state_map, own_state_maps
from dialog_gym.lm.tiny_corpus import befores, self_play

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(400, 5))
FACTS = STATES @ RNG.normal(size=(5, 2)) * [3.0, 0.1] + [7.0, -2.0]
MODEL = {"hidden_size": 5}


class Model:
    def __init__(self, size=5):
        self.size = size

    def fingerprint(self):
        return {"hidden_size": self.size}


@pytest.fixture(scope="module")
def shipped():
    return load("tiny-bargain")


@pytest.fixture(scope="module")
def dialogues():
    task = Bargain()
    return [begin(task, seed).said("buyer", f"would you take ${50 + seed}?") for seed in range(6)]


def test_it_tells_standardised_facts_that_are_linear_in_the_state():
    told = StateMap.fit(STATES, FACTS, MODEL, ridge=1e-6)
    assert np.allclose(told(STATES), (FACTS - FACTS.mean(0)) / FACTS.std(0), atol=1e-4)
    assert np.allclose(told.explained(STATES, FACTS), 1)


def test_noise_is_not_explained():
    noise = RNG.normal(size=(400, 1))
    fitted = StateMap.fit(STATES[:300], noise[:300], MODEL)
    assert fitted.explained(STATES[300:], noise[300:])[0] < 0.1


def test_more_ridge_means_smaller_weights():
    small, large = (StateMap.fit(STATES, FACTS, MODEL, ridge=ridge) for ridge in (1.0, 1000.0))
    assert np.linalg.norm(large.weight) < np.linalg.norm(small.weight)


@pytest.mark.parametrize(
    ("states", "facts", "match"),
    [
        (STATES[:5], FACTS[:5], "more states than their length 5"),
        (STATES, FACTS[:-1], "400 states and facts for 399"),
        (STATES, np.column_stack([FACTS[:, 0], np.ones(400)]), "fact 1 is always the same"),
    ],
)
def test_what_cannot_be_fitted_is_refused(states, facts, match):
    with pytest.raises(ValueError, match=match):
        StateMap.fit(states, facts, MODEL)


def test_a_map_round_trips_and_stays_with_its_model(tmp_path):
    made = StateMap.fit(STATES, FACTS, MODEL)
    made.save(tmp_path)
    assert np.array_equal(StateMap.load(tmp_path, Model())(STATES), made(STATES))
    with pytest.raises(ValueError, match="belongs to another language model"):
        StateMap.load(tmp_path, Model(6))


def test_a_damaged_map_is_refused(tmp_path):
    StateMap.fit(STATES, FACTS, MODEL).save(tmp_path)
    weights = tmp_path / "state.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(ValueError, match="cannot read a state map"):
        StateMap.load(tmp_path, Model())
    (tmp_path / "state.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match="cannot read a state map"):
        StateMap.load(tmp_path, Model())


def test_unknown_maps_are_refused_with_what_there_is(shipped):
    assert own_state_maps(shipped) == ["facts-bargain"]
    with pytest.raises(ValueError, match=r"comes with language model 'tiny-bargain' \(facts-bargain\), got 'fact'"):
        load_state_map("fact", shipped)


def test_a_speaker_observes_through_the_map_of_its_model_unless_told_otherwise(shipped, dialogues):
    task, rows = Bargain(), range(6)
    states = {
        state: Speaker(task, shipped, 6, state=state).states(rows, dialogues)
        for state in (None, "facts", "last", "last+mean")
    }
    width = shipped.hidden_size
    assert {name: told.shape for name, told in states.items()} == {
        None: (6, 13),
        "facts": (6, 13),
        "last": (6, width),
        "last+mean": (6, 2 * width),
    }
    assert np.array_equal(states[None], states["facts"])
    assert np.allclose(states["facts"], load_state_map("facts-bargain", shipped)(states["last+mean"]), atol=1e-5)
    assert Speaker(task, load("tiny"), state=None).state_size == 2 * load("tiny").hidden_size


def test_the_shipped_map_tells_the_facts_of_dialogues_it_has_not_seen(shipped):
    task = Bargain()
    seen = [before for _, whole in self_play([task], 60, seed=12_345) for before in befores(whole)]
    told = Speaker(task, shipped, len(seen)).states(range(len(seen)), seen)
    facts = np.stack([task.facts(dialogue) for dialogue in seen])
    correlations = [np.corrcoef(told[:, k], facts[:, k])[0, 1] for k in range(facts.shape[1])]
    assert min(correlations) > 0.8, correlations  # the least: the own limit, of which there are five
