"""What ``dialog-gym leaderboard`` refuses before it computes or writes anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dialog_gym.benchmarks import leaderboard_command
from dialog_gym.cli import main
from tests.benchmarks.test_results_folder import cell, write_folder

Refused = Callable[[Sequence[str]], str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return what runs the command in a folder with results in ``core``, and returns what it says in refusing."""
    (tmp_path / "core").mkdir()
    write_folder(tmp_path / "core", cell("lm"), cell("oracle", returns=(1.0, 1.5)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leaderboard_command, "leaderboard", lambda *args, **kwargs: pytest.fail("computed"))

    def run(words: Sequence[str]) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main(["leaderboard", "core", *words])
        assert stop.value.code == 2
        assert sorted(tmp_path.rglob("*")) == before
        assert Path("file").read_text(encoding="utf-8") == "old"
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resamples", "1"], "--resamples must be at least 100, got 1"),
        (["--resamples", "99"], "--resamples must be at least 100, got 99"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--csv", "folder"], "--csv: folder is a folder; give the name of a file in it"),
        (["--markdown", "folder"], "--markdown: folder is a folder; give the name of a file in it"),
        (["--into", "folder"], "--into: folder is a folder; give the name of a file in it"),
        (["--into", "none.md"], "--into: none.md is not there; give a file with <!-- leaderboard -->"),
        (["--into", "file"], "<!-- leaderboard --> once"),
        (["--plots", "file"], "--plots: file is a file, so nothing can be written below it"),
        (["--csv", "file/a/b.csv"], "--csv: file is a file, so nothing can be written below it"),
        (["--plots", "file/a"], "--plots: file is a file, so nothing can be written below it"),
    ],
)
def test_what_cannot_be_done_is_refused_first(refused: Refused, words: list[str], told: str) -> None:
    assert told in refused(["--markdown", "all.md", *words])


def test_a_hundred_resamples_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, cell("lm"), cell("oracle", returns=(1.0, 1.5)))
    main(["leaderboard", str(tmp_path), "--resamples", "100"])
    assert "| oracle | 1 of 1 |" in capsys.readouterr().out
