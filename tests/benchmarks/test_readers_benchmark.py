import gzip
import json

import pytest
from rich.console import Console

from dialog_gym.benchmarks import readers
from dialog_gym.benchmarks.readers import Case, Settings
from dialog_gym.data.corpora import corpus_names


def test_every_case_is_of_a_reader_that_there_is():
    assert {case.name for case in readers.CASES} <= set(corpus_names())


def test_every_figure_is_measured(capsys, tmp_path, monkeypatch):
    pair = {"chosen": "\n\nHuman: A?\n\nAssistant: B.", "rejected": "\n\nHuman: A?\n\nAssistant: C."}
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join([json.dumps(pair)] * 7).encode()))
    wrong, right = Case("hh_rlhf", "a.jsonl.gz", "", 8, None), Case("hh_rlhf", "a.jsonl.gz", "", 7, 7)
    monkeypatch.setattr(readers, "CASES", (wrong, right, Case("abcd", "not/here.json", "", 1, 1)))
    monkeypatch.setattr(readers, "LONGER", (right,))
    report = readers.measure(Settings(tmp_path, repeats=1))
    json.dumps(report)
    assert [row["right"] for row in report["rows"]] == [False, True]
    assert report["rows"][0]["cpu"] > 0
    assert report["rows"][0]["memory_before"] > 10
    assert (report["longer"][0]["once"]["found"], report["longer"][0]["often"]["found"]) == (7, 70)
    assert "abcd" in report["not measured"]
    readers.show(report, Console(width=200))
    assert "no: 8" in capsys.readouterr().out


def test_what_cannot_be_measured(tmp_path):
    for bad in ({"repeats": 0, "data": tmp_path}, {"data": tmp_path / "none"}):
        with pytest.raises(ValueError, match="repeats must be at least 1 and data a folder"):
            Settings(**bad)
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(RuntimeError, match=r"(?s)as hh_rlhf failed: .*line 1"):
        readers._best(Settings(tmp_path), "hh_rlhf", tmp_path / "a.jsonl", "")
