import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from dialog_gym.env import advance, begin
from dialog_gym.envs.advice import ADVISER, ASKER, Advice
from dialog_gym.envs.advice_data import Preference, Prompt, read_preferences, read_questions
from dialog_gym.rewards.base import Reward

DATA = Path(__file__).parents[3] / "shared/data"
HH, SACPO = DATA / "hh_rlhf", DATA / "sacpo"
HELPFUL = Reward.of(lambda d: min(len(d.turns[-1].text) / 100, 1), "long", 0, 1)


def record(prompt="How do I bake bread?", better=1, safer=0, safe=(True, False)):
    return {
        "prompt": prompt,
        "response_0": "Slowly.",
        "response_1": "With petrol.",
        "better_response_id": better,
        "safer_response_id": safer,
        "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1],
    }


def hh(chosen="Slowly.", rejected="No.", before="\n\nHuman: Bread?\n\nAssistant: "):
    return {"chosen": before + chosen, "rejected": before + rejected}


def written(path, records):
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        plain = path.with_suffix(".plain")
        with plain.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
        text = plain.read_text()
    elif kind == "jsonl":
        text = "\n".join(map(json.dumps, records)) + "\n"
    elif kind == "txt":
        text = "\n\n".join(records)
    else:
        text = json.dumps(records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.json.gz", "a.jsonl.gz", "a.csv.gz"])
def test_safe_rlhf_in_every_kind_of_file(tmp_path, name):
    path = written(tmp_path / name, [record(), record(), record('And, a "cake"?', 0, 0, (False, False))])
    first, _, third = read_preferences(path)
    assert first == Preference(
        ({"role": "user", "content": "How do I bake bread?"},), "Slowly.", "With petrol.", 1, 0, (True, False)
    )
    assert third[3:] == (0, 0, (False, False))
    assert read_questions(path) == (Prompt(((ASKER, "How do I bake bread?"),)), Prompt(((ASKER, 'And, a "cake"?'),)))


def test_hh_has_several_turns_and_one_label(tmp_path):
    before = "\n\nHuman: Bread?\n\nAssistant: Which?\n\nHuman: Rye.\n\nIn a pan.\n\nAssistant: "
    path = written(tmp_path / "a.jsonl", [hh(before=before), hh()])
    pair, other = read_preferences(path)
    assert pair.messages == (
        {"role": "user", "content": "Bread?"},
        {"role": "assistant", "content": "Which?"},
        {"role": "user", "content": "Rye.\n\nIn a pan."},
    )
    assert pair[1:] == ("Slowly.", "No.", 0, None, None)
    assert other.messages == ({"role": "user", "content": "Bread?"},)
    assert [p[3:5] for p in read_preferences(path, "safer")] == [(None, 0)] * 2
    assert [p[3:5] for p in read_preferences(path, "both")] == [(0, 0)] * 2


def test_an_answer_in_two_parts_is_joined(tmp_path):
    (pair,) = read_preferences(written(tmp_path / "a.json", [hh("Slowly.\n\nAssistant: Very.", "Slowly.")]))
    assert (pair.response_a, pair.response_b) == ("Slowly.\n\nVery.", "Slowly.")


def test_a_prompt_with_its_answers(tmp_path):
    prompt = "BEGINNING OF CONVERSATION: USER: Bread? ASSISTANT:"
    path = written(tmp_path / "a.json", [{"prompt": prompt, "chosen": "Slowly.", "rejected": "No."}])
    assert read_preferences(path, "safer") == (
        Preference(({"role": "user", "content": "Bread?"},), "Slowly.", "No.", None, 0, None),
    )
    assert read_questions(path) == (Prompt(((ASKER, "Bread?"),)),)


def test_bad_records_can_be_left_out(tmp_path):
    path = written(tmp_path / "a.json", [hh(), {"prompt": "x"}, hh("Yes.")])
    assert [pair.response_a for pair in read_preferences(path, skip_bad=True)] == ["Slowly.", "Yes."]
    with pytest.raises(ValueError, match="at least one record"):
        read_preferences(written(tmp_path / "b.json", [{"prompt": "x"}]), skip_bad=True)


def test_other_line_separators_end_no_record(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record("Bread\u2028or cake?"), ensure_ascii=False) + "\r\n", newline="")
    assert read_questions(path)[0].turns[0][1] == "Bread\u2028or cake?"


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("a.json", [{"prompt": "Bread?", "category": "x"}, {"prompt": "Cake?", "category": "x"}]),
        ("a.json", ["Bread?", "Cake?"]),
        ("a.jsonl", ["Bread?", "Cake?"]),
        ("a.txt", ["Bread?", "Cake?"]),
        ("a.csv", [{"prompt": "Bread?"}, {"prompt": "Cake?"}]),
        ("a.json", [hh(), {"prompt": "\n\nHuman: Cake?\n\nAssistant:"}]),
    ],
)
def test_prompts_alone(tmp_path, name, records):
    prompts = read_questions(written(tmp_path / name, records))
    assert [prompt.turns for prompt in prompts] == [((ASKER, "Bread?"),), ((ASKER, "Cake?"),)]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(), {"prompt": "x"}], r"record 1: expected .*SafeRLHF.*no 'response_0'"),
        ([record(better=2)], "record 0: .*better_response_id must be 0 or 1, got 2"),
        ([record(better=True)], "better_response_id must be 0 or 1"),
        ([record(safe=("maybe", True))], "is_response_0_safe must be true or false, got 'maybe'"),
        ([record(prompt=7)], "prompt must be text, got 7"),
        ([{"chosen": "Bot: x", "rejected": "Bot: x"}], "a dialogue begins with"),
        ([{"chosen": "\n\nHuman: x", "rejected": "\n\nHuman: x"}], "both end with an answer"),
        ([{"chosen": hh()["chosen"], "rejected": "\n\nHuman: Other?\n\nAssistant: No."}], "the same question"),
        ([hh(rejected="No.\n\nHuman: Why?\n\nAssistant: So.")], "differ in the last answer alone"),
        (["text"], "str is no record"),
        ([], "at least one record"),
    ],
)
def test_other_pairs_are_refused(tmp_path, records, message):
    path = written(tmp_path / "a.json", records)
    with pytest.raises(ValueError, match=message) as caught:
        read_preferences(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"prompt": "x"}', "expected a list of records, got dict"),
        ('[{"question": "x"}]', r'record 0: expected \{"prompt": "..."\}.*no .prompt'),
        ('["Bread?", ""]', "record 1: .*a prompt must be text"),
        ('["Bread?", 3]', "record 1"),
        ('[{"prompt": "\\n\\nHuman: a\\n\\nAssistant: b"}]', "ends with a question"),
        ("[", "a damaged or other file"),
    ],
)
def test_other_questions_are_refused(tmp_path, data, message):
    path = tmp_path / "a.json"
    path.write_text(data)
    with pytest.raises(ValueError, match=message) as caught:
        Advice(questions=path)
    assert str(path) in str(caught.value)


def test_damaged_unknown_and_missing_files(tmp_path):
    whole = written(tmp_path / "a.json.gz", [record(str(i)) for i in range(90)]).read_bytes()
    for name, data in [("b.json.gz", whole[:-30]), ("c.json", b"\xff\xfe\x00"), ("d.parquet", b"PAR1")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: expected JSON"):
            read_questions(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_preferences(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="chosen must be"):
        read_preferences(tmp_path / "b.json.gz", "best")  # type: ignore[arg-type]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_conversation_goes_on_from_where_it_stopped(tmp_path, turns):
    before = "\n\nHuman: Bread?\n\nAssistant: Which?\n\nHuman: Rye.\n\nAssistant: "
    task = Advice(questions=written(tmp_path / "a.jsonl", [hh(before=before)]), max_turns=turns, reward_model=HELPFUL)
    dialogue = begin(task, 0)
    assert dialogue.turns == ((ASKER, "Bread?"), (ADVISER, "Which?"), (ASKER, "Rye."))
    assert [m["content"] for m in task.messages(dialogue, ADVISER)[1:]] == ["Bread?", "Which?", "Rye."]
    for answer in range(1, turns + 1):
        assert dialogue.stop_reason == ""
        (dialogue,), (reward,), (cost,), _ = advance(task, [dialogue], ["Slowly, as I said."])
        assert cost == 0
        assert dialogue.turn == 1 + answer
    assert (dialogue.stop_reason, dialogue.turns[-1].role) == ("answered", ADVISER)
    assert reward == pytest.approx(0.18)


def test_splits_part_the_questions(tmp_path):
    path = written(tmp_path / "a.txt", [f"What is {i}?" for i in range(300)])
    parts = [set(Advice(questions=path, split=split).prompts) for split in ("all", "train", "heldout")]
    assert parts[1] | parts[2] == parts[0]
    assert not parts[1] & parts[2]
    assert 0.6 < len(parts[1]) / 300 < 0.8
    with pytest.raises(ValueError, match="expected questions in split 'train', got none"):
        Advice(questions=written(tmp_path / "b.txt", ["What is 3?"]), split="train")


@pytest.mark.skipif(not HH.exists(), reason="the HH test pairs are not here")
@pytest.mark.parametrize(("name", "count"), [("helpful", 2354), ("harmless", 2312)])
def test_hh_can_be_read_and_played(name, count):
    path = HH / f"{name}-base.test.jsonl.gz"
    pairs = read_preferences(path, "safer" if name == "harmless" else "better")
    assert len(pairs) == count
    assert all(pair.messages[-1]["role"] == "user" for pair in pairs)
    assert np.mean([pair.response_a != pair.response_b for pair in pairs]) > 0.98
    task = Advice(questions=path, max_turns=2, reward_model=HELPFUL)
    for seed in range(20):
        dialogue = begin(task, seed)
        assert dialogue.turns[-1].role == ASKER
        for _ in range(2):
            (dialogue,), *_ = advance(task, [dialogue], ["Slowly."])
        assert dialogue.stop_reason == "answered"


@pytest.mark.skipif(not SACPO.exists(), reason="SACPO's problem files are not here")
def test_the_problem_files_of_sacpo():
    assert len(read_questions(SACPO / "helpful_problem.json")) == 129
    assert len(read_questions(SACPO / "safety_problem.json")) == 83
