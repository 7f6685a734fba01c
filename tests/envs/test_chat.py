import csv
import dataclasses
import gzip
import json
import statistics
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import DialogueVectorEnv, advance, begin
from dialog_gym.envs import chat_rules as rules
from dialog_gym.envs.chat import ATTRIBUTES, FACTS, Chat, Survey
from dialog_gym.envs.chat_language import from_tokens, read, say, to_tokens
from dialog_gym.envs.chat_phrases import MOVE_NAMES, NEED_NAMES, TOPICS
from dialog_gym.envs.chat_policies import (
    TABLE,
    belief,
    correlations,
    main,
    mean_return,
    mixed_act,
    oracle_act,
    play,
    random_act,
    speak,
    spoken,
)
from dialog_gym.envs.chat_reading import ENERGIES, Act, understand
from dialog_gym.partner import PartnerTask
from dialog_gym.rewards.base import Reward
from dialog_gym.world import true_value
from tests.rewards.judges import Scripted, verdict

CORPUS = Path(__file__).parents[3] / "shared/data/empathetic_dialogues/fixed_valid.csv.gz"


def made(need="tell", matter="work", pace="calm", order=TOPICS, **settings):
    """Return a task and a dialogue with a partner who likes work, family and music, and dislikes food and travel."""
    task = Chat(**settings)
    scenario = begin(task, 3).scenario
    hidden = {**scenario.hidden, "need": need, "topic": matter, "pace": pace, "order": list(order)}
    return task, begin(task, 3, dataclasses.replace(scenario, hidden=hidden))


def step(task, dialogue, text):
    (after,), (reward,), *_ = advance(task, [dialogue], [text])
    return after, reward


def lucky(task, dialogue, text, count=200):
    """Return the mean move of ``text`` over the partner's luck."""
    forks = [dataclasses.replace(dialogue, seed=seed) for seed in range(count)]
    return statistics.fmean(d.state["moves"][-1] for d in advance(task, forks, [text] * count).dialogues)


# --- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "text", "expected"),
    [
        ("tell", "I see, the boss. No rush.", 1.0),
        ("tell", "I see. No rush.", 0.6),  # no topic
        ("tell", "I see, the boss.", 0.75),  # plain where calm is right
        ("tell", "I see, the boss. Wow!", 0.4),  # the opposite energy
        ("tell", "I see, the cake. No rush.", -0.3),  # another topic
        ("tell", "No rush. What happened with the boss?", 0.6),
        ("tell", "You should talk to the boss.", -0.7),
        ("comfort", "No rush. I am so sorry about the boss.", 1.0),
        ("comfort", "Haha! A boss walks into a bar and asks for help.", -1.0),
        ("advise", "No rush. You could make a plan for the boss.", 1.0),
        ("cheer", "No rush. My cat would be a better sister, just kidding.", 1.0),  # liked
        ("cheer", "No rush. My cat would be a better team, just kidding.", 0.5),  # not minded
        ("cheer", "No rush. My cat would be a better cake, just kidding.", -0.3),  # disliked
        ("cheer", "No rush. My cat would be a better boss, just kidding.", 0.35),  # liked, but the matter
        ("cheer", "", -0.4),
    ],
)
def test_what_an_utterance_is_worth(need, text, expected):
    task, dialogue = made(need)
    assert lucky(task, dialogue, text) == pytest.approx(expected, abs=0.03)


def test_the_same_move_again_and_the_same_topic_again_count_less():
    task, dialogue = made("cheer", "food", affect_noise=0.0)
    once, _ = step(task, dialogue, "No rush. My cat would be a better band, just kidding.")
    once = dataclasses.replace(once, state={**once.state, "need": "cheer"})
    assert lucky(task, once, "No rush. My cat would be a better boss, just kidding.") == pytest.approx(0.4, abs=0.03)
    assert lucky(task, once, "No rush. I love the boss too, every day.") == pytest.approx(0.6, abs=0.03)
    assert lucky(task, once, "No rush. I love the band too, every day.") == pytest.approx(0.6 * 0.35, abs=0.03)
    twice, _ = step(task, once, "Hm.")
    twice = dataclasses.replace(twice, state={**twice.state, "need": "cheer"})
    assert twice.state["recent"] == ["", "music"]
    assert lucky(task, twice, "No rush. I love the band too, every day.") == pytest.approx(0.6 * 0.35, abs=0.03)


def test_comfort_wants_calm_whatever_the_pace():
    assert rules.right_energy("comfort", "lively") == "calm"
    assert rules.right_energy("tell", "lively") == "lively"


@pytest.mark.parametrize(("text", "rate"), [("I see.", rules.CHANGE_MET), ("You should rest.", rules.CHANGE)])
def test_a_need_that_was_met_changes_sooner(text, rate):
    task, dialogue = made("tell")
    forks = [dataclasses.replace(dialogue, seed=seed) for seed in range(2000)]
    after = advance(task, forks, [text] * 2000).dialogues
    changed = [d.state["need"] for d in after if d.state["need"] != "tell"]
    assert len(changed) / 2000 == pytest.approx(rate, abs=0.035)
    assert changed.count("comfort") / len(changed) == pytest.approx(0.4, abs=0.09)
    assert all(d.state["matter"] == "work" for d in after)


def test_who_tells_anew_has_another_matter():
    task, dialogue = made("cheer")
    after = advance(task, [dataclasses.replace(dialogue, seed=s) for s in range(300)], ["Haha!"] * 300).dialogues
    assert all((d.state["matter"] != "work") == (d.state["need"] == "tell") for d in after)


def test_the_survey_by_hand():
    task, dialogue = made("tell", max_turns=2, survey_noise=0.0)
    once, reward = step(task, dialogue, "I see, the boss. No rush.")
    assert (reward, once.stop_reason, once.state["survey"]) == (0.0, "", None)
    done, reward = step(task, once, "")
    moves = task.true_moves(done)
    assert len(moves) == 2
    assert done.stop_reason == "survey"
    assert reward == pytest.approx(0.3 + 0.7 * sum(moves) / 2)
    assert done.success == (reward >= 0.6)
    assert Survey()([once, done]).tolist() == pytest.approx([0.0, reward])


def test_who_takes_leave_loses_the_turns_that_were_left():
    task, dialogue = made("tell", survey_noise=0.0)
    done, reward = step(task, dialogue, "Well, bye.")
    assert (done.stop_reason, reward) == ("left", 0.0)  # .3 - .7 * .6 is below 0
    later, _ = step(task, made("tell", max_turns=2, survey_noise=0.0)[1], "I see, the boss. No rush.")
    done, reward = step(Chat(max_turns=2, survey_noise=0.0), later, "goodbye")
    assert task.true_moves(done) == [*task.true_moves(later), -0.6]
    assert reward == pytest.approx(max(0.3 + 0.7 * sum(task.true_moves(done)) / 2, 0))


def test_a_partner_who_is_treated_badly_leaves():
    task, dialogue = made("comfort")
    while not dialogue.stop_reason:
        hurts = {"comfort": "Haha, just kidding!", "advise": "Haha, just kidding!"}
        dialogue, reward = step(task, dialogue, hurts.get(dialogue.state["need"], "You should rest."))
    assert (dialogue.stop_reason, dialogue.success) == ("left", False)
    assert dialogue.turn < 8
    assert reward < 0.1


def test_the_noise_of_the_survey_has_the_declared_size():
    task, dialogue = made("tell", max_turns=1, survey_noise=0.2)
    done = advance(task, [dataclasses.replace(dialogue, seed=s) for s in range(3000)], ["I see. No rush."] * 3000)
    rest = [r - 0.3 - 0.7 * d.state["moves"][0] for r, d in zip(done.rewards, done.dialogues, strict=True) if r < 1]
    assert statistics.stdev(rest) == pytest.approx(0.7 * 0.2 * rules.MOVE_SD, rel=0.08)


# --- the signal --------------------------------------------------------------------------------


def test_the_face_shows_mood_bias_and_noise():
    text = "No rush. My cat would be a better sister, just kidding."
    task, dialogue = made("cheer", affect_bias=0.0, affect_noise=0.0)
    after, _ = step(task, dialogue, text)
    move = after.state["moves"][0]
    assert after.state["affect"] == pytest.approx(move / rules.MOVE_SD, abs=2e-4)
    biased, _ = step(Chat(affect_bias=2.0, affect_noise=0.0), dialogue, text)
    assert biased.state["affect"] == pytest.approx(move / rules.MOVE_SD + 2 * 1.5, abs=2e-4)
    comforted, _ = step(Chat(affect_bias=2.0, affect_noise=0.0), dialogue, "No rush. I am so sorry about the boss.")
    assert comforted.state["affect"] == pytest.approx(comforted.state["moves"][0] / rules.MOVE_SD - 2 * 1.6, abs=2e-4)
    noisy = Chat(affect_bias=0.0, affect_noise=1.5)
    outs = advance(noisy, [dataclasses.replace(dialogue, seed=s) for s in range(2000)], [text] * 2000)
    noise = [d.state["affect"] - d.state["moves"][0] / rules.MOVE_SD for d in outs.dialogues]
    assert statistics.stdev(noise) == pytest.approx(1.5, rel=0.08)
    assert outs.parts["signals"]["affect"] == pytest.approx([d.state["affect"] for d in outs.dialogues], abs=1e-5)


def test_what_is_shown_has_mean_0_and_variance_1():
    shown = rules.SHOWN[: len(MOVE_NAMES)]
    assert statistics.fmean(shown) == pytest.approx(0, abs=1e-9)
    assert statistics.pvariance(shown) == pytest.approx(1, abs=0.01)


def test_signals_go_with_the_truth_as_far_as_they_are_set_to():
    exact = correlations(Chat(affect_bias=0, affect_noise=0, survey_noise=0), 150)
    assert exact.affect > 0.999
    assert exact.survey > 0.97  # less than 1 where it is clipped
    assert exact.spread == pytest.approx(rules.MOVE_SD, rel=0.07)
    usual = correlations(Chat(), 150)
    biased = correlations(Chat(affect_bias=2), 150)
    assert 0.55 < usual.affect < 0.75
    assert biased.affect < usual.affect - 0.15
    assert usual.survey == pytest.approx(0.83, abs=0.08)


# --- understanding and speaking ----------------------------------------------------------------


def test_every_act_is_understood_in_either_notation():
    for topic in ("", *TOPICS):
        for move in MOVE_NAMES:
            for energy in ENERGIES:
                for k in range(25):
                    act = Act(topic, move, energy)
                    text = say(act, Draws(k, topic, move, energy).bits())
                    assert understand(text) == understand(to_tokens(text)) == act, text
                    assert from_tokens(to_tokens(text)) == text
                    assert len(to_tokens(text).split()) <= 16


@pytest.mark.parametrize(
    ("move", "texts"),
    [
        ("empathy", "Oh no, I'm so sorry to hear that!|It must have been awful for you.|You must be exhausted."),
        ("empathy", "I can only imagine how you feel.|That's terrible.|I'm really happy for you!"),
        (
            "question",
            "Are you fine now?|And how is your boss now|Really? What did he do then?|Tell me about your trip",
        ),
        ("advice", "Have you tried talking to your manager?|Maybe you could call her.|How about taking a walk?"),
        ("advice", "Why don't you take a day off?|Just take a break.|It might help to make a list."),
        ("share", "I went through something similar last year.|I love cooking as well.|That happened to me too."),
        ("joke", "A horse walks into a bar. Why the long face?|At least the cake can't fire you, just kidding."),
        ("joke", "Why is six afraid of seven? Because seven ate nine."),
        ("ack", "Uh huh, go on.|Oh really?|And then?|Yeah, I hear you.|Tell me more."),
        ("question", "Do you like jokes?|I am so sorry. What happened?"),  # mentioned; the later of two
        ("", "I am not sorry about that.|That is not hard.|This is no joke.|I would not recommend anything."),
        ("", "I don't understand how you feel.|I am not kidding.|boss work job|empathy|sorry|The advice was bad."),
        ("", "I am so sorry. You should rest. What happened?|"),  # three at once
    ],
)
def test_acts_are_done_not_mentioned(move, texts):
    assert {text: understand(text).move for text in texts.split("|")} == dict.fromkeys(texts.split("|"), move)


def test_topics():
    texts = [
        "my mom called",
        "it works out",
        "the boss at the beach on the job",
        "cake, band, team",
        "I can match that",
    ]
    assert [understand(text).topic for text in texts] == ["family", "", "work", "", ""]


@given(st.text(max_size=300), st.integers(0, 1000))
@settings(max_examples=100)
def test_any_text_gets_an_answer(text, seed):
    task = Chat()
    after, reward = step(task, begin(task, seed), text)
    assert 0 <= reward <= 1
    assert after.turns[-1].role == "speaker"
    assert -1.2 <= after.state["mood"] <= 1.2


@pytest.mark.parametrize("text", ["haha " * 400, "why did " * 300, "a, " * 300 + "just", "i really " * 90, "?" * 600])
def test_long_texts_are_read_in_bounded_time(text):
    start = time.process_time()
    understand(text)
    assert time.process_time() - start < 0.2


def test_words_show_the_need_mostly():
    shown, total, task = 0, 0, Chat()
    for seed in range(300):
        dialogue, _ = step(task, begin(task, seed), "Hm.")
        cue = read(dialogue.turns[-1].text)
        if cue.need:
            total += 1
            shown += cue.need == dialogue.state["need"]
    assert total > 250
    assert 0.87 < shown / total < 0.97


# --- values ------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 2**53))
def test_batch_order_and_json_do_not_matter(seed):
    task = Chat(max_turns=4)
    dialogues = [begin(task, seed + i) for i in range(3)]
    while dialogues:
        texts = [speak(random_act(task, d, d.draws("a")), d.draws("b")) for d in dialogues]
        together = advance(task, dialogues, texts).dialogues
        alone = [step(task, Dialogue.from_json(json.loads(json.dumps(d.to_json()))), t)[0]
                 for d, t in zip(dialogues, texts, strict=True)]  # fmt: skip
        assert alone == together
        dialogues = [d for d in together if not d.stop_reason]


def test_rows_do_not_matter():
    task = Chat(max_turns=3)
    wide = DialogueVectorEnv(task, 4, autoreset_mode="disabled")
    wide.reset(seed=8)
    for text in ("I see.", "What happened?", "You should rest."):
        *_, infos = wide.step([text] * 4)
    for row in range(4):
        one = DialogueVectorEnv(task, 1, autoreset_mode="disabled")
        one.reset(seed=8 + row)
        for text in ("I see.", "What happened?", "You should rest."):
            *_, info = one.step([text])
        assert info["dialogue"][0] == infos["dialogue"][row]
        assert info["signals"]["affect"][0] == infos["signals"]["affect"][row]


def test_gymnasiums_checker_has_no_complaint():
    check_env(gym.make("dialog_gym/Chat-v0", max_turns=3).unwrapped)


# --- the truth ---------------------------------------------------------------------------------


def test_the_plan_by_hand():
    # One turn left: the best move on the right topic, unless the turn before made it.
    solved = rules.plan(3)
    tell, cheer = NEED_NAMES.index("tell"), NEED_NAMES.index("cheer")
    ack, question, joke = (MOVE_NAMES.index(move) for move in ("ack", "question", "joke"))
    fresh = rules.state_index(tell, rules.MOVE_COUNT, 2, (rules.NONE, rules.NONE))
    assert divmod(solved.choice[1][fresh], 7) == (ack, 2)
    assert solved.mean[1][fresh] == pytest.approx(1.0)
    again = rules.state_index(tell, ack, 2, (2, rules.NONE))
    assert divmod(solved.choice[1][again], 7) == (question, 2)
    assert solved.mean[1][again] == pytest.approx(0.6)
    light = rules.state_index(cheer, rules.MOVE_COUNT, 0, (1, rules.NONE))
    assert divmod(solved.choice[1][light], 7) == (joke, 2)  # 0 is the matter, 1 was just talked about
    # Two left: 1 now; then .45 another need, worth 1, and .55 the same one, where a question is left.
    assert solved.mean[2][fresh] == pytest.approx(1 + 0.45 * 1 + 0.55 * 0.6)
    assert solved.variance[1][fresh] == pytest.approx(0.2**2 / 3)
    assert solved.variance[2][fresh] == pytest.approx(2 * 0.2**2 / 3 + 0.45 * 0.55 * 0.4**2)


def test_the_plan_averages_over_what_the_need_becomes():
    after = np.zeros((4, 7, 6, 7, 7))
    after[NEED_NAMES.index("tell")] += np.arange(6)[None, :, None, None]  # worth the number of the matter
    after[NEED_NAMES.index("cheer")] += 10
    changed = rules._changed(after)
    comfort = changed[NEED_NAMES.index("comfort"), 0, :, 0, 0]
    # .3 tell, of another matter than the present one, and .4 cheer.
    assert comfort == pytest.approx([0.3 * (15 - matter) / 5 + 0.4 * 10 for matter in range(6)])


def test_the_value_of_the_last_turn_by_hand():
    task, dialogue = made("tell", max_turns=1, survey_noise=0.0)
    spread = 0.7 * 0.2 / np.sqrt(3)  # around a mean of 1, of which the upper half is clipped
    assert task.value(dialogue) == pytest.approx(1 - spread / np.sqrt(2 * np.pi))


def test_the_expected_survey_by_hand():
    assert rules.expected_survey(4.0, 0.0, 8) == pytest.approx(0.65)
    assert rules.expected_survey(-8.0, 0.0, 8) == 0.0
    # Mean at 0: half of a normal above it, sd / sqrt(2 pi).
    sd = 0.7 * 0.5 / 8
    assert rules.expected_survey(-0.3 / 0.7 * 8, 0.25, 8) == pytest.approx(sd / np.sqrt(2 * np.pi))


def values(task, states, candidates, playouts):
    """Return the world's and the Monte-Carlo value of candidates in states of a mixed policy, (states, candidates)."""
    draws, policy = Draws(5, "values"), spoken(task)["oracle"]
    told, found = np.zeros((states, candidates)), np.zeros((states, candidates))
    for state in range(states):
        dialogue = begin(task, state)
        for _ in range(draws.integer(0, task.max_turns)):
            after, _ = step(task, dialogue, speak(mixed_act(task, dialogue, draws), draws))
            dialogue = dialogue if after.stop_reason else after
        texts = [policy(dialogue), *(speak(random_act(task, dialogue, draws), draws) for _ in range(candidates - 1))]
        for place, text in enumerate(texts):
            forks = [dataclasses.replace(dialogue, seed=draws.bits() >> 11) for _ in range(playouts)]
            out = advance(task, forks, [text] * playouts)
            told[state, place] = np.mean([r + task.value(d) for r, d in zip(out.rewards, out.dialogues, strict=True)])
            total, live = sum(out.rewards), [d for d in out.dialogues if not d.stop_reason]
            while live:
                out = advance(task, live, [policy(d) for d in live])
                total, live = total + sum(out.rewards), [d for d in out.dialogues if not d.stop_reason]
            found[state, place] = total / playouts
    return told, found


def test_the_value_is_what_the_oracle_earns():
    told, found = values(Chat(), 40, 3, 64)
    assert np.corrcoef(told.ravel(), found.ravel())[0, 1] > 0.98
    centred = [x - x.mean(1, keepdims=True) for x in (told, found)]
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.95
    assert abs((told - found).mean()) < 0.006


@pytest.mark.slow
def test_the_value_in_many_states():
    told, found = values(Chat(), 200, 4, 64)
    assert np.corrcoef(told.ravel(), found.ravel())[0, 1] > 0.99
    centred = [x - x.mean(1, keepdims=True) for x in (told, found)]
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.97


def test_true_values_add_up():
    task, dialogue = Chat(), begin(Chat(), 4)
    start, earned = task.value(dialogue), 0.0
    while not dialogue.stop_reason:
        before = dialogue
        dialogue, reward = step(task, dialogue, "I see. No rush.")
        earned += true_value(task, before, dialogue)
    assert task.value(dialogue) == 0
    assert earned == pytest.approx(reward - start, abs=1e-6)


def test_the_oracle_speaks_its_act():
    task = Chat()
    for seed in range(40):
        dialogue = begin(task, seed)
        while not dialogue.stop_reason:
            act, text = oracle_act(task, dialogue), task.oracle(dialogue)
            assert text == task.oracle(dialogue)
            dialogue, _ = step(task, dialogue, text)
            assert task.parsed(dialogue)[-1] == act
            assert task.understood(dialogue)


# --- policies ----------------------------------------------------------------------------------


def test_what_how_and_when_all_matter():
    task = Chat(split="train")
    mean = {name: mean_return(task, name, range(120))[0] for name in spoken(task)}
    low, high = mean["random"], mean["oracle"]
    share = {name: (value - low) / (high - low) for name, value in mean.items()}
    assert 0.85 < high < 0.95
    assert low < 0.2
    assert 0.7 < share["infers"] < 0.95
    for name in ("constant", "constant question", "echo", "silent", "all moves at once", "pleases the face"):
        assert share[name] < 0.45, name
    assert share["reads the last need"] < 0.65
    for name in ("oracle, random move", "oracle, random topic", "oracle, wrong energy"):
        assert share[name] < 0.65, name
    assert share["oracle, best move repeated"] < 0.95


def test_what_is_inferred_is_mostly_true_and_not_hidden():
    task, right, total = Chat(), 0, 0
    for seed in range(60):
        dialogue = begin(task, seed)
        while not dialogue.stop_reason:
            known = belief(task, dialogue)
            assert sum(known.needs) == pytest.approx(1)
            right += NEED_NAMES[int(np.argmax(known.needs))] == dialogue.state["need"]
            total += 1
            blind = dataclasses.replace(dialogue, state={})
            assert task.facts(blind).tolist() == task.facts(dialogue).tolist()
            act = mixed_act(task, dialogue, dialogue.draws("m"))
            dialogue, _ = step(task, dialogue, speak(act, dialogue.draws("w")))
    assert right / total > 0.8


def test_facts_and_attributes_have_names():
    task, dialogue = made("comfort")
    facts = dict(zip(FACTS, task.facts(dialogue).tolist(), strict=True))
    assert facts["turn"] == 0
    assert len(FACTS) <= 14
    for text in ("Take your time. I am so sorry about the boss.", "take your time . i am so sorry about the boss ."):
        numbers = dict(zip(ATTRIBUTES, task.attributes(dialogue, "listener", text).tolist(), strict=True))
        assert {name for name, number in numbers.items() if number} == {"topic:work", "move:empathy", "energy:calm"}
    assert task.attributes(dialogue, "listener", "").sum() == 3


def test_self_play_is_finished_varied_and_short():
    task = Chat()
    dialogues = [task.self_play(Draws(seed, "corpus")) for seed in range(300)]
    assert dialogues[7] == task.self_play(Draws(7, "corpus"))
    assert all(d.stop_reason for d in dialogues)
    texts = [(d, text) for d in dialogues for text in d.texts("listener")]
    shares = np.mean([task.attributes(d, "listener", text) for d, text in texts], axis=0)
    assert dict(zip(ATTRIBUTES, shares, strict=True))["move:none"] > 0.01
    assert sorted(shares)[1] > 0.07
    chats = [task.messages(d, role) for d in dialogues for role in task.roles]
    assert statistics.fmean(sum(len(m["content"].split()) for m in chat) for chat in chats) < 220
    assert len({word for chat in chats for m in chat for word in m["content"].split()}) <= 250
    cut = [dataclasses.replace(d, turns=d.turns[:place], turn=-1) for d in dialogues[:60] for place in (1, 5, 9)]
    facts = np.array([task.facts(d) for d in cut])
    assert (facts.std(0) > 0.1).all()


def test_old_turns_keep_their_tokens_and_each_role_its_own():
    task, dialogue = made(order=TOPICS)
    before = task.messages(dialogue, "listener")
    assert before[0]["content"] == "<chat> you are the listener ."
    speaker = task.messages(dialogue, "speaker")[0]["content"]
    assert speaker == "<chat> you are the speaker . you like work , family , music . not food , travel ."
    while not dialogue.stop_reason:
        dialogue, _ = step(task, dialogue, task.utterance(dialogue, " i see , the boss ."))
        assert dialogue.texts("listener")[-1] == "I see, the boss."
        chat = task.messages(dialogue, "listener")
        assert chat[: len(before)] == before
        before = chat


def test_long_conversations_bear_the_rules():
    task = Chat(max_turns=40)
    dialogue, earned = play(task, spoken(task)["oracle"], 3)
    assert (dialogue.turn, dialogue.stop_reason) == (40, "survey")
    assert earned > 0.8
    assert len({act.topic for act in task.parsed(dialogue)}) >= 4
    assert len(set(dialogue.texts("speaker"))) > 30


def test_the_table_is_printed(capsys):
    main(["--episodes", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Chat-v0, heldout, 8 turns, 3 episodes, seeds from 1000000"
    assert len(lines) == 1 + len(spoken(Chat())) > len(TABLE)
    main(["--episodes", "3", "--signals"])
    assert capsys.readouterr().out.count("\n") == 9


# --- a language model as the partner -----------------------------------------------------------


class Loud(Reward):
    """1 for shouting, 0 else."""

    name, low, high = "loud", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array([d.turns[-1].text.isupper() for d in dialogues], np.float32)


@pytest.mark.parametrize(("words", "survey"), [("YES", 1.0), ("no", 0.0)])
def test_the_affect_of_a_models_words_makes_the_survey(words, survey):
    task = PartnerTask(Chat(max_turns=2, affect=Loud()), Scripted(lambda prompt: words))
    once, reward = step(task, begin(task, 1), "hello")
    assert (reward, once.stop_reason) == (0.0, "")
    done, reward = step(task, once, "hello")
    assert (done.stop_reason, reward, done.success) == ("survey", survey, survey == 1)
    assert done.state["felt"] == [2 * survey - 1] * 2
    with pytest.raises(ValueError, match="scripted partner alone"):
        task.true_moves(done)


def test_vader_measures_a_model_where_nothing_else_is_said():
    pytest.importorskip("vaderSentiment")
    glad = PartnerTask(Chat(), Scripted(lambda prompt: "This is great, I love it!"))
    sad = PartnerTask(Chat(), Scripted(lambda prompt: "I hate this."))
    assert step(glad, begin(glad, 1), "hi")[0].state["affect"] > 0.5
    out = advance(sad, [begin(sad, 1)], ["hi"])
    assert out.parts["signals"]["affect"][0] < -0.5
    assert step(Chat(affect="vader"), begin(Chat(), 1), "I see.")[0].turns


def test_a_model_is_told_its_situation_and_may_take_leave():
    model = Scripted(lambda prompt: "I must go now, goodbye.")
    task = PartnerTask(Chat(affect=Loud()), model)
    dialogue = begin(task, 1)
    done, reward = step(task, dialogue, "hello")
    assert done.stop_reason == "left"
    assert reward == pytest.approx(max(0.5 + 0.5 * (-1 - 7 * 0.6) / 8, 0))
    brief = model.calls[0][0][0]["content"]
    assert dialogue.scenario.hidden["situation"] in brief
    assert "You talk to the listener" in brief
    done, _ = step(task, dialogue, "goodbye")
    assert (done.stop_reason, done.turns[-1].role) == ("left", "listener")


def test_a_judge_fills_in_the_survey():
    judge = Scripted(lambda prompt: verdict(goal=7))
    env = gym.make("dialog_gym/Chat-v0", max_turns=1, judge=judge)
    env.reset(seed=0)
    *_, info = env.step("I see.")
    assert len(judge.calls) == 1
    assert {"judge", "survey"} <= info["reward_terms"].keys()


# --- settings and situations -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_turns": 0}, "max_turns must be in 1 .. 64, got 0"),
        ({"max_turns": 65}, "max_turns"),
        ({"affect_noise": -1}, "affect_noise must be a finite number"),
        ({"survey_noise": float("nan")}, "survey_noise"),
        ({"affect": "bert"}, "affect must be a Reward, 'vader' or None, got 'bert'"),
        ({"split": "dev"}, "split must be one of"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Chat(**setting)


RECORDS = [
    {"situation": "My boss shouted at me.", "emotion": "sad"},
    {"situation": "I won  a\nprize!", "emotion": "proud"},
]


def written(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl", "a.csv"])
def test_situations_are_read(tmp_path, name):
    text = json.dumps(RECORDS) if ".json" in name and "l" not in name else "\n".join(map(json.dumps, RECORDS))
    if name.endswith("csv"):
        rows = [["conv_id", "utterance_idx", "prompt", "utterance", "context"]]
        told = [(str(i), r["situation"].replace("\n", " "), r["emotion"]) for i, r in enumerate(RECORDS)]
        rows += [[i, k, situation, "x", emotion] for i, situation, emotion in told for k in "12"]
        with (tmp_path / "rows").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        text = (tmp_path / "rows").read_text()
    task = Chat(scenarios=written(tmp_path / name, text))
    assert [(s.text, s.emotion, s.topic, s.valence) for s in task.situations] == [
        ("My boss shouted at me.", "sad", "work", "bad"),
        ("I won a prize!", "proud", "", "good"),
    ]
    dialogue = begin(task, 2)
    assert dialogue.turns[0].text in {s.text for s in task.situations}
    assert step(task, dialogue, "I see.")[0].turns


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"a": 1}', "expected a list of records"),
        ("a.json", "[{}]", "record 0: expected a record like .*KeyError"),
        ("a.json", '[{"situation": 3}]', "record 0: .*expected text, got 3"),
        ("a.json", '[{"situation": " "}]', "record 0: .*is empty"),
        ("a.json", "[]", "at least one situation"),
        ("a.json", "[", "damaged file"),
        ("a.jsonl", '{"situation": "x"}\n["y"]', "line 2: expected a record"),
        ("a.csv", "a,b\n1,2\n", "expected a CSV with the columns conv_id"),
    ],
)
def test_other_formats_are_refused(tmp_path, name, text, message):
    path = written(tmp_path / name, text)
    with pytest.raises(ValueError, match=message) as caught:
        Chat(scenarios=path)
    assert str(path) in str(caught.value)


def test_a_situation_may_hold_other_ends_of_lines_as_they_are(tmp_path):
    text = '{"situation": "I won\u2028a\x85prize!", "emotion": "proud"}\n'
    task = Chat(scenarios=written(tmp_path / "a.jsonl", text))
    assert [s.text for s in task.situations] == ["I won a prize!"]


def test_damaged_and_missing_files_are_refused(tmp_path):
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps(RECORDS).encode())[:-12])
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    for name in ("b.json.gz", "c.json"):
        with pytest.raises(ValueError, match=f"{name}: expected UTF-8 text"):
            Chat(scenarios=tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Chat(scenarios=tmp_path / "nowhere.json")


def test_splits_part_the_situations():
    keys = [{s.key for s in Chat(split=split).situations} for split in ("all", "train", "heldout")]
    assert len(keys[0]) == 192
    assert keys[1] | keys[2] == keys[0]
    assert not keys[1] & keys[2]
    assert 0.6 < len(keys[1]) / len(keys[0]) < 0.8


@pytest.mark.skipif(not CORPUS.exists(), reason="EmpatheticDialogues is not here")
def test_real_situations_can_be_played():
    task = Chat(scenarios=CORPUS)
    assert 2700 < len(task.situations) <= 2756  # distinct prompts
    assert not any("_comma_" in s.text for s in task.situations)
    assert 0.2 < np.mean([bool(s.topic) for s in task.situations]) < 0.7
    assert mean_return(task, "oracle", range(40))[0] > 0.85
    assert mean_return(task, "infers", range(40))[0] > 0.55
