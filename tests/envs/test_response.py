"""The embedded world of Response-v0: what is due, what it earns, and whether the world knows its own worth."""

import json
import statistics
from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.checks import check_task
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import advance, begin
from dialog_gym.envs import response_policies as policies
from dialog_gym.envs import response_rules as rules
from dialog_gym.envs.response import response
from dialog_gym.envs.response_language import cues, understand
from dialog_gym.envs.response_rules import Act, Case, Standing
from dialog_gym.envs.response_support import ATTRIBUTES, FACTS, Support, act_for, due

LAMP = Case("lamp", "broken", True, False, True, "friday")  # bought lately, must be asked for; replace; friday
BIKE = Case("bike", "charged", False, True, False, "monday")  # paid by bank, told; wait


def made(cases=(LAMP, BIKE), mood="angry", patience=4, seed=3):
    """Return a task and a dialogue about ``cases``; nobody leaves before patience is out (see ``stay``)."""
    task = Support()
    hidden = {"cases": [case._asdict() for case in cases], "mood": mood, "patience": patience}
    return task, begin(task, seed, Scenario("A shop.", {}, hidden))


def step(task, dialogue, text):
    (after,), (reward,), *_ = advance(task, [dialogue], [text])
    return after, reward


@pytest.fixture
def stay(monkeypatch):
    monkeypatch.setattr(rules, "LEAVES", dict.fromkeys(rules.MOODS, 0.0))


# --- the rules ---------------------------------------------------------------------------------


def test_the_plan_and_its_weights():
    steps = rules.plan((LAMP, BIKE))
    assert [(s.case, s.kind, s.right) for s in steps] == [
        (0, "ask", "bought"), (0, "offer", "replace"), (0, "time", "friday"), (1, "offer", "wait"),
    ]  # fmt: skip
    assert [s.weight for s in steps] == pytest.approx([0.5 / 3.25, 1 / 3.25, 0.75 / 3.25, 1 / 3.25])


@pytest.mark.parametrize(
    ("problem", "fact", "offer"),
    [
        ("late", True, "wait"), ("late", False, "replace"), ("broken", True, "replace"), ("broken", False, "repair"),
        ("wrong", True, "replace"), ("wrong", False, "voucher"), ("unwanted", True, "refund"),
        ("unwanted", False, "voucher"), ("charged", True, "refund"), ("charged", False, "wait"),
    ],
)  # fmt: skip
def test_the_policy_of_the_shop(problem, fact, offer):
    assert Case("lamp", problem, fact, True, False, "friday").solution == offer


@pytest.mark.parametrize(
    ("act", "place", "reward", "reaction"),
    [
        (Act(("bought",), tone="sorry"), 1, 0.5, "done"),
        (Act(("bought",)), 1, 0.5 * 0.4, "done"),  # plain words to the angry: .4 is left
        (Act(("bought",), tone="warm"), 1, 0.5 * (0.4 + 0.6 * 0.2), "done"),
        (Act(("bought",), days=("friday",), tone="sorry"), 1, 0.5 * 0.75, "done"),  # nobody asked for the day
        (Act(("bought",), days=("monday",), tone="sorry"), 1, 0.5 * 0.5, "done"),  # which is wrong, too
        (Act(("bought",), ("refund",), tone="sorry"), 1, 0.5 * 0.5, "done"),
        (Act(("bought",), ("replace",), ("friday",), "sorry"), 1, 0.5 * 0.5, "done"),
        (Act(("bought",), tone="sorry", words=40), 1, 0.5 * 0.9, "done"),
        (Act((), ("replace",), tone="sorry"), 2, 1.0, "done"),  # a lucky guess; the question's .5 is gone
        (Act((), ("repair",), tone="sorry"), 1, 0, "refused"),
        (Act((), ("repair", "replace"), tone="sorry"), 1, 0, "unclear"),
        (Act(("opened",), tone="sorry"), 0, 0, "asked"),
        (Act(("bought", "opened"), tone="sorry"), 0, 0, "unclear"),
        (Act((), (), ("friday",), "sorry"), 0, 0, "unclear"),
        (Act(), 0, 0, "unclear"),
    ],
)
def test_what_an_answer_earns_by_hand(act, place, reward, reaction):
    verdict = rules.judge((LAMP, BIKE), Standing(0, 0, "angry", 3), act)
    assert (verdict.place, verdict.reaction, verdict.done) == (place, reaction, reaction == "done")
    assert verdict.reward == pytest.approx(reward / 3.25)


def test_each_failure_halves_the_step_and_costs_patience(stay):
    task, dialogue = made(patience=3)
    dialogue, none = step(task, dialogue, "We are very sorry. You get a voucher.")
    assert (none, dialogue.state["tries"], dialogue.state["patience"], dialogue.state["place"]) == (0, 1, 2, 1)
    dialogue = replace(dialogue, state={**dialogue.state, "mood": "angry"})
    dialogue, half = step(task, dialogue, "We are very sorry. You get a new one.")
    assert half == pytest.approx(0.5 / 3.25)
    assert dialogue.state["tries"] == 0
    for _ in range(2):
        assert not dialogue.stop_reason
        dialogue, _ = step(task, dialogue, "")
    assert dialogue.stop_reason == "left"
    assert not dialogue.success


def test_a_whole_dialogue_by_hand(stay):
    task, dialogue = made(cases=(LAMP,))
    assert "lamp" in dialogue.turns[0].text
    earned = []
    for text in ("So sorry. When did you buy it?", "Sorry! We will replace it.", "Sorry, it will be there on Friday."):
        dialogue = replace(dialogue, state={**dialogue.state, "mood": "angry"})
        dialogue, reward = step(task, dialogue, text)
        earned.append(reward)
    assert earned == pytest.approx([0.5 / 2.25, 1 / 2.25, 0.75 / 2.25])
    assert (dialogue.stop_reason, dialogue.success) == ("solved", True)


def test_solved_but_poorly_is_no_success(stay):
    task, dialogue = made(cases=(BIKE,), mood="angry")
    dialogue, reward = step(task, dialogue, "Please wait for it.")
    assert reward == pytest.approx(0.4)
    assert (dialogue.stop_reason, dialogue.success) == ("solved", False)


def test_moods_move_and_customers_leave_as_often_as_is_told():
    task, calm, left, total = Support(), 0, 0, 0
    for seed in range(1500):
        _, dialogue = made(cases=(LAMP,), mood="angry", seed=seed)
        after, _ = step(task, dialogue, "We are very sorry. When did you buy it?")
        total += 1
        calm += after.state["mood"] == "calm"
        left += after.stop_reason == "left"
    assert calm / total == pytest.approx(rules.SOOTHED, abs=0.04)
    assert left / total == pytest.approx(0.6 * 0.03 + 0.4 * 0.2, abs=0.025)


# --- the world ---------------------------------------------------------------------------------


def test_the_checks_of_worlds_find_nothing():
    check_task(Support())


def test_the_environment_is_registered():
    env = gym.make("dialog_gym/Response-v0", split="train")
    text, info = env.reset(seed=1)
    assert "Policy" in text
    assert "customer:" in text
    assert info["reward_terms"] == {"quality": 0.0}


def test_the_policies_rank_as_they_should():
    task = Support("heldout")
    mean = {
        name: statistics.fmean(policies.play(task, policy, seed)[1] for seed in range(150))
        for name, policy in task.policies().items()
    }
    assert 0.85 < mean["oracle"] < 0.96
    assert 0.75 < mean["infers"] < mean["oracle"] - 0.03
    assert mean["infers, guesses"] < mean["infers"] - 0.05
    assert mean["constant"] < 0.2
    assert mean["random"] < 0.1
    assert mean["filler"] == mean["echo"] == 0
    assert max(mean[f"oracle, {tone}"] for tone in rules.TONES) < 0.7
    assert mean["everything"] < 0.45


def test_the_best_constant_is_the_best_of_all_constants():
    task, found = Support(), policies.best_constant("all", 7)
    best = statistics.fmean(
        policies.play(task, partial(policies.speak, found), seed)[1] for seed in range(500_000, 500_100)
    )
    for act in (Act((), ("replace",), (), "sorry"), Act((), ("refund",), ("friday",), "warm"), Act(("opened",))):
        other = statistics.fmean(
            policies.play(task, partial(policies.speak, act), seed)[1] for seed in range(500_000, 500_100)
        )
        assert other <= best


def branches(states, plays):
    """Return the world's and the Monte-Carlo worth of utterances in states that a mixed agent reached."""
    task = Support()
    names = ("oracle", "infers", "random", "oracle, plain", "everything")
    told, played = np.zeros((2, states, len(names)))
    for k in range(states):
        dialogue = begin(task, k)
        for _ in range(k % 4):
            right = task.right(dialogue) if dialogue.draws("mix").uniform() < 0.6 else None
            after, _ = step(
                task, dialogue, policies.speak(right or policies.random_act(dialogue.draws("a")), dialogue)
            )
            if after.stop_reason:
                break
            dialogue = after
        for j, name in enumerate(names):
            text = task.policies()[name](dialogue)
            for play in range(plays):
                after, reward = step(task, replace(dialogue, seed=10**6 + 1000 * k + play), text)
                told[k, j] += (reward + task.value(after)) / plays
                while not after.stop_reason:
                    after, more = step(task, after, task.oracle(after))
                    reward += more
                played[k, j] += reward / plays
    return told, played


def test_value_agrees_with_playing_it_out():
    told, played = branches(states=60, plays=24)
    centred = [worth - worth.mean(axis=1, keepdims=True) for worth in (told, played)]
    assert np.corrcoef(told.ravel(), played.ravel())[0, 1] > 0.95
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.95
    assert abs(told.mean() - played.mean()) < 0.015


def test_value_by_hand():
    case = LAMP._replace(timed=False)
    steps = rules.plan((case,))  # ask 1/3, offer 2/3
    stays = 0.6 * 0.97 + 0.4 * 0.8  # soothed and calm, or still angry
    assert rules.value(steps, 0, 0, "angry", 9) == pytest.approx(1 / 3 + stays * 2 / 3)
    assert rules.value(steps, 0, 1, "angry", 9) == pytest.approx(1 / 6 + stays * 2 / 3)
    assert rules.value(steps, 0, 0, "angry", 1) == pytest.approx(1 / 3)
    two = rules.plan((BIKE, BIKE))
    begins = 0.4 * 0.8 + 0.35 * 0.92 + 0.25 * 0.97
    assert rules.value(two, 0, 0, "calm", 2) == pytest.approx(0.5 + begins * 0.5)


# --- what an agent sees ------------------------------------------------------------------------


def test_facts_tell_what_is_due_and_the_mood():
    task, dialogue = made()
    known = dict(zip(FACTS, task.facts(dialogue).tolist(), strict=True))
    assert [name for name, value in known.items() if value == 1] == ["ask_bought"]
    assert sum(known[f"believed_{mood}"] for mood in rules.MOODS) == pytest.approx(1)


def test_facts_follow_the_dialogue(stay):
    task, dialogue = made()
    for text, fact in [
        ("When did you buy it?", "offer_replace"),
        ("We will replace it.", "day_friday"),
        ("On Friday.", "offer_wait"),
    ]:
        dialogue, _ = step(task, dialogue, text)
        assert task.facts(dialogue)[FACTS.index(fact)] == 1, dialogue.turns
        assert task.facts(dialogue)[:11].sum() == 1


def test_what_is_seen_is_what_is_due_nearly_always():
    task, right, total = Support(), 0, 0
    for k in range(150):
        whole = task.self_play(Draws(k, "corpus"))
        dialogue = begin(task, whole.seed, whole.scenario)
        for text in whole.texts("agent"):
            seen, step_ = policies.seen(dialogue), due(dialogue)
            right += (seen.kind, seen.right) == (step_.kind, step_.right)
            total += 1
            dialogue, _ = step(task, dialogue, text)
    assert right / total > 0.97


def test_the_belief_about_the_mood_is_calibrated():
    task, found = Support(), []
    for seed in range(1000):
        dialogue = begin(task, seed)
        while not dialogue.stop_reason:
            found.append((policies.seen(dialogue).moods[0], dialogue.state["mood"] == "angry"))
            draws = dialogue.draws("test")
            # The tone must not tell the mood; two in three answers do what is due.
            text = policies.in_tone(draws.choice(rules.TONES), dialogue) if draws.uniform() < 0.67 else "Hm."
            dialogue, _ = step(task, dialogue, text)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        told, true = np.mean([(p, hit) for p, hit in found if low <= p < high], axis=0)
        assert abs(told - true) < 0.08, (low, told, true)


# --- language and notation ---------------------------------------------------------------------


def test_self_play_is_short_varied_and_repeatable():
    task = Support()
    dialogues = [task.self_play(Draws(k, "corpus")) for k in range(400)]
    assert dialogues[7] == task.self_play(Draws(7, "corpus"))
    told = np.array([task.attributes(d, "agent", text) for d in dialogues for text in d.texts("agent")])
    shares = dict(zip(ATTRIBUTES, told.mean(0).tolist(), strict=True))
    assert min(shares.values()) > 0.05, shares
    chats = [" ".join(m["content"] for m in task.messages(d, "agent")).split() for d in dialogues]
    assert max(map(len, chats)) <= 235
    assert statistics.fmean(map(len, chats)) < 110
    words = {word for chat in chats for word in chat if word[0].isalpha()}
    assert len(words) <= 250
    for message in task.messages(dialogues[0], "agent")[1:]:
        assert len([word for word in message["content"].split() if word[0].isalpha()]) <= 16


def test_every_turn_of_the_customer_shows_one_mood_and_few_mislead():
    task, right, total = Support(), 0, 0
    for k in range(300):
        whole = task.self_play(Draws(k, "corpus"))
        dialogue = begin(task, whole.seed, whole.scenario)
        for text in whole.texts("agent"):
            shown = [mood for group, mood, _ in cues(dialogue.turns[-1].text) if group == "mood"]
            assert len(shown) == 1
            right += shown == [dialogue.state["mood"]]
            total += 1
            dialogue, _ = step(task, dialogue, text)
    assert 0.82 < right / total < 0.88


def test_the_system_line_has_the_record_and_nothing_else():
    task, dialogue = made()
    assert task.messages(dialogue, "agent")[0]["content"] == "<support> lamp here friday ; bike here monday ."
    assert task.messages(dialogue, "customer")[0]["content"] == "<support> you are the customer ."


@given(st.integers(0, 2**53))
@settings(max_examples=20)
def test_batch_order_and_json_do_not_matter(seed):
    task = Support()
    dialogues = [begin(task, seed + i) for i in range(3)]
    for _ in range(3):
        texts = [policies.speak(policies.random_act(d.draws("a"), task.right(d)), d) for d in dialogues]
        together = advance(task, dialogues, texts).dialogues
        alone = [step(task, Dialogue.from_json(json.loads(json.dumps(d.to_json()))), t)[0]
                 for d, t in zip(dialogues, texts, strict=True)]  # fmt: skip
        assert alone == together
        dialogues = [d for d in together if not d.stop_reason]
        if not dialogues:
            break


@given(st.text(max_size=200), st.integers(0, 1000))
def test_any_text_gets_an_answer(text, seed):
    task = Support()
    after, reward = step(task, begin(task, seed), text)
    assert 0 <= reward <= 1
    assert after.turns[-1].role == "customer"


# --- a language model as the customer, metrics, settings -----------------------------------------


def test_a_model_as_the_customer_says_the_words_and_the_rules_hold(stay):
    task, dialogue = made(cases=(BIKE,), mood="calm")
    wrong = dialogue.said("agent", "You get a voucher.")
    assert task.settled(wrong) is None
    heard = task.heard(wrong, "Hm, really?")
    assert (heard.text, heard.state["tries"], heard.stop_reason) == ("Hm, really?", 1, "")
    right = task.settled(dialogue.said("agent", "Please wait for it."))
    assert (right.stop_reason, right.success) == ("solved", True)


def test_overlap_metrics_compare_with_right_answers(stay):
    task = Support(metric="overlap")
    _, dialogue = made(cases=(BIKE,), mood="calm")
    references = task.known_good(dialogue)
    assert len(set(references)) > 1
    after, reward = step(task, dialogue, references[0])
    assert after.state["references"] == references
    assert reward == 1
    assert step(task, dialogue, "xyzzy")[1] == 0
    assert after.state["reward"] == pytest.approx(1)  # the true quality is kept beside it
    assert "references" not in step(Support(), dialogue, references[0])[0].state


def test_known_good_answers_do_what_is_right():
    task = Support()
    for seed in range(40):
        dialogue = begin(task, seed)
        right = task.right(dialogue)
        for text in task.known_good(dialogue):
            act = understand(text)
            assert act._replace(words=0) == right


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_turns": 0}, "max_turns must be at least 1"),
        ({"split": "dev"}, "split must be one of"),
        ({"metric": "blue"}, "no metric named 'blue'; did you mean 'bleu'"),
        ({"encoder": "x", "metric": "bleu"}, "encoder goes with the metrics"),
        ({"metric": "bleurt"}, "needs encoder="),
        ({"corpus": "abcd"}, "go together"),
        ({"scenarios": "abcd.json"}, "go together"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        response(**setting)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="no setting named 'side'"):
        response(side="agent")


def test_splits_part_the_cases():
    pools = [set(Support(split).pool) for split in ("all", "train", "heldout")]
    assert pools[1] | pools[2] == pools[0]
    assert not pools[1] & pools[2]
    assert 0.2 < len(pools[2]) / len(pools[0]) < 0.4
    assert {problem for _, problem, _ in pools[2]} == set(rules.PROBLEMS)


def test_the_table_is_printed(capsys):
    policies.main(["--episodes", "3", "--metric", "overlap"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Response-v0, heldout, overlap, 3 episodes, seeds from 1000000"
    assert len(lines) == 2 + len(Support().policies())


def test_acts_of_one_thing():
    assert act_for("time", "friday", "warm") == Act((), (), ("friday",), "warm")
