"""Folders of results: what is read, and what is left out and told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dialog_gym import checkpoint
from dialog_gym.benchmarks.results_folder import cell_name, read_results, world_of

VERSIONS: dict[str, str | None] = {"python": "3.11.0", "commit": "abc"}


def cell(agent: str, world: str = "Bargain", seed: int = 1, returns: tuple[float, ...] = (0.0, 1.0)) -> dict[str, Any]:
    """Return a cell's file."""
    return {
        "config": {"cell": {"agent": agent, "world": world, "env": f"dialog_gym/{world}-v0", "seed": seed}},
        "result": {
            "seeds": [1_000_000 + k for k in range(len(returns))],
            "returns": list(returns),
            "costs": [0.0] * len(returns),
            "success_rate": 0.5,
        },
        "budget": None,
        "curve": [[64, 0.1], [128, 0.2]],
        "curve_unit": "episodes",
        "learned_from": "episodes",
        "tokens": 12,
        "episodes": f"episodes/{cell_name(world, agent, seed)}",
        "cpu_seconds": 1.5,
        "wall_seconds": 2.5,
        "versions": VERSIONS,
    }


def write_folder(folder: Path, *cells: dict[str, Any], **suite: Any) -> Path:
    """Write a folder with ``cells``."""
    checkpoint.write_json(folder / "suite.json", suite)
    (folder / "cells").mkdir(exist_ok=True)
    for data in cells:
        one = data["config"]["cell"]
        path = folder / "cells" / f"{cell_name(one['world'], one['agent'], one['seed'])}.json"
        path.write_text(json.dumps(data), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder for a suite."""
    (made := tmp_path / "bench").mkdir()
    return made


def test_reads_what_a_cell_tells(folder: Path) -> None:
    (folder / "episodes" / "Bargain--td3--2").mkdir(parents=True)
    write_folder(folder, cell("td3", seed=2, returns=(0.25, 0.75, 0.5)))
    (result,) = read_results(folder).results
    assert (result.world, result.agent, result.seed, result.env) == ("Bargain", "td3", 2, "dialog_gym/Bargain-v0")
    assert result.returns.tolist() == [0.25, 0.75, 0.5]
    assert result.seeds == (1_000_000, 1_000_001, 1_000_002)
    assert result.curve == ((64, 0.1), (128, 0.2))
    assert result.tokens == 12
    assert result.budget is None
    assert result.episodes == folder / "episodes" / "Bargain--td3--2"


def test_references_are_means_of_lm_and_oracle(folder: Path) -> None:
    write_folder(folder, cell("lm"), cell("oracle", returns=(1.0, 2.0)), cell("lm", "Chat", returns=(9.0, 9.0)))
    results = read_results(folder)
    assert results.references("Bargain") == {"lm": 0.5, "oracle": 1.5}
    assert results.references("Chat") == {"lm": 9.0}
    assert results.references("Nowhere") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "JSON object"),
        ("{}", "'config' is not there"),
        (json.dumps({**cell("lm"), "result": {**cell("lm")["result"], "costs": [0.0]}}), "as many returns"),
        (json.dumps({**cell("lm"), "result": {**cell("lm")["result"], "returns": [0.0, None]}}), "finite"),
        (json.dumps(cell("lm", returns=())), "as many returns"),
    ],
)
def test_broken_files_are_named_and_left_out(folder: Path, text: str, reason: str) -> None:
    write_folder(folder, cell("td3"), asked=["Bargain--td3--1", "Bargain--lm--1"])
    (folder / "cells" / "Bargain--lm--1.json").write_text(text, encoding="utf-8")
    results = read_results(folder)
    assert [one.agent for one in results.results] == ["td3"]
    (broken,) = results.broken
    assert "Bargain--lm--1.json" in broken
    assert reason in broken
    assert results.missing == ("Bargain--lm--1",)


def test_what_cannot_be_done_has_a_reason(folder: Path) -> None:
    reason = {"agent": "sacpo", "world": "Chat", "reason": "nothing costs"}
    write_folder(folder, cell("lm"), not_applicable=[reason])
    assert read_results(folder).not_applicable == {("sacpo", "Chat"): "nothing costs"}


def test_mixed_versions_are_refused_unless_asked_for(folder: Path) -> None:
    write_folder(folder, cell("lm"), {**cell("td3"), "versions": {**VERSIONS, "commit": "def", "torch": "2.13.0"}})
    with pytest.raises(ValueError, match=r"commit abc and def; torch 2\.13\.0 and unknown"):
        read_results(folder)
    results = read_results(folder, mixed=True)
    assert len(results.results) == 2
    assert results.mixed == ("commit abc and def", "torch 2.13.0 and unknown")


def test_runs_of_other_settings_are_refused_unless_asked_for(tmp_path: Path) -> None:
    for name, seed, steps in (("core", 1, 100), ("papers", 2, 300), ("again", 3, 100)):
        (tmp_path / name).mkdir()
        told = cell("td3", seed=seed)
        write_folder(tmp_path / name, {**told, "config": {**told["config"], "args": {"steps": steps}}})
    assert len(read_results(tmp_path / "core", tmp_path / "again").results) == 2
    with pytest.raises(ValueError, match="settings of td3 in Bargain"):
        read_results(tmp_path / "core", tmp_path / "papers")
    assert read_results(tmp_path / "core", tmp_path / "papers", mixed=True).mixed == ("settings of td3 in Bargain",)


def test_of_several_folders_the_first_counts(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name, cell("lm", returns=(value,)), cell(f"only-{name}"), asked=["Bargain--lm--1"])
    results = read_results(tmp_path / "a", tmp_path / "b")
    assert [one.agent for one in results.results] == ["lm", "only-a", "only-b"]
    assert results.references("Bargain") == {"lm": 1.0}
    assert results.missing == ()


def test_other_folders_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has no suite\.json; `dialog-gym bench SUITE` makes one"):
        read_results(folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "has no suite.json"),
        ("{", "JSONDecodeError"),
        ("[]", "AttributeError"),
        ('{"not_applicable": [{"agent": "td3"}]}', "KeyError: 'world'"),
        ('{"asked": 5}', "TypeError"),
    ],
)
def test_cells_are_read_where_nobody_knows_what_was_asked_for(folder: Path, text: str | None, why: str) -> None:
    write_folder(folder, cell("lm"))
    (folder / "suite.json").unlink()
    if text is not None:
        (folder / "suite.json").write_text(text, encoding="utf-8")
    results = read_results(folder)
    assert [one.agent for one in results.results] == ["lm"]
    (broken,) = results.broken
    assert "suite.json" in broken
    assert why in broken
    assert results.missing == ()
    for path in (folder / "cells").iterdir():
        path.unlink()
    if text is not None:
        assert read_results(folder).broken == (broken,)


def test_world_is_that_of_words_and_vectors() -> None:
    assert {world_of("dialog_gym/RedTeam-v0"), world_of("dialog_gym/RedTeamPrefix-v0")} == {"RedTeam"}


def test_reading_needs_no_torch() -> None:
    code = "import sys, dialog_gym.benchmarks.results_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
