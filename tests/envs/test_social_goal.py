"""SocialGoal-v0: rules by hand, language, the value, Sotopia's files, models as partner and judge."""

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.data.corpora.sotopia import DIMENSIONS, RANGES
from dialog_gym.dialogue import Dialogue, Draws, Turn
from dialog_gym.env import advance, begin
from dialog_gym.envs import social_goal_phrases as phrases
from dialog_gym.envs.social_goal import ROLES, SocialGoal, SocialScores, mind_of
from dialog_gym.envs.social_goal_language import Names, consent, leaves, notation, say, to_tokens, understand
from dialog_gym.envs.social_goal_people import CHARACTERS, SITUATIONS, names_of
from dialog_gym.envs.social_goal_policies import (
    TABLE,
    belief,
    constant,
    main,
    oracle_act,
    play,
    random_act,
    seen,
)
from dialog_gym.envs.social_goal_rules import (
    ACTS,
    KINDS,
    LIKED_MANNER,
    MANNERS,
    QUALITY,
    TOPICS,
    Act,
    Mind,
    hear,
    scores,
)
from dialog_gym.envs.social_goal_sotopia import read_combinations, read_episodes, shown_to, view
from dialog_gym.partner import PartnerTask
from dialog_gym.rewards.judge import Judge
from dialog_gym.rewards.other import with_reward
from tests.rewards.judges import Scripted, verdict

CORPUS = Path(__file__).parents[3] / "shared/data/sotopia"
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="Sotopia's files are not here")
CAR = Names(
    "lend me your car", "fill the tank", "pay you fifty dollars", "i failed my exam twice", "car", "tank", "fifty"
)
EVERY_ACT = [
    Act(kind, manner, topic, size)
    for kind in ACTS
    for manner in MANNERS
    for topic in (TOPICS if kind in ("reason", "question", "compliment") else ("",))
    for size in ((1, 2) if kind == "offer" else (0,))
]
acts = st.sampled_from([*EVERY_ACT, Act("compliment"), Act("question", "warm")])


def mind(kind="warm", **given):
    return Mind(kind, need=3, gain=2, will=0, patience=8)._replace(**given)


def step(task, dialogue, act):
    text = act if isinstance(act, str) else say(act, Names.of(dialogue.scenario.hidden), dialogue.draws("w").bits())
    (after,), (reward,), *_ = advance(task, [dialogue], [text])
    return after, reward


# --- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_act_in_the_right_manner_moves(kind):
    act = max(QUALITY[kind], key=lambda name: QUALITY[kind][name])
    right = Act(act, LIKED_MANNER[kind], "" if act == "offer" else "work", int(act == "offer"))
    moved, stuck = hear(mind(kind), right)
    assert [moved.chance, stuck.chance] == pytest.approx([0.9, 0.1])
    assert [(heard.mind.will, heard.mind.bond) for heard in (moved, stuck)] == [(1, 1), (0, 0)]
    other = hear(mind(kind), right._replace(manner={"warm": "plain", "plain": "warm"}[right.manner]))
    assert other[0].chance == pytest.approx(0.36)
    rude = hear(mind(kind, will=2), right._replace(manner="rude"))
    assert [(heard.mind.will, heard.mind.bond, heard.mind.rude, heard.mind.patience) for heard in rude] == [
        (1, -2, 1, 6)
    ]


def test_a_big_offer_moves_two_steps_and_the_same_again_none():
    big = hear(mind("trade"), Act("offer", "plain", "", 2))[0].mind
    assert (big.will, big.offer, big.bond) == (2, 2, 1)
    (again,) = hear(big, Act("offer", "plain", "", 1))
    assert (again.reaction, again.mind.will, again.mind.patience) == ("repeat", 2, big.patience - 2)
    assert again.mind.credit == big.credit - 2


def test_an_unwelcome_act_costs_two_turns_and_the_bond():
    _, against = hear(mind("reasons"), Act("compliment", "warm", "work"))
    assert (against.reaction, against.mind.patience, against.mind.bond, against.mind.credit) == ("against", 6, -1, 2)


@pytest.mark.parametrize(("will", "reaction", "agreed"), [(1, "early", 0), (2, "half", 0), (3, "agreed", 2)])
def test_what_a_request_leads_to(will, reaction, agreed):
    (heard,) = hear(mind(will=will), Act("ask"))
    assert (heard.reaction, heard.mind.agreed) == (reaction, agreed)
    assert heard.stop == ("agreed" if agreed else "")


def test_half_is_there_when_it_was_proposed_and_not_before():
    assert hear(mind(), Act("accept"))[0].stop == ""
    proposed = hear(mind(will=2), Act("ask"))[0].mind
    assert hear(proposed, Act("ask"))[0].reaction == "repeat"  # nothing has changed since
    done = hear(proposed, Act("accept"))[0]
    assert (done.stop, done.mind.agreed, scores(done.mind)[6]) == ("agreed", 1, 5.0)


def test_questions_are_answered_by_those_who_trust():
    cold = hear(mind("warm"), Act("question", "warm", "work"))
    assert [(heard.reaction, heard.mind.told) for heard in cold] == [("told_moved", 1), ("evasive", 0)]
    open_ = hear(mind("warm", will=3, told=1), Act("question", "warm", "work"))
    assert {heard.mind.told for heard in open_} == {2}
    assert scores(open_[0].mind)[2] == 6.0


def test_the_secret_moves_everybody_and_costs_ten():
    for kind in KINDS:
        (heard,) = hear(mind(kind), Act("reveal"))
        assert (heard.mind.will, scores(heard.mind)[3]) == (2, -10.0)


def test_an_apology_heals_once_for_each_offence():
    hurt = hear(mind(will=2), Act("ask", "rude"))[0].mind
    healed = hear(hurt, Act("apologise"))[0].mind
    assert (hurt.bond, healed.bond, scores(healed)[4]) == (-2, -1, -4.0)
    assert hear(healed, Act("apologise"))[0].reaction == "idle"


def test_the_seven_scores_by_hand():
    done = mind(agreed=2, offer=2, bond=4, credit=9, told=3, rude=1)
    assert scores(done) == (9.0, 4.0, 10.0, 0.0, -4.0, 2.0 - 3.0, 10.0)
    assert scores(mind(offer=2)) == (3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # an offer is due at an agreement alone
    assert scores(mind(rude=3))[4] == -10.0


@given(st.sampled_from(KINDS), st.lists(acts, max_size=9), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_chances_add_up_and_scores_stay_in_range(kind, said, luck):
    now = mind(kind)
    for act in said:
        outcomes = hear(now, act)
        assert sum(heard.chance for heard in outcomes) == pytest.approx(1)
        heard = luck.choice(outcomes)
        now = heard.mind
        assert (
            now.bond <= now.will
        )  # so the bond never meets its upper bound, as the oracle's planning takes for granted
        for name, score in zip(DIMENSIONS, scores(now), strict=True):
            assert RANGES[name][0] <= score <= RANGES[name][1]
        assert heard.stop or now.patience > 0
        if heard.stop:
            break


def test_the_mean_of_the_seven_has_sotopias_range():
    reward = SocialScores()
    assert [reward.low, reward.high] == pytest.approx([-30 / 7, 40 / 7])
    assert reward.terms == ("overall", *DIMENSIONS)
    secret = SocialScores("secret")
    assert (secret.low, secret.high) == (-10, 0)


# --- the language ------------------------------------------------------------------------------


def test_every_act_is_understood_as_it_was_meant_in_both_notations():
    draws = Draws(3, "words")
    for situation in SITUATIONS:
        for wish in situation.wishes:
            names = names_of(wish, draws.choice(CHARACTERS).secret)
            for act in EVERY_ACT * 2:
                bits = draws.bits()
                text, tokens = say(act, names, bits), notation(act, bits)
                assert to_tokens(text, names) == tokens
                assert understand(text, names) == act, text
                assert len(tokens.split()) <= 16


PEOPLE_SAY = {
    "ask": [
        "Hey, could I borrow your car this weekend?",
        "Would you mind lending me the car?",
        "I'd really need your car on Friday.",
        "I don't know, but could you lend me your car?",
        "I was wondering if I could take your car on Saturday",
    ],
    "offer": ["I'd gladly fill up the tank for you.", "I can pay you fifty bucks", "What if I fill the tank?"],
    "reason": ["I need it because my mother is in hospital", "My doctor says I need to rest"],
    "question": ["How is it going at your job?", "How have your kids been?", "Tell me more about your family"],
    "compliment": ["You're great at your job!", "You are so kind.", "Your kids are wonderful"],
    "apologise": ["I'm really sorry about that.", "Sorry!", "Please forgive me, that was rude of me"],
    "accept": ["Okay, half is fine with me.", "Deal!", "That works, thanks"],
    "reveal": ["Honestly, I failed the exam twice"],
    "leave": ["Goodbye!", "OK, bye then.", "See you later.", "*leaves*", "Mia left the conversation"],
    "none": [
        "I left my car at work.",
        "You have a nice car.",
        "I won't fill the tank.",
        "I do not want you to lend me your car.",
        "No deal.",
        "That is not enough.",
        "You are not good at your work.",
        "by the way, it's raining",
        "It's not because of my work.",
        "Don't leave!",
        "I have to go to the shop first.",
        "He said goodbye to me",
        "I am not sorry.",
        "My secret is safe.",
        "you would be great at your job if you tried",
        "",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PEOPLE_SAY.items() for text in texts])
def test_what_people_say(kind, text):
    assert understand(text, CAR).kind == kind


def test_a_secret_is_out_when_most_of_it_is_said():
    skater = CAR._replace(secret="he was once a competitive figure skater.")
    assert understand("I used to be a competitive figure skater", skater).kind == "reveal"
    assert understand("I like figure skating", skater).kind == "none"


def test_one_utterance_is_one_act():
    everything = " ".join(texts[0] for kind, texts in PEOPLE_SAY.items() if kind not in ("none", "leave", "reveal"))
    assert understand(everything, CAR).kind == "ask"
    assert understand("you idiot, my dear friend, thank you", CAR).manner == "rude"
    assert understand("I was an idiot, I am sorry", CAR) == Act("apologise", "plain")


@pytest.mark.parametrize(
    "text", ["Have a good look at it", "Bye-laws are dull", "He left", "I left my bag.", "bye?", "leave it to me", ""]
)
def test_a_word_of_parting_is_no_leaving(text):
    assert not leaves(text)


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_text_gets_an_answer(text):
    task = SocialGoal()
    after, _ = step(task, begin(task, 3), text)
    assert after.turns[-1].role == "second"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes, I'll do it.", "agreed"),
        ("Of course!", "agreed"),
        ("I will lend it to you.", "agreed"),
        ("Yes, but not today.", ""),
        ("I will not.", ""),
        ("Sure?", ""),
        ("I could do half of it.", "half"),
    ],
)
def test_how_a_model_answers_a_request(text, answer):
    assert consent(text) == answer


def test_every_phrase_of_the_partner_is_recognised():
    for reaction, group in phrases.REACTIONS.items():
        assert {seen(phrase).reaction for phrase in group} == {reaction}
    for kind, cues in phrases.CUES.items():
        assert {seen(f"hm. {cue}").hint for cue in cues} == {kind}


# --- the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.filterwarnings("ignore:.*not within the observation space")
def test_check_env(side):
    check_env(gym.make("dialog_gym/SocialGoal-v0", side=side).unwrapped)


@pytest.mark.parametrize("side", ROLES)
def test_each_role_acts_on_its_own_turns(side):
    task = SocialGoal(side)
    dialogue = begin(task, 5)
    assert [turn.role for turn in dialogue.turns] == ([] if side == "first" else ["first"])
    for turn in range(1, 4):
        dialogue, _ = step(task, dialogue, Act("reason", "plain", TOPICS[turn - 1]))
        assert dialogue.texts(side)[-1] == dialogue.turns[-2].text
        assert dialogue.turn == turn
    assert [turn.role for turn in dialogue.turns[::2]] == ["first"] * len(dialogue.turns[::2])


@pytest.mark.parametrize("side", ROLES)
def test_both_roles_together_speak_at_most_twice_as_often(side):
    task = SocialGoal(side, max_turns=3)
    dialogue = begin(task, 1)
    while not dialogue.stop_reason:
        dialogue, reward = step(task, dialogue, Act("reason", "warm", TOPICS[dialogue.turn]))
    assert (dialogue.stop_reason, dialogue.turn, len(dialogue.turns)) == ("max_turns", 3, 6)
    assert reward == pytest.approx(sum(scores(mind_of(dialogue))) / 7, abs=1e-6)


@pytest.mark.parametrize("side", ROLES)
def test_what_each_knows_of_the_other(side):
    task = SocialGoal(side)
    told = dict.fromkeys(range(6), 0)
    for seed in range(400):
        scenario = task.scenario(Draws(seed, "scenario"))
        hidden, (own, other) = scenario.hidden, (scenario.private[role] for role in task.roles)
        partner = next(person for person in CHARACTERS if other.startswith(f"You are {person.name},"))
        code = hidden["relationship"]
        assert (partner.name in own) == (code >= 1)
        assert (partner.job in own) == (code >= 2) or partner.job in own.split("The other")[0]
        assert (partner.hobby in own) == (code >= 3)
        assert partner.secret not in own
        right = phrases.TRAITS[hidden["kind"]] in own
        assert right if code >= 3 else code == 2 or not right
        told[code] += right
        assert hidden["names"][0] in own
        assert "Your goal: get" not in other
    assert 0.5 < told[2] / 80 < 0.9


def test_rewards_come_at_the_end_with_all_terms():
    env = gym.make("dialog_gym/SocialGoal-v0", objective="relationship")
    env.reset(seed=3)
    _, reward, _, _, info = env.step("How is your family?")
    assert reward == 0
    assert set(info["reward_terms"]) == {"overall", *DIMENSIONS}
    assert not any(info["reward_terms"].values())
    _, reward, terminated, _, info = env.step("You idiot! Goodbye.")
    assert terminated
    assert reward == info["reward_terms"]["relationship"] <= -1
    assert info["reward_terms"]["social_rules"] == -4
    assert info["reward_terms"]["overall"] == pytest.approx(sum(info["reward_terms"][name] for name in DIMENSIONS) / 7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**53), st.sampled_from(ROLES))
def test_batch_order_and_json_do_not_matter(seed, side):
    task = SocialGoal(side)
    dialogues = [begin(task, seed + i) for i in range(3)]
    while dialogues:
        texts = [
            say(random_act(task, d, d.draws("a")), Names.of(d.scenario.hidden), d.draws("b").bits()) for d in dialogues
        ]
        together = advance(task, dialogues, texts).dialogues
        copies = [Dialogue.from_json(json.dumps(d.to_json())) for d in dialogues]
        assert [step(task, d, text)[0] for d, text in zip(copies, texts, strict=True)] == together
        dialogues = [d for d in together if not d.stop_reason]


def test_rows_of_a_vector_are_single_environments():
    rows = gym.make_vec("dialog_gym/SocialGoal-v0", num_envs=3, side="second", split="heldout")
    seen_, _ = rows.reset(seed=11)
    for row in range(3):
        env = gym.make("dialog_gym/SocialGoal-v0", side="second", split="heldout")
        assert env.reset(seed=11 + row)[0] == seen_[row]


def test_cues_are_noisy_and_those_who_are_ready_say_so():
    task, right, ready = SocialGoal("second"), [], []
    for seed in range(400):
        dialogue = begin(task, seed)
        right.append(seen(dialogue.turns[0].text).hint == mind_of(dialogue).kind)
        open_ = replace(dialogue, state={**dialogue.state, "will": 5})
        ready.append(seen(step(task, open_, "hm.")[0].turns[-1].text).hint == "ready")
    assert 0.75 < np.mean(right) < 0.85
    assert 0.7 < np.mean(ready) < 0.8


def test_notation_and_attributes():
    task = SocialGoal()
    dialogue = begin(task, 12)
    names = Names.of(dialogue.scenario.hidden)
    system = task.messages(dialogue, "first")[0]["content"]
    assert system.startswith("social ")
    assert mind_of(dialogue).kind not in system.split()
    assert "you like" in task.messages(dialogue, "second")[0]["content"]
    for text in ("please, could you <want>?", f"Please, could you {names.want}?"):
        numbers = task.attributes(dialogue, "first", text)
        on = {name for name, number in zip(task.attribute_names, numbers, strict=True) if number}
        assert on == {"act:ask", "manner:warm", "topic:none", "size:none"}
    assert task.utterance(dialogue, " could you <want>? ") == f"could you {names.want}?"
    assert len(task.attribute_names) <= 20
    after, _ = step(task, dialogue, Act("question", "warm", "family"))
    chat = task.messages(after, "first")
    assert [message["role"] for message in chat] == ["system", "assistant", "user"]
    assert task.understood(after)
    assert not task.understood(step(task, dialogue, "blah")[0])


# --- policies and the value --------------------------------------------------------------------


def test_what_how_and_when_all_matter():
    task = SocialGoal()
    played = {name: [play(task, policy, seed)[1] for seed in range(48)] for name, policy in task.policies().items()}
    mean = {name: float(np.mean(returns)) for name, returns in played.items()}
    assert 3.7 < mean["oracle"] < 5.2
    assert mean["random"] < 0
    span = mean["oracle"] - mean["random"]
    assert mean["infers"] - mean["random"] > 0.85 * span
    for name in mean:
        if name.startswith(("constant", "asks", "leaves")):
            assert mean[name] - mean["random"] < 0.6 * span, name
    assert mean["oracle, random manner"] < mean["oracle"] - 0.5
    assert mean["oracle's manner, random act"] < 1


@pytest.mark.parametrize("objective", ["overall", "goal"])
def test_the_value_is_what_the_oracle_earns(objective):
    task, pairs = SocialGoal(objective=objective), []
    for seed in range(40):
        draws = Draws(seed, "states")
        dialogue = begin(task, seed)
        for _ in range(draws.integer(0, 4)):
            after, _ = step(task, dialogue, random_act(task, dialogue, draws)._replace(manner="warm"))
            dialogue = dialogue if after.stop_reason else after
        names = Names.of(dialogue.scenario.hidden)
        for act in (oracle_act(task, dialogue, draws), random_act(task, dialogue, draws)):
            forks = [replace(dialogue, seed=10_000 + i) for i in range(24)]
            after = advance(task, forks, [say(act, names, draws.bits())] * len(forks))
            world = [r + task.value(d) for r, d in zip(after.rewards, after.dialogues, strict=True)]
            earned, live = sum(after.rewards), [d for d in after.dialogues if not d.stop_reason]
            while live:
                on = advance(task, live, [task.oracle(d) for d in live])
                earned, live = earned + sum(on.rewards), [d for d in on.dialogues if not d.stop_reason]
            pairs.append((np.mean(world), earned / len(forks)))
    worlds, means = np.array(pairs).T
    assert np.corrcoef(worlds, means)[0, 1] > 0.98
    centred = [(x.reshape(-1, 2) - x.reshape(-1, 2).mean(1, keepdims=True)).ravel() for x in (worlds, means)]
    assert np.corrcoef(*centred)[0, 1] > 0.98
    assert abs(np.mean(worlds - means)) < 0.02 * (10 if objective == "goal" else 1)


def test_value_is_nothing_when_it_is_over_and_respects_the_last_turn():
    task = SocialGoal(max_turns=1)
    dialogue = begin(task, 2)
    assert task.value(dialogue) < SocialGoal().value(dialogue)
    after, _ = step(task, dialogue, task.oracle(dialogue))
    assert task.value(after) == 0


def test_the_belief_is_right_as_often_as_it_says():
    task, said, right = SocialGoal(), [], []
    for seed in range(100):
        dialogue, policy = begin(task, seed), task.policies()["infers"]
        while not dialogue.stop_reason:
            minds = belief(dialogue)
            assert sum(p for _, p in minds) == pytest.approx(1)
            kinds = {kind: sum(p for mind, p in minds if mind.kind == kind) for kind in KINDS}
            guess = max(kinds, key=lambda kind: kinds[kind])
            said.append(kinds[guess])
            right.append(guess == mind_of(dialogue).kind)
            dialogue, _ = step(task, dialogue, policy(dialogue))
    assert abs(np.mean(said) - np.mean(right)) < 0.06


def test_facts_come_from_what_is_seen():
    task = SocialGoal()
    dialogue, _ = step(task, begin(task, 4), Act("question", "warm", "work"))
    other = {**dialogue.state, "kind": "trade", "need": 4, "will": 0, "patience": 3}
    np.testing.assert_array_equal(task.facts(dialogue), task.facts(replace(dialogue, state=other)))
    numbers = dict(zip(task.fact_names, task.facts(dialogue), strict=True))
    assert numbers["questions"] == pytest.approx(1 / 3)
    assert sum(numbers[f"chance_{kind}"] for kind in KINDS) == pytest.approx(1)


@pytest.mark.parametrize("side", ROLES)
def test_self_play_is_short_finished_varied_and_repeatable(side):
    task = SocialGoal(side)
    played = [task.self_play(Draws(seed, "corpus")) for seed in range(160)]
    assert played[7] == task.self_play(Draws(7, "corpus"))
    assert all(d.stop_reason for d in played)
    said = [understand(t, Names.of(d.scenario.hidden)) for d in played for t in d.texts(side)]
    for share, group in ((0.03, {act.kind for act in said}), (0.1, {act.manner for act in said})):
        assert group in ({*ACTS}, {*MANNERS})
        assert min(sum(v in (act.kind, act.manner) for act in said) for v in group) > share * len(said)
    chats = [" ".join(m["content"] for m in task.messages(d, side)).split() for d in played]
    assert max(map(len, chats)) <= 220
    assert len({word.strip(".,?:") for chat in chats for word in chat}) <= 250
    assert max(d.turn for d in played) <= 8


def test_the_table_is_printed(capsys):
    main(["--episodes", "2", "--side", "second"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SocialGoal-v0, second, overall, heldout, 2 episodes, seeds from 1000000"
    assert len(lines) == 2 + len(TABLE)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"side": "agent1"}, "side must be one of 'first'"),
        ({"objective": "fun"}, "objective must be one of"),
        ({"split": "dev"}, "split must be one of"),
        ({"max_turns": 0}, "max_turns"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        SocialGoal(**setting)


def test_splits_part_the_pool():
    keys = {}
    for split in ("all", "train", "heldout"):
        task = SocialGoal(split=split)
        keys[split] = {task.scenario(Draws(seed, "s")).hidden["key"] for seed in range(3000)}
    assert not keys["train"] & keys["heldout"]
    assert 0.6 < len(keys["train"]) / len(keys["all"]) < 0.8
    assert len(CHARACTERS) == 40
    assert len(SITUATIONS) >= 12


# --- models as partner and judge ---------------------------------------------------------------


def spoken_by_model(answer, side="first", **given):
    task = PartnerTask(SocialGoal(side, **given), Scripted(lambda messages: answer))
    return task, begin(task, 3)


def test_a_model_may_agree_to_all_or_half_tell_and_leave():
    ask = Act("ask", "warm")
    task, dialogue = spoken_by_model("Yes, I will do it.")
    after, reward = step(task, dialogue, ask)
    assert (after.stop_reason, after.success) == ("agreed", True)
    assert scores(mind_of(after))[6] == 10
    assert reward == pytest.approx(sum(scores(mind_of(after))) / 7, abs=1e-6)
    task, dialogue = spoken_by_model("I can do half of it.")
    proposed, _ = step(task, dialogue, ask)
    done, _ = step(task, proposed, Act("accept"))
    assert (proposed.stop_reason, done.stop_reason, done.success, done.turns[-1].role) == (
        "",
        "agreed",
        False,
        "first",
    )
    assert scores(mind_of(done))[6] == 5
    task, dialogue = spoken_by_model("My work is hard these days.")
    told, _ = step(task, dialogue, Act("question", "warm", "work"))
    assert scores(mind_of(told))[2] == 2
    for answer, stop in (("I don't think so. Goodbye.", "left"), ("No. Have a good look at it.", "")):
        task, dialogue = spoken_by_model(answer)
        assert step(task, dialogue, ask)[0].stop_reason == stop


def test_a_model_is_not_asked_when_the_agent_leaves_or_has_had_its_last_turn():
    task, dialogue = spoken_by_model("Hm.", "second", max_turns=2)
    assert step(task, dialogue, "Goodbye.")[0].stop_reason == "left"
    for act in (Act("reason", "plain", "work"), Act("reason", "plain", "work")):
        dialogue, _ = step(task, dialogue, act)
    assert (dialogue.stop_reason, len(dialogue.turns)) == ("max_turns", 4)
    assert len(task.lm.calls) == 1
    assert scores(mind_of(dialogue))[0] < scores(Mind("warm", 3, 0, 0, 8, credit=4))[0]  # it repeated itself


def test_the_oracle_plays_for_the_tasks_own_reward_when_a_judge_is_there():
    plain, judged = SocialGoal(), with_reward(SocialGoal(), Judge(Scripted(lambda messages: ""), "sotopia"))
    dialogue = begin(plain, 6)
    assert judged.oracle(dialogue) == plain.oracle(dialogue)


def test_the_judge_scores_the_seven_dimensions():
    answer = dict.fromkeys(DIMENSIONS, 0) | {"goal": 8, "believability": 9, "secret": -3}
    judge = Scripted(lambda messages: verdict(**answer))
    env = gym.make("dialog_gym/SocialGoal-v0", judge=judge, rubric="sotopia")
    env.reset(seed=1)
    _, reward, *_, info = env.step("Goodbye!")
    assert reward == pytest.approx(14 / 7)
    assert info["reward_terms"]["judge/secret"] == -3
    assert "your secret" in str(judge.calls[0]).lower()


# --- Sotopia's files ---------------------------------------------------------------------------


def test_marked_passages_are_shown_to_their_viewers_alone():
    text = 'A <p viewer="environment">E</p> <p viewer="agent_1">F</p><p viewer=\'agent_2\'>S</p> <x_y>hint</x_y>'
    assert shown_to(text, "first") == "A F hint"
    assert shown_to(text, "second") == "A S hint"
    assert shown_to(text, "") == "A hint"


PERSON = {
    "first_name": "Eva",
    "last_name": "Roth",
    "age": 30,
    "occupation": "Pilot",
    "gender": "Woman",
    "gender_pronoun": "She/her",
    "public_info": "Eva owns a parrot.",
    "personality_and_values": "Eva is calm.",
    "secret": "Never learned geography",
}


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (0, ()),
        (1, ("Eva Roth",)),
        (2, ("Eva Roth", "pilot", "parrot")),
        (3, ("Eva Roth", "pilot", "parrot", "calm")),
        (4, ("Eva Roth", "pilot", "parrot", "calm")),
        (5, ("Eva Roth", "pilot", "parrot", "calm")),
    ],
)
def test_the_view_of_the_other_by_relationship(code, shown):
    text = view(PERSON, code)
    assert tuple(word for word in ("Eva Roth", "pilot", "parrot", "calm", "geography") if word in text) == shown


def folder(path, **changes):
    scene = {"scenario": "At a fair.", "agent_goals": ["Sell", "Buy"], "relationship": 3} | changes.get("scene", {})
    person = PERSON | changes.get("person", {})
    combination = {"pk": "c", "env_id": "e", "agent_ids": ["p", "q"]} | changes.get("combination", {})
    for name, data in {
        "envs.json": {"e": scene},
        "agents.json": {"p": person, "q": {**person, "first_name": "Max"}},
        "env_agent_combos.json": changes.get("combinations", [combination]),
    }.items():
        (path / name).write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scene": {"relationship": 7}}, "envs.json, record e: .*relationship must be a code from 0 to 5, got 7"),
        ({"scene": {"agent_goals": ["one"]}}, "envs.json, record e: .*agent_goals must be two texts"),
        ({"scene": {"scenario": None}}, "envs.json, record e: .*scenario must be text"),
        ({"person": {"age": "old"}}, "agents.json, record p: .*age must be a whole number"),
        ({"person": {"secret": 3}}, "agents.json, record p: .*secret must be text"),
        ({"combination": {"env_id": "x"}}, "combos.json, record 0: .*'x' is not in envs.json"),
        ({"combination": {"agent_ids": ["p", "z"]}}, "combos.json, record 0: .*not both in agents.json"),
        ({"combinations": [{}]}, "combos.json, record 0: .*'agent_ids' is missing"),
        ({"combinations": []}, "at least one combination"),
        ({"combinations": {}}, "expected a JSON list, got dict"),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_combinations(folder(tmp_path, **changes))
    assert str(tmp_path) in str(caught.value)


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"envs\.json"):
        SocialGoal(scenarios=tmp_path / "nowhere")
    (folder(tmp_path) / "agents.json").write_text("{")
    with pytest.raises(ValueError, match=r"agents\.json: expected JSON"):
        SocialGoal(scenarios=tmp_path)
    (tmp_path / "episodes.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match=r"episodes\.jsonl, record on line 1"):
        read_episodes(tmp_path / "episodes.jsonl")
    (tmp_path / "episodes.jsonl").write_text('\n{"a": "one\u2028two\x85three"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"episodes\.jsonl, record on line 2"):  # it is JSON, on one line
        read_episodes(tmp_path / "episodes.jsonl")


def test_a_real_scenario_is_told_in_plain_text(tmp_path):
    task = SocialGoal("second", folder(tmp_path))
    dialogue = begin(task, 1)
    after, _ = step(task, dialogue, "Could you <b>sell</b> it to me?")
    chat = task.messages(after, "second")
    assert chat[0]["content"] == after.brief("second")
    assert "Your goal: Buy" in chat[0]["content"]
    assert "Sell" not in chat[0]["content"]
    assert "geography" not in chat[0]["content"].split("The other:")[1]
    assert chat[2]["content"] == "Could you <b>sell</b> it to me?"
    assert task.newest(dialogue.said("second", "Would you take ten dollars?")).kind == "ask"


@needs_corpus
@pytest.mark.parametrize("side", ROLES)
def test_all_450_combinations_are_played(side):
    task = SocialGoal(side, CORPUS)
    assert len(task.combinations) == 450
    policy, stops = task.policies()["oracle"], set()
    people = json.loads((CORPUS / "agents.json").read_text())
    for number, one in enumerate(task.combinations):
        dialogue = begin(task, number, task.scenario_of(one, Draws(number, "partner")))
        own = dialogue.brief(side)
        secrets = [person["secret"] for person in people.values()]
        assert [s for s in secrets if s in own] == [one.secrets[ROLES.index(side)]]
        assert "viewer" not in own
        assert "extra_info" not in own
        while not dialogue.stop_reason:
            dialogue, reward = step(task, dialogue, policy(dialogue))
        stops.add(dialogue.stop_reason)
        assert -30 / 7 <= reward <= 40 / 7
    assert stops == {"agreed", "left"}


@needs_corpus
def test_the_published_episodes_are_read():
    episodes = read_episodes(CORPUS / "example_episodes_with_scores.jsonl.gz")
    assert len(episodes) == 20
    assert sum(len(episode.dialogue.turns) for episode in episodes) == 226
    for episode in episodes:
        assert {turn.role for turn in episode.dialogue.turns} == {*ROLES}
        assert Dialogue.from_json(episode.dialogue.to_json()) == episode.dialogue
        for role in ROLES:
            assert tuple(episode.scores[role]) == DIMENSIONS
            assert all(RANGES[name][0] <= score <= RANGES[name][1] for name, score in episode.scores[role].items())
            assert episode.overall[role] == pytest.approx(sum(episode.scores[role].values()) / 7)
            assert f"You are {episode.names[ROLES.index(role)]}" in episode.dialogue.brief(role)
        left = episode.dialogue.turns[-1].text == "[left the conversation]"
        assert left == (episode.dialogue.stop_reason == "left")
        assert [turn for turn in episode.dialogue.turns[:-1] if leaves(turn.text)] in ([], [_SEE_YOU_THEN])
    first = episodes[0]
    assert first.overall == {"first": 3.0, "second": pytest.approx(36 / 7)}
    assert (first.dialogue.stop_reason, len(first.dialogue.turns)) == ("stale", 9)
    with pytest.raises(ValueError, match="come with their scores"):
        SocialScores()([first.dialogue])


_SEE_YOU_THEN = Turn("second", "Looking forward to our meeting tomorrow, Mia. See you then!")


def test_a_constant_plan_is_what_it_says():
    task = SocialGoal()
    plan = constant(("small", "question", "question"), "warm")
    dialogue, said = begin(task, 3), []
    while not dialogue.stop_reason and dialogue.turn < 4:
        said.append(plan(task, dialogue, dialogue.draws("x")))
        dialogue, _ = step(task, dialogue, said[-1])
    assert said[:3] == [
        Act("offer", "warm", "", 1),
        Act("question", "warm", "work"),
        Act("question", "warm", "family"),
    ]
