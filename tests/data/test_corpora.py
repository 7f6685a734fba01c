"""Every reader: the counts of the real files, what a record becomes, and what is said of bad ones."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dialog_gym.data import Episodes, Ranking, Rankings, Recorded
from dialog_gym.data.corpora import CorpusError, corpus, corpus_names, read_corpus, recorded, register_corpus
from dialog_gym.data.exchange import import_rows, labelled, preferences
from dialog_gym.errors import SettingError

DATA = Path(__file__).parents[3] / "shared/data"
real = pytest.mark.skipif(not DATA.exists(), reason="the published corpora are not beside the checkout")

COUNTS = [
    ("abcd", "abcd/abcd_train_first50.json.gz", {}, 50, 1070),
    ("multiwoz22", "multiwoz/2.2/dev_flat.csv.gz", {}, 1000, 14748),
    ("multiwoz22", "multiwoz/2.2/original_examples_5.json.gz", {}, 5, 46),
    ("sgd", "sgd", {"split": "validation"}, 512, 7510),
    ("sgd", "sgd", {"split": "test"}, 640, 8042),
    ("taskmaster", "taskmaster/TM-4", {}, 3710, 13915),
    ("taskmaster", "taskmaster/TM-3/original_examples_5.json.gz", {}, 5, 90),
    ("taskmaster_rewards", "taskmaster/TM-3", {}, 3667, 74489),
    ("taskmaster_rewards", "taskmaster/TM-4", {}, 3228, 22470),
    ("taskmaster_contexts", "taskmaster/TM-3", {}, 1517, None),
    ("hh_rlhf", "hh_rlhf/helpful-base.test.jsonl.gz", {}, 2354, None),
    ("hh_rlhf", "hh_rlhf/harmless-base.test.jsonl.gz", {}, 2312, None),
    ("empathetic_dialogues", "empathetic_dialogues", {"split": "validation"}, 2770, 12078),
    ("empathetic_dialogues", "empathetic_dialogues", {"split": "test"}, 2547, 10973),
    ("sotopia", "sotopia", {}, 20, None),
    ("craigslist", "craigslist_bargain", {}, 643, 5841),
]


@real
@pytest.mark.parametrize(("name", "path", "options", "dialogues", "turns"), COUNTS)
def test_counts_are_those_of_the_corpus(name, path, options, dialogues, turns):
    reading = read_corpus(name, DATA / path, **options)
    found = [len(row.dialogue.turns) for row in reading]
    assert len(found) == dialogues
    assert turns in (None, sum(found))
    assert not reading.skipped


@real
@pytest.mark.parametrize(("name", "path", "options", "dialogues", "turns"), COUNTS[:1] + COUNTS[9:11] + COUNTS[14:])
def test_what_is_read_can_be_stored(tmp_path, name, path, options, dialogues, turns):
    rows = list(read_corpus(name, DATA / path, **options))
    table = import_rows(Rankings if isinstance(rows[0], Ranking) else Episodes, rows, tmp_path / "set")
    assert list(table) == rows


def files(folder, **contents):
    """Write JSON and texts under a folder: ``a__b_json`` is ``a/b.json``."""
    for name, content in contents.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(".".join(path.name.rsplit("_", 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def only(name, path, **options):
    (row,) = read_corpus(name, path, **options)
    return row


def said(row):
    return [f"{turn.role}: {turn.text}" for turn in row.dialogue.turns]


# --- registry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_is_complete(name):
    found = corpus(name)
    assert callable(found.reader())
    assert found.summary
    assert found.files
    assert len(set(found.roles)) == 2


def test_an_unknown_corpus_names_the_nearest():
    with pytest.raises(KeyError, match="no corpus format named 'abdc'; did you mean 'abcd'"):
        read_corpus("abdc", "file.json")
    with pytest.raises(ValueError, match="'module:function'"):
        register_corpus("mine", "module", "", roles=("a", "b"), files="")


def test_an_option_that_a_reader_lacks_is_refused_at_once(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(SettingError, match="'abcd' has no option 'side'; it has: actions=True"):
        read_corpus("abcd", tmp_path / "a.json", side="agent")


def test_nothing_at_all_is_an_error_told_once(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    reading = read_corpus("sgd", tmp_path / "a.json")
    with pytest.raises(CorpusError, match=r"a\.json: expected JSON .*got no good record at all"):
        next(reading)
    assert list(reading) == []


def test_recorded_refuses_what_is_no_dialogue():
    roles = ("a", "b")
    cases: list[tuple[Any, str]] = [
        ([], "at least one turn"),
        ([("c", "Hi")], "turns of 'a' and 'b', got one of 'c'"),
        ([("a", "half \ud83d")], "proper Unicode"),
    ]
    for turns, message in cases:
        with pytest.raises(ValueError, match=message):
            recorded(roles, turns, 0)
    with pytest.raises(TypeError, match="must be text, got 7"):
        recorded(roles, [("a", json.loads("7"))], 0)
    with pytest.raises(ValueError, match="reward for each of the agent's 1 turns, got 2"):
        recorded(roles, [("a", "Hi")], 0, rewards=[0, 1])
    with pytest.raises(ValueError, match="annotations of each of the 1 turns, got 0"):
        recorded(roles, [("a", "Hi")], 0, state={"turns": []})


# --- ABCD --------------------------------------------------------------------------------------


def abcd(key=7, delexed=True):
    targets = [["return", "take_action", "pull-up-account", ["ann"], -1], ["return", None, None, [], -1]]
    return {
        "convo_id": key,
        "scenario": {"personal": {"customer_name": "ann"}, "order": {}, "flow": "product_defect", "subflow": "return"},
        "original": [["action", "Account pulled up."], ["customer", "Thanks"]],
        **({"delexed": [{"targets": target} for target in targets]} if delexed else {}),
    }


def test_abcd(tmp_path):
    path = tmp_path / "abcd.json"
    path.write_text(json.dumps({"metadata": {"a": [1]}, "train": [abcd()], "dev": [abcd(8, delexed=False)]}))
    first, second = read_corpus("abcd", path)
    assert said(first) == ["agent: Account pulled up.", "customer: Thanks"]
    assert first.dialogue.roles == corpus("abcd").roles
    assert first.dialogue.state["turns"][0]["action"] == "pull-up-account"
    assert first.dialogue.state["turns"][0]["values"] == ["ann"]
    assert first.dialogue.scenario.private == {"customer": "You want: return. You are: customer_name: ann"}
    assert second.dialogue.scenario.hidden["split"] == "dev"
    assert (second.seed, second.policy, second.rewards) == (1, "human", (0.0,))
    assert only("abcd", path, split="validation", actions=False).dialogue.scenario.hidden["id"] == 8
    assert said(only("abcd", path, split="dev", actions=False)) == ["customer: Thanks"]


def test_a_bad_record_names_its_file_number_and_id_and_can_be_skipped(tmp_path):
    path = tmp_path / "abcd.json"
    path.write_text(
        json.dumps([abcd(1), {**abcd(2), "original": [["robot", "Hi"]], "delexed": []}, abcd(3), {"x": 1}, 5])
    )
    with pytest.raises(CorpusError, match=r"abcd\.json, record 2 \(2\): expected JSON .*got one of 'robot'"):
        list(read_corpus("abcd", path))
    reading = read_corpus("abcd", path, skip_bad=True)
    assert [row.dialogue.scenario.hidden["id"] for row in reading] == [1, 3]
    assert reading.skipped == 3
    assert "record 4: expected JSON" in reading.bad[1]
    assert "it has no 'original'" in reading.bad[1]


# --- MultiWOZ 2.2 and SGD ----------------------------------------------------------------------


def frame(values, intent="find_hotel"):
    return {"service": "hotel", "slots": [], "state": {"active_intent": intent, "slot_values": values}}


SGD: dict[str, Any] = {
    "dialogue_id": "d1",
    "services": ["hotel"],
    "turns": [
        {"speaker": "USER", "utterance": "A cheap hotel.", "frames": [frame({"hotel-price": ["cheap"]})]},
        {"speaker": "SYSTEM", "utterance": "Which area?", "frames": []},
        {
            "speaker": "USER",
            "utterance": "North.",
            "frames": [frame({"hotel-price": ["cheap"], "hotel-area": ["north", "n"]}), frame({"x": ["y"]}, "NONE")],
        },
    ],
}


def test_sgd(tmp_path):
    row = only("sgd", files(tmp_path, dev__dialogues_001_json=[SGD], dev__schema_json=[{"service_name": "x"}]))
    assert said(row) == ["user: A cheap hotel.", "system: Which area?", "user: North."]
    assert row.dialogue.scenario.private == {"user": "You want: hotel: find_hotel (price cheap, area north or n)."}
    assert row.dialogue.state["turns"][0]["frames"] == SGD["turns"][0]["frames"]


def inside_out(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_the_layout_of_the_hub_is_the_same_dialogue(tmp_path):
    pytest.importorskip("datasets")
    import pyarrow as pa
    import pyarrow.parquet as pq

    def hub_frame(one):
        values = one["state"]["slot_values"]
        state = {"slots_values_name": list(values), "slots_values_list": list(values.values())}
        intent = one["state"]["active_intent"]
        return {"service": one["service"], "state": {"active_intent": intent, "slots_values": state}}

    turns = [
        {
            "speaker": ["USER", "SYSTEM"].index(turn["speaker"]),
            "utterance": turn["utterance"],
            "frames": inside_out([hub_frame(one) for one in turn["frames"]] or [hub_frame(frame({}, ""))]),
        }
        for turn in SGD["turns"]
    ]
    (tmp_path / "hub").mkdir()
    table = pa.Table.from_pylist([{**SGD, "turns": inside_out(turns)}] * 3)
    pq.write_table(table, tmp_path / "hub/validation-00000-of-00001.parquet")
    pq.write_table(table, tmp_path / "hub/train-00000-of-00001.parquet")
    rows = list(read_corpus("multiwoz22", f"hub:{tmp_path / 'hub'}", split="dev"))
    plain = only("sgd", files(tmp_path / "plain", dialogues_001_json=[SGD])).dialogue
    assert len(rows) == 3
    assert rows[0].dialogue.turns == plain.turns
    assert rows[0].dialogue.scenario == plain.scenario
    assert len(list(read_corpus("multiwoz22", f"hub:{tmp_path / 'hub'}"))) == 6
    with pytest.raises(CorpusError, match="no split 'test', it has 'train', 'validation'"):
        list(read_corpus("multiwoz22", f"hub:{tmp_path / 'hub'}", split="test"))


def test_a_hub_that_cannot_be_reached_says_what_to_do(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def fails(*args, **kwargs):
        raise ConnectionError("no route to the hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(CorpusError, match=r"cannot get 'Anthropic/hh-rlhf' .*no route to the hub\); check the name"):
        list(read_corpus("hh_rlhf", "hub:"))
    with pytest.raises(CorpusError, match="no name of its own"):
        read_corpus("abcd", "hub:")
    with pytest.raises(CorpusError, match="reads files only"):
        list(read_corpus("abcd", "hub:some/name"))


def test_multiwoz_as_a_table(tmp_path):
    head = "dialogue_id,turn,utterance,dialogue_act,speaker,active_intent\n"
    first = 'd1,0,"Hi, you",Hotel-Inform,USER,find_hotel\nd1,1,Hello,,SYSTEM,NONE\n'
    (tmp_path / "a.csv").write_text(f"{head}{first}d2,1,Hi,,USER,NONE\nd3,0,Hi,,USER,NONE\n")
    with pytest.raises(CorpusError, match=r"row 3 \(d2\).*numbered from 0 without a gap"):
        list(read_corpus("multiwoz22", tmp_path / "a.csv"))
    first, last = read_corpus("multiwoz22", tmp_path / "a.csv", skip_bad=True)
    assert said(first) == ["user: Hi, you", "system: Hello"]
    assert first.dialogue.state["turns"][0] == {"act": "Hotel-Inform", "intent": "find_hotel"}
    assert last.dialogue.scenario.hidden["id"] == "d3"
    (tmp_path / "a.tsv").write_text('d1\tUSER\tsay "hi\t[hotel]\n')
    assert said(only("multiwoz22", tmp_path / "a.tsv")) == ['user: say "hi']


# --- Taskmaster --------------------------------------------------------------------------------


def test_taskmaster_dialogues(tmp_path):
    turns = [{"index": n, "speaker": s, "text": s[0]} for n, s in enumerate(["user", "assistant", "assistant"])]
    data = {"conversation_id": "c", "vertical": "Coffee", "scenario": "s", "instructions": None, "utterances": turns}
    row = only("taskmaster", files(tmp_path, data_00_json=[data], reward_00_json=[{"no": "dialogue"}]))
    assert said(row) == ["user: u", "assistant: a", "assistant: a"]
    assert row.dialogue.turn == 2
    with pytest.raises(CorpusError, match=r"record 1 \(c\).*numbered from 0 without a gap"):
        only("taskmaster", files(tmp_path / "b", data_00_json=[{**data, "utterances": turns[1:]}]))


def judged(reward=1.0, role="agent"):
    context = [
        {"role": "agent", "text": "Hi"},
        {"role": "user", "text": "Dune?"},
        {"role": "agent", "api": {"find": {"name": "Dune"}}},
        {"role": "api", "response": {"find": {"at": "9"}}},
    ]
    told = {"conversation_id": "c", "context": json.dumps(context), "reward": reward}
    return {**told, "generation": json.dumps({"role": role, "text": "At nine."})}


def test_taskmaster_rewards_are_those_of_the_last_turn(tmp_path):
    row = only("taskmaster_rewards", files(tmp_path, reward_00_json=[judged()]))
    assert said(row)[2:] == [
        'assistant: CALL {"find": {"name": "Dune"}}',
        'user: RESULT {"find": {"at": "9"}}',
        "assistant: At nine.",
    ]
    assert row.rewards == (0.0, 0.0, 1.0)
    assert row.score == 1.0


def test_taskmaster_rewards_are_labels_of_kto(tmp_path):
    path = files(tmp_path, reward_00_json=[judged(), judged(0.0)])
    good, bad = labelled(read_corpus("taskmaster_rewards", path, form="rankings"), threshold=0.5)
    assert (good["label"], bad["label"]) == (True, False)
    assert good["completion"] == [{"role": "assistant", "content": "At nine."}]
    assert [message["role"] for message in good["prompt"]] == ["assistant", "user", "assistant", "user"]


def test_taskmaster_rewards_refuse_other_numbers_and_roles(tmp_path):
    path = files(tmp_path, reward_00_json=[judged(0.5), judged(True), judged(role="user"), judged()])
    reading = read_corpus("taskmaster_rewards", path, skip_bad=True)
    assert (len(list(reading)), reading.skipped) == (1, 3)
    assert "reward must be 0 or 1, got 0.5" in reading.bad[0]
    with pytest.raises(ValueError, match="'episodes' or 'rankings', got 'pairs'"):
        list(read_corpus("taskmaster_rewards", path, form="pairs"))


def test_taskmaster_contexts(tmp_path):
    text = "<PR>find<PRAN>name<PRAV>One<PRAV>Two<C><S><U>Hi.<A>\\nHello!<PN>find<PAN>genre<PAV>action"
    (tmp_path / "bc.tsv").write_text(f"{text}\t[A]Two films.\td1\n<U>Hi.\tHello\td2\n")
    reading = read_corpus("taskmaster_contexts", tmp_path, skip_bad=True)
    assert said(next(reading)) == [
        "user: Hi.",
        "assistant: Hello!",
        'assistant: CALL {"find": {"genre": "action"}}',
        'user: RESULT {"find": {"name": ["One", "Two"]}}',
        "assistant: Two films.",
    ]
    assert list(reading) == []
    assert "begins with a mark" in reading.bad[0]


# --- preferences -------------------------------------------------------------------------------


def test_hh_pairs_are_rankings_of_two(tmp_path):
    before = "\n\nHuman: Bread?\n\nAssistant: Yes?\n\nHuman: How?\n\nAssistant: "
    pairs = [("Slowly.", "No."), ("Same.", "Same.")]
    lines = [json.dumps({"chosen": before + good, "rejected": before + bad}) for good, bad in pairs]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join([*lines, "{}"]).encode()))
    reading = read_corpus("hh_rlhf", tmp_path / "a.jsonl.gz", skip_bad=True)
    first, same = reading
    assert dict(zip(first.candidates, first.scores, strict=True)) == {"Slowly.": 1.0, "No.": 0.0}
    assert [message["role"] for message in first.messages] == ["user", "assistant", "user"]
    assert (same.candidates, same.scores) == (("Same.",), (0.5,))
    assert "a.jsonl.gz, line 3: expected JSON lines" in reading.bad[0]
    assert len(list(preferences([first, same]))) == 1


def test_safe_rlhf_has_three_data_sets_in_one(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "prompt,response_0,response_1,better_response_id,safer_response_id,is_response_0_safe,is_response_1_safe\n"
        "Bread?,Slowly.,With petrol.,1,0,True,False\nBread?,a,b,2,0,True,False\nBread?,a,a,1,0,True,True\n"
    )
    reading = read_corpus("safe_rlhf", path, skip_bad=True)
    row, same = reading
    assert (row.candidates, row.scores) == (("Slowly.", "With petrol."), (0.0, 1.0))
    assert row.more == {"safer": (1.0, 0.0), "safe": (1.0, 0.0)}
    assert [pair["chosen"][0]["content"] for pair in preferences([row], by="safer")] == ["Slowly."]
    assert same.more == {"safer": (0.5,), "safe": (1.0,)}
    assert "better_response_id must be 0 or 1, got '2'" in reading.bad[0]


# --- people ------------------------------------------------------------------------------------


def test_empathetic_dialogues(tmp_path):
    head = "conv_id,utterance_idx,context,prompt,utterance\n"
    first = "c1,1,sad,My dog_comma_ gone,He ran\nc1,2,sad,My dog_comma_ gone,Oh no_comma_ when?\n"
    (tmp_path / "train.csv").write_text(f"{head}{first}c2,2,sad,x,y\nc3,1,a,b,c\n")
    reading = read_corpus("empathetic_dialogues", tmp_path, skip_bad=True)
    first, last = reading
    assert said(first) == ["speaker: He ran", "listener: Oh no, when?"]
    assert first.dialogue.roles[0] == "listener"
    assert first.dialogue.scenario.hidden == {"id": "c1", "prompt": "My dog, gone", "emotion": "sad"}
    assert last.dialogue.turn == 0
    assert "row 3 (c2)" in reading.bad[0]


def test_empathetic_dialogues_without_quoting(tmp_path):
    row = 'c1,1,sad,a "dog,"Quoted" he said\n'
    (tmp_path / "train.csv").write_text(f"conv_id,utterance_idx,context,prompt,utterance\n{row}")
    assert said(only("empathetic_dialogues", tmp_path, quoted=False)) == ['speaker: "Quoted" he said']


def bargain(events, deal=1):
    item = {"Title": "Bike", "Price": 100, "Description": ["Red."]}
    sides = [{"personal": {"Role": role, "Target": t}, "item": item} for role, t in (("buyer", 80), ("seller", 100))]
    outcome = {"reward": deal, "offer": {"price": 90.0} if deal else None}
    return {"uuid": "u", "scenario": {"category": "bike", "kbs": sides}, "outcome": outcome, "events": events}


def event(agent, action, data=None):
    return {"agent": agent, "action": action, "data": data}


def test_craigslist_from_both_sides(tmp_path):
    events = [event(0, "message", "Hi"), event(1, "offer", {"price": 90.0}), event(0, "accept")]
    path = files(tmp_path, dev_json=[bargain(events)])
    buyer, seller = only("craigslist", path), only("craigslist", path, side="seller")
    assert said(buyer) == ["buyer: Hi", "seller: [offer $90]", "buyer: [accept]"]
    assert (buyer.dialogue.roles, seller.dialogue.roles) == (("buyer", "seller"), ("seller", "buyer"))
    assert (buyer.rewards, seller.rewards, buyer.score) == ((0.0, 1.0), (1.0,), 1.0)
    assert (buyer.dialogue.stop_reason, buyer.dialogue.success) == ("agreed", True)
    assert buyer.dialogue.scenario.hidden["price"] == 90.0
    assert buyer.dialogue.state["turns"][1] == {"action": "offer", "price": 90.0}


def test_craigslist_without_a_deal(tmp_path):
    ends = [(event(0, "reject"), "no deal"), (event(1, "quit"), "quit"), (event(1, "message", "bye"), "end")]
    path = files(tmp_path, dev_json=[bargain([event(0, "message", "Hi"), end], 0) for end, _ in ends])
    rows = list(read_corpus("craigslist", path))
    assert [row.dialogue.stop_reason for row in rows] == [reason for _, reason in ends]
    assert not any(row.dialogue.success or row.score for row in rows)
    with pytest.raises(CorpusError, match="action must be message, offer"):
        list(read_corpus("craigslist", files(tmp_path / "b", dev_json=[bargain([event(0, "dance")])])))


@real
def test_sotopia_scores_are_those_of_the_side(tmp_path):
    path = DATA / "sotopia/example_episodes_with_scores.jsonl.gz"
    first, goal = next(read_corpus("sotopia", path)), next(read_corpus("sotopia", path, dimension="goal"))
    second = next(read_corpus("sotopia", path, side="second"))
    overall = first.dialogue.scenario.hidden["overall"]
    assert (first.score, second.score) == (overall["first"], overall["second"])
    assert (first.total, second.total) == (first.score, second.score)
    assert goal.score == first.dialogue.scenario.hidden["scores"]["first"]["goal"]
    assert second.dialogue.roles == ("second", "first")


# --- CANDOR ------------------------------------------------------------------------------------

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def talk(folder, key="u1", bad=False):
    def second(time, user, emotion):
        return ",".join([time, user, *("" if not emotion else "0.9" if e == emotion else "0.01" for e in EMOTIONS)])

    shown = [second(str(t), "A", e) for t, e in enumerate(["neutral", "happiness", "happiness", "", "anger"])]
    shown += [second("0 days 00:00:02", "B", "fear")]
    return files(
        folder / key,
        survey_csv="user_id,overall_affect\nA,7\nB,\n",
        audio_video_features_csv="timedelta,user_id,"
        + ",".join(f"prob_face_{e}" for e in EMOTIONS)
        + "\n"
        + "\n".join(shown),
        transcription__transcript_cliffhanger_csv="turn_id,speaker,utterance,start,stop,n_words\n"
        f"0,A,Hi.,0,1,1\n1,B,Hello you.,1.0,{'?' if bad else 3},2\n2,A,Bye.,3.5,4,1\n",
    )


def test_candor_pairs_each_turn_of_the_agent_with_the_face_of_the_listener(tmp_path):
    talk(tmp_path)
    row = only("candor", tmp_path)
    assert said(row) == ["listener: Hi.", "agent: Hello you.", "listener: Bye."]
    notes = row.dialogue.state["turns"]
    assert notes[1] == {"start": 1.0, "stop": 3.0, "n_words": 2, "faces": {"happiness": 2}}
    assert notes[0]["faces"] == {}
    assert row.score == 7.0
    assert row.dialogue.scenario.hidden["speakers"] == {"agent": "B", "listener": "A"}


def test_candor_flipped_changes_role_face_and_score_together(tmp_path):
    talk(tmp_path)
    row = only("candor", tmp_path / "u1", agent="first", need_score=False)
    assert said(row)[0] == "agent: Hi."
    assert row.score is None
    assert [note["faces"] for note in row.dialogue.state["turns"]] == [{}, {"happiness": 2}, {}]
    assert only("candor", tmp_path, faces=False).dialogue.state["turns"][1]["faces"] == {}


def test_candor_bad_and_excluded_conversations(tmp_path):
    for key, bad in (("u1", False), ("u2", True), ("u3", False)):
        talk(tmp_path, key, bad)
    with pytest.raises(CorpusError, match="conversation u2: expected folders with survey"):
        list(read_corpus("candor", tmp_path))
    reading = read_corpus("candor", tmp_path, skip_bad=True, exclude=["u3"])
    assert [row.dialogue.scenario.hidden["id"] for row in reading] == ["u1"]
    assert reading.skipped == 1
    (tmp_path / "u1/transcription/transcript_cliffhanger.csv").unlink()
    with pytest.raises(CorpusError, match=r"u1: .*expected the file transcript_cliffhanger\.csv"):
        list(read_corpus("candor", tmp_path))
    with pytest.raises(CorpusError, match=r"survey\.csv, row 1, has no column 'in_common'"):
        list(read_corpus("candor", tmp_path / "u3", score="in_common"))


# --- one's own ---------------------------------------------------------------------------------

MESSAGES = "ticket,who,said,points,stars\n1,bot,Hi,0.5,\n1,Eve,Hello,,4\n2,Eve,Ho,,\n2,bot,Hey,,2\n"
MAPPED: dict[str, Any] = {
    "conversation": "ticket",
    "role": "who",
    "text": "said",
    "agent": "bot",
    "reward": "points",
    "score": "stars",
}


def test_own_messages_with_a_mapping(tmp_path):
    (tmp_path / "a.csv").write_text(MESSAGES)
    first, second = read_corpus("chats", tmp_path / "a.csv", **MAPPED)
    assert said(first) == ["assistant: Hi", "user: Hello"]
    assert (first.rewards, first.score) == ((0.5,), 4.0)
    assert (second.rewards, second.score) == ((0.0,), 2.0)
    assert first.dialogue.state["turns"][1] == {"speaker": "Eve"}


@pytest.mark.parametrize(
    ("record", "options"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}], "rating": 3}, {}),
        (
            {
                "id": 9,
                "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}],
                "rating": "3",
            },
            {},
        ),
        (
            {"log": [{"w": "x", "t": "Hi"}, {"w": "y", "t": "Yes?"}], "rating": 3},
            {"messages": "log", "role": "w", "text": "t", "agent": "y"},
        ),
    ],
)
def test_own_conversations_in_lists(tmp_path, record, options):
    (tmp_path / "a.json").write_text(json.dumps([record]))
    row = only("chats", tmp_path / "a.json", score="rating", **options)
    assert said(row) == ["user: Hi", "assistant: Yes?"]
    assert row.score == 3.0


def test_a_system_message_can_be_context(tmp_path):
    told = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": told}))
    row = only("chats", tmp_path / "a.jsonl", context="system")
    assert row.dialogue.scenario.public == "system"
    assert said(row) == ["user: user", "assistant: assistant"]


def test_own_files_with_other_columns_say_which_option_to_give(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(MESSAGES)
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, r"expected a column with the conversation: one of .*got ticket, who, said.*conversation=COLUMN"),
        ({"conversation": "tikcet"}, "expected a column with the conversation: 'tikcet', got ticket"),
        ({**MAPPED, "role": ""}, "expected a column with the role: one of role, speaker"),
    ]
    for options, message in cases:
        with pytest.raises(CorpusError, match=message):
            list(read_corpus("chats", path, **options))
    path.write_text(MESSAGES.replace("bot", "Adam"))
    with pytest.raises(CorpusError, match=r"speakers 'Adam', 'Eve' to be the agent; say who: agent=NAME"):
        list(read_corpus("chats", path, **{**MAPPED, "agent": ""}))
    path.write_text("[1]")
    with pytest.raises(CorpusError, match="expected CSV"):
        list(read_corpus("chats", path.rename(tmp_path / "a.json")))


def test_messages_of_a_conversation_must_follow_each_other(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(MESSAGES + "1,bot,late,,\n")
    reading = read_corpus("chats", path, skip_bad=True, **MAPPED)
    assert len(list(reading)) == 2
    assert "row 5 (1)" in reading.bad[0]
    assert "must follow each other" in reading.bad[0]


def test_other_encodings_of_own_files(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(MESSAGES.replace("Hello", "Grüß Gott").encode("cp1252"))
    with pytest.raises(CorpusError, match=r"row 2: .*no utf-8; give the encoding"):
        list(read_corpus("chats", path, **MAPPED))
    first, _ = read_corpus("chats", path, encoding="cp1252", **MAPPED)
    assert isinstance(first, Recorded)
    assert said(first)[1] == "user: Grüß Gott"
