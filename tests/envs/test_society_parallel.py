import warnings

import numpy as np
import pytest

from dialog_gym.envs.society_language import comments, say
from dialog_gym.envs.society_norms import alignment, share

pytest.importorskip("pettingzoo")
from pettingzoo.test import parallel_api_test
from pettingzoo.test.seed_test import parallel_seed_test

from dialog_gym.dialogue import Draws
from dialog_gym.envs.society_parallel import SocietyParallel


@pytest.mark.parametrize("how", [{}, {"agents": 1, "rounds": 1}, {"everywhere": True, "radius": 0.0}])
def test_the_api(how):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(SocietyParallel(**how), num_cycles=30)


def test_seeds():
    parallel_seed_test(SocietyParallel, num_cycles=20)
    env = SocietyParallel()
    first, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    again, _ = env.reset(seed=1)
    assert first == again != other


def best(env, number):
    return say(env._questions[number][1].best, Draws(3, number))


def test_a_round_by_hand():
    env = SocietyParallel(agents=9, rounds=2, setting="all_good", observer_noise=0.0)
    seen, infos = env.reset(seed=5)
    assert len(seen) == len(env.agents) == 9
    assert all(text.endswith("Draft an answer.") for text in seen.values())
    seen, rewards, ended, cut, infos = env.step(dict.fromkeys(env.agents, "Say sorry to them."))
    assert not any(ended.values()) | any(cut.values())
    for number, name in enumerate(env.agents):
        info = infos[name]
        assert len(info["peers"]) == (4 if number == 4 else 3 if number % 2 else 2)  # neighbours within 1
        feedback = seen[name].split("Peers: ")[1].split("\n")[0]
        assert len(comments(feedback)) == len(info["peers"])
        assert rewards[name] == pytest.approx(0.3 * share(info["alignment_before"]))
        assert (info["alignment_after"], info["engagement_before"]) == (0, 3)
    texts = {name: best(env, number) for number, name in enumerate(env.agents)}
    questions = [question for _, question in env._questions]
    seen, rewards, _, cut, infos = env.step(texts)
    assert all(reward == pytest.approx(0.7) for reward in rewards.values())
    assert {info["alignment_after"] for info in infos.values()} == {np.float32(7)}
    assert not any(cut.values())
    assert all(alignment(q, q.best) == 1 for q in questions)
    env.step(texts)
    *_, cut, _ = env.step(texts)
    assert all(cut.values())
    assert env.agents == []


def test_what_was_answered_is_remembered():
    env = SocietyParallel(agents=4, rounds=30)
    seen, _ = env.reset(seed=0)
    remembered = 0
    while env.agents:
        seen, *_ = env.step(dict.fromkeys(env.agents, "Talk to them."))
        remembered += sum("You said: Talk to them." in text for text in seen.values())
    assert remembered > 3


def test_the_grid_is_drawn():
    env = SocietyParallel(agents=4, setting="half_half", render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "+. +.\n-. -."


@pytest.mark.parametrize(
    ("how", "message"),
    [({"agents": 5}, "square"), ({"rounds": 0}, "rounds must be"), ({"render_mode": "human"}, "render_mode must be")],
)
def test_bad_settings(how, message):
    with pytest.raises(ValueError, match=message):
        SocietyParallel(**how)


def test_bad_actions():
    env = SocietyParallel(agents=4)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="of every agent, got None of member_3"):
        env.step(dict.fromkeys(env.agents[:3], "Hello."))
