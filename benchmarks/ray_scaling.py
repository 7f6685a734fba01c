"""Workers against one process: the same episodes, how long they take, and a worker killed in the middle.

``python -m dialog_gym.benchmarks.ray_scaling`` plays the same seeds in this process, by each number of workers, and
once more while a worker is killed by SIGKILL. ``start`` is until every worker has its environment and its model,
``wall`` from then to the last episode; ``cpu`` is what all processes together used in that time. The content hash is
that of ``dialog-gym collect``: equal hashes are equal episodes in equal order.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from rich.console import Console

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.statistics import markdown_table
from dialog_gym.data import Episodes, Recorded
from dialog_gym.data.collect import Setting, working
from dialog_gym.distributed import Cluster, Pool, connected
from dialog_gym.distributed.parts import Part, in_order, parts_of

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"  # in /proc/net/tcp


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    env: str = "dialog_gym/Bargain-v0"
    """Environment."""
    policy: str = "lm-sampled"
    """Policy, as in ``dialog-gym collect``."""
    lm: str = "tiny"
    """Language model, one in each worker."""
    episodes: int = 256
    """Episodes of each measurement."""
    rows: int = 16
    """Dialogues in parallel, in each worker; and episodes in a part."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers; the last is measured with a kill too."""
    kill_after: int = 2
    """Parts that have come in when a worker is killed."""
    json: bool = False
    """Print JSON."""


def measure(settings: Settings) -> dict[str, Any]:
    """Return one row for each measurement, and where the cluster listened."""
    setting = Setting(settings.policy, settings.env, {}, settings.rows, settings.lm)
    parts = parts_of([(0, settings.episodes)], 0, settings.rows)
    began = time.perf_counter()
    work: Any = working(setting, None)
    rows = [_timed("no Ray", time.perf_counter() - began, ((part, work(part)) for part in parts))]
    with connected(Cluster(workers=max(settings.workers))):
        for workers in settings.workers:
            rows.append(_with_workers(setting, parts, workers))
        rows.append(_with_workers(setting, parts, settings.workers[-1], settings.kill_after))
        listens = sorted(listening(descendants(os.getpid())))
    return {"config": settings.__dict__ | {"workers": list(settings.workers)}, "rows": rows, "listens": listens}


def _with_workers(setting: Setting, parts: Sequence[Part], workers: int, kill_after: int = 0) -> dict[str, Any]:
    make: Any = partial(working, setting, None)
    began = time.perf_counter()
    with Pool(make, Cluster(workers=workers)) as pool:
        list(pool.run([None] * workers))  # an item for each: now all have their model
        start = time.perf_counter() - began
        found = in_order(pool, parts)
        name = f"{workers} workers"
        if not kill_after:
            return _timed(name, start, found)
        return {**_timed(f"{name}, one killed", start, _killing(found, kill_after)), "lost": pool.lost}


def _killing(found: Iterator[tuple[Part, list[Recorded]]], after: int) -> Iterator[tuple[Part, list[Recorded]]]:
    for number, one in enumerate(found, start=1):
        yield one
        if number == after:
            os.kill(next(pid for pid in descendants(os.getpid()) if b"::_Worker" in _command(pid)), signal.SIGKILL)


def _timed(name: str, start: float, found: Iterator[tuple[Part, list[Recorded]]]) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory() as folder, Episodes.writing(folder) as writer:
        seeds = []
        for _, episodes in found:
            writer.extend(episodes)
            seeds += [episode.seed for episode in episodes]
        content_hash = writer.content_hash
    return {
        "name": name,
        "start": start,
        "wall": time.perf_counter() - wall,
        "cpu": cpu_seconds() - cpu,
        "load": os.getloadavg()[0],
        "episodes": len(seeds),
        "double": len(seeds) - len(set(seeds)),
        "content_hash": content_hash,
    }


def descendants(pid: int) -> list[int]:
    """Return the processes that ``pid`` has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents.setdefault(int(_fields(int(path.name))[1]), []).append(int(path.name))
        except (OSError, IndexError):
            continue  # it has ended meanwhile
    found = list(parents.get(pid, []))
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_seconds() -> float:
    """Return the CPU time that this process and all that it started have used so far, as far as they still run."""
    total = 0.0
    for pid in [os.getpid(), *descendants(os.getpid())]:
        try:
            total += sum(int(ticks) for ticks in _fields(pid)[11:13]) / _TICKS
        except (OSError, IndexError):
            continue
    return total


def listening(pids: Sequence[int]) -> set[str]:
    """Return the addresses at which processes accept TCP connections (Linux)."""
    inodes: set[str] = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTENING and f"socket:[{words[9]}]" in inodes:
                found.add(_address(words[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    """Return an address of ``/proc/net/tcp``, which is written as numbers of 32 bits in the order of this machine.

    >>> _address("0100007F"), _address("0000000000000000FFFF00000100007F")
    ('127.0.0.1', '127.0.0.1')
    """
    numbers = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    packed = b"".join(socket.htonl(number).to_bytes(4, "big") for number in numbers)
    found = ip_address(packed)
    return str((found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found)


def _fields(pid: int) -> list[str]:
    """Return what stands in ``/proc/PID/stat`` behind the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def show(report: dict[str, Any], console: Console) -> None:
    """Print a Markdown table."""
    alone = report["rows"][0]
    head = ("played by", "start s", "wall s", "against no Ray", "CPU s", "load", "episodes", "double", "lost", "hash")
    rows = [
        (
            *(row["name"], f"{row['start']:.1f}", f"{row['wall']:.1f}", f"{row['wall'] / alone['wall']:.2f}"),
            *(f"{row['cpu']:.1f}", f"{row['load']:.1f}", f"{row['episodes']}", f"{row['double']}"),
            *(f"{row.get('lost', 0)}", row["content_hash"][:8]),
        )
        for row in report["rows"]
    ]
    console.print(markdown_table(head, rows, "l" * len(head)))
    console.print(f"It listened at {', '.join(report['listens'])}.")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("ray_scaling", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
