"""The three top-level folders are packages inside dialog_gym, and what is declared is what exists."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAPPED = ("agents", "benchmarks", "envs")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python(code: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **kwargs)


def test_every_package_folder_is_listed_in_pyproject():
    listed = set(PYPROJECT["tool"]["setuptools"]["packages"])
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for top in ("dialog_gym", *MAPPED)
        for init in (ROOT / top).rglob("__init__.py")
        if not any(parent.is_symlink() for parent in init.parents)
    }
    assert {f"dialog_gym.{name}" if name.split(".")[0] in MAPPED else name for name in found} == listed


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="source archives have no links; only git checkouts do")
@pytest.mark.parametrize("name", MAPPED)
def test_link_for_type_checkers_points_at_the_folder(name):
    link = ROOT / "dialog_gym" / name
    assert link.is_symlink(), f"dialog_gym/{name} must link to ../{name}; without it mypy checks nothing in {name}/"
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", MAPPED)
def test_folder_refuses_to_be_imported_under_its_bare_name(name):
    assert f"import this folder as dialog_gym.{name}" in python(f"import {name}", cwd=ROOT).stderr


def test_constraints_pin_what_the_extras_name_and_no_address():
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = {re.split(r"[\[<>=]", need)[0].lower() for name in extras if name != "vllm" for need in extras[name]}
    assert wanted - {"dialog-gym"} <= pinned("constraints.txt").keys()


def test_vllm_is_tested_with_the_versions_that_all_else_is_tested_with():
    here, there = pinned("constraints.txt"), pinned("constraints-vllm.txt")
    shared = here.keys() & there.keys() - {"setuptools"}  # vLLM wants one version of it
    assert {"torch", "transformers", "gymnasium", "numpy"} <= shared
    assert {name: here[name] for name in shared} == {name: there[name] for name in shared}


def pinned(file: str) -> dict[str, str]:
    """Return the versions in a file of constraints, which holds nothing else."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pairs = [line.split("==") for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_gymnasium_entry_point_registers_our_ids():
    (entry,) = (e for e in entry_points(group="gymnasium.envs") if e.value.startswith("dialog_gym."))
    assert entry.load().__name__ == "register_envs"


def test_public_names_resolve_and_are_listed():
    import dialog_gym

    assert set(dialog_gym.__all__) <= set(dir(dialog_gym))
    for name in dialog_gym.__all__:
        assert getattr(dialog_gym, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'Dialog'.*'Dialogue'"):
        _ = dialog_gym.Dialog
