"""The multiplier holds the cost at the budget, does not swing, counts each episode once, and resumes exactly."""

import json

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.wrappers import PID, LagrangianWrapper, VectorLagrangianWrapper
from dialog_gym.wrappers.lagrangian import MULTIPLIER, Lagrangian
from tests.toy import GuessTask, Shouting

FAST = PID(proportional=0.5, integral=0.25, derivative=0.25, smoothing=0.0)


class ShoutTask(GuessTask):
    """One turn; shouting pays 1 and costs 1, so that all that holds it back is the budget."""

    max_turns, budget = 1, 0.2

    def __init__(self) -> None:
        super().__init__()
        self.reward = Shouting().named("paid")  # type: ignore[assignment]


def trained(pid, steps=600, rows=64, rate=2.0):
    """Return how often a policy shouts, step by step, that learns by its own rewards how often to."""
    env = VectorLagrangianWrapper(
        DialogueVectorEnv(ShoutTask(), rows, autoreset_mode="same_step"), pid=pid, every=rows
    )
    rng, inclination, often = np.random.default_rng(0), 0.0, []
    env.reset(seed=0)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-inclination))
        shouts = rng.random(rows) < p
        _, rewards, *_, infos = env.step(["HEY!" if shout else "hey" for shout in shouts])
        assert infos[MULTIPLIER].min() >= 0
        if shouts.any() and not shouts.all():  # the gradient of the mean reward
            inclination += rate * p * (1 - p) * (rewards[shouts].mean() - rewards[~shouts].mean())
        often.append(p)
    return np.array(often)


def test_the_integral_alone_swings_and_the_pid_controller_does_not():
    swinging = trained(PID(proportional=0, integral=0.5, derivative=0, smoothing=0))[300:]
    damped = trained(PID(proportional=5, integral=0.5, derivative=2, smoothing=0))[300:]
    # The mean of ten steps, so that what is compared is no luck of the draw.
    over_i, over_pid = (np.convolve(often, np.full(10, 0.1), "valid").max() - 0.2 for often in (swinging, damped))
    assert over_i > 0.4
    assert over_pid < 0.1
    assert swinging.std() > 5 * damped.std()
    assert damped.mean() == pytest.approx(0.2, abs=0.01)


def test_the_default_gains_hold_the_budget():
    often = trained(PID())[300:]
    assert often.mean() == pytest.approx(0.2, abs=0.01)
    assert often.std() < 0.05


def test_where_the_budget_is_never_met_the_multiplier_is_0():
    env = LagrangianWrapper(DialogueEnv(ShoutTask()), pid=FAST, every=1)
    for _ in range(20):
        env.reset()
        *_, info = env.step("hey")
        assert info[MULTIPLIER] == 0
    assert env.lagrangian.updates == 20


def test_the_controller_by_hand():
    control = Lagrangian(1.0, PID(proportional=0.5, integral=0.25, derivative=2, smoothing=0.5, initial=0.1), 1, 1)
    assert control.update(3.0) == pytest.approx(0.5 * 2 + (0.1 + 0.25 * 2))  # no rise yet
    assert control.update(5.0) == pytest.approx(0.5 * (4 - 1) + (0.6 + 0.25 * 4) + 2 * 1)
    assert control.update(0.0) == pytest.approx(0.5 * (2 - 1) + (1.6 - 0.25))  # a fall counts 0
    for _ in range(10):
        control.update(0.0)
    assert control.multiplier == 0
    assert control.get_state()["integral"] == 0  # what was saved up in good times is no licence


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0, 10), st.floats(0, 0.99))
def test_the_multiplier_stays_in_its_range(costs, budget, smoothing):
    control = Lagrangian(budget, PID(smoothing=smoothing, highest=7), 1, 1)
    for cost in costs:
        assert 0 <= control.update(cost) <= 7


@pytest.mark.parametrize("rescale", [False, True])
def test_the_reward_pays_for_the_cost(rescale):
    env = LagrangianWrapper(
        DialogueEnv(GuessTask()), budget=0.5, pid=PID(0.1, 0.01, 0, initial=2.0, smoothing=0), every=1, rescale=rescale
    )
    env.reset(seed=0)
    share = 1 / 3 if rescale else 1
    assert env.step("hello")[1] == pytest.approx(0.05 * share)
    _, reward, *_, info = env.step("HELLO")
    assert reward == pytest.approx((0.05 - 2 * 1) * share)
    assert (info["cost"], info[MULTIPLIER]) == (1, 2)
    _, reward, terminated, _, info = env.step("bye")
    assert terminated
    assert reward == pytest.approx(0.03 * share)
    expected = 0.1 * (1 - 0.5) + (2 + 0.01 * (1 - 0.5))
    assert info[MULTIPLIER] == 2  # of this reward; the next has another
    assert env.reset()[1][MULTIPLIER] == pytest.approx(expected)


WORDS = ["hello", "HEY!", "bye", "BYE!", "HO!", "bye", "x"]


def said(step, rows):
    return [WORDS[(3 * row + 5 * step + row * step) % len(WORDS)] for row in range(rows)]


def costs_of_episodes(mode, rows=5, steps=20):
    """Return the cost of each finished episode as the wrapper counts it, and as the dialogues say."""
    env = VectorLagrangianWrapper(
        DialogueVectorEnv(GuessTask(), rows, autoreset_mode=mode), budget=1.0, pid=FAST, every=10**6
    )
    env.reset(seed=0)
    expected, over = [], np.zeros(rows, bool)
    for step in range(steps):
        _, _, terminated, truncated, infos = env.step(said(step, rows))
        final = infos.get("final_info", infos)
        done = terminated | truncated
        expected += [
            sum(map(str.isupper, final["dialogue"][row].texts("agent"))) for row in np.flatnonzero(done & ~over)
        ]
        over = done if mode != "same_step" else over
        if mode == "disabled" and step % 3 == 2:  # some that are over begin anew, and one that goes on
            mask = over.copy()
            mask[step % rows] = True
            env.reset(options={"reset_mask": mask})
            over[mask] = False
    return env.lagrangian.get_state()["finished"], expected


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_every_episode_is_counted_once_in_every_autoreset_mode(mode):
    counted, expected = costs_of_episodes(mode)
    assert counted == expected
    assert len(counted) > 10
    assert len(set(counted)) > 1


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_rows_pay_what_they_cost(mode):
    plain = DialogueVectorEnv(GuessTask(), 4, autoreset_mode=mode)
    env = VectorLagrangianWrapper(
        DialogueVectorEnv(GuessTask(), 4, autoreset_mode=mode), budget=0.1, pid=FAST, every=3
    )
    plain.reset(seed=0)
    env.reset(seed=0)
    multipliers = set()
    for step in range(12):
        _, rewards, *_, infos = plain.step(said(step, 4))
        costs = (
            np.where(infos["_final_info"], infos["final_info"]["cost"], infos["cost"])
            if "final_info" in infos
            else infos["cost"]
        )
        _, paid, *_, infos = env.step(said(step, 4))
        assert paid.tolist() == pytest.approx((rewards - infos[MULTIPLIER] * costs).tolist())
        assert infos[f"_{MULTIPLIER}"].all()
        multipliers.add(infos[MULTIPLIER][0])
        assert len(set(infos[MULTIPLIER])) == 1
    assert len(multipliers) > (2 if mode != "disabled" else 1)


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_what_was_saved_goes_on_bit_for_bit(mode):
    def made():
        rows = DialogueVectorEnv(GuessTask(), 4, autoreset_mode=mode)
        return VectorLagrangianWrapper(rows, budget=0.3, pid=PID(smoothing=0.7), every=3)

    env = made()
    env.reset(seed=3)
    for step in range(7):
        env.step(said(step, 4))
    other = made()
    _, infos = other.set_state(json.loads(json.dumps(env.get_state())))
    assert infos[MULTIPLIER][0] == env.lagrangian.multiplier
    for step in range(7, 30):
        if mode == "disabled" and step % 4 == 0:
            mask = ~env.unwrapped.live
            env.reset(options={"reset_mask": mask})
            other.reset(options={"reset_mask": mask})
        one, two = env.step(said(step, 4)), other.step(said(step, 4))
        assert one[1].tolist() == two[1].tolist()
        assert one[4][MULTIPLIER].tolist() == two[4][MULTIPLIER].tolist()
    assert env.get_state() == other.get_state()
    assert env.lagrangian.updates > 4


def test_a_single_environment_goes_on_bit_for_bit():
    env, other = (LagrangianWrapper(DialogueEnv(GuessTask()), budget=0.3, pid=FAST, every=2) for _ in range(2))
    env.reset(seed=3)
    env.step("HELLO")
    other.reset(seed=9)
    assert other.set_state(json.loads(json.dumps(env.get_state())))[1][MULTIPLIER] == 0
    for text in ("bye", "HEY!", "BYE", "hey", "bye", "HO!", "bye"):
        one, two = env.step(text), other.step(text)
        assert one[:4] == two[:4]
        if one[2] or one[3]:
            assert env.reset()[0] == other.reset()[0]
    assert env.get_state() == other.get_state()


def test_a_steered_environment_pays_too():
    env = VectorLagrangianWrapper(
        gym.make_vec("dialog_gym/BargainPrefix-v0", num_envs=2, autoreset_mode="disabled"), budget=0.5
    )
    env.reset(seed=0)
    *_, infos = env.step(np.zeros(env.action_space.shape or (), np.float32))
    assert infos[MULTIPLIER].tolist() == [0, 0]
    assert env.get_state()["env"]["env"]["dialogues"]
    assert LagrangianWrapper(gym.make("dialog_gym/BargainPrefix-v0"), budget=0.5).reset(seed=0)[1][MULTIPLIER] == 0


def test_bad_settings():
    env = DialogueEnv(GuessTask())
    with pytest.raises(ValueError, match="the task has no budget; say what an episode may cost"):
        LagrangianWrapper(env)
    with pytest.raises(ValueError, match="the budget, a mean cost per episode, must be at least 0 and finite, got -1"):
        LagrangianWrapper(env, budget=-1)
    with pytest.raises(ValueError, match="every must be at least 1 episode, got 0"):
        LagrangianWrapper(env, budget=1, every=0)
    with pytest.raises(ValueError, match="integral must be at least 0 and finite, got -1"):
        PID(integral=-1)
    with pytest.raises(ValueError, match="a controller needs a gain above 0"):
        PID(0, 0, 0)
    with pytest.raises(ValueError, match="smoothing must be at least 0 and below 1, got 1"):
        PID(smoothing=1)
    with pytest.raises(ValueError, match=r"highest must be at least the initial multiplier 3, got 2"):
        PID(initial=3, highest=2)
    other = VectorLagrangianWrapper(DialogueVectorEnv(GuessTask(), 2), budget=1)
    with pytest.raises(ValueError, match="expected the state of 2 rows, got 1"):
        other.lagrangian.set_state(LagrangianWrapper(env, budget=1).lagrangian.get_state())
    cart = LagrangianWrapper(gym.make("CartPole-v1"), budget=1)
    cart.reset(seed=0)
    with pytest.raises(ValueError, match=r"a Lagrangian needs info\['cost'\]"):
        cart.step(0)


def test_a_budget_may_come_from_the_task():
    assert LagrangianWrapper(DialogueEnv(ShoutTask())).lagrangian.budget == 0.2


def test_the_spec_rebuilds_it_over_a_reward_and_a_cost_by_name():
    made = gym.make("dialog_gym/Bargain-v0", cost="dialog_gym.rewards:Repetition")
    wrapped = LagrangianWrapper(made, budget=0.2, pid=PID(initial=2.0), every=3)
    again = gym.make(wrapped.spec)  # type: ignore[arg-type]
    for env in (wrapped, again):
        env.reset(seed=0)
        *_, info = env.step("Hello! Would you take $80? $80? $80?")
        assert (info["lagrange_multiplier"], info["cost_terms"].keys()) == (2.0, {"repetition"})
    assert isinstance(again, LagrangianWrapper)
    assert (again.lagrangian.budget, again.lagrangian.every) == (0.2, 3)
