"""Judging through an API: what its faults do to the scores, and what it costs a vector environment.

Both runs speak HTTP to a server on loopback. It scores a dialogue by a hash of what it is shown, so that every score
that arrives can be checked: a score that nobody gave is found.

* *faults*: a judged ``Bargain-v0`` is played while a share of the requests is answered with 429, 500, a cut
  connection, nothing (time-out), a body that is no JSON, or a judge that says something else than a verdict. A step
  whose judge fails for good is taken again. Then the same evaluation runs once more with the same answer file.
* *overhead*: every turn of every row is judged by a server that takes 50 ms, in a process of its own. The floor is
  the latency, once per step of all rows; an aim stands beside it. In turn with the steps, as many requests of the
  same size go through bare sockets: what the machine and the server take of it, whoever asks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from gymnasium.vector import VectorEnv, VectorWrapper
from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.api_server import ApiServer, Request
from dialog_gym.env import Info
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm import load
from dialog_gym.rewards.judge import Judge
from dialog_gym.rewards.judge_prompt import score_prompt
from dialog_gym.rewards.rubric import GOAL
from dialog_gym.rollout import Episode, make_rows, oracle_policy, play

ENV = "dialog_gym/Bargain-v0"
KINDS = ("429", "500", "cut", "timeout", "malformed", "nonsense")
AIM = 1.3  # times the latency
WARM_UP = 3  # steps that are not counted
SAID = "I would offer a little more than that, please, because I have seen a few of these go for less."


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        dialogues: How many are judged in the fault run.
        rows: Dialogues in parallel.
        faults: Share of requests that fail, all kinds alike.
        timeout: Seconds after which a request that is not answered is sent again.
        latency: Seconds the server takes in the overhead run.
        steps: Judged steps in the overhead run.
        json: Print JSON.
    """

    dialogues: int = 1000
    rows: int = 32
    faults: float = 0.2
    timeout: float = 1.0
    latency: float = 0.05
    steps: int = 60
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("dialogues", "rows", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.faults < 1.0:
            raise ValueError(f"faults must be at least 0 and below 1, got {self.faults}")
        if not (self.timeout > 0.0 and self.latency > 0.0):
            raise ValueError(f"timeout and latency must be positive, got {self.timeout} and {self.latency}")


class TakenAgain(VectorWrapper[Any, Any, Any, Any, Any]):
    """Takes a step again whose judge has failed: no dialogue has changed then.

    Attributes:
        errors: What was said each time.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], times: int = 20) -> None:
        """Give up after ``times`` failures of one step."""
        super().__init__(env)
        self.times = times
        self.errors: list[str] = []

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Step the dialogues."""
        for _ in range(self.times):
            try:
                return self.env.step(actions)
            except LanguageModelError as error:
                self.errors.append(str(error))
        return self.env.step(actions)


class Faults:
    """What goes wrong with a share of the requests, all kinds alike, whatever their order.

    Attributes:
        counts: How often each kind did.
    """

    def __init__(self, share: float) -> None:
        """Let ``share`` of the requests fail."""
        self.share = share
        self.counts = Counter(dict.fromkeys(KINDS, 0))
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> str | None:
        """Return what goes wrong with ``request``."""
        draws = request.draws(0)
        if draws.uniform() >= self.share:
            return None
        kind = draws.choice(KINDS)
        with self._lock:
            self.counts[kind] += 1
        return kind


def fair_score(shown: str) -> int:
    """Return the score of a dialogue as it is shown to the judge, the same whenever it is asked for."""
    return int.from_bytes(blake2b(shown.encode(), digest_size=4).digest(), "little") % 11


def judge_of(body: Mapping[str, Any]) -> str:
    """Answer a request like a judge; what was said of an earlier answer does not count."""
    shown = body["messages"][-1]["content"].partition("\n\nAn earlier answer")[0]
    return json.dumps({"reasoning": "so it is", "goal": fair_score(shown)})


def fault_run(settings: Settings) -> dict[str, Any]:
    """Play judged dialogues while requests fail, and check every score."""
    faults = Faults(settings.faults)
    with tempfile.TemporaryDirectory() as folder, ApiServer(judge_of, faults=faults) as server:
        options = f"concurrency={settings.rows}&timeout={settings.timeout}&attempts=10&backoff=0.05"
        spec = f"openai:judge@{server.url}?{options}&cache={Path(folder, 'answers.sqlite')}"
        first = _judged(spec, settings)
        again = _judged(spec, settings)
        return {
            **first,
            "answered": {"well": server.counts["requests"] - faults.counts.total(), **faults.counts},
            "again": {name: again[name] for name in ("requests", "from the file", "lost", "invented", "seconds")},
        }


def _judged(spec: str, settings: Settings) -> dict[str, Any]:
    """Play with the judge ``spec``; return what came of it."""
    lm = load(spec)
    lm.counts.reset()
    rows = TakenAgain(make_rows(ENV, min(settings.rows, settings.dialogues), {"judge": Judge(lm)}))
    begun = time.perf_counter()
    episodes = [episode for _, episode in play(oracle_policy(rows), rows, settings.dialogues)]
    return {
        "dialogues": settings.dialogues,
        "lost": settings.dialogues - len({episode.seed for episode in episodes}),
        "invented": sum(not _honest(episode) for episode in episodes),
        "requests": lm.counts.requests,
        "from the file": lm.counts.hits,
        "sent again": dict(lm.counts.retries),
        "steps taken again": len(rows.errors),
        "seconds": time.perf_counter() - begun,
    }


def _honest(episode: Episode) -> bool:
    """Return whether the rewards of ``episode`` are those that the server gave."""
    *before, last = episode.rewards
    return not any(before) and last == fair_score(score_prompt(episode.dialogue, GOAL, "end").user)


def overhead_run(settings: Settings) -> dict[str, Any]:
    """Judge every turn of every row, and compare the time of a step with the latency of the server."""
    with _served(settings.latency) as url:
        lm = load(f"openai:judge@{url}?concurrency={settings.rows}")
        judged = make_rows(ENV, settings.rows, {"judge": Judge(lm, when="turn"), "max_turns": 2})
        plain = make_rows(ENV, settings.rows, {"max_turns": 2})
        with BareRequests(url, settings.rows) as bare:
            took = [
                (*_step(judged, step), *_step(plain, step), bare.send()) for step in range(WARM_UP + settings.steps)
            ]
        asked = lm.counts.requests
    wall, cpu, alone, _, floor = zip(*took[WARM_UP:], strict=True)
    return {
        "rows": settings.rows,
        "latency": settings.latency,
        "step": statistics.median(wall),
        "step at best": min(wall),
        "step without judge": statistics.median(alone),
        "bare requests": statistics.median(floor),
        "cpu per request": statistics.median(cpu) / settings.rows,
        "requests per step": asked / len(took),
        "ratio": statistics.median(wall) / settings.latency,
        "ratio at best": min(wall) / settings.latency,
        "ratio to bare requests": statistics.median(wall) / statistics.median(floor),
        "aim": AIM,
        "load average": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def _step(rows: VectorEnv[Any, Any, Any], step: int) -> tuple[float, float]:
    """Return wall and CPU seconds of one step of dialogues that have just begun."""
    rows.reset(seed=rows.num_envs * step)
    texts = [f"{SAID} {step}.{row}" for row in range(rows.num_envs)]
    wall, cpu = time.perf_counter(), time.process_time()
    rows.step(texts)
    return time.perf_counter() - wall, time.process_time() - cpu


class BareRequests:
    """The least there is to do for answers: write to open sockets, read what comes."""

    def __init__(self, url: str, rows: int) -> None:
        """Open ``rows`` connections to ``url``."""
        address = urlsplit(url)
        content = [{"role": "system", "content": "x" * 1000}, {"role": "user", "content": "x" * 600}]
        body = json.dumps({"model": "judge", "messages": content}).encode()
        head = f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: api\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._sockets = [socket.create_connection((address.hostname, address.port)) for _ in range(rows)]

    def send(self) -> float:
        """Send a request on each connection and wait for all answers; return the seconds it took."""
        begun = time.perf_counter()
        for one in self._sockets:
            one.sendall(self._request)
        for one in self._sockets:
            _read_answer(one)
        return time.perf_counter() - begun

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        for one in self._sockets:
            one.close()


def _read_answer(connection: socket.socket) -> None:
    """Read one answer whole."""
    got = b""
    while not (found := re.search(rb"Content-Length: (\d+).*?\r\n\r\n", got, re.DOTALL)) or len(got) < (
        found.end() + int(found[1])
    ):
        if not (part := connection.recv(65536)):
            raise ConnectionError("the server has closed the connection")
        got += part


@contextmanager
def _served(latency: float) -> Iterator[str]:
    """Serve the judge in a process of its own, as an API would; yield its URL."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, latency), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("stop")
        process.join()


def _serve(pipe: Connection, latency: float) -> None:
    with ApiServer(judge_of, latency=latency) as server:
        pipe.send(server.url)
        pipe.recv()


def measure(settings: Settings) -> dict[str, Any]:
    """Measure both; return them as JSON values."""
    return {"settings": asdict(settings), "faults": fault_run(settings), "overhead": overhead_run(settings)}


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print ``report`` as tables."""
    faults, overhead = report["faults"], report["overhead"]
    console.print(
        f"{faults['dialogues']} judged dialogues in {faults['seconds']:.1f} s: {faults['lost']} lost, "
        f"{faults['invented']} with a score that the judge did not give, "
        f"{faults['steps taken again']} steps taken again"
    )
    table = Table("", "answered so by the server", "sent again by the client", box=None, pad_edge=False)
    for kind, count in faults["answered"].items():
        table.add_row(kind, str(count), str(faults["sent again"].get(_CLIENT.get(kind, kind), "")))
    console.print(table)
    again = faults["again"]
    console.print(
        f"the same once more: {again['requests']} requests, {again['from the file']} answers from the file, "
        f"{again['lost']} lost, {again['invented']} invented, {again['seconds']:.1f} s\n"
    )
    met = "yes" if overhead["ratio"] < overhead["aim"] else "NO"
    console.print(
        f"a judged step of {overhead['rows']} rows takes {1e3 * overhead['step']:.1f} ms (median; at best "
        f"{1e3 * overhead['step at best']:.1f}), {overhead['ratio']:.2f} times the latency of "
        f"{1e3 * overhead['latency']:.0f} ms (at best {overhead['ratio at best']:.2f}); aim below {overhead['aim']}: "
        f"{met}.\nBare requests take {1e3 * overhead['bare requests']:.1f} ms (the step is "
        f"{overhead['ratio to bare requests']:.2f} times that), the step without judge "
        f"{1e3 * overhead['step without judge']:.2f} ms; {1e3 * overhead['cpu per request']:.2f} ms of CPU per "
        f"request. Load average {overhead['load average']}"
    )


_CLIENT = {"cut": "connection"}  # what the client calls it


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("judge", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
