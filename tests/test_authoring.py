"""``dialog-gym new`` and ``check``: what is written works, and mistakes are told in one sentence."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from dialog_gym.authoring.new import TEMPLATES, class_name, write_new
from dialog_gym.cli import main
from dialog_gym.envs.bargain import Bargain
from dialog_gym.rewards import Length

ROOT = Path(__file__).parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder, and leave no module or environment of it behind."""
    monkeypatch.chdir(tmp_path)
    modules, ids, path = set(sys.modules), dict(gym.registry), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith(("small_talk", "warmth", "broken")):
            del sys.modules[name]
    gym.registry.clear()
    gym.registry.update(ids)
    sys.path[:] = path


REWARDS = """
from dialog_gym.rewards import reward

@reward(0, 1)
def mood(dialogue):
    return float("nan")

@reward(0, 1)
def fine(dialogue):
    return 1.0

def mixed(task):
    return 0.5 * task.reward + 0.5 * fine
"""
SHORT = Length(1, 3)


def needs_a_task(task):
    """Return a reward for ``task``."""
    return 0.5 * task.reward


def made_by_a_function():
    """Return a task, as a factory does that is registered in place of a class."""
    return Bargain()


def run(*words):
    """Return exit status 0, or the status a command left with."""
    try:
        main(words)
    except SystemExit as left:
        return left.code
    return 0


def python(*words, folder):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # pytest's own settings of this project stay out
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("kind", "name"), [("env", "small_talk"), ("reward", "warmth")])
def test_what_is_written_passes_its_own_test_and_ruff(here, capsys, kind, name):
    assert run("new", kind, name) == 0
    told = capsys.readouterr().out
    assert f"wrote {name}.py\nwrote test_{name}.py\n\nTry next:\n  pytest test_{name}.py\n  dialog-gym " in told
    tested = python("-m", "pytest", "-q", f"test_{name}.py", folder=here)
    assert re.search(r"^\d+ passed", tested.stdout, re.MULTILINE), tested.stdout + tested.stderr
    ruff = ["-m", "ruff", "--config", str(ROOT / "pyproject.toml")]
    for command in (["check", "--per-file-ignores", "test_*.py:D103", "."], ["format", "--check", "."]):
        checked = python(*ruff, *command, folder=here)
        assert checked.returncode == 0, checked.stdout
    for file in (f"{name}.py", f"test_{name}.py"):
        text = (here / file).read_text()
        assert class_name(name) in text
        assert not re.search(r"Evening|Kindness|templates|\"kindness\"", text)


def test_an_environment_that_was_written_is_a_gym_environment(here, capsys):
    run("new", "env", "small_talk")
    sys.path.append(str(here))
    env = gym.make("small_talk:my/SmallTalk-v0")
    seen, _ = env.reset(seed=1)
    assert seen.startswith("Two friends plan their evening")
    assert env.step("hiking?")[1] in (0.0, 1.0)
    rows = gym.make_vec("small_talk:my/SmallTalk-v0", num_envs=2)
    assert rows.reset(seed=1)[0][0] == seen


def test_the_command_line_knows_the_modules_of_the_present_folder(here, capsys, monkeypatch):
    run("new", "env", "small_talk")
    capsys.readouterr()
    assert run("evaluate", "oracle", "--env", "small_talk:my/SmallTalk-v0", "--episodes", "4", "--raw", "--json") == 0
    assert json.loads(capsys.readouterr().out)["returns"] == [1.0] * 4
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run("play", "small_talk:my/SmallTalkPrefix-v0", "--seed", "1") == 0
    assert "You are the guest" in capsys.readouterr().out
    assert run("check", "small_talk:my/SmallTalk-v0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "is made                       ok" in lines
    assert all(line.endswith(" ok") for line in lines)


def test_check_tells_what_is_wrong_and_exits_with_1(here, capsys):
    run("new", "reward", "warmth")
    text = (here / "warmth.py").read_text()
    (here / "broken.py").write_text(text.replace("high = 1.0", "high = 0.5"))
    capsys.readouterr()
    assert run("check", "broken:Warmth") == 1
    told = capsys.readouterr().out
    assert "finite, in range      it returned 1 after the agent's 'Thank you, that is lovely!', outside" in told
    assert told.endswith("\n1 of 8 checks failed.\n")
    (here / "broken_too.py").write_text(REWARDS)
    assert run("check", "broken_too:mood") == 1
    assert capsys.readouterr().out.count("nan") == 1
    assert run("check", "broken_too:fine") == 0
    assert "8 checks" not in capsys.readouterr().out
    assert run("check", "Bargain-v0", "--set", "reward=broken_too:mood") == 1
    assert re.search("^takes a step .*reward 'mood'.*\n\n1 of 2 checks failed", capsys.readouterr().out, re.MULTILINE)
    assert run("check", "Bargain-v0", "--set", "reward=broken_too:mixed") == 0
    assert "promised" not in capsys.readouterr().out
    assert run("check", "dialog_gym.envs.bargain:Bargain", "--set", "side=seller") == 0
    assert "value as promised" in capsys.readouterr().out
    assert run("check", "tests.test_authoring:made_by_a_function") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("new env small_talk", "small_talk.py exists already; nothing was written"),
        ("new env json", "there is a module 'json' already, which this one would hide"),
        ("new env SmallTalk", "a name is lower case with underscores, for instance small_talk, got 'SmallTalk'"),
        ("new env class", "a name is lower case with underscores"),
        ("new env other --folder nowhere", "nowhere"),
        ("check small_talk:SmalTalk", "no task or reward named 'SmalTalk'; did you mean 'SmallTalk'?"),
        ("check smaltalk:SmallTalk", "there is no module 'smaltalk', neither installed nor in this folder"),
        ("check small_talk:my/SmalTalk-v0", "did you mean 'my/SmallTalk-v0'?"),
        ("check Bargian-v0", "did you mean 'dialog_gym/Bargain-v0'?"),
        ("check json:JSONDecoder", "expected a Task or a Reward to check, got json:JSONDecoder"),
        ("check math:pi", "no task or reward named 'pi'"),
        ("check tests.test_authoring:needs_a_task", "dialog-gym check ENV --set reward=tests.test_authoring:needs"),
        ("check tests.test_authoring:SHORT --set low=1", "is made already and takes no --set, got {'low': 1}"),
        ("check small_talk:SmallTalk --set side=x", "cannot be made with {'side': 'x'}"),
        ("play nowhere:my/X-v0", "there is no module 'nowhere'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(here, capsys, words, told):
    run("new", "env", "small_talk")
    capsys.readouterr()
    assert run(*words.split()) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"dialog-gym: .*\n", error)
    assert told in error


def test_a_module_that_needs_another_one_tells_which(here, capsys):
    (here / "broken.py").write_text("import matplotlibb\n")
    assert run("check", "broken:Broken") == 2
    assert "No module named 'matplotlibb'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["env", "reward"])
def test_in_a_checkout_everything_goes_where_it_belongs(tmp_path, kind):
    for folder in ("dialog_gym/rewards", "envs", "tests/envs", "tests/rewards"):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("envs", "dialog_gym"):
        (tmp_path / package / "__init__.py").touch()
    registration, names = (tmp_path / "dialog_gym" / name for name in ("registration.py", "rewards/__init__.py"))
    shutil.copy(ROOT / "dialog_gym/rewards/__init__.py", names)
    shutil.copy(ROOT / "dialog_gym/registration.py", registration)
    written = write_new(kind, "small_talk", tmp_path)
    home = "envs" if kind == "env" else "dialog_gym/rewards"
    module = "dialog_gym.envs.small_talk" if kind == "env" else "dialog_gym.rewards.small_talk"
    code = (tmp_path / home / "small_talk.py").read_text()
    test = (tmp_path / "tests" / Path(home).name / "test_small_talk.py").read_text()
    assert "class SmallTalk(" in code
    assert f"from {module} import SmallTalk" in test
    line = '    "SmallTalk": "dialog_gym.envs.small_talk:SmallTalk",\n'
    assert (line in registration.read_text()) is (kind == "env")
    assert written.next[0] == f"pytest tests/{Path(home).name}/test_small_talk.py"
    if kind == "env":
        assert written.next[1] == "dialog-gym play SmallTalk-v0"
        assert "register(" not in code
        assert '"dialog_gym/SmallTalk-v0"' in test
        known = registration.read_text().replace(line, "")
        assert known == (ROOT / "dialog_gym/registration.py").read_text()
    new = set(names.read_text().splitlines()) - set((ROOT / "dialog_gym/rewards/__init__.py").read_text().splitlines())
    exported = {
        "    from dialog_gym.rewards.small_talk import SmallTalk as SmallTalk",
        '    "SmallTalk": "small_talk",',
        '    "SmallTalk",',
    }
    assert new == (exported if kind == "reward" else set())
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ours = 'lint.isort.known-first-party = ["dialog_gym"]'  # most of it is missing in this copy
    checked = python("-m", "ruff", "check", "--ignore=D104", "--config", ours, home, "tests", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout
    with pytest.raises(FileExistsError):
        write_new(kind, "small_talk", tmp_path)


@pytest.mark.slow
def test_what_is_written_passes_mypy(here, capsys):
    run("new", "env", "small_talk")
    run("new", "reward", "warmth")
    files = ["small_talk.py", "test_small_talk.py", "warmth.py", "test_warmth.py"]
    strict = ["-m", "mypy", "--strict", "--follow-imports=silent"]
    checked = subprocess.run([sys.executable, *strict, *files], env={**os.environ, "MYPYPATH": str(ROOT)},
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_templates_are_read_from_the_package():
    assert {file.stem for file in TEMPLATES.glob("*.py")} == {
        "__init__", "evening", "kindness", "test_evening", "test_kindness",
    }  # fmt: skip
