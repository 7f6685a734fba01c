"""The committed tables are those of the committed results."""

from pathlib import Path

from dialog_gym.benchmarks.leaderboard_tables import BEGIN, END
from dialog_gym.benchmarks.results_folder import read_results
from dialog_gym.cli import main

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_committed_results_are_whole_and_of_one_version() -> None:
    found = read_results(RESULTS / "core")
    assert not found.broken
    assert not found.mixed
    assert not found.doubles


def test_the_committed_tables_are_made_of_the_committed_results(tmp_path: Path) -> None:
    readme, core = tmp_path / "README.md", tmp_path / "core.md"
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    head, tail = before.partition(BEGIN)[0], before.partition(END)[2]
    readme.write_text(f"{head}{BEGIN}\n{END}{tail}", encoding="utf-8")
    main(["leaderboard", str(RESULTS / "core"), "--into", str(readme), "--markdown", str(core)])
    assert readme.read_text(encoding="utf-8") == before
    assert core.read_text(encoding="utf-8") == (RESULTS / "core.md").read_text(encoding="utf-8")
