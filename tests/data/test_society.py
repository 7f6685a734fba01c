"""Data out of societies: the three types, ratios, filters, what failed, and the published layout."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym import cli
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.corpora.files import CorpusError
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.society import (
    Answer,
    Feedback,
    Ratios,
    Requests,
    Round,
    build,
    rounds_of,
)
from dialog_gym.data.society_published import query_of, rating_of, read_published, record_of, write_published

ALL = Ratios(100.0, 100.0)
ASK = Requests("Comment.", "Revise.", "Revised response:")


def asked(question):
    return ({"role": "system", "content": "You answer."}, {"role": "user", "content": question})


def answer(text, alignment, engagement=4.0, model="m"):
    return Answer(text, alignment, engagement, model)


def one(question="Q?", draft=("bad", 2.0), revision=("good", 6.0), feedback=(("too harsh", 3.0),), world="w1"):
    said = tuple(Feedback(text, rating, "p") for text, rating in feedback)
    return Round(asked(question), answer(*draft), revision and answer(*revision), said, world)


def made(rounds, **how):
    rows, counts = build(rounds, how.pop("ratios", ALL), requests=ASK, **how)
    found = {kind: [row for row in rows if row.meta["type"] == kind] for kind in Counter(r.meta["type"] for r in rows)}
    return found, counts


def test_a_round_gives_two_rated_answers_a_rated_comment_and_a_realignment():
    found, counts = made([one()])
    (imitation,), (critic,), (realigned,) = found["imitation"], found["self-critic"], found["realignment"]
    assert imitation.messages == asked("Q?")
    assert (imitation.candidates, imitation.scores) == (("bad", "good"), (2.0, 6.0))
    assert imitation.more == {"engagement": (4.0, 4.0)}
    assert imitation.meta["models"] == ["m", "m"]
    assert critic.messages[-1]["content"] == "Q? Comment.\n\nbad"
    assert (critic.candidates, critic.scores, critic.meta["models"]) == (("too harsh",), (3.0,), ["p"])
    assert realigned.messages == (asked("Q?")[0], {"role": "user", "content": "Q? bad Revise."})
    assert (realigned.candidates, realigned.scores) == (("too harsh Revised response: good",), (6.0,))
    assert counts.to_json()["candidates"] == {"imitation": 2, "self-critic": 1, "realignment": 1}


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [(2.0, 6.0, True), (4.0, 5.0, True), (4.0, 4.5, True), (2.0, 4.0, False), (6.0, 6.0, False), (7.0, 5.0, False)],
)
def test_realignment_needs_a_better_revision_rated_above_4(before, after, kept):
    found, counts = made([one(draft=("bad", before), revision=("good", after))])
    assert ("realignment" in found) is kept
    assert counts.not_better == (not kept)
    assert found["imitation"][0].scores == (before, after)


def test_what_failed_is_dropped_and_counted_and_never_a_score():
    rounds = [
        one("A?", draft=("bad", None)),
        one("B?", revision=("good", None)),
        one("C?", feedback=(("first", None), ("second", 5.0), ("third", None))),
        one("D?", feedback=()),
    ]
    found, counts = made(rounds)
    assert counts.failed == {"draft": 1, "revision": 1, "feedback": 2}
    assert [row.candidates for row in found["imitation"]] == [("good",), ("bad",), ("bad", "good"), ("bad", "good")]
    (critic,) = [row for row in found["self-critic"] if row.messages[-1]["content"].startswith("C?")]
    assert (critic.candidates, critic.scores) == (("second",), (5.0,))  # each comment keeps its own rating
    (realigned,) = found["realignment"]  # A and B do not know whether it became better, D has no comment
    assert len(realigned.candidates) == 3
    assert all(1 <= score <= 7 for rows in found.values() for row in rows for score in row.scores)


def test_of_the_same_text_the_first_counts_in_its_context():
    rounds = [one("A?"), one("A?", draft=("bad", 7.0), revision=("better", 5.0), world="w2"), one("B?")]
    found, counts = made(rounds)
    first, second = found["imitation"]
    assert (first.candidates, first.scores) == (("bad", "good", "better"), (2.0, 6.0, 5.0))
    assert first.meta["worlds"] == ["w1", "w2"]
    assert second.candidates == ("bad", "good")
    assert counts.duplicates["imitation"] == 1
    everywhere, counts = made(rounds, duplicates="everywhere")
    assert [row.candidates for row in everywhere["imitation"]] == [("bad", "good", "better")]
    assert counts.duplicates["imitation"] == 3


def test_both_ratios_are_shares_of_the_imitation_rankings():
    rounds = [one(f"Q{n}?", feedback=((f"a{n}", 3.0), (f"b{n}", 4.0))) for n in range(30)]
    found, counts = made(rounds, ratios=Ratios(0.1, 0.2))
    assert {kind: len(rows) for kind, rows in found.items()} == {"imitation": 30, "self-critic": 3, "realignment": 6}
    assert counts.made == {"imitation": 30, "self-critic": 30, "realignment": 30}
    other, _ = made(rounds, ratios=Ratios(0.1, 0.2), seed=1)
    again, _ = made(rounds, ratios=Ratios(0.1, 0.2))
    assert again == found
    assert other["imitation"] == found["imitation"]
    assert other["self-critic"] != found["self-critic"]
    with pytest.raises(ValueError, match=r"the ratio self_critic must be at least 0, got -0\.1"):
        Ratios(-0.1)


def test_a_society_without_a_rating_is_no_data():
    with pytest.raises(DatasetError, match=r"got 1 rounds without one .*'draft': 1"):
        build([one(draft=("bad", None), revision=None)])
    with pytest.raises(DatasetError, match="my world, row 0: expected a round of a society"):
        list(rounds_of([Ranking(asked("A?"), ("x",), (1.0,))], "my world"))


def recorded(question, **changes):
    """Return a row as a society records it."""
    told = {"text": "bad", "alignment": 2.0, "engagement": 4.0, "model": "a"}
    meta = {
        "world": "w1",
        "env": "",
        "env_kwargs": {},
        "draft": told,
        "revision": {**told, "text": "good", "alignment": 6},
        "feedback": [{"peer": 3, "text": "too harsh", "rating": 3.0, "model": "p"}],
        **changes,
    }
    return Ranking(asked(question), ("bad", "good"), (2.0, 6.0), meta=meta)


def test_rounds_are_read_from_what_societies_record():
    rows = [
        recorded("A?"),
        recorded("B?", draft=None),
        recorded("C?", revision=None, feedback=[{"peer": 1, "text": "", "rating": None, "model": "p"}]),
    ]
    found, counts = made(rounds_of(rows))
    assert [row.candidates for row in found["imitation"]] == [("bad", "good"), ("good",), ("bad",)]
    assert [row.candidates for row in found["realignment"]] == [("too harsh Revised response: good",)]
    assert [row.meta["models"] for row in found["self-critic"]] == [["p"]]
    assert counts.failed == {"feedback": 1}
    with pytest.raises(DatasetError, match=r"w, row 1: expected a round of a society .* its meta has no 'world'"):
        list(
            rounds_of(
                [
                    recorded("A?"),
                    Ranking(asked("A?"), ("x",), (1.0,), meta={"draft": None, "revision": None, "feedback": []}),
                ],
                "w",
            )
        )


def test_the_command_builds_data_of_several_worlds(tmp_path, capsys):
    for number in (1, 2):
        with Rankings.writing(tmp_path / f"w{number}") as writer:
            writer.add(recorded("A?", world=f"w{number}"))
            writer.add(recorded(f"only {number}?", world=f"w{number}"))
    worlds = [str(tmp_path / "w1"), str(tmp_path / "w2")]
    out = tmp_path / "data"
    cli.main(["data", "society", "build", *worlds, "--out", str(out), "--self-critic", "0.4", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == {"imitation": 3, "self-critic": 1, "realignment": 0}
    assert told["duplicates"]["imitation"] == 2
    table = Rankings.load(out)
    assert told["content_hash"] == table.content_hash
    assert next(iter(table)).meta["worlds"] == ["w1"]  # the other one said nothing new


# --- the published layout ----------------------------------------------------------------------


RECORD = {
    "query": "### Instruction:\nHow do I rest?\n\n### Response:",
    "responses": ["Lie down.", "Sleep well."],
    "scores": [2, 6],
    "models": ["a", "b"],
}


def file_of(tmp_path, *records):
    path = tmp_path / "sandbox.json"
    path.write_text(json.dumps(records, indent=2))
    return path


def test_published_records_are_read_and_written_again(tmp_path):
    critic = {**RECORD, "query": "### Instruction:\nHow? Comment.\n\n### Input:\nLie\ndown.\n\n### Response:"}
    realigned = {**RECORD, "responses": ["Hm. Here is the revised response: x", "No. Revised response: y"]}
    other = {**RECORD, "query": "a query without a template", "scores": [2.5, 6]}
    path = file_of(tmp_path, RECORD, critic, realigned, other)
    rows = list(read_published(path))
    assert [row.meta["type"] for row in rows] == ["imitation", "self-critic", "realignment", "imitation"]
    assert rows[0].messages == ({"role": "user", "content": "How do I rest?"},)
    assert rows[1].messages[0]["content"] == "How? Comment.\n\nLie\ndown."
    assert (rows[0].candidates, rows[0].scores, rows[0].meta["models"]) == (
        ("Lie down.", "Sleep well."),
        (2.0, 6.0),
        ["a", "b"],
    )
    assert write_published(tmp_path / "again.json", rows) == 4
    assert json.loads((tmp_path / "again.json").read_text()) == [RECORD, critic, realigned, other]


def test_what_was_built_is_written_in_the_template(tmp_path):
    rows, _ = build([one()], ALL, requests=ASK)
    assert query_of(rows[0]) == "### Instruction:\nQ?\n\n### Response:"
    assert query_of(rows[1]) == "### Instruction:\nQ? Comment.\n\n### Input:\nbad\n\n### Response:"
    write_published(tmp_path / "f.json", rows)
    again = list(read_published(tmp_path / "f.json"))
    assert [row.meta["type"] for row in again] == ["imitation", "self-critic", "realignment"]
    assert [(r.candidates, r.scores) for r in again] == [(r.candidates, r.scores) for r in rows]
    assert [r.messages[-1] for r in again] == [r.messages[-1] for r in rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [2, -1]}, "a score must be a rating from 1 to 7, got -1; a rating that failed is none"),
        ({"scores": [2, 8]}, "got 8"),
        ({"scores": [2, "Rating: 5"]}, "got 'Rating: 5'"),
        ({"scores": [2, None]}, "got None"),
        ({"scores": [2, True]}, "got True"),
        ({"scores": [2]}, "got 2 responses, 1 scores and 2 models"),
        ({"responses": ["same", "same"]}, "responses must be there, each once"),
        ({"responses": [], "scores": [], "models": []}, "responses must be there, each once"),
        ({"responses": ["x", 5]}, "a response must be a text with words, got 5"),
        ({"query": " "}, "query must be a text with words"),
    ],
)
def test_errors_name_file_and_record(tmp_path, change, message):
    path = file_of(tmp_path, RECORD, {**RECORD, **change}, RECORD)
    reading = read_published(path)
    rows = iter(reading)
    assert next(rows).scores == (2.0, 6.0)
    with pytest.raises(CorpusError, match=rf"sandbox.json, record 2: expected .*{message}"):
        next(rows)
    lenient = read_published(path, skip_bad=True)
    assert len(list(lenient)) == 2
    assert lenient.skipped == 1
    assert "record 2" in lenient.bad[0]


def test_a_file_that_breaks_off_keeps_what_stood_before(tmp_path):
    path = file_of(tmp_path, RECORD, RECORD)
    path.write_text(path.read_text()[:-40])
    rows = iter(read_published(path))
    next(rows)
    with pytest.raises(CorpusError, match=r"sandbox.json, record 2.*breaks off"):
        next(rows)


def test_writing_fails_whole(tmp_path):
    (tmp_path / "f.json").write_text("old")

    def rows():
        yield Ranking(asked("A?"), ("x", "y"), (1.0, 2.0))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_published(tmp_path / "f.json", rows())
    assert (tmp_path / "f.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).filter(str.strip)


@settings(deadline=None, max_examples=50)
@given(TEXT, st.lists(st.tuples(TEXT, st.integers(1, 7)), min_size=1, max_size=4, unique_by=lambda one: one[0]))
def test_any_ranking_survives_the_layout(tmp_path_factory, question, rated):
    texts, scores = zip(*rated, strict=True)
    row = Ranking(({"role": "user", "content": question},), texts, tuple(map(float, scores)))
    path = tmp_path_factory.mktemp("f") / "f.json"
    write_published(path, [row])
    (again,) = read_published(path)
    assert (again.candidates, again.scores) == (row.candidates, row.scores)
    assert record_of(again) == record_of(row)


def test_ratings():
    assert (rating_of(1), rating_of("7"), rating_of(4.5)) == (1.0, 7.0, 4.5)
    assert rating_of(10, scale=10) == 10.0


# --- the commands ------------------------------------------------------------------------------


def test_the_command_builds_data_of_the_folder_of_a_society(tmp_path, capsys):
    with Rankings.writing(tmp_path / "world" / "rankings") as writer:
        writer.add(recorded("A?"))
    cli.main(["data", "society", "build", str(tmp_path / "world"), "--out", str(tmp_path / "data")])
    assert "content_hash" in capsys.readouterr().out
    assert len(Rankings.load(tmp_path / "data"))


def test_the_commands_import_and_export(tmp_path, capsys):
    path = file_of(tmp_path, RECORD, {**RECORD, "scores": [1]})
    words = ["data", "society", "import", str(path), "--out", str(tmp_path / "data"), "--json"]
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "record 2" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    cli.main([*words, "--skip-bad"])
    told = json.loads(capsys.readouterr().out)
    assert (told["rankings"], told["skipped"]) == (1, 1)
    assert len(Rankings.load(tmp_path / "data")) == 1
    cli.main(["data", "society", "export", str(tmp_path / "data"), "--file", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == [RECORD]
