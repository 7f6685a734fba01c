"""Folders of results: what is read, and what is left out and told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dialog_gym import checkpoint
from dialog_gym.benchmarks.results_folder import cell_name, read_results, world_of

NAN, INF = float("nan"), float("inf")
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
        "versions": dict(VERSIONS),
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


def test_what_depends_on_its_seed_is_told_by_the_cell_or_by_what_was_asked_for(folder: Path) -> None:
    told = {**cell("told"), "seeded": True}
    asked = [f"Bargain--{name}" for name in ("told--1", "lm--1", "constant--1", "constant--2")]
    write_folder(folder, told, cell("lm"), cell("constant"), cell("constant", "Chat"), asked=asked)
    found = {(one.agent, one.world): one.seeded for one in read_results(folder).results}
    assert found == {
        ("told", "Bargain"): True,
        ("lm", "Bargain"): False,
        ("constant", "Bargain"): True,
        ("constant", "Chat"): False,
    }


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
        (json.dumps({**cell("lm"), "result": {**cell("lm")["result"], "seeds": [7, 7]}}), "2 of 1 seeds"),
        ("[" * 100_000, "recursion"),
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


def changed(keys: str, value: Any) -> str:
    """Return the file of a cell with another ``value`` at ``keys``, for instance ``"config.cell.env"``."""
    told: Any = cell("lm")
    *way, last = keys.split(".")
    inner = told
    for key in way:
        inner = inner[key]
    inner[last] = value
    return json.dumps(told)


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        ("config", 5, "expected a JSON object as config, got 5"),
        ("config.cell.env", 5, "expected a text as env, got 5"),
        ("config.cell.env", "Bargain", "dialog_gym/Bargain-v0, got 'Bargain'"),
        ("config.cell.agent", None, "expected a text as agent"),
        ("config.cell.seed", "1", "whole number of 0 or more as seed, got '1'"),
        ("config.cell.seed", -1, "whole number of 0 or more as seed"),
        ("result", [], "expected a JSON object as result"),
        ("result.seeds", 5, "expected a list as seeds"),
        ("result.seeds", [1, 2.5], "as a seed of an episode, got 2.5"),
        ("result.returns", [True, 0.5], "finite numbers as returns, got True"),
        ("result.costs", [0.0, 10**400], "finite numbers as costs"),
        ("result.success_rate", NAN, "success_rate, got nan"),
        ("result.success_rate", 7, "from 0 to 1 as success_rate, got 7"),
        ("budget", NAN, "as budget, got nan"),
        ("curve", [[1, 0.1], [2, NAN]], "in curve, got nan"),
        ("curve", [[INF, 0.1]], "a step of curve, got inf"),
        ("curve", [[1]], "pairs of a step and a mean return as curve"),
        ("curve_unit", 5, "expected a text as curve_unit"),
        ("learned_from", None, "expected a text as learned_from"),
        ("tokens", INF, "as tokens, got inf"),
        ("cpu_seconds", NAN, "as cpu_seconds, got nan"),
        ("wall_seconds", -1.0, "as wall_seconds, got -1.0"),
        ("versions", ["3.11"], "expected a JSON object as versions"),
        ("versions.torch", 5, "expected a text as torch, got 5"),
        ("versions.torch", ["2"], "expected a text as torch"),
        ("episodes", 5, "expected a text as episodes"),
    ],
)
def test_what_a_cell_tells_is_checked(folder: Path, keys: str, value: Any, reason: str) -> None:
    write_folder(folder, cell("td3"))
    (folder / "cells" / "Bargain--lm--1.json").write_text(changed(keys, value), encoding="utf-8")
    results = read_results(folder)
    assert [one.agent for one in results.results] == ["td3"]
    (broken,) = results.broken
    assert broken.startswith(f"{folder / 'cells' / 'Bargain--lm--1.json'}: expected ")
    assert reason in broken


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
    first, second = (tmp_path / name / "cells" / "Bargain--lm--1.json" for name in "ab")
    assert results.broken == (f"{second}: {first} is the same cell with other content, and comes first",)
    assert [one.path for one in results.doubles] == [second]
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    again = read_results(tmp_path / "a", tmp_path / "copy", tmp_path / "a")
    assert (len(again.results), again.broken, again.doubles) == (2, (), ())


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"versions": {**VERSIONS, "commit": "def"}}, "commit abc and def"),
        ({"config": {**cell("lm")["config"], "args": {"steps": 9}}}, "settings of lm in Bargain"),
    ],
)
def test_a_cell_of_other_versions_does_not_hide_behind_the_first(
    tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    for name, data in (("a", cell("lm")), ("b", {**cell("lm"), **other})):
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name, data)
    with pytest.raises(ValueError, match=told):
        read_results(tmp_path / "a", tmp_path / "b")
    results = read_results(tmp_path / "a", tmp_path / "b", mixed=True)
    assert results.mixed == (told,)
    assert len(results.results) == len(results.broken) == 1


@pytest.mark.parametrize("keys", [{"agent": "ilql"}, {"seed": 3}, {"env": "dialog_gym/Chat-v0"}])
def test_the_name_of_a_file_is_that_of_its_cell(folder: Path, keys: dict[str, Any]) -> None:
    write_folder(folder, cell("td3", seed=2), cell("td3", seed=3))
    path = folder / "cells" / "Bargain--td3--2.json"
    told = cell("td3", seed=2)
    told["config"]["cell"] |= keys
    path.write_text(json.dumps(told), encoding="utf-8")
    results = read_results(folder)
    assert [one.seed for one in results.results] == [3]
    (broken,) = results.broken
    assert broken.startswith(f"{path}: expected the cell of that name, got ")


def test_other_folders_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has no suite\.json; `dialog-gym bench SUITE` makes one"):
        read_results(folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "has no suite.json"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "expected a JSON object as the suite, got []"),
        ('{"not_applicable": [{"agent": "td3"}]}', "'world' is not there"),
        ('{"not_applicable": [5]}', "expected a JSON object as a reason, got 5"),
        ('{"not_applicable": [{"agent": "td3", "world": "Chat", "reason": 5}]}', "expected a text as reason, got 5"),
        ('{"asked": 5}', "expected a list as asked, got 5"),
        ('{"asked": [1, 2]}', "names like Bargain--td3--2 in asked, got 1"),
        ('{"asked": ["x"]}', "in asked, got 'x'"),
        ('{"config": 5}', "expected a JSON object as config, got 5"),
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
