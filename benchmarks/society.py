"""Societies: what peers teach in each setting, what it costs, how fast it goes, and whether a kill loses anything.

Four parts, all on the embedded world, one thread:

* *settings*: agents on a grid, each initial setting: alignment and engagement of drafts and revisions by round, as the
  observer rates them, and how many calls an agent makes in a round (10 with 4 peers: draft, revision, 4 observers' and
  4 peers' ratings).
* *speed*: agents x rounds per minute, scripted; with the tiny language model as the agent; and with a server behind
  every role that takes ``latency`` seconds for an answer. Its floor is calls x latency / concurrency: no schedule
  can be faster. The server runs in a process of its own.
* *kills*: a society whose process is killed (SIGKILL) at random moments and started again, against one that nobody
  disturbed: every file must be the same.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.envs.society_grid import SETTINGS
from dialog_gym.envs.society_settings import Settings as Society
from dialog_gym.envs.society_simulation import Sandbox, rounds_in, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

Cell = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        agents: Members of each society.
        rounds: Rounds of each.
        questions: In the list; with fewer than rounds, questions come again.
        seeds: Societies of each setting.
        latency: Seconds that the server takes for an answer.
        concurrency: Requests under way at a time.
        api_agents: Members of the society behind the server; 0 leaves it out.
        tiny_agents: Members of the society of the tiny language model; 0 leaves it out.
        kills: How often the process is killed.
        killed_agents: Members of the society that is killed.
        killed_rounds: Its rounds.
        out: Folder of the societies; None: a temporary one.
        json: Print JSON.
    """

    agents: int = 100
    rounds: int = 10
    questions: int = 5
    seeds: int = 3
    latency: float = 0.05
    concurrency: int = 8
    api_agents: int = 64
    tiny_agents: int = 25
    kills: int = 10
    killed_agents: int = 100
    killed_rounds: int = 40
    out: Path | None = None
    json: bool = False


def measure(settings: Settings) -> Cell:
    """Measure all parts."""
    with _folder(settings.out) as folder:
        found: Cell = {"settings": taught(settings, folder)}
        found["speed"] = speeds(settings, folder)
        found["kills"] = killed(settings, folder / "kills") if settings.kills else {}
    return found


# --- settings ----------------------------------------------------------------------------------


def taught(settings: Settings, folder: Path) -> list[Cell]:
    """Return what happens in societies of each setting: by round, the mean over seeds."""
    cells = []
    for setting in SETTINGS:
        worlds, began = [], time.process_time()
        for seed in range(settings.seeds):
            own = Society(settings.agents, setting, seed, questions=settings.questions)
            worlds.append(simulate(folder / f"{setting}-{seed}", own, settings.rounds))
        calls = sum(sum(one["calls"].values()) for rounds in worlds for one in rounds)
        turns = settings.agents * settings.rounds * settings.seeds
        cell: Cell = {"setting": setting, "calls": calls / turns, "cpu": time.process_time() - began}
        for axis in ("alignment", "engagement"):
            for when in ("before", "after"):
                cell[f"{axis} {when}"] = [
                    sum(rounds[k][axis][when]["mean"] for rounds in worlds) / len(worlds)
                    for k in range(settings.rounds)
                ]
        cell["failed"] = sum(sum(one["failed"].values()) for rounds in worlds for one in rounds)
        cells.append(cell)
    return cells


# --- speed -------------------------------------------------------------------------------------


def speeds(settings: Settings, folder: Path) -> list[Cell]:
    """Return how fast societies of scripted members, of the tiny model and behind a server are played."""
    found = [_timed("scripted", Society(settings.agents, questions=settings.questions, seed=9), 3, folder / "fast")]
    if settings.tiny_agents:
        own = Society(settings.tiny_agents, prior=5, agent="tiny", max_tokens=16)
        kept = Sandbox(own)  # loads the model, which takes longer than to play
        found.append(_timed("the tiny model as the agent", own, 2, folder / "tiny"))
        del kept
    if settings.api_agents:
        with _server(settings.latency) as url:
            spec = f"openai:m@{url}?concurrency={settings.concurrency}"
            own = Society(settings.api_agents, prior=5, agent=spec, peer=spec, observer=spec)
            simulate(folder / "warm", Society(4, prior=1, agent=spec, peer=spec, observer=spec), 1)
            cell = _timed(f"a server, {settings.latency * 1000:g} ms", own, 2, folder / "api")
        cell["floor"] = cell["calls"] * settings.latency / settings.concurrency
        cell["over the floor"] = cell["wall"] / cell["floor"]
        found.append(cell)
    return found


def _timed(name: str, own: Society, rounds: int, folder: Path) -> Cell:
    wall, cpu = time.perf_counter(), time.process_time()
    found = simulate(folder, own, rounds)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    turns = own.agents * rounds
    calls = sum(sum(one["calls"].values()) for one in found)
    failed = sum(sum(one["failed"].values()) for one in found)
    per = {"agent-rounds a minute": 60 * turns / wall, "agent-rounds a CPU minute": 60 * turns / cpu}
    return {"who": name, "agents": own.agents, "rounds": rounds, "calls": calls, "failed": failed,
            "wall": wall, "cpu": cpu, **per}  # fmt: skip


@contextmanager
def _server(latency: float) -> Iterator[str]:
    """Serve a model that takes ``latency`` seconds for every answer, in a process of its own; yield its URL."""
    code = f"from dialog_gym.benchmarks.society import serve; serve({latency})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdin is not None
        assert it.stdout is not None
        try:
            yield it.stdout.readline().strip()
        finally:
            it.stdin.close()  # it ends then
            it.wait(10)


def serve(latency: float) -> None:
    """Serve ``says`` until standard input ends; print the URL first."""
    from dialog_gym.benchmarks.api_server import ApiServer

    with ApiServer(says, latency) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


def says(body: Mapping[str, Any]) -> str:
    """Answer as a member, a peer or an observer, by what is asked."""
    asked = body["messages"][-1]["content"]
    number = int.from_bytes(blake2b(asked.encode(), digest_size=2).digest(), "little")
    if "Rating: N" in asked:
        return f"Rating: {1 + number % 7} ### Reason: it is answer {number}."
    return f"Talk to them openly, because the truth matters. {number}"


# --- kills -------------------------------------------------------------------------------------


def killed(settings: Settings, folder: Path, seed: int = 0) -> Cell:
    """Kill a society at random moments, let it end, and compare it with one left alone."""
    kills, agents, rounds = settings.kills, settings.killed_agents, settings.killed_rounds
    chance, stood = random.Random(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    wounded, whole = folder / "wounded", folder / "whole"
    for _ in range(kills):
        more = chance.randint(0, max(2 * rounds // (kills + 2) - 1, 0))
        code = f"from dialog_gym.benchmarks.society import play; play({str(wounded)!r}, {agents}, {rounds})"
        _kill_one(code, wounded, min(_played(wounded) + more, rounds - 1), chance.uniform(0.0, 0.5))
        stood.append(_played(wounded))
    for world in (wounded, whole):
        simulate(world, _killed_settings(agents), rounds)
    here, there = contents(wounded), contents(whole)
    differ = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    told: Cell = {"kills": kills, "rounds at each kill": stood, "rounds": rounds, "files": len(there)}
    return {**told, "differ": differ, "same": not differ}


def _played(folder: Path) -> int:
    return rounds_in(folder) if folder.exists() else 0


def _killed_settings(agents: int) -> Society:
    return Society(agents=agents, seed=5, questions=5)


def _kill_one(code: str, folder: Path, rounds: int, seconds: float) -> None:
    """Let a process play until there are ``rounds`` rounds and ``seconds`` longer, and kill it."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as player:
        assert player.stdout is not None
        if player.stdout.readline() != "ready\n":
            raise RuntimeError("the society did not begin; see its error above")
        while _played(folder) < rounds and player.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        player.kill()


def play(folder: str, agents: int, rounds: int) -> None:
    """Play the society that is to be killed; print a line before."""
    import dialog_gym.data.rankings  # noqa: F401  what takes long to import is of no interest

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    simulate(folder, _killed_settings(agents), rounds)


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of every file of a society by its name; the lock holds nothing."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): blake2b(path.read_bytes()).hexdigest() for path in files}


# --- the report --------------------------------------------------------------------------------


def show(found: Cell, console: Console) -> None:
    """Print the tables."""
    if found["settings"]:
        rounds = len(found["settings"][0]["alignment before"])
        table = Table("setting", "axis", "", *(str(k + 1) for k in range(rounds)), "calls", title="by round")
        for cell in found["settings"]:
            for axis in ("alignment", "engagement"):
                for when in ("before", "after"):
                    numbers = [f"{value:.2f}" for value in cell[f"{axis} {when}"]]
                    table.add_row(cell["setting"], axis, when, *numbers, f"{cell['calls']:g}")
        console.print(table)
    table = Table("who", "agents x rounds", "calls", "failed", "wall s", "CPU s", "a minute", "floor s", "ratio")
    for cell in found["speed"]:
        floor = [f"{cell['floor']:.2f}", f"{cell['over the floor']:.2f}"] if "floor" in cell else ["", ""]
        table.add_row(
            cell["who"], f"{cell['agents']} x {cell['rounds']}", str(cell["calls"]), str(cell["failed"]),
            f"{cell['wall']:.2f}", f"{cell['cpu']:.2f}", f"{cell['agent-rounds a minute']:.0f}", *floor,
        )  # fmt: skip
    console.print(table)
    if found["kills"]:
        told = found["kills"]
        console.print(
            f"{told['kills']} kills, after rounds {told['rounds at each kill']} of {told['rounds']}: "
            f"{'the same world' if told['same'] else 'ANOTHER WORLD'} in all of {told['files']} files {told['differ']}"
        )


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the report."""
    command.run("society", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
