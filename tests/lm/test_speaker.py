"""Who speaks and who observes: the same model, or two."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dialog_gym.benchmarks.api_server import ApiServer
from dialog_gym.env import begin
from dialog_gym.envs.bargain import Bargain
from dialog_gym.errors import LanguageModelError, UnsupportedError
from dialog_gym.lm import WEIGHTS, load, load_prefix
from dialog_gym.lm.openai_lm import OpenAILM
from dialog_gym.lm.prefix import CloneMap
from dialog_gym.lm.speaker import Speaker
from dialog_gym.lm.wording import Wording
from dialog_gym.rollout import evaluate, language_model_policy
from tests.lm.models import lm as random_lm

TASK = Bargain()
DIALOGUES = [begin(TASK, seed) for seed in range(4)]
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (4, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def steerable():
    return load("tiny-bargain")


@pytest.fixture(scope="module")
def remote(steerable):
    """The same model behind a server."""
    with ApiServer(steerable) as server:
        yield OpenAILM("tiny", server.url, prefix=str(WEIGHTS / "tiny-bargain"), dtype="float32", backoff=0.01)


def test_a_remote_speaker_says_what_the_local_one_does(steerable, remote):
    here = Speaker(TASK, steerable, 4, prefix="steer")
    there = Speaker(TASK, remote, 4, prefix="steer", observer=steerable)
    for actions in (ACTIONS, -ACTIONS, None):
        assert there.speak(range(4), DIALOGUES, actions) == here.speak(range(4), DIALOGUES, actions)
    np.testing.assert_array_equal(there.states(range(4), DIALOGUES), here.states(range(4), DIALOGUES))
    assert there.state_size == here.state_size == 13


def test_the_observer_reads_as_it_reads_and_the_speaker_as_it_speaks(steerable):
    """Each model is shown the dialogue in the words it knows."""
    seen: list[Any] = []

    def answer(body):
        seen.append(body["messages"])
        return "How about $20?"

    with ApiServer(answer) as server:
        speaker = Speaker(TASK, f"openai:x@{server.url}", observer=steerable)
        states = speaker.states([0], DIALOGUES[:1])
        assert speaker.speak([0], DIALOGUES[:1]) == ["How about $20?"]
    np.testing.assert_allclose(states, Speaker(TASK, steerable).states([0], DIALOGUES[:1]), atol=1e-5)
    ((brief,),) = seen
    assert "never more than $" in brief["content"]
    assert "<p" not in brief["content"]
    assert brief["content"].endswith("You talk to the seller. Say only your next words, in one or two sentences.")


def test_who_knows_the_notation(steerable, remote):
    assert not Wording(TASK, steerable).plain
    assert not Wording(TASK, remote).plain, "its tokenizer is known here"
    assert Wording(TASK, random_lm()).plain
    said = Wording(TASK, random_lm()).utterance(DIALOGUES[0], "  <p62>, deal ")
    assert said == "<p62>, deal"


def test_an_observer_without_states():
    deaf = OpenAILM("x", "http://127.0.0.1:9/v1")
    with pytest.raises(UnsupportedError, match=r"observing dialogues needs 'state', which .* 'openai:x@"):
        Speaker(TASK, "tiny", observer=deaf)
    speaker = Speaker(TASK, deaf)
    with pytest.raises(UnsupportedError, match=r"'openai:x@.* gives no state vector.*observer=.*'tiny'"):
        speaker.states([0], DIALOGUES[:1])


def test_a_map_of_states_needs_the_states_of_the_model_it_steers(steerable, remote):
    clone = CloneMap(96, 96).bind(steerable)
    for one in (Speaker(TASK, steerable, 4, prefix=clone), Speaker(TASK, remote, 4, prefix=clone, observer=steerable)):
        assert len(one.speak(range(4), DIALOGUES, ACTIONS)) == 4
    for observer in (None, "tiny"):
        with pytest.raises(ValueError, match="'clone' prefix map is made with the states of the model that it steers"):
            Speaker(TASK, remote, prefix=clone, observer=observer)


def test_a_map_without_states_asks_nobody_to_observe(remote):
    speaker = Speaker(TASK, remote, 4, prefix=load_prefix("pca", remote))
    assert len(speaker.speak(range(4), DIALOGUES, ACTIONS)) == 4


def test_the_environment_takes_an_observer(steerable, remote):
    settings: Any = {"lm": remote, "prefix": "steer", "observer": "tiny-bargain"}
    here = gym.make_vec("dialog_gym/BargainPrefix-v0", num_envs=3, autoreset_mode="disabled")
    there = gym.make_vec("dialog_gym/BargainPrefix-v0", num_envs=3, autoreset_mode="disabled", **settings)
    alone = gym.make("dialog_gym/BargainPrefix-v0", **settings)
    np.testing.assert_allclose(there.reset(seed=4)[0], here.reset(seed=4)[0], atol=1e-4)
    np.testing.assert_allclose(alone.reset(seed=4)[0], here.reset(seed=4)[0][0], atol=1e-4)
    going = True
    for act in (ACTIONS[:3], ACTIONS[1:]):
        expected, found = here.step(act), there.step(act)
        assert list(found[4]["dialogue"]) == list(expected[4]["dialogue"])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
        if going:
            single = alone.step(act[0])
            going = not single[2]
            assert single[4]["dialogue"] == expected[4]["dialogue"][0]
            np.testing.assert_allclose(single[0], expected[0][0], atol=1e-4)
    with pytest.raises(UnsupportedError, match="observer="):
        gym.make("dialog_gym/BargainPrefix-v0", lm=remote)


def test_a_failure_names_the_dialogue_and_changes_nothing():
    good, bad = DIALOGUES[:2]

    def fault(request):
        return "refused" if request.body["messages"][0]["content"].startswith(bad.scenario.public) else None

    with ApiServer(lambda body: "I offer $30.", faults=fault) as server:
        speaker = Speaker(TASK, f"openai:x@{server.url}", 2)
        with pytest.raises(
            LanguageModelError, match=rf"agent's words .* turn 1 of the dialogue with seed {bad.seed}: "
        ):
            speaker.speak([0, 1], [good, bad])
        server.faults = None
        assert speaker.speak([0, 1], [good, bad]) == ["I offer $30."] * 2


def test_a_model_without_states_plays_the_lm_baseline():
    with ApiServer(lambda body: "I offer 60%, please.") as server:
        rows: Any = gym.make_vec("dialog_gym/Bargain-v0", num_envs=4, autoreset_mode="disabled")
        score = evaluate(language_model_policy(rows, f"openai:x@{server.url}"), rows, episodes=8, seed=0, name="lm")
        assert len(score.episodes) == 8
        assert 0 < server.counts["ok"] <= 8 * TASK.max_turns
