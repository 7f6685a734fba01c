"""Local signals by hand: the affect table, the window of faces, answers, stored columns."""

import numpy as np
import pytest

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.decomposition.signals import FACE_VALUES, face_value, local_signal

EMOTIONS = tuple(FACE_VALUES)


def talk(*turns, state=None, signals=None):
    said = tuple(Turn(*turn.split(": ", 1)) for turn in turns)
    dialogue = Dialogue(Scenario("A talk."), ("b", "a"), 0, said, state or {}, "end")
    zeros = (0.0,) * dialogue.turn
    return Recorded(0, dialogue, zeros, zeros, signals=signals or {})


@pytest.mark.parametrize(
    ("face", "target", "binary"),
    [
        ("anger", -1, 0), ("contempt", -1, 0), ("disgust", -1, 0), ("fear", -1, 0), ("sadness", -1, 0),
        ("neutral", 0, 0), ("happiness", 1, 1), ("surprise", 0, 0),
    ],
)  # fmt: skip
def test_the_table_of_faces(face, target, binary):
    assert face_value({face: 3, "neutral": 1}, 6) == target
    assert face_value({face: 3, "neutral": 1}, 6, binary=True) == binary
    assert face_value({face: 3}, 5) == 0  # few words
    assert face_value({face: 3}, 5, few_words=4) == target
    assert face_value({}, 6) == 0  # nothing seen


def test_mode_and_mean_of_a_window():
    counts = {"happiness": 2, "sadness": 1, "surprise": 1}
    assert face_value(counts, 9) == 1
    assert face_value(counts, 9, "mean") == 0.25  # (2 - 1 + 0) / 4
    assert face_value(counts, 9, "mean", binary=True) == 0.5  # the share of smiles
    assert face_value({"happiness": 2, "anger": 2}, 9) == -1  # of two modes the lower class id, anger
    assert face_value({"surprise": 1, "happiness": 1}, 9) == 1


def candor(folder, second_rows):
    """B speaks from 1.5 s to 4 s, six words, and the rows of the listener A are given."""
    heading = "timedelta,user_id," + ",".join(f"prob_face_{emotion}" for emotion in EMOTIONS)
    (folder / "u/transcription").mkdir(parents=True)
    (folder / "u/survey.csv").write_text("user_id,overall_affect\nA,7\nB,3\n")
    (folder / "u/audio_video_features.csv").write_text("\n".join([heading, *second_rows, second(1, "B", "fear")]))
    (folder / "u/transcription/transcript_cliffhanger.csv").write_text(
        "speaker,utterance,start,stop,n_words\nA,Hi.,0,1,1\nB,It rained all day in town.,1.5,4,6\nA,Oh.,4.5,5,1\n"
    )
    return next(read_corpus("candor", folder))


def second(time, user, face):
    return ",".join([str(time), user, *("" if not face else "0.9" if e == face else "0.01" for e in EMOTIONS)])


@pytest.mark.parametrize(
    ("seen", "mode", "mean"),
    [
        ({1: "anger", 1.5: "happiness", 4: "happiness", 4.1: "anger"}, 1, 1),  # both ends are inside
        ({1.5: "", 2: "sadness", 3: ""}, -1, -1),  # rows without a face are dropped
        ({2: "neutral", 3: "neutral", 4: "happiness"}, 0, 1 / 3),
        ({1: "anger", 5: "anger"}, 0, 0),  # an empty window is neutral
    ],
)
def test_the_window_of_an_utterance(tmp_path, seen, mode, mean):
    row = candor(tmp_path, [second(time, "A", face) for time, face in seen.items()])
    assert local_signal("faces")(row) == [mode]
    assert local_signal("faces:mean")(row) == [pytest.approx(mean)]


def test_what_is_missing_can_be_left_out(tmp_path):
    row = candor(tmp_path, [second(1, "A", "anger")])
    assert local_signal("faces")(row) == [0]
    assert local_signal("faces", missing="none")(row) == [None]


def test_the_affect_of_the_answer():
    row = talk("a: Hi.", "b: Hello!", "a: That is great, I love it!", "b: No.", "a: That is terrible.", "b: Oh.")
    good, bad, none = local_signal("vader")(row)
    assert good is not None
    assert bad is not None
    assert good > 0.5 > -0.3 > bad
    assert none is None
    first, second_turn = local_signal("vader")(talk("b: Hi.", "b: You?", "a: Wonderful!"))
    assert first is None
    assert second_turn is not None
    assert second_turn > 0.3


def test_a_classifier_with_values():
    class Pipe:
        def __call__(self, texts, **kwargs):
            return [[{"label": "up", "score": 0.75}, {"label": "down", "score": 0.25}] for _ in texts]

    from dialog_gym.rewards.decomposition.signals import of_answers

    assert of_answers(Pipe(), {"up": 1.0, "down": -1.0})(talk("b: Hi.", "a: Ho.")) == [0.5]
    with pytest.raises(ValueError, match="expected what each label is worth"):
        local_signal("classifier:somewhere")


def test_stored_columns():
    notes = {"turns": [{"smile": 9}, {"smile": 0.5}, None, {"smile": ""}]}
    row = talk("a: Hi.", "b: Ho.", "a: Hm.", "b: Bye.", state=notes, signals={"affect": (1.0, float("nan"))})
    assert local_signal("smile")(row) == [0.5, None]
    assert local_signal("column:affect")(row) == [1.0, None]
    assert local_signal("rewards")(row) == [0.0, 0.0]
    with pytest.raises(ValueError, match="has no column 'smirk' of its turns; it has affect, costs, rewards, smile"):
        local_signal("smirk")(row)
    with pytest.raises(ValueError, match="expected 'faces' and 'n_words' of every turn"):
        local_signal("faces")(row)
    with pytest.raises(ValueError, match="expected a local signal"):
        local_signal("nothing:of:this")


def test_any_reward_is_a_signal():
    words = Reward.of(lambda d: len(d.turns[-1].text), "length", 0, 99)
    assert local_signal(words)(talk("b: Hi.", "a: Hello.", "b: Bye.")) == [6.0, 4.0]
    peeking = Reward.of(lambda d: d.state.get("mood", 0), "mood", 0, 1)
    with pytest.raises(Exception, match="hidden state then is not known"):
        local_signal(peeking)(talk("b: Hi.", "a: Hello.", "b: Bye."))
    assert np.isfinite(np.array(local_signal(words)(talk("b: Hi.")), float)).all()
