"""Other formats: what TRL reads is what TRL accepts, what loses nothing loses nothing, and mistakes are named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.data import DatasetError, Episodes, Ranking, Rankings
from dialog_gym.data.exchange import (
    import_rows,
    labelled,
    lines,
    preferences,
    read_rows,
    read_table,
    write_rows,
)
from dialog_gym.env import begin
from dialog_gym.envs.bargain import Bargain
from tests.data.rows import episodes, rankings, row, same

CHAT = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Grüß dich 🙂\nUnd?"})


def ranking(*scores, **more):
    return Ranking(CHAT, tuple("abcdef"[: len(scores)]), scores, more)


def pairs_of(rows):
    return [(one["chosen"][0]["content"], one["rejected"][0]["content"]) for one in rows]


class TestPreferences:
    def test_pairs_worked_out_by_hand(self):
        rows = [ranking(0.5, 0.9, 0.1, 0.5)]
        assert pairs_of(preferences(rows)) == [("b", "c")]
        assert pairs_of(preferences(rows, pairs="neighbours")) == [("b", "a"), ("d", "c")], "a and d are equal"
        assert pairs_of(preferences(rows, pairs="all")) == [("b", "a"), ("b", "d"), ("b", "c"), ("a", "c"), ("d", "c")]
        assert pairs_of(preferences(rows, pairs="all", margin=0.4)) == [("b", "c")], "0.9 - 0.5 is no more than 0.4"

    def test_a_row(self):
        (one,) = preferences([ranking(0.25, 1.0)])
        assert one == {
            "prompt": list(CHAT),
            "chosen": [{"role": "assistant", "content": "b"}],
            "rejected": [{"role": "assistant", "content": "a"}],
            "score_chosen": 1.0,
            "score_rejected": 0.25,
            "margin": 0.75,
        }

    def test_safety_by_cost(self):
        rows = [ranking(0.9, 0.1, cost=(3.0, 1.0))]
        (one,) = preferences(rows, by="-cost")
        assert (pairs_of([one]), one["score_chosen"], one["margin"]) == ([("b", "a")], -1.0, 2.0)
        with pytest.raises(KeyError, match="no number named 'harm'; candidates have: score, cost"):
            list(preferences(rows, by="harm"))

    def test_a_task_s_own_notation(self):
        task = Bargain()
        start = begin(task, 3)
        said = ("I can pay $100, please.", "Deal.")
        prompt = tuple(start.messages("buyer"))
        rows = [Ranking(prompt, said, (1.0, 0.0), dialogue=start)]
        (one,) = preferences(rows, notation=task.messages)
        assert one["prompt"] == task.messages(start, "buyer")
        assert "<p" in one["chosen"][0]["content"]
        with pytest.raises(ValueError, match="from elsewhere has no dialogue"):
            list(preferences([ranking(1.0, 0.0)], notation=task.messages))

    @pytest.mark.parametrize(
        ("given", "told"), [({"margin": -1}, "margin must be"), ({"pairs": "some"}, "pairs must be")]
    )
    def test_mistakes(self, given, told):
        with pytest.raises(ValueError, match=told):
            list(preferences([ranking(1.0, 0.0)], **given))

    @pytest.mark.slow  # to import TRL takes longer than all else here
    def test_trl_accepts_them(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        from trl.data_utils import is_conversational, maybe_unpair_preference_dataset

        write_rows(tmp_path / "pairs.jsonl", preferences([ranking(1.0, 0.0), ranking(0.0, 1.0)]))
        loaded = datasets.Dataset.from_list(list(read_rows(tmp_path / "pairs.jsonl")))
        assert is_conversational(loaded[0])
        theirs = maybe_unpair_preference_dataset(loaded)
        ours = list(labelled([ranking(1.0, 0.0), ranking(0.0, 1.0)]))
        key = str
        assert sorted(map(key, ours)) == sorted(
            key({name: one[name] for name in ("prompt", "completion", "label")}) for one in theirs
        )


class TestLabels:
    def test_above_the_mean(self):
        found = [(one["completion"][0]["content"], one["label"]) for one in labelled([ranking(0.0, 1.0, 0.5)])]
        assert found == [("a", False), ("b", True)], "c is the mean"

    def test_a_threshold_is_reached(self):
        found = [one["label"] for one in labelled([ranking(0.0, 1.0, 0.5)], threshold=0.5)]
        assert found == [False, True, True], "as the trainers of dialog_gym.agents.preference_data have it"


class TestBack:
    @settings(max_examples=15)
    @given(rows=st.lists(episodes(), min_size=1, max_size=3))
    def test_json_lines_lose_nothing_of_episodes(self, tmp_path_factory, rows):
        folder = tmp_path_factory.mktemp("data")
        there = import_rows(Episodes, rows, folder / "a")
        write_rows(folder / "a.jsonl", lines(there))
        back = read_table(folder / "a.jsonl", folder / "b")
        assert back.content_hash == there.content_hash
        assert all(same(one, other) for one, other in zip(back, rows, strict=True))

    @settings(max_examples=15)
    @given(rows=st.lists(rankings(), min_size=1, max_size=3))
    def test_json_lines_lose_nothing_of_rankings(self, tmp_path_factory, rows):
        folder = tmp_path_factory.mktemp("data")
        there = import_rows(Rankings, rows, folder / "a")
        write_rows(folder / "a.jsonl", lines(there))
        assert list(read_table(folder / "a.jsonl", folder / "b")) == rows

    def test_preferences(self, tmp_path):
        write_rows(tmp_path / "a.jsonl", preferences([ranking(0.5, 0.9, 0.1)]))
        assert list(read_table(tmp_path / "a.jsonl", tmp_path / "b")) == [Ranking(CHAT, ("b", "c"), (0.9, 0.1))]

    def test_labels(self, tmp_path):
        other = Ranking(CHAT[:1], ("x", "y"), (0.0, 1.0))
        write_rows(tmp_path / "a.jsonl", labelled([ranking(0.0, 2.0), other]))
        assert list(read_table(tmp_path / "a.jsonl", tmp_path / "b")) == [Ranking(CHAT, ("a", "b"), (0.0, 1.0)), other]

    def test_plain_texts_without_scores(self, tmp_path):
        write_rows(tmp_path / "a.jsonl", [{"prompt": "Hi", "chosen": "Hello!", "rejected": "No."}])
        expected = Ranking(({"role": "user", "content": "Hi"},), ("Hello!", "No."), (1.0, 0.0))
        assert list(read_table(tmp_path / "a.jsonl", tmp_path / "b")) == [expected]

    def test_a_prompt_that_both_begin_with(self, tmp_path):
        ends = [[*CHAT, {"role": "assistant", "content": text}] for text in ("good", "bad")]
        write_rows(tmp_path / "a.jsonl", [{"chosen": ends[0], "rejected": ends[1]}])
        assert list(read_table(tmp_path / "a.jsonl", tmp_path / "b")) == [Ranking(CHAT, ("good", "bad"), (1.0, 0.0))]

    def test_messages_and_a_reward_of_others(self, tmp_path):
        chat = [*CHAT, {"role": "assistant", "content": "A"}, {"role": "user", "content": ""}]
        chat += [{"role": "assistant", "content": "B"}]
        write_rows(tmp_path / "a.jsonl", [{"messages": chat, "reward": 2}])
        (found,) = read_table(tmp_path / "a.jsonl", tmp_path / "b")
        assert found.rewards == (0.0, 2.0)
        assert found.dialogue.messages("assistant") == chat
        assert found.dialogue.roles == ("assistant", "user")

    def test_parquet(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        rows = list(preferences([ranking(0.5, 0.9, 0.1)] * 3))
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
        assert list(read_rows(tmp_path / "a.parquet")) == rows


class TestMistakes:
    @pytest.mark.parametrize(
        ("row", "told"),
        [
            ({"text": "a"}, "expected rows with messages and reward, .*, got text"),
            ({"messages": [{"role": "user", "content": "a"}], "reward": 1}, "row 1: no message is an assistant's"),
            ({"messages": [{"role": "tool", "content": "a"}], "reward": 1}, "row 1: .* got one of 'tool'"),
            ({"messages": [{"role": "assistant"}], "reward": 1}, "row 1: it has no 'content'"),
            ({"messages": [{"role": "assistant", "content": None}], "reward": 1}, "row 1: a message must have"),
            ({"prompt": "a", "chosen": [], "rejected": "b"}, "row 1: chosen must be one utterance"),
            ({"candidates": ["a"], "scores": [1.0]}, "row 1: it has no 'messages'"),
        ],
    )
    def test_rows(self, tmp_path, row, told):
        write_rows(tmp_path / "a.jsonl", [row])
        with pytest.raises(DatasetError, match=told):
            read_table(tmp_path / "a.jsonl", tmp_path / "b")
        assert not list(tmp_path.glob("*b*")), "nothing is left behind"

    def test_files(self, tmp_path):
        (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\nno json\n')
        with pytest.raises(DatasetError, match=r"bad.jsonl, line 2: expected a JSON object, got 'no json"):
            read_table(tmp_path / "bad.jsonl", tmp_path / "b")
        (tmp_path / "empty.jsonl").write_text("\n")
        with pytest.raises(DatasetError, match="has no rows"):
            read_table(tmp_path / "empty.jsonl", tmp_path / "b")
        with pytest.raises(DatasetError, match=r"cannot read .*nothing.jsonl"):
            read_table(tmp_path / "nothing.jsonl", tmp_path / "b")
        (tmp_path / "bad.parquet").write_text("no parquet")
        with pytest.raises(DatasetError, match=r"cannot read .*bad.parquet"):
            read_table(tmp_path / "bad.parquet", tmp_path / "b")
        (tmp_path / "latin.jsonl").write_bytes(b'{"a": "\xe4"}')
        with pytest.raises(DatasetError, match=r"cannot read .*latin.jsonl"):
            read_table(tmp_path / "latin.jsonl", tmp_path / "b")

    def test_a_folder_that_is_there(self, tmp_path):
        import_rows(Episodes, [row(0)], tmp_path / "a")
        with pytest.raises(DatasetError, match="is there already; import into a new folder"):
            import_rows(Episodes, [row(1)], tmp_path / "a")

    def test_a_row_that_cannot_be_written_leaves_the_old_file(self, tmp_path):
        write_rows(tmp_path / "a.jsonl", [{"a": 1}])
        with pytest.raises(ValueError, match="Out of range"):
            write_rows(tmp_path / "a.jsonl", [{"a": 2}, {"a": float("nan")}])
        assert json.loads((tmp_path / "a.jsonl").read_text()) == {"a": 1}
        assert len(list(tmp_path.iterdir())) == 1
