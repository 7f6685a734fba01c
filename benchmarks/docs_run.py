"""Run the blocks of a page in this process, in a folder of their own, with budgets that teach nothing.

Python blocks share one namespace a page. Of shell blocks, ``dialog-gym`` and ``python -m dialog_gym...`` are called in
this process, which imports torch once; ``pytest`` gets a process of its own. To a command are
added the flags of ``QUICK`` that make it short: of a flag that is given twice the last one counts.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

from dialog_gym import agent, cli
from dialog_gym.benchmarks.docs_blocks import Block, Command, commands_of, globbed
from dialog_gym.benchmarks.docs_parse import check

_LM = "--rows 4 --eval-every 0"
_RECORDED = f"{_LM} --epochs 0 --steps 2 --batch 4 --limit 24"
_PREFERENCES = f"{_LM} --epochs 0 --steps 2 --batch 4 --limit 32"
QUICK: Mapping[str, str] = {
    "dialog-gym quickstart": "--steps 96 --episodes 4",
    "dialog-gym train td3": "--steps 64 --rows 8 --eval-every 0",
    "dialog-gym train sb3": "--steps 64 --rows 8 --eval-every 0",
    "dialog-gym train ppo": f"{_LM} --steps 8 --episodes 8 --batch 8",
    "dialog-gym train tf": _RECORDED,
    "dialog-gym train tf_all": _RECORDED,
    "dialog-gym train tf_top": _RECORDED,
    "dialog-gym train dt": _RECORDED,
    "dialog-gym train ilql": _RECORDED,
    "dialog-gym train dpo": _PREFERENCES,
    "dialog-gym train kto": _PREFERENCES,
    "dialog-gym train sacpo": _PREFERENCES,
    "dialog-gym train stable_alignment": _PREFERENCES,
    "dialog-gym train rollouts": "--eval-episodes 2 --k 2 --plays 1",
    "dialog-gym evaluate": "--episodes 4 --rows 4 --raw",
    "dialog-gym collect": "--episodes 24",
    "dialog-gym branch": "--episodes 40 --k 3 --plays 1",
    "dialog-gym choose": "--episodes 4",
    "dialog-gym tournament": "--episodes 4 --scorings 1",
    "dialog-gym fit prefix": "--steps 2 --dialogues 8",
    "dialog-gym fit reward": "--steps 20 --eval-every 10",
    "dialog-gym fit speaker": "--steps 2",
    "dialog-gym data make-candor": "--conversations 24 --turns 12",
    "dialog-gym society run": "--agents 9 --rounds 2 --peers 2",
    "dialog-gym partner-report": "--episodes 2",
    "dialog-gym bench": "--scale 0.01 --agents lm oracle --envs Bargain --seeds 1",
    "python examples/steer.py": "--steps 64 --episodes 8",
    "python examples/learn_reward.py": "--talks 16 --updates 8 --dialogues 8 --episodes 4",
}
"""Flags that make a command short, by its first words; the longest match counts."""


@dataclass
class Page:
    """A page while its blocks are run.

    Attributes:
        folder: Where they run; what one writes the next may read.
        names: What the Python blocks have defined.
        times: Seconds of each command and block, by where it stands.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    times: list[tuple[str, str, float]] = field(default_factory=list)

    def run(self, block: Block) -> str:
        """Run, or only parse, one block; return what it prints.

        Raises:
            ValueError: A command fails or is not understood.
        """
        began = time.perf_counter()
        said = ""
        if block.language == "python":
            said = self._python(block)
            self.times.append((block.where, "python", time.perf_counter() - began))
        elif block.is_shell:
            for command in commands_of(block):
                began = time.perf_counter()
                said += self._command(command)
                self.times.append((block.where, command.line, time.perf_counter() - began))
        return said

    def _python(self, block: Block) -> str:
        code = compile(block.text, block.where, "exec")
        if block.title.endswith(".py"):
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        if block.needs:
            return ""
        with inside(self.folder), contextlib.redirect_stdout(io.StringIO()) as said:
            if block.title.endswith(".py"):
                __import__(block.title.removesuffix(".py"))
            else:
                exec(code, self.names)
        return said.getvalue()

    def _command(self, command: Command) -> str:
        words = list(command.words)
        if command.block.needs:
            if is_ours(words):
                with inside(self.folder):
                    check(words)
            return ""
        words = [*globbed(words, self.folder), *quick_flags(words)]
        if words[0] == "pytest":
            return _process(words, self.folder, command)
        if not is_ours(words) and not (words[0] == "python" and words[1].endswith(".py")):
            raise ValueError(f"{command.block.where}: only our own commands are run, got {command.line!r}")
        with inside(self.folder):
            return call(words, command.block.where)


def is_ours(words: list[str]) -> bool:
    """Return whether a command is ``dialog-gym ...`` or runs a module of ours."""
    return words[0] == "dialog-gym" or ("-m" in words and words[words.index("-m") + 1].startswith("dialog_gym"))


def quick_flags(words: list[str]) -> list[str]:
    """Return the flags that make a command short.

    >>> quick_flags(["dialog-gym", "choose", "runs/a"])
    ['--episodes', '4']
    """
    line = " ".join(words)
    if "-h" in words or "--help" in words:
        return []
    known = [start for start in QUICK if line.startswith(start) and line[len(start) :][:1] in ("", " ", "/")]
    return QUICK[max(known, key=len)].split() if known else []


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Be in ``folder``, from which modules are imported too; forget them, their environments and agents afterwards."""
    before, modules, ids, agents = Path.cwd(), set(sys.modules), set(gym.registry), set(agent.agent_names())
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(before)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        for env_id in set(gym.registry) - ids:
            del gym.registry[env_id]
        for name in set(agent.agent_names()) - agents:
            del agent._AGENTS[name]


def call(words: list[str], where: str) -> str:
    """Run a command of ours in this process and return what it prints.

    Raises:
        ValueError: It exits with an error.
    """
    said, told = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, words[words.index("-m") + 1 :] if "-m" in words else words[words[0] == "python" :]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if words[0] == "dialog-gym":
                cli.main(words[1:])
            elif words[1].endswith(".py"):
                runpy.run_path(words[1], run_name="__main__")
            else:
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if stop.code not in (0, None):
            raise ValueError(f"{where}: {' '.join(words)}\n{told.getvalue()}{said.getvalue()}{stop.code}") from stop
    finally:
        sys.argv = before
    return said.getvalue()


def _process(words: list[str], folder: Path, command: Command) -> str:
    called = [sys.executable, "-m", *words]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path.strip(os.pathsep)}
    done = subprocess.run(called, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{command.block.where}: {command.line}\n{done.stdout}{done.stderr}")
    return done.stdout
