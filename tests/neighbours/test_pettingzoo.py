"""PettingZoo's other form of the society: agents that act in turn, by its own conversion."""

import pytest

pytest.importorskip("pettingzoo", reason="PettingZoo is not installed: pip install 'dialog-gym[pettingzoo]'")
from pettingzoo.test.seed_test import seed_test
from pettingzoo.utils import aec_to_parallel, parallel_to_aec

from dialog_gym.envs.society_parallel import SocietyParallel


def test_it_passes_the_seed_test_of_environments_in_turn():
    seed_test(lambda: parallel_to_aec(SocietyParallel(agents=4, rounds=2)), num_cycles=10)


def test_their_loop_over_agents_plays_to_the_end():
    env = parallel_to_aec(SocietyParallel(agents=4, rounds=2))  # their api_test of this form wants arrays, not texts
    env.reset(seed=1)
    turns = 0
    for name in env.agent_iter(max_iter=1000):
        seen, _, ended, cut, _ = env.last()
        assert seen in env.observation_space(name)
        env.step(None if ended or cut else "Say sorry to them.")
        turns += not (ended or cut)
    assert turns > 0
    assert turns % 4 == 0
    assert env.agents == []


def test_there_and_back_nothing_is_changed():
    ours = SocietyParallel(agents=4, rounds=2)
    back = aec_to_parallel(parallel_to_aec(SocietyParallel(agents=4, rounds=2)))
    assert ours.reset(seed=5)[0] == back.reset(seed=5)[0]
    while ours.agents:
        said = {name: f"Say sorry to them, {name}." for name in ours.agents}
        seen, rewards, *_ = ours.step(said)
        again, others, *_ = back.step(said)
        assert again == seen
        assert others == pytest.approx(rewards)
    assert back.agents == []
