import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from dialog_gym.benchmarks import negotiation
from dialog_gym.data.corpora import CorpusError, read_corpus
from dialog_gym.data.corpora import deal_or_no_deal as dond
from dialog_gym.data.episodes import Episodes
from dialog_gym.envs.deal_or_no_deal import DealOrNoDeal

DATA = Path(__file__).parents[3] / "shared/data"
there = pytest.mark.skipif(not (DATA / "deal_or_no_deal").exists(), reason="the published corpora are not here")

TALK = "YOU: i want the book <eos> THEM: deal <eos> YOU: <selection>"
OTHER = "THEM: i want the book <eos> YOU: deal <eos> THEM: <selection>"
DEAL, LAED = "item0=1 item1=0 item2=0 item0=0 item1=3 item2=1", "item0=0 item1=3 item2=1 item0=1 item1=0 item2=0"


def line(talk=TALK, output=DEAL, own="1 4 3 1 1 3", other="1 1 3 3 1 0"):
    return (
        f"<input> {own} </input> <dialogue> {talk} </dialogue> <output> {output} </output> "
        f"<partner_input> {other} </partner_input>"
    )


def mirror(output=LAED):
    return line(OTHER, output, "1 1 3 3 1 0", "1 4 3 1 1 3")


def written(path, *lines):
    path.write_text("".join(text + "\n" for text in lines))
    return path


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_lines_are_one_dialogue_of_either_side(tmp_path, order):
    path = written(tmp_path / "a.txt", *[(line(), mirror())[i] for i in order])
    first, second = read_corpus("deal_or_no_deal", path, side="both")
    assert first.dialogue.turns == second.dialogue.turns
    assert [tuple(turn) for turn in first.dialogue.turns] == [
        ("first", "i want the book"),
        ("second", "deal"),
        ("first", "<select> book=1 hat=0 ball=0"),
        ("second", "<select> book=0 hat=3 ball=1"),
    ]
    assert (first.dialogue.roles, second.dialogue.roles) == (("first", "second"), ("second", "first"))
    assert (first.rewards, second.rewards) == ((0.0, 4.0), (0.0, 9.0))
    assert first.dialogue.scenario.hidden["values"] == {"first": [4, 1, 3], "second": [1, 3, 0]}
    assert first.dialogue.scenario.hidden["lines"] == [0, 1]
    assert "a book is worth 4, a hat is worth 1, a ball is worth 3" in first.dialogue.brief("first")
    assert "a book is worth 4" not in first.dialogue.brief("second")
    assert first.dialogue.success
    assert Episodes.decode(Episodes.encode(first)) == first


@pytest.mark.parametrize(
    ("token", "stop", "last"),
    [
        ("<disagree>", "disagreed", ["<selection>"]),
        ("<no_agreement>", "no deal", ["<select> none", "<select> none"]),
        ("<disconnect>", "disconnected", ["<selection>"]),
    ],
)
def test_outcome_tokens_are_kept(tmp_path, token, stop, last):
    (one,) = read_corpus("deal_or_no_deal", written(tmp_path / "a.txt", line(output=" ".join([token] * 6))))
    assert (one.dialogue.stop_reason, one.dialogue.success, one.total) == (stop, False, 0.0)
    assert [turn.text for turn in one.dialogue.turns[2:]] == last
    assert one.dialogue.state["selections"] == {"first": None, "second": None}
    assert one.dialogue.scenario.hidden["lines"] == [0]


def test_lines_that_do_not_belong_together_are_two_dialogues(tmp_path):
    path = written(tmp_path / "a.txt", line(), mirror("<disagree> " * 5 + "<disagree>"))
    assert [e.dialogue.stop_reason for e in read_corpus("deal_or_no_deal", path)] == ["agreed", "disagreed"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("hello", "line 2: expected lines .*got 'hello'"),
        (line(other="2 1 3 3 1 0"), "line 2: .*the same counts"),
        (line(own="1 4 3 1"), "line 2: .*count and value of book, hat, ball, got 4 numbers"),
        (line(output="item0=1 item1=0 item2=0 item0=1 item1=3 item2=1"), r"line 2: .*add up to \(1, 3, 1\)"),
        (line(output="<agree> " * 5 + "<agree>"), "line 2: .*add up"),
        (line(talk="YOU: hi <eos> ME: ho <eos> YOU: <selection>"), "line 2: .*'YOU: ' or 'THEM: '"),
        (line(talk="YOU: hi"), "line 2: .*must end with <selection>"),
    ],
)
def test_what_is_wrong_is_told_or_skipped(tmp_path, bad, message):
    path = written(tmp_path / "a.txt", line(), bad, mirror())
    with pytest.raises(CorpusError, match=message) as caught:
        list(read_corpus("deal_or_no_deal", path))
    assert "a.txt" in str(caught.value)
    reading = read_corpus("deal_or_no_deal", path, skip_bad=True)
    assert len(list(reading)) == 1
    assert reading.skipped == 1


@pytest.mark.parametrize("name", ["deal_or_no_deal", "casino"])
def test_strange_sides_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="side must be 'first', 'second' or 'both', got 'left'"):
        list(read_corpus(name, written(tmp_path / "a.json", "[]"), side="left"))


# --- CaSiNo ------------------------------------------------------------------------------------


def person(high, medium, low, points=19, satisfied="Slightly satisfied"):
    return {
        "value2issue": {"Medium": medium, "Low": low, "High": high},
        "value2reason": {"High": "we  need it", "Medium": "some", "Low": "little"},
        "outcomes": {"points_scored": points, "satisfaction": satisfied, "opponent_likeness": "Undecided"},
    }


def camp(end=("Accept-Deal",), take="201", give="132"):
    """Return a record: b greets, a greets, b submits ``take`` and ``give`` of food, water, firewood, a ends it."""
    deal = {
        "issue2youget": dict(zip(("Food", "Water", "Firewood"), take, strict=True)),
        "issue2theyget": dict(zip(("Food", "Water", "Firewood"), give, strict=True)),
    }
    logs = [
        {"text": "hello", "task_data": {}, "id": "b"},
        {"text": "hi", "task_data": {}, "id": "a"},
        {"text": "Submit-Deal", "task_data": deal, "id": "b"},
        *({"text": text, "task_data": {"data": "x"}, "id": "a"} for text in end),
    ]
    return {
        "dialogue_id": 7,
        "chat_logs": logs,
        "participant_info": {"a": person("Water", "Food", "Firewood"), "b": person("Food", "Water", "Firewood")},
        "annotations": [["hi", "small-talk,self-need"]],
    }


def casino(path, data, **options):
    path.write_text(json.dumps([data]))
    return list(read_corpus("casino", path, **options))


def test_a_camp_dialogue_by_hand(tmp_path):
    first, second = casino(tmp_path / "a.json", camp(), side="both")
    assert [tuple(turn) for turn in first.dialogue.turns] == [
        ("first", "hello"),
        ("second", "hi"),
        ("first", "<select> food=2 water=0 firewood=1"),
        ("second", "<accept>"),
    ]
    assert first.dialogue.scenario.hidden["values"] == {"first": [5, 4, 3], "second": [4, 5, 3]}
    assert (first.total, second.total) == (2 * 5 + 3, 4 + 3 * 5 + 2 * 3)
    assert (first.score, second.score) == (4.0, 4.0)
    assert first.dialogue.state["turns"] == [None, ["small-talk", "self-need"], None, None]
    assert first.dialogue.state["selections"] == {"first": [2, 0, 1], "second": [1, 3, 2]}
    assert "food (5 each: we need it), water (4 each: some), firewood (3" in first.dialogue.brief("first")


@pytest.mark.parametrize("end", [("Walk-Away",), ("Reject-Deal", "Walk-Away")])
def test_who_walks_away_has_five_points(tmp_path, end):
    first, second = casino(tmp_path / "a.json", camp(end), side="both")
    assert (first.total, second.total, first.dialogue.stop_reason) == (5.0, 5.0, "no deal")
    assert first.dialogue.turns[-1].text == "<walk>"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (camp(give="131"), r"record 1 \(7\): expected JSON .*three of each, got \(2, 0, 1\) and \(1, 3, 1\)"),
        ({**camp(), "participant_info": {"b": person("Food", "Water", "Firewood")}}, "two participants"),
        (
            {**camp(), "participant_info": {"a": person("Food", "Water", "Wood"), "b": person("Food", "Water", "x")}},
            "priorities High, Medium, Low of food, water, firewood",
        ),
        ({"dialogue_id": 7}, "it has no 'participant_info'"),
        ({**camp(), "participant_info": {x: person("Food", "Water", "Firewood", 1, "glad") for x in "ab"}}, "glad"),
    ],
)
def test_damaged_records_are_told(tmp_path, data, message):
    with pytest.raises(CorpusError, match=message):
        casino(tmp_path / "a.json", data)


# --- the benchmark -----------------------------------------------------------------------------


def test_lines_are_scored_by_themselves_and_compared():
    lines = [dond.parse(text) for text in (line(), mirror(), line(talk="YOU: hi <eos> YOU: <selection>"))]
    checked = negotiation.lines_checked([*lines, dond.parse(line(output="<disagree> " * 5 + "<disagree>"))])
    assert checked["lines"] == 4
    assert (checked["agreed lines"], checked["agreed lines with an equal mirror"]) == (3, 2)
    assert checked["agreed lines that differ"] == 1  # its other line is missing
    assert checked["points per agreed line"] == pytest.approx((4 + 9 + 4) / 3)
    assert checked["points per line"] == pytest.approx((4 + 9 + 4) / 4)


def test_the_parser_is_measured_by_the_deal_of_the_end(tmp_path):
    talks = [TALK, TALK.replace("book", "ball")]  # the book was chosen in both
    path = written(tmp_path / "a.txt", *[line(talk) for talk in talks], line(output="<disagree> " * 5 + "<disagree>"))
    dialogues = [episode.dialogue for episode in read_corpus("deal_or_no_deal", path)]
    measured = negotiation.parser(DealOrNoDeal(), dialogues)
    assert (measured["deals"], measured["sides right"][0]) == (2, 0.5)
    assert measured["items right"] == pytest.approx((3 + 1) / 6)
    assert measured["agreement heard"] == 1.0
    ends = negotiation.people(dialogues, 0)
    assert ends["ends"] == {"agreed": 2, "disagreed": 1}
    assert ends["agreed"][0] == pytest.approx(2 / 3)
    assert ends["points of a side"] == pytest.approx(13 / 3)


@there
def test_the_report_is_printed(tmp_path, capsys):
    for name in ("deal_or_no_deal/val.txt.gz", "casino/casino_valid.json.gz"):
        for copy in (name, name.replace("val.txt", "train.txt").replace("valid", "train")):
            (tmp_path / copy).parent.mkdir(exist_ok=True)
            (tmp_path / copy).symlink_to(DATA / name)
    negotiation.main(["--data", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["Deal or No Deal, validation"]["agreed lines that differ"] == 0
    assert report["CaSiNo, validation"]["points equal"] == 60
    negotiation.show(report, Console(width=200))
    assert "pareto of agreed" in capsys.readouterr().out


# --- what is published -------------------------------------------------------------------------


@there
def test_the_published_files_whole():
    reading = read_corpus("deal_or_no_deal", DATA / "deal_or_no_deal/val.txt.gz")
    episodes = list(reading)
    assert sum(len(e.dialogue.scenario.hidden["lines"]) for e in episodes) == 1087
    ends = Counter(e.dialogue.stop_reason for e in episodes)
    assert ends == {"agreed": 422, "disagreed": 83, "no deal": 54, "disconnected": 3}
    assert {len(e.dialogue.scenario.hidden["lines"]) for e in episodes if e.dialogue.success} == {2}
    path = DATA / "casino/casino_valid.json.gz"
    camps = list(read_corpus("casino", path, side="both"))
    assert len(camps) == 60
    for camp_ in camps:
        outcome = camp_.dialogue.scenario.hidden["outcomes"][camp_.dialogue.roles[0]]
        assert camp_.total == outcome["points_scored"]


@there
def test_mirrors_of_published_lines():
    with gzip.open(DATA / "deal_or_no_deal/val.txt.gz", "rt") as lines:
        for text in lines:
            side = dond.parse(text)
            assert side.mirrored.mirrored == side
            assert side.mirrored != side
