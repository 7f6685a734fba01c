import json
import shutil
from collections import Counter
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.benchmarks.api_server import ApiServer
from dialog_gym.data import store
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Rankings
from dialog_gym.data.society import build, rounds_of
from dialog_gym.dialogue import Draws
from dialog_gym.envs import society_simulation
from dialog_gym.envs.society_grid import SETTINGS, labels, neighbours, sample_peers, side
from dialog_gym.envs.society_memory import Embeddings, Memory, by_words
from dialog_gym.envs.society_minds import Rated, Speaker, peer_prompt, read_rating
from dialog_gym.envs.society_records import external
from dialog_gym.envs.society_roles import feedback
from dialog_gym.envs.society_settings import Settings
from dialog_gym.envs.society_simulation import read_priors, read_round, read_world, rounds_in, simulate
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Sampling
from tests.rewards.judges import Scripted

SMALL = Settings(agents=9, questions=4, prior=5, seed=1)


def content(folder: Path) -> dict[str, str]:
    """Return a hash of every file of a world."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != "lock"]
    return {str(f.relative_to(folder)): blake2b(f.read_bytes()).hexdigest() for f in files}


def _die(*args):
    raise KeyboardInterrupt


class TestGrid:
    def test_neighbours_by_hand(self):
        assert neighbours(0, 3, 1) == (1, 3)
        assert neighbours(4, 3, 1.5) == (0, 1, 2, 3, 5, 6, 7, 8)
        assert Settings(agents=100).within == 5
        assert Settings(agents=9).within == 1

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 10])
    def test_settings_have_their_counts(self, size):
        counts = {setting: labels(setting, size, Draws(3)).count("good") for setting in SETTINGS}
        half = size * size // 2
        assert counts == {"all_good": size * size, "all_bad": 0, "half_half": half, "mixed_half_half": half}

    def test_half_half_by_hand(self):
        assert "".join(one[0] for one in labels("half_half", 3, Draws(1))) == "gggbgb" + "bbb"
        assert labels("mixed_half_half", 5, Draws(1)) != labels("mixed_half_half", 5, Draws(2))

    @given(st.integers(1, 7), st.integers(0, 48), st.booleans(), st.booleans(), st.floats(0, 1), st.integers(1, 9))
    def test_peers_are_others_each_once(self, size, number, local, everywhere, dropout, count):
        number %= size * size
        how = {"local": local, "everywhere": everywhere, "dropout": dropout, "count": count}
        found = sample_peers(number, size, size // 2, Draws(5), **how)
        near = neighbours(number, size, size // 2)
        assert len(set(found)) == len(found) <= count
        assert number not in found
        if local and not everywhere:
            assert len(found) == min(count, len(near))
            assert set(found) <= set(near)
        if local and everywhere and near:
            close = len(set(found) & set(near))
            assert close == min(max(int((1 - dropout) * len(near)), 1), count)
        if not local and not everywhere:
            assert found == []

    def test_only_squares(self):
        with pytest.raises(ValueError, match=r"must fill a square grid .* got 10; the nearest: 9, 16"):
            side(10)


class TestMemory:
    def test_the_threshold_is_a_cosine_distance(self):
        vectors = {"a": [1, 0], "b": [0.7, np.sqrt(1 - 0.49)], "c": [0.71, np.sqrt(1 - 0.71**2)]}
        embeddings = Embeddings()
        embeddings._embed = lambda texts: [np.array(vectors[t], np.float32) for t in texts]
        memory = Memory(embeddings)
        assert memory.nearest("a", 0.3) is None
        memory.add("b", "B")
        assert memory.nearest("a", 0.3) is None  # .3 is not below .3
        memory.add("c", "C")
        found = memory.nearest("a", 0.3)
        assert found is not None
        assert (found.question, found.answer) == ("c", "C")
        assert found.distance == pytest.approx(0.29)

    @given(st.lists(st.sampled_from(["red car", "blue car", "old house", "new house", "cold sea"]), max_size=9))
    def test_memory_and_embeddings_agree(self, asked):
        memory = Memory(Embeddings())
        for number, question in enumerate(asked):
            assert memory.add(question, str(number)) == (question not in asked[:number])
            found = memory.nearest(question, 0.3)
            assert found is not None
            assert (found.question, found.answer) == (question, str(asked.index(question)))

    def test_words(self):
        assert by_words("The car is old.") @ by_words("old CAR!") == pytest.approx(1)
        assert not by_words("the of is").any()

    def test_a_language_model_embeds(self):
        vectors = Embeddings("tiny-bargain")(["a car", "a house", "a car"])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
        assert vectors[0] @ vectors[2] == pytest.approx(1, abs=1e-5)


class TestRatings:
    @pytest.mark.parametrize(
        ("text", "rating"),
        [
            ("Rating: 5 ### Reason: good", 5.0),
            ("Rating:__6__ ### Reason: good", 6.0),
            ("**rating**: 4.5", 4.5),
            ("Rating: 3/7", 3.0),
            ("Rating: 8", None),
            ("Rating: 0", None),
            ("Rating: 3/10", None),
            ("Rating: -1", None),
            ("Rating: 4-5", None),
            ("Rating: 15", None),
            ("Rating: five", None),
            ("5", None),
            ("", None),
        ],
    )
    def test_read(self, text, rating):
        assert read_rating(text).rating == rating

    def test_feedback_is_told_with_the_mean_the_lowest_last(self):
        told = feedback([Rated(6.0, "kind."), Rated(3.0, "too short."), Rated(3.0)])
        assert told == (
            "Your peers rate your answer 4.0 of 7 on average. Rating 6: kind. Rating 3: too short. Rating 3 "
            "Revise your answer."
        )

    def test_one_prompt_that_fails_fails_alone(self):
        class Sometimes(Scripted):
            def generate(self, prompts, sampling, **how):
                if any("bad" in str(prompt) for prompt in prompts):
                    raise LanguageModelError("no answer", 0)
                return super().generate(prompts, sampling, **how)

        speaker = Speaker(Sometimes(lambda chat: "yes"), Sampling())
        chats = [[{"role": "user", "content": text}] for text in ("good", "bad", "fine")]
        one, two, three = speaker(chats, [1, 2, 3])
        assert (one, three, speaker.calls, sum(speaker.errors.values())) == ("yes", "yes", 3, 1)
        assert isinstance(two, LanguageModelError)


class TestWorld:
    def test_a_round_of_four_peers_makes_ten_calls(self, tmp_path):
        found = simulate(tmp_path / "w", Settings(agents=25, questions=5, prior=3), 2)
        for one in found:
            assert one["calls"] == {"agent": 50, "observer": 100, "peer": 100}
            assert one["revised"] == one["alignment"]["after"]["count"] == 25

    def test_what_is_recorded(self, tmp_path):
        simulate(tmp_path / "w", SMALL, 2)
        rows = list(Rankings.load(tmp_path / "w" / "rankings"))
        assert len(rows) == 18
        said = read_round(tmp_path / "w", 1)["records"]
        for row, record in zip(rows[9:], said, strict=True):
            meta = row.meta
            assert (meta["round"], meta["agent"], meta["setting"]) == (1, record["agent"], "mixed_half_half")
            assert row.messages[-1]["content"] == record["question"]
            ratings = [one["rating"] for one in meta["feedback"]]
            assert ratings == sorted(ratings, reverse=True)
            assert len(row.more["engagement"]) == len(row.candidates)
            told = external(record, 1)
            assert told["target_id"] == [one["peer"] for one in meta["feedback"]]
            assert {*told} == {
                "agent_id", "label", "iteration", "question", "draft_answer", "target_id", "feedback", "rating",
                "revised_answer", "gen_moral_score_before", "gen_moral_score_after", "gen_moral_reason_before",
                "gen_moral_reason_after", "gen_engagement_score_before", "gen_engagement_score_after",
                "gen_engagement_reason_before", "gen_engagement_reason_after", "cls_moral_score_before",
                "cls_moral_score_after",
            }  # fmt: skip

    def test_training_data_come_of_it(self, tmp_path):
        simulate(tmp_path / "w", SMALL, 2)
        data, counts = build(rounds_of(Rankings.load(tmp_path / "w" / "rankings")))
        assert counts.rounds == 18
        assert data

    def test_peers_teach_where_they_are_good(self, tmp_path):
        gains = {}
        for setting in SETTINGS:
            found = simulate(tmp_path / setting, Settings(agents=36, questions=6, prior=10, setting=setting), 2)
            gains[setting] = [
                np.mean([one["alignment"][when]["mean"] for one in found]) for when in ("before", "after")
            ]
        assert gains["all_good"][1] > gains["all_good"][0] + 0.5
        assert gains["all_good"][1] > gains["mixed_half_half"][1] + 0.5 > gains["all_bad"][1] + 1

    def test_what_was_revised_is_remembered_when_the_question_comes_again(self, tmp_path):
        found = simulate(tmp_path / "w", Settings(agents=25, questions=2, prior=0, setting="all_good"), 4)
        assert [one["remembered"] for one in found][2:] == [25, 25]
        assert found[3]["alignment"]["before"]["mean"] > found[0]["alignment"]["before"]["mean"] + 0.3
        memories = json.loads((tmp_path / "w" / "memories.json").read_text())
        assert all(len(pairs) == 2 for pairs in memories.values())

    def test_scores_without_reasons(self, tmp_path):
        simulate(tmp_path / "w", Settings(agents=9, prior=2, score_only=True), 1)
        assert not any(f["text"] for r in read_round(tmp_path / "w", 0)["records"] for f in r["feedback"])

    def test_resumed_is_uninterrupted(self, tmp_path):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        simulate(whole, SMALL, 4)
        for rounds in (1, 3, 3, 4):
            simulate(parts, SMALL, rounds)
        assert content(whole) == content(parts)
        assert Rankings.load(whole / "rankings").content_hash == Rankings.load(parts / "rankings").content_hash

    def test_a_kill_between_a_round_and_its_rows(self, tmp_path):
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        simulate(whole, SMALL, 3)
        simulate(cut, SMALL, 2)
        journal = cut / "rankings" / "journal-000000.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:13]) + b'{"half')
        (cut / "rounds" / ".partial-000002.json").write_text("{")
        (cut / "metrics.json").unlink()
        simulate(cut, SMALL, 3)
        assert content(whole) == content(cut)

    def test_a_kill_while_a_shard_is_sealed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(society_simulation, "SHARD_ROWS", 18)  # full after two rounds
        monkeypatch.setattr(Rankings, "writing", partial(Rankings.writing, shard_rows=18))
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        simulate(whole, SMALL, 3)
        with monkeypatch.context() as dying:
            dying.setattr(store, "write_shard", _die)
            with pytest.raises(KeyboardInterrupt):
                simulate(cut, SMALL, 3)
        simulate(cut, SMALL, 3)
        assert content(whole) == content(cut)

    def test_other_seeds_are_other_worlds(self, tmp_path):
        simulate(tmp_path / "a", SMALL, 1)
        simulate(tmp_path / "b", Settings(agents=9, questions=4, prior=5, seed=2), 1)
        assert read_round(tmp_path / "a", 0)["records"] != read_round(tmp_path / "b", 0)["records"]


class TestBad:
    def test_a_grid_of_one(self, tmp_path):
        (found,) = simulate(tmp_path / "w", Settings(agents=1, questions=2, prior=2), 1)
        assert (found["alone"], found["revised"], found["alignment"]["after"]["mean"]) == (1, 0, None)
        assert found["calls"] == {"agent": 1, "observer": 2, "peer": 0}
        (row,) = Rankings.load(tmp_path / "w" / "rankings")
        assert row.meta["kinds"] == ["draft"]
        assert row.meta["revision"] is None

    def test_no_neighbours_within_the_radius(self, tmp_path):
        (found,) = simulate(tmp_path / "w", Settings(agents=9, radius=0.5, prior=2), 1)
        assert (found["alone"], found["revised"]) == (9, 0)
        (found,) = simulate(tmp_path / "v", Settings(agents=9, radius=0.5, prior=2, everywhere=True), 1)
        assert (found["alone"], found["revised"]) == (0, 9)

    def test_another_version_and_other_settings(self, tmp_path):
        simulate(tmp_path / "w", SMALL, 1)
        with pytest.raises(DatasetError, match=r"other settings .seed: 1, not 7."):
            simulate(tmp_path / "w", Settings(agents=9, questions=4, prior=5, seed=7), 1)
        path = tmp_path / "w" / "world.json"
        path.write_text(path.read_text().replace("society 1", "society 9"))
        with pytest.raises(DatasetError, match=r"format 'dialog_gym society 1' .* got 'dialog_gym society 9'"):
            simulate(tmp_path / "w", SMALL, 2)

    def test_damage_is_refused(self, tmp_path):
        simulate(tmp_path / "w", SMALL, 3)
        (tmp_path / "w" / "rounds" / "000001.json").unlink()
        with pytest.raises(DatasetError, match="round 1 is missing"):
            simulate(tmp_path / "w", SMALL, 3)
        shutil.copy(tmp_path / "w" / "rounds" / "000002.json", tmp_path / "w" / "rounds" / "000001.json")
        with pytest.raises(DatasetError, match=r"is no round of a society: it is of format .* and round 2"):
            simulate(tmp_path / "w", SMALL, 3)
        for number in (1, 2):
            (tmp_path / "w" / "rounds" / f"{number:06d}.json").unlink()
        with pytest.raises(DatasetError, match="its rankings have 27 rows, its rounds 9"):
            simulate(tmp_path / "w", SMALL, 3)

    def test_something_else(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(DatasetError, match="holds something else"):
            simulate(tmp_path, SMALL, 1)
        assert rounds_in(tmp_path) == 0
        with pytest.raises(DatasetError, match="is no society"):
            read_world(tmp_path)

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"agents": 7}, "square grid"),
            ({"setting": "good"}, "expected a setting"),
            ({"dropout": 1.5}, "dropout must be from 0 to 1, got 1.5"),
            ({"peers": 0}, "peers must be from 1"),
            ({"questions": 0}, "questions must be from 1"),
            ({"questions_file": "q.txt", "agent": "tiny"}, "name a language model for peer, observer too"),
        ],
    )
    def test_settings(self, setting, message):
        with pytest.raises(ValueError, match=message):
            Settings(**setting)

    def test_priors(self, tmp_path):
        path = tmp_path / "p.json"
        path.write_text('[{"question": "q", "response": "r", "morality_label": "good"}]')
        assert read_priors(path) == {"good": [("q", "r")], "bad": []}
        path.write_text('{"question": "q", "response": "r", "morality_label": "fair"}\n')
        with pytest.raises(ValueError, match=r'record 0: expected .*"good" or "bad"'):
            read_priors(path)
        line = '{"question": "q", "response": "one\u2028two\x85three", "morality_label": "bad"}\n'
        path.write_text(f"{line}\n{line}", encoding="utf-8")
        assert read_priors(path) == {"good": [], "bad": [("q", "one\u2028two\x85three")] * 2}
        for nothing in ("", "\n", "[]"):
            path.write_text(nothing)
            with pytest.raises(ValueError, match=r"p.json: expected at least one record .*, got none"):
                read_priors(path)


def says(body) -> str:
    """Answer like a member of a society: ratings by what is asked, and now and then nothing that can be read."""
    asked = body["messages"][-1]["content"]
    number = int(blake2b(json.dumps(body["messages"]).encode(), digest_size=2).hexdigest(), 16)
    if "Rating: N" in asked:
        return "no idea" if number % 7 == 0 else f"Rating: {1 + number % 7} ### Reason: it is {number}."
    return f"I would say {number}."


class TestModels:
    def test_the_same_world_for_any_concurrency_and_failures_are_counted(self, tmp_path):
        def faults(request):
            text = json.dumps(request.body["messages"])
            return "refused" if int(blake2b(text.encode(), digest_size=2).hexdigest(), 16) % 11 == 0 else None

        worlds = []
        with ApiServer(says, faults=faults) as server:
            for concurrency in (1, 16):
                spec = f"openai:m@{server.url}?concurrency={concurrency}&attempts=1"
                own = Settings(agents=9, questions=4, prior=3, agent=spec, peer=spec, observer=spec)
                found = simulate(tmp_path / str(concurrency), own, 2)
                worlds.append(content(tmp_path / str(concurrency)))
        assert worlds[0] == worlds[1]
        records = [r for number in (0, 1) for r in read_round(tmp_path / "1", number)["records"]]
        failed: Counter[str] = sum((Counter(one["failed"]) for one in found), Counter())
        assert failed["draft"] == sum(r["draft"] is None for r in records) > 0
        assert failed["peer"] == sum(f["rating"] is None for r in records for f in r["feedback"]) > 5
        assert failed["observer"] > 3
        rows = list(Rankings.load(tmp_path / "1" / "rankings"))
        for row in rows:
            assert set(row.scores) <= set(range(1, 8)) | {x / 2 for x in range(2, 15)}
        assert len(rows) == sum(any(
            r[kind] is not None and r["observed"][kind]["alignment"]["rating"] is not None
            for kind in ("draft", "revision") if r[kind] is not None) for r in records)  # fmt: skip

    def test_nobody_can_be_read(self, tmp_path):
        with ApiServer(lambda body: "no idea") as server:
            spec = f"openai:m@{server.url}"
            (found,) = simulate(tmp_path / "w", Settings(agents=4, prior=0, peer=spec, observer=spec), 1)
        assert (found["unheard"], found["revised"], found["peers"]["count"]) == (4, 0, 0)
        assert found["failed"] == {"observer": 8, "peer": 8}
        assert len(Rankings.load(tmp_path / "w" / "rankings")) == 0

    def test_questions_and_priors_of_files(self, tmp_path):
        (tmp_path / "q.txt").write_text("Is it right to keep a lost purse?\nIs it right to skip the queue?\n")
        rows = [{"question": "Is it right to keep a lost purse now?", "response": f"{label}!", "morality_label": label}
                for label in ("good", "bad")]  # fmt: skip
        (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with ApiServer(says) as server:
            spec = f"openai:m@{server.url}"
            own = Settings(agents=4, questions=0, questions_file=str(tmp_path / "q.txt"),
                           priors_file=str(tmp_path / "p.jsonl"), agent=spec, peer=spec, observer=spec)  # fmt: skip
            simulate(tmp_path / "w", own, 1)
        for record in read_round(tmp_path / "w", 0)["records"]:
            if "purse" in record["question"]:
                assert record["remembered"]["answer"] == f"{record['label']}!"
            else:
                assert record["remembered"] is None
        for row in Rankings.load(tmp_path / "w" / "rankings"):
            assert row.dialogue is None
            assert row.messages[1]["content"].startswith("Is it right")

    def test_the_tiny_model_as_an_agent(self, tmp_path):
        own = Settings(agents=4, prior=1, agent="tiny", max_tokens=12)
        (found,) = simulate(tmp_path / "w", own, 1)
        assert found["calls"]["agent"] == 8

    def test_a_peer_is_shown_what_it_remembers(self):
        chat = peer_prompt("q?", "draft", identity="You are 3.", remembered=("old?", "oh"), reason=False)
        assert chat[0]["content"].startswith("You are 3. ")
        assert "old?" in chat[1]["content"]
        assert "Reason" not in chat[1]["content"]
