"""TextArena's agents play our environments."""

import pytest

from dialog_gym.neighbours.textarena import EachAlone
from dialog_gym.rollout import evaluate

ta = pytest.importorskip("textarena", reason="TextArena is not installed: pip install 'dialog-gym[bench]'")

BARGAIN = "dialog_gym/Bargain-v0"


def test_an_agent_of_theirs_plays_and_is_asked_once_a_turn():
    class Buyer(ta.Agent):  # type: ignore[misc, name-defined]
        def __init__(self):
            self.seen = []

        def __call__(self, observation):
            self.seen.append(observation)
            return "I would give you $20 for it."

    buyer = Buyer()
    found = evaluate(EachAlone(buyer), BARGAIN, episodes=6, rows=3, seed=2)
    assert {turn.text for one in found.episodes for turn in one.dialogue.turns if turn.role == "buyer"} == {
        "I would give you $20 for it."
    }
    assert len(buyer.seen) == sum(one.dialogue.turn for one in found.episodes)
    first = [one.dialogue.brief("buyer") for one in found.episodes[:3]]
    assert [seen[: len(brief)] for seen, brief in zip(buyer.seen[:3], first, strict=True)] == first


def test_their_local_model_plays(tmp_path):
    pytest.importorskip("torch")
    from dialog_gym.benchmarks.random_model import PLAIN_TEMPLATE, save_random_model
    from dialog_gym.rewards.reward_model import quiet

    folder = save_random_model(tmp_path, template=PLAIN_TEMPLATE, end_every=20)
    with quiet():
        agent = ta.agents.HFLocalAgent(str(folder), device="cpu", max_new_tokens=8, hf_kwargs={})
        found = evaluate(EachAlone(agent), "dialog_gym/Chat-v0", episodes=2, rows=2)
    assert all(turn.text for one in found.episodes for turn in one.dialogue.turns)
    assert max(one.dialogue.turn for one in found.episodes) > 1


def test_failures_stop_the_roll_out():
    def broken(observation):
        raise ConnectionError("no model")

    with pytest.raises(ConnectionError, match="no model"):
        evaluate(EachAlone(broken), BARGAIN, episodes=1)
    with pytest.raises(TypeError, match=r"expected a text from .*, got NoneType"):
        evaluate(EachAlone(lambda observation: None), BARGAIN, episodes=1)  # type: ignore[arg-type, return-value]
