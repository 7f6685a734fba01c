"""The reader of CANDOR: both sides, exclusions, and everything that can be wrong with a conversation."""

import pytest

from dialog_gym.data.corpora import CorpusError, read_corpus
from dialog_gym.data.corpora.candor import EMOTIONS, flipped

HEADING = "timedelta,user_id," + ",".join(f"prob_face_{emotion}" for emotion in EMOTIONS)
TURNS = ("A,Hello you.,0,1,2", "B,And hello to you too.,1,3,5", "A,Bye.,3,4,1")


def second(time, user, face="neutral"):
    return ",".join([str(time), user, *("0.9" if emotion == face else "0.01" for emotion in EMOTIONS)])


FACES = (HEADING, second(0, "B", "sadness"), second(2, "A", "happiness"), second(4, "B", "surprise"))


def talk(folder, turns=TURNS, faces=FACES, survey=("A,7", "B,3"), heading="speaker,utterance,start,stop,n_words"):
    (folder / "transcription").mkdir(parents=True)
    (folder / "survey.csv").write_text("\n".join(["user_id,overall_affect", *survey]))
    (folder / "audio_video_features.csv").write_text("\n".join(faces))
    (folder / "transcription/transcript_cliffhanger.csv").write_text("\n".join([heading, *turns]))


def test_each_turn_has_the_face_of_the_one_who_does_not_speak(tmp_path):
    talk(tmp_path / "u")
    (row,) = read_corpus("candor", tmp_path)
    assert [turn.role for turn in row.dialogue.turns] == ["listener", "agent", "listener"]
    assert [note["faces"] for note in row.dialogue.state["turns"]] == [
        {"sadness": 1},
        {"happiness": 1},
        {"surprise": 1},
    ]
    assert row.score == 7


def test_both_sides_swap_role_listener_and_score_and_twice_is_the_identity(tmp_path):
    talk(tmp_path / "u")
    second, first = read_corpus("candor", tmp_path, agent="both")
    assert (second.score, first.score) == (7, 3)
    assert second.seed == first.seed
    assert [turn.role for turn in first.dialogue.turns] == ["agent", "listener", "agent"]
    assert first.dialogue.scenario.hidden["speakers"] == {"agent": "A", "listener": "B"}
    assert len(first.rewards) == 2
    assert flipped(second) == first
    assert flipped(flipped(second)) == second
    assert [first] == list(read_corpus("candor", tmp_path, agent="first"))


def test_ids_are_left_out_by_a_file(tmp_path):
    for name in ("u1", "u2", "u3"):
        talk(tmp_path / "talks" / name)
    (tmp_path / "bad.txt").write_text("# no sound\nu1\n\nu3  # too short\n")
    rows = read_corpus("candor", tmp_path / "talks", exclude=str(tmp_path / "bad.txt"))
    assert [row.dialogue.scenario.hidden["id"] for row in rows] == ["u2"]
    with pytest.raises(ValueError, match="there is no file 'nowhere'"):
        next(read_corpus("candor", tmp_path / "talks", exclude="nowhere"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"turns": ("A,Hi.,0,1,1", "B,Ho.,3,2,1")}, r"turn 2 is said from 3 to 2 s: expected 0 <= start <= stop"),
        ({"turns": ("A,Hi.,-1,1,1", "B,Ho.,1,2,1")}, "turn 1 is said from -1 to 1 s"),
        ({"turns": ("A,Hi.,0,nan,1", "B,Ho.,1,2,1")}, "turn 1 is said from 0 to nan s"),
        ({"turns": ("A,Hi.,0,2,1", "B,Ho.,1.5,3,1")}, r"until 2 s: intervals overlap by 0.5 s, more than 0"),
        ({"turns": ("A,Hi.,4,5,1", "B,Ho.,1,2,1")}, "intervals overlap by 4 s"),
        ({"turns": ("A,Hi.,0,1,1",)}, "expected at least two turns, got 1"),
        ({"turns": ("A,Hi.,0,1,1", "A,Ho.,1,2,1")}, r"expected two speakers with an id each .* got \['A'\]"),
        ({"turns": ("A,Hi.,0,1,1", "B,Ho.,1,2,1", "C,Hm.,2,3,1")}, r"got \['A', 'B', 'C'\]"),
        ({"faces": (*FACES, second("nan", "B"))}, "expected a timedelta in seconds, got 'nan'"),
        ({"survey": ("A,7", "A,3")}, "two rows of survey.csv have the user_id 'A'"),
        ({"survey": ("A,7",)}, r"\['A'\] in the survey"),
        ({"survey": ("A,", "B,3")}, "the listener 'A' has no answer to 'overall_affect'"),
        ({"survey": ("A,good", "B,3")}, "expected a number as the answer to 'overall_affect', got 'good'"),
        ({"survey": ("A,inf", "B,3")}, "expected a number as the answer"),
        ({"faces": (HEADING, second(0, "B"))}, r"audio_video_features.csv has no row of the speaker 'A', .*\['B'\]"),
        ({"faces": (HEADING.replace("happiness", "joy"), second(0, "A"))}, "has no column 'prob_face_happiness'"),
        ({"faces": (HEADING, "soon" + second(0, "A")[1:])}, "could not convert string to float: 'soon'"),
        (
            {"heading": "speaker,text,start,stop,n_words"},
            "transcript_cliffhanger.csv, row 1, has no column 'utterance'",
        ),
        ({"turns": ("A,Hi.,0,1,-1", "B,Ho.,1,2,1")}, "turn 1 has '-1' words"),
    ],
)
def test_what_is_wrong_is_named_or_counted(tmp_path, wrong, message):
    talk(tmp_path / "u1", **wrong)
    talk(tmp_path / "u2")
    with pytest.raises(CorpusError, match=f"conversation u1: .*{message}"):
        list(read_corpus("candor", tmp_path))
    reading = read_corpus("candor", tmp_path, skip_bad=True)
    assert [row.dialogue.scenario.hidden["id"] for row in reading] == ["u2"]
    assert reading.skipped == 1


def test_what_is_allowed_on_request(tmp_path):
    talk(tmp_path / "u", turns=("A,Hi.,0,2,1", "B,Ho.,1.5,3,1"), survey=("A,", "B,3"), faces=(HEADING,))
    (row,) = read_corpus("candor", tmp_path, overlap=0.5, need_score=False, faces=False)
    assert row.score is None
    assert [note["faces"] for note in row.dialogue.state["turns"]] == [{}, {}]
    with pytest.raises(ValueError, match="overlap must be at least 0 seconds"):
        next(read_corpus("candor", tmp_path, overlap=-1))
    with pytest.raises(ValueError, match="agent must be 'first', 'second' or 'both'"):
        next(read_corpus("candor", tmp_path, agent="third"))


def test_a_conversation_with_several_bad_rows_counts_once(tmp_path):
    talk(tmp_path / "u1")
    talk(tmp_path / "u2", turns=(*TURNS, "A,three cells,5", "B,three cells,6"))
    reading = read_corpus("candor", tmp_path, skip_bad=True)
    assert [row.dialogue.scenario.hidden["id"] for row in reading] == ["u1"]
    assert reading.skipped == 1
