"""The folder: what no kill, no shard size and no reader at the wrong moment can harm."""

import json
import logging
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.benchmarks.data_kills import kill_writers
from dialog_gym.data import DatasetError, Episodes, Ranking, Rankings, content_hash, load
from dialog_gym.data import store as store_module
from dialog_gym.data.columns import row_line
from dialog_gym.dialogue import Dialogue, Scenario
from tests.data.rows import episodes, rankings, row, same


def write(path, rows, table=Episodes, **settings):
    with table.writing(path, **settings) as writer:
        writer.extend(rows)
    return table.load(path)


def folder(tmp_path_factory) -> Path:
    return Path(tmp_path_factory.mktemp("data"))


def kinds(path) -> dict[str, int]:
    """Return how many shards and journals there are."""
    return {kind: len(list(path.glob(f"{kind}-*"))) for kind in ("shard", "journal")}


class TestRoundTrip:
    @settings(max_examples=25)
    @given(rows=st.lists(episodes(), max_size=5), shard_rows=st.integers(1, 6))
    def test_episodes_come_back_as_they_were(self, tmp_path_factory, rows, shard_rows):
        found = write(folder(tmp_path_factory), rows, shard_rows=shard_rows)
        assert len(found) == len(rows)
        assert all(same(one, other) for one, other in zip(found, rows, strict=True))
        found.verify()

    @settings(max_examples=25)
    @given(rows=st.lists(rankings(), max_size=5), shard_rows=st.integers(1, 6))
    def test_rankings_come_back_as_they_were(self, tmp_path_factory, rows, shard_rows):
        found = write(folder(tmp_path_factory), rows, Rankings, shard_rows=shard_rows)
        assert list(found) == rows
        found.verify()

    def test_long_texts_and_no_turns(self, tmp_path):
        talk = Dialogue(Scenario("x" * 1_000_000), ("you", "me"))
        rows = [replace(row(0), dialogue=talk, rewards=(), costs=(), terms={}), row(1, turns=40)]
        assert list(write(tmp_path, rows, shard_rows=1)) == rows

    def test_the_order_of_names_survives(self, tmp_path):
        hidden = {"z": 1, "a": 2, "m": {"y": 1, "b": 2}}
        talk = Dialogue(Scenario("", hidden=hidden), ("you", "me"))
        (found,) = write(tmp_path, [replace(row(0, 0), dialogue=talk)], shard_rows=1)
        assert json.dumps(found.dialogue.scenario.hidden) == json.dumps(hidden)


class TestHash:
    @settings(max_examples=15)
    @given(cuts=st.lists(st.integers(1, 9), min_size=2, max_size=2), stops=st.integers(0, 12))
    def test_it_does_not_depend_on_shards_or_on_how_often_writing_began(self, tmp_path_factory, cuts, stops):
        rows = [row(number) for number in range(12)]
        paths = [folder(tmp_path_factory) for _ in cuts]
        for path, cut in zip(paths, cuts, strict=True):
            write(path, rows[:stops], shard_rows=cut)
            write(path, rows[stops:], shard_rows=cut + 1)
        assert content_hash(paths[0]) == content_hash(paths[1])

    def test_it_depends_on_rows_and_order(self, tmp_path):
        variants = {
            "as it is": [row(0), row(1)],
            "other order": [row(1), row(0)],
            "one less": [row(0)],
            "nothing": [],
            "another reward": [row(0), replace(row(1), rewards=(1.0, 2.5))],
            "another word": [row(0), replace(row(1), policy="Kind")],
        }
        found = {write(tmp_path / name, rows).content_hash for name, rows in variants.items()}
        assert len(found) == len(variants)

    def test_the_writer_knows_it_at_every_row(self, tmp_path):
        with Episodes.writing(tmp_path, shard_rows=3) as writer:
            for number in range(8):
                writer.add(row(number))
                assert (writer.rows, writer.content_hash) == (number + 1, content_hash(tmp_path))

    def test_it_is_a_chain_over_json(self, tmp_path):
        found = write(tmp_path, [row(0)])
        line, told = store_module._plain((tmp_path / "journal-000000.jsonl").read_bytes())
        digest = store_module.chain(store_module.chain("", [b"dialog_gym data 1 episodes"]), [line])
        assert found.content_hash == told == digest
        assert line == row_line(Episodes.encode(row(0)))
        assert len(digest) == 32

    def test_of_a_file(self, tmp_path):
        (tmp_path / "a").write_text("one")
        (tmp_path / "b").write_text("two")
        assert len({content_hash(tmp_path / name) for name in "ab"}) == 2
        with pytest.raises(DatasetError, match=r"cannot read the data .*nothing"):
            content_hash(tmp_path / "nothing")


class TestGoingOn:
    def test_another_writer_goes_on(self, tmp_path):
        for number in range(7):
            write(tmp_path, [row(number)], shard_rows=3)
        assert list(Episodes.load(tmp_path)) == [row(number) for number in range(7)]
        assert kinds(tmp_path) == {"shard": 2, "journal": 1}

    def test_a_half_written_line_is_dropped_with_a_warning(self, tmp_path, caplog):
        write(tmp_path, [row(0), row(1)])
        journal = tmp_path / "journal-000000.jsonl"
        whole = journal.read_bytes()
        journal.write_bytes(whole[:-5])
        with caplog.at_level(logging.WARNING, logger="dialog_gym"):
            assert list(Episodes.load(tmp_path)) == [row(0)]
        assert "left out a half-written last row" in caplog.text
        assert list(write(tmp_path, [row(1)])) == [row(0), row(1)]
        assert "cut off a half-written last row" in caplog.text
        assert journal.read_bytes() == whole

    @pytest.mark.parametrize("point", ["no shard", "half a shard", "after the rename", "before the journal goes"])
    def test_killed_while_a_shard_is_sealed(self, tmp_path, monkeypatch, point):
        class Killed(BaseException):
            pass

        def killed(*_, **__):
            raise Killed

        def half(table, path, **_):
            Path(path).write_bytes(b"PAR1 and no more")
            raise Killed

        writer = Episodes.writing(tmp_path, shard_rows=4)
        writer.extend(row(number) for number in range(7))
        with monkeypatch.context() as patch:
            if point == "no shard":
                patch.setattr(store_module, "write_shard", killed)
            elif point == "half a shard":
                patch.setattr("pyarrow.parquet.write_table", half)
            elif point == "after the rename":
                patch.setattr(writer, "_open", killed)
            else:
                patch.setattr(Path, "unlink", killed)
            with pytest.raises(Killed):
                writer.add(row(7))
        for file in (writer._journal, writer._counter, writer._lock):  # as the system does when a process dies
            file.close()
        assert list(Episodes.load(tmp_path)) == [row(number) for number in range(8)]
        found = write(tmp_path, [row(8)], shard_rows=4)
        assert list(found) == [row(number) for number in range(9)]
        found.verify()
        assert not list(tmp_path.glob(".partial*"))
        assert kinds(tmp_path)["journal"] == 1

    def test_killed_for_real_at_random_moments(self, tmp_path):
        report = kill_writers(tmp_path, kills=4, shard_rows=3, seed=5)
        assert report["kills"] == report["readable"] == 4
        assert report["acknowledged_rows_lost"] == report["duplicates"] == report["other_faults"] == 0
        assert report["rows"] > 0

    def test_a_reader_sees_the_rows_that_were_there(self, tmp_path):
        with Episodes.writing(tmp_path, shard_rows=4) as writer:
            writer.extend(row(number) for number in range(6))
            reader = Episodes.load(tmp_path)
            rows = iter(reader)
            assert next(rows) == row(0)
            writer.extend(row(number) for number in range(6, 15))  # the journal it has counted is sealed meanwhile
            assert list(rows) == [row(number) for number in range(1, 6)]
            reader.verify()
            assert len(Episodes.load(tmp_path)) == 15

    def test_two_writers_are_refused(self, tmp_path):
        code = (
            "import sys; from dialog_gym.data import Episodes\n"
            "with Episodes.writing(sys.argv[1]) as writer:\n    print(writer.rows, flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "0\n"
            with pytest.raises(DatasetError, match=f"the data set .* is in use by process {other.pid}"):
                Episodes.writing(tmp_path)
            assert len(Episodes.load(tmp_path)) == 0, "reading is free"
            other.kill()
        assert len(write(tmp_path, [row(0)])) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("bad", "told"),
        [
            ({"rewards": (1.0, math.nan)}, r"rewards\[1\] = nan"),
            ({"costs": (math.inf, 0.0)}, r"costs\[0\] = inf"),
            ({"score": math.nan}, "score = nan"),
            ({"terms": {"kind": (0.0, -math.inf)}}, r"terms.kind\[1\] = -inf"),
            ({"actions": np.array([[0.0], [np.nan]])}, r"actions\[1\]\[0\] = nan"),
            ({"env_kwargs": {"x": {1, 2}}}, r"env_kwargs.x = \{1, 2\}"),
            ({"policy": "\ud800"}, "a lone surrogate"),
            ({"rewards": (1.0,)}, "rewards must have one number for each of the 2 agent turns, got 1"),
            ({"signals": {"mood": ()}}, r"signals\['mood'\] must have one number"),
            ({"states": np.zeros((2, 3))}, r"states must have shape \(3, size\), got \(2, 3\)"),
            ({"seed": -1}, "seed of an episode must be from 0"),
            ({"seed": 2**63}, "seed of an episode must be from 0"),
        ],
    )
    def test_episodes(self, tmp_path, bad, told):
        with Episodes.writing(tmp_path, shard_rows=2) as writer:
            writer.add(row(0))
            with pytest.raises(ValueError, match=told):
                writer.add(replace(row(1), **bad))
            writer.add(row(2))
        assert list(Episodes.load(tmp_path)) == [row(0), row(2)]

    @pytest.mark.parametrize(
        ("bad", "told"),
        [
            ({"scores": (1.0, math.nan)}, r"scores\[1\] = nan"),
            ({"scores": (1.0,)}, "scores must have one number for each of 2 candidates, got 1"),
            ({"more": {"cost": (1.0,)}}, "cost must have one number"),
            ({"candidates": ("a", "a")}, "each once"),
            ({"candidates": (), "scores": ()}, "must have candidates"),
        ],
    )
    def test_rankings(self, tmp_path, bad, told):
        good = Ranking(({"role": "user", "content": "Well?"},), ("a", "b"), (1.0, 0.0))
        with Rankings.writing(tmp_path) as writer, pytest.raises(ValueError, match=told):
            writer.add(replace(good, **bad))

    def test_folders_that_are_something_else(self, tmp_path):
        write(tmp_path / "episodes", [row(0)])
        with pytest.raises(DatasetError, match=r"expected a data set of rankings in .*, found one of episodes"):
            Rankings.load(tmp_path / "episodes")
        with pytest.raises(DatasetError, match="expected a data set of rankings"):
            Rankings.writing(tmp_path / "episodes")
        with pytest.raises(DatasetError, match=r"is no data set: it has no manifest.json"):
            load(tmp_path)
        with pytest.raises(DatasetError, match=r"holds 'episodes' and no manifest.json"):
            Episodes.writing(tmp_path)
        with pytest.raises(ValueError, match="shard_rows must be at least 1, got 0"):
            Episodes.writing(tmp_path / "new", shard_rows=0)
        manifest = tmp_path / "episodes" / "manifest.json"
        manifest.write_text(manifest.read_text().replace("data 1", "data 9"))
        with pytest.raises(DatasetError, match="not in the format 'dialog_gym data 1'"):
            load(tmp_path / "episodes")

    @pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
    def test_a_folder_nobody_may_write(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(DatasetError, match="could not begin in the data set"):
            Episodes.writing(tmp_path)

    def test_damage_is_seen(self, tmp_path):
        rows = [row(number) for number in range(8)]
        write(tmp_path / "a", rows, shard_rows=3)
        (tmp_path / "a/shard-000000.parquet").rename(tmp_path / "kept")
        with pytest.raises(DatasetError, match=r"shard-000000.parquet is missing"):
            Episodes.load(tmp_path / "a")
        write(tmp_path / "b", rows[::-1], shard_rows=3)
        (tmp_path / "b/shard-000000.parquet").rename(tmp_path / "a/shard-000000.parquet")
        with pytest.raises(DatasetError, match="does not follow upon the shard before it"):
            Episodes.load(tmp_path / "a")
        (tmp_path / "a/shard-000000.parquet").write_bytes(b"no parquet")
        with pytest.raises(DatasetError, match="cannot be read as a shard"):
            Episodes.load(tmp_path / "a")

    def test_a_damaged_line_is_told(self, tmp_path):
        journal = tmp_path / "journal-000000.jsonl"
        write(tmp_path, [row(0), row(1)])
        journal.write_bytes(journal.read_bytes().replace(b'"seed":0', b'"seed" 0', 1))
        with pytest.raises(DatasetError, match=r"line 1 of the journal in .* is damaged"):
            list(Episodes.load(tmp_path))

    def test_a_changed_word_in_the_journal_is_told_with_its_line(self, tmp_path):
        write(tmp_path, [row(number) for number in range(5)], shard_rows=2)
        write(tmp_path, [row(5)], shard_rows=9)
        journal = tmp_path / "journal-000002.jsonl"
        whole = journal.read_bytes()
        first, second = whole.splitlines(keepends=True)
        for damaged, line in ((whole.replace(b"Talk 5", b"Tall 5"), 2), (second, 1), (second + first, 1)):
            journal.write_bytes(damaged)
            for look in (Episodes.load, Episodes.writing):
                with pytest.raises(DatasetError, match=rf"line {line} of the journal in .* expected content hash"):
                    look(tmp_path)
        journal.write_bytes(whole)
        Episodes.load(tmp_path).verify()

    @pytest.mark.parametrize("kept", [0, 1, 2])
    def test_a_journal_cut_between_rows_is_found_by_verify(self, tmp_path, caplog, kept):
        write(tmp_path, [row(number) for number in range(5)], shard_rows=2)
        write(tmp_path, [row(5), row(6)], shard_rows=9)
        journal = tmp_path / "journal-000002.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:kept]))
        with caplog.at_level(logging.WARNING, logger="dialog_gym"):
            found = Episodes.load(tmp_path)
        assert f"{3 - kept} of 7 rows are missing at the end" in caplog.text
        with pytest.raises(DatasetError, match=f"is damaged: {3 - kept} of 7 rows are missing at the end"):
            found.verify()
        write(tmp_path, [row(number) for number in range(4 + kept, 7)]).verify()

    def test_last_shards_that_were_taken_away_are_missed(self, tmp_path):
        write(tmp_path, [row(number) for number in range(4)], shard_rows=2)
        (tmp_path / "shard-000001.parquet").unlink()
        with pytest.raises(DatasetError, match="2 of 4 rows are missing"):
            Episodes.load(tmp_path).verify()

    def test_a_count_that_a_kill_left_behind_is_no_damage(self, tmp_path):
        write(tmp_path, [row(0), row(1)])
        (tmp_path / "rows").write_bytes(b"%020d\n" % 1)
        Episodes.load(tmp_path).verify()

    def test_data_sets_of_before_there_were_hashes_and_counts_are_read_and_gone_on_with(self, tmp_path):
        write(tmp_path, [row(0), row(1), row(2)])
        (tmp_path / "rows").unlink()
        journal = tmp_path / "journal-000000.jsonl"
        lines = [store_module._plain(line)[0] for line in journal.read_bytes().splitlines(keepends=True)]
        journal.write_bytes(b"".join(lines))
        old = Episodes.load(tmp_path)
        old.verify()
        assert list(write(tmp_path, [row(3)])) == [row(number) for number in range(4)]
        assert Episodes.load(tmp_path).content_hash == write(tmp_path / "new", map(row, range(4))).content_hash

    def test_a_file_is_no_data_set(self, tmp_path):
        (tmp_path / "rows.jsonl").write_text("{}")
        with pytest.raises(DatasetError, match=r"rows.jsonl is a file, and a data set is a folder"):
            load(tmp_path / "rows.jsonl")

    def test_a_changed_line_is_found_by_verify(self, tmp_path):
        write(tmp_path, [row(0), row(1), row(2)], shard_rows=2)
        (tmp_path / "shard-000000.parquet").unlink()
        write(tmp_path / "other", [row(5), row(1)], shard_rows=2)
        good = write(tmp_path / "good", [row(0), row(1)], shard_rows=2)
        import pyarrow.parquet as pq

        forged = pq.read_table(tmp_path / "other/shard-000000.parquet")
        metadata = pq.read_metadata(tmp_path / "good/shard-000000.parquet").metadata
        pq.write_table(forged.replace_schema_metadata(metadata), tmp_path / "good/shard-000000.parquet")
        good = Episodes.load(tmp_path / "good")
        with pytest.raises(DatasetError, match="is damaged: expected rows with content hash"):
            good.verify()

    def test_a_full_disk_loses_nothing(self, tmp_path, monkeypatch):
        class Full:
            closed = False

            def __init__(self, file):
                self.file = file

            def write(self, line):
                self.file.write(line[:10])
                self.file.flush()
                raise OSError(28, "No space left on device")

            def close(self):
                self.file.close()

        with Episodes.writing(tmp_path) as writer:
            writer.add(row(0))
            monkeypatch.setattr(writer, "_journal", Full(writer._journal))
            with pytest.raises(DatasetError, match=r"could not add a row .*No space left.* rows before are safe"):
                writer.add(row(1))
            writer.add(row(2))
        found = Episodes.load(tmp_path)
        assert list(found) == [row(0), row(2)]
        found.verify()


def test_the_hugging_face_data_set(tmp_path):
    found = write(tmp_path, [row(number) for number in range(5)], shard_rows=2)
    dataset = found.to_dataset()
    assert dataset.num_rows == 5
    assert dataset["seed"][:] == [0, 1, 2, 3, 4]
    assert dataset[3]["messages"] == row(3).dialogue.messages("you")
    assert dataset[4]["reward"] == pytest.approx(4 + 5)
    assert {"success", "stop_reason", "rewards", "terms"} <= set(dataset.column_names)


def test_shards_are_read_by_the_datasets_library_itself(tmp_path):
    import datasets

    write(tmp_path / "data", [row(number) for number in range(4)], shard_rows=2)
    files = [str(path) for path in sorted((tmp_path / "data").glob("*.parquet"))]
    stream = datasets.load_dataset("parquet", data_files=files, streaming=True, split="train")
    assert [one["reward"] for one in stream] == [row(number).total for number in range(4)]


def test_only_what_is_asked_for_is_read(tmp_path):
    found = write(tmp_path, [row(number) for number in range(3)], shard_rows=2)
    assert list(found.select("seed", "policy")) == [{"seed": number, "policy": "kind"} for number in range(3)]
