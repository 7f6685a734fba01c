"""Shaping by a potential leaves the best policy and every return as they were; another bonus does not.

Shown by exact dynamic programming on all dialogues of a small game: two things to say, two answers by chance.
"""

import numpy as np
import pytest

from dialog_gym.dialogue import Draws
from dialog_gym.rewards import Reward, Success, potential
from dialog_gym.rewards.base import checked
from tests.rewards.tables import DIALOGUES, Table, talk

GAMMA = 0.9
SAYS, ANSWERS, TURNS = ("yes", "no"), ("fine", "hm"), 4


def chance(pairs, said):
    """Return the probability of the first answer."""
    return Draws("chance", *(word for pair in pairs for word in pair), said).uniform(0.1, 0.9)


def after(pairs, said, answer):
    """Return the pairs afterwards, and why the dialogue is over, if it is."""
    following = (*pairs, (said, answer))
    if said == "no" and answer == "fine":
        return following, "left"
    return following, "max_turns" if len(following) == TURNS else ""


class Earned(Reward):
    """What the game pays: something for every turn and more at the end, unlike for every dialogue."""

    name, low, high = "earned", -1.0, 2.0

    def __call__(self, dialogues):
        drawn = [Draws("pay", *(turn.text for turn in d.turns)) for d in dialogues]
        ends = [bool(d.stop_reason) for d in dialogues]
        return np.array([draws.uniform(-1, 1 + over) for draws, over in zip(drawn, ends, strict=True)], np.float32)


def solve(reward, gamma=GAMMA, beyond=None):
    """Return the value of both actions in every dialogue that goes on, by exact dynamic programming.

    With ``beyond``, a truncated dialogue is worth what it says, as agents believe that bootstrap there.
    """
    values: dict[tuple[tuple[str, str], ...], list[float]] = {}

    def best(pairs):
        found = []
        for said in SAYS:
            first = chance(pairs, said)
            value = 0.0
            for answer, probability in zip(ANSWERS, (first, 1 - first), strict=True):
                following, stop = after(pairs, said, answer)
                (earned,) = checked(reward, [talk(*following, stop=stop)])
                if stop == "max_turns" and beyond is not None:
                    later = beyond(talk(*following, stop=stop))
                else:
                    later = 0.0 if stop else best(following)
                value += probability * (earned + gamma * later)
            found.append(value)
        values[pairs] = found
        return max(found)

    best(())
    return values


def policy(values):
    return {pairs: int(np.argmax(found)) for pairs, found in values.items()}


def phi(name):
    return Table(name, -3, 3)


@pytest.mark.parametrize("name", ["p", "q", "r"])
def test_a_potential_keeps_the_best_policy_of_every_dialogue(name):
    plain, shaped = solve(Earned()), solve(Earned() + potential(phi(name), GAMMA))
    assert len(plain) > 30
    assert policy(shaped) == policy(plain)
    for pairs, found in shaped.items():  # Q of the shaped game is Q less the potential (Ng et al., corollary 2)
        here = phi(name).at(talk(*pairs)) if pairs else 0.0
        assert found == pytest.approx([value - here for value in plain[pairs]], abs=1e-5)


@pytest.mark.parametrize("name", ["p", "q", "r"])
def test_an_agent_that_bootstraps_where_it_was_cut_needs_the_potential_there(name):
    worth = Table("worth", -2, 2)
    plain = policy(solve(Earned(), beyond=worth.at))

    def shaped(dialogue):  # the value it would learn there
        return worth.at(dialogue) - phi(name).at(dialogue)

    assert policy(solve(Earned() + potential(phi(name), GAMMA, bootstrapped=True), beyond=shaped)) == plain
    assert policy(solve(Earned() + potential(phi(name), GAMMA), beyond=shaped)) != plain


@pytest.mark.parametrize("name", ["p", "q", "r"])
def test_a_bonus_that_is_no_potential_changes_it(name):
    assert policy(solve(Earned() + phi(name))) != policy(solve(Earned()))
    # Differences that forget that a dialogue which is over is worth nothing are no potential either.
    assert policy(solve(Earned() + phi(name).per_turn())) != policy(solve(Earned()))


def test_the_discount_must_be_the_agents():
    assert policy(solve(Earned() + potential(phi("p"), 0.3))) != policy(solve(Earned()))


@pytest.mark.parametrize(("gamma", "start"), [(1.0, 0.0), (0.9, 0.0), (0.9, 1.5)])
def test_returns_telescope_to_the_negative_start(gamma, start):
    shaping = potential(phi("p"), gamma, start=start)
    for stop in ("left", "max_turns"):
        pairs = [("a", "b"), ("c", ""), ("e", "f"), ("g", "h")]
        for turns in range(1, 5):
            states = [talk(*pairs[:n], stop=stop if n == turns else "") for n in range(1, turns + 1)]
            given = checked(shaping, states)
            assert sum(gamma**k * f for k, f in enumerate(given)) == pytest.approx(-start, abs=1e-5)


def test_by_hand():
    words = Reward.of(lambda d: len(d.turns) / 10, "turns", 0, 1)
    shaping = potential(words, 0.5)
    goes_on, over, cut = (talk(("a", "b"), ("c", "d"), stop=stop) for stop in ("", "deal", "max_turns"))
    assert checked(shaping, [goes_on, over, cut]) == pytest.approx([0.5 * 0.4 - 0.2, -0.2, -0.2])
    assert checked(potential(words, 0.5, bootstrapped=True), [over, cut]) == pytest.approx([-0.2, 0.0])
    assert shaping.scored([goes_on]).terms["turns"].tolist() == pytest.approx([0.4])
    assert (shaping.low, shaping.high) == (-1, 0.5)


def test_the_range_is_never_left():
    shaping = potential(Table("t", 2, 3), 0.7, start=1)
    assert [shaping.low, shaping.high] == pytest.approx([-3, 0.7 * 3 - 1])
    checked(shaping, DIALOGUES)


def test_bad_arguments():
    def hope(dialogue):
        return 0.5

    assert potential(hope, 1, low=0, high=1).terms == ("hope",)
    with pytest.raises(ValueError, match="a potential that is a function needs its range"):
        potential(hope, 1)
    with pytest.raises(ValueError, match="gamma must be above 0 and at most 1, got 0"):
        potential(Success(), 0)
    with pytest.raises(ValueError, match="is a reward and declares its range; leave out low and high"):
        potential(Success(), 1, low=0)
