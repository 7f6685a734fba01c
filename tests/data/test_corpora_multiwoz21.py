"""MultiWOZ 2.1 and CamRest are read with their goals, states and bookings."""

import gzip
import json
from pathlib import Path

import pytest

from dialog_gym.data.corpora import CorpusError, read_corpus
from dialog_gym.data.episodes import Episodes

DATA = Path(__file__).parents[3] / "shared/data"
needs_data = pytest.mark.skipif(not (DATA / "multiwoz").exists(), reason="the corpora are not at ../shared/data")


def beliefs(semi, book=None, booked=()):
    return {"semi": semi, "book": {**(book or {}), "booked": list(booked)}}


def talk(food="indian"):
    """Return a dialogue of two turns each, as the corpus writes it."""
    first = {
        "restaurant": beliefs({"food": food, "area": "", "name": "not mentioned"}),
        "taxi": beliefs({"leaveAt": ""}),
    }
    booked = [{"name": "curry hut", "reference": "AB12CD34"}]
    second = {"restaurant": beliefs({"food": [food, "thai"], "area": "dontcare"}, {"people": "2", "day": ""}, booked)}
    return {
        "goal": {
            "restaurant": {"info": {"food": food}, "reqt": ["phone"], "fail_info": {}},
            "hotel": {},
            "topic": {"hotel": False},
            "message": ["You want <span class='emphasis'>food</span>", "Soon"],
        },
        "log": [
            {"text": " I want food . ", "metadata": {}, "dialog_act": {"Restaurant-Inform": [["Food", food]]}},
            {
                "text": "Curry Hut ?",
                "metadata": first,
                "dialog_act": "No Annotation",
                "span_info": [["Restaurant-Inform", "Name", "Curry Hut", 0, 1]],
            },
            {"text": "Yes .", "metadata": {}},
            {"text": "Booked .", "metadata": second},
        ],
    }


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_a_dialogue_of_multiwoz(tmp_path):
    (record,) = read_corpus("multiwoz21", write(tmp_path / "val.json", {"PMUL1.json": talk()}))
    dialogue = record.dialogue
    assert dialogue.roles == ("clerk", "tourist")
    assert [tuple(turn) for turn in dialogue.turns][:2] == [("tourist", "I want food ."), ("clerk", "Curry Hut ?")]
    assert dialogue.scenario.private == {"tourist": "You want food Soon"}
    assert dialogue.scenario.hidden == {
        "id": "PMUL1",
        "services": ["restaurant"],
        "goal": {"restaurant": {"info": {"food": "indian"}, "reqt": ["phone"], "fail_info": {}}},
    }
    asked, offered, agreed, booked = dialogue.state["turns"]
    assert asked == {"acts": {"Restaurant-Inform": [["Food", "indian"]]}, "spans": []}
    assert offered == {
        "acts": {},
        "spans": [["Restaurant-Inform", "Name", "Curry Hut", 0, 1]],
        "state": {"restaurant": {"food": "indian"}},
        "booked": {},
    }
    assert agreed == {"acts": {}, "spans": []}
    assert booked["state"] == {"restaurant": {"food": "indian|thai", "area": "dontcare", "book people": "2"}}
    assert booked["booked"] == {"restaurant": [{"name": "curry hut", "reference": "AB12CD34"}]}
    assert (record.policy, record.rewards, dialogue.stop_reason) == ("human", (0.0, 0.0), "end")
    assert Episodes.decode(json.loads(json.dumps(Episodes.encode(record)))).dialogue == dialogue


def test_a_file_may_be_a_list_and_packed(tmp_path):
    path = tmp_path / "restaurants.json.gz"
    path.write_bytes(gzip.compress(b"\n " + json.dumps([talk(), talk("thai")]).encode()))
    first, second = read_corpus("multiwoz21", path)
    assert (first.dialogue.scenario.hidden["id"], second.dialogue.scenario.hidden["id"]) == ("0", "1")
    assert second.dialogue.state["turns"][1]["state"] == {"restaurant": {"food": "thai"}}


@pytest.mark.parametrize(
    ("split", "ids"), [("", ["A", "B", "C"]), ("train", ["A"]), ("validation", ["B"]), ("test", ["C"])]
)
def test_splits_of_the_whole_corpus_are_told_by_lists(tmp_path, split, ids):
    write(tmp_path / "data.json", {f"{name}.json": talk() for name in "ABC"})
    (tmp_path / "valListFile.json").write_text("B.json\n")
    (tmp_path / "testListFile.txt").write_text("C\n")
    found = [record.dialogue.scenario.hidden["id"] for record in read_corpus("multiwoz21", tmp_path, split=split)]
    assert found == ids


def broken(change):
    data = talk()
    change(data)
    return data


@pytest.mark.parametrize(
    "bad",
    [
        broken(lambda data: data.pop("goal")),
        broken(lambda data: data["log"].pop(0)),  # the clerk first
        broken(lambda data: data["log"][1].update(metadata={})),
        broken(lambda data: data["log"][1].update(text=None)),
        broken(lambda data: data["log"][1]["metadata"]["taxi"].pop("book")),
        ["something else"],
    ],
)
def test_a_bad_record_is_named_or_left_out(tmp_path, bad):
    path = write(tmp_path / "val.json", {"GOOD": talk(), "SNG01": bad})
    with pytest.raises(CorpusError, match=r"val\.json.*SNG01.*expected JSON"):
        list(read_corpus("multiwoz21", path))
    reading = read_corpus("multiwoz21", path, skip_bad=True)
    assert [record.dialogue.scenario.hidden["id"] for record in reading] == ["GOOD"]
    assert reading.skipped == 1


@needs_data
def test_counts_of_multiwoz():
    records = list(read_corpus("multiwoz21", DATA / "multiwoz/2.1", split="validation"))
    assert (len(records), sum(len(record.dialogue.turns) for record in records)) == (999, 14730)
    listed = set((DATA / "multiwoz/2.1/valListFile").read_text().split())
    assert {record.dialogue.scenario.hidden["id"] for record in records} <= {
        name.removesuffix(".json") for name in listed
    }
    single = list(read_corpus("multiwoz21", DATA / "multiwoz/2.1/restaurants_single_domain.json.gz"))
    assert len(single) == 442
    assert {tuple(record.dialogue.scenario.hidden["services"]) for record in single} == {("restaurant",)}


# --- CamRest -------------------------------------------------------------------------------------


def booth(split="train"):
    """Return a dialogue as the unified format of ConvLab writes it."""
    act = {"intent": "inform", "domain": "restaurant", "slot": "food", "value": "thai"}
    return {
        "dialogue_id": "camrest-0",
        "data_split": split,
        "domains": ["restaurant"],
        "goal": {
            "description": "Find Thai food.",
            "inform": {"restaurant": {"food": "thai"}},
            "request": {"restaurant": {"phone": "", "address": ""}},
        },
        "finished": True,
        "turns": [
            {
                "speaker": "user",
                "utterance": "Thai?",
                "dialogue_acts": {"binary": [], "categorical": [], "non-categorical": [act]},
                "state": {"restaurant": {"food": "thai", "area": ""}},
            },
            {"speaker": "system", "utterance": "Sala Thong.", "dialogue_acts": {"binary": []}},
        ],
    }


def test_a_dialogue_of_camrest(tmp_path):
    (record,) = read_corpus("camrest", write(tmp_path / "dialogues.json", [booth()]))
    dialogue = record.dialogue
    assert dialogue.roles == ("system", "user")
    assert dialogue.scenario.private == {"user": "Find Thai food."}
    assert dialogue.scenario.hidden["goal"] == {"restaurant": {"info": {"food": "thai"}, "reqt": ["address", "phone"]}}
    assert dialogue.state["turns"][1] == {"acts": [], "state": {"restaurant": {"food": "thai"}}, "booked": {}}
    assert dialogue.state["turns"][0]["acts"][0]["value"] == "thai"
    assert (dialogue.success, dialogue.stop_reason) == (True, "finished")


def test_a_bad_record_of_camrest(tmp_path):
    path = write(tmp_path / "dialogues.json", [booth(), booth() | {"turns": 3}])
    with pytest.raises(CorpusError, match=r"record 2 \(camrest-0\)"):
        list(read_corpus("camrest", path))


@needs_data
@pytest.mark.parametrize(("split", "dialogues", "turns"), [("", 676, 5488), ("train", 406, 3342), ("test", 135, 1070)])
def test_counts_of_camrest(split, dialogues, turns):
    records = list(read_corpus("camrest", DATA / "camrest/data.zip", split=split))
    assert (len(records), sum(len(record.dialogue.turns) for record in records)) == (dialogues, turns)
