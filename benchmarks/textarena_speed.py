"""Utterances per second beside TextArena's own local agent: the same games, the same model, one run, one thread.

TextArena's ``SimpleNegotiation-v0`` is played by a random half-million-parameter Llama against itself, greedily,
at most 24 tokens an utterance; utterances differ in length. Four ways take the same games:

* ``HFLocalAgent``: TextArena's agent, one dialogue after another, since it takes one observation at a time.
* ours, one by one: our language model in its place, without memory.
* ours, batched: all dialogues in step, one call per turn, without memory.
* ours, batched, remembering: the same with what has been computed of each chat kept between calls.

All ways must say the same, word for word; otherwise the benchmark fails. A game is the environment as TextArena
ships it; with ``--heard`` players also see what was said (its ``LLMObservationWrapper``), which the environment
hides. *Prefilled* counts the prompt tokens fed to the network per utterance. TextArena's pipeline samples unless
it is told not to, and it is told here. Needs ``pip install 'dialog-gym[bench]'``.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.exchange import textarena
from dialog_gym.benchmarks.random_model import PLAIN_TEMPLATE, save_random_model
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.runs import versions


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        dialogues: How many are played, in parallel where that is possible.
        rounds: Utterances of each player.
        tokens: Longest utterance.
        repeats: How often each way runs; medians count.
        heard: Let players see what was said.
        json: Print JSON.
    """

    dialogues: tuple[int, ...] = (1, 8, 16, 32)
    rounds: int = 6
    tokens: int = 24
    repeats: int = 3
    heard: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if min(self.rounds, self.tokens, self.repeats, *self.dialogues, len(self.dialogues)) < 1:
            raise ValueError(f"dialogues, rounds, tokens and repeats must all be at least 1, got {self}")


Transcripts = list[list[str]]


class Played(NamedTuple):
    """One run: who said what in each dialogue, how long it took, what was fed."""

    said: Transcripts
    cpu: float
    wall: float
    prefilled: int


Speak = Callable[[list[str]], list[str]]
"""Answers observations."""


def games(settings: Settings, count: int) -> list[Any]:
    """Return ``count`` games that have begun, the same ones every time."""
    ta = textarena()
    found = []
    for seed in range(count):
        if settings.heard:
            env = ta.make("SimpleNegotiation-v0-raw", max_turns=2 * settings.rounds - 1)  # it plays one more
            env = ta.wrappers.ActionFormattingWrapper(ta.wrappers.LLMObservationWrapper(env))
        else:
            env = ta.make("SimpleNegotiation-v0", max_turns=2 * settings.rounds - 1)  # it plays one more
        random.seed(seed)  # the environment draws from the global generator
        env.reset(num_players=2, seed=seed)
        found.append(env)
    return found


def play(envs: Sequence[Any], speak: Speak) -> Transcripts:
    """Play ``envs`` in step until all have ended; return what was said in each."""
    said: Transcripts = [[] for _ in envs]
    live = list(range(len(envs)))
    while live:
        texts = speak([envs[i].get_observation()[1] for i in live])
        for i, text in zip(live, texts, strict=True):
            said[i].append(text)
        live = [i for i, text in zip(live, texts, strict=True) if not envs[i].step(text)[0]]
    return said


class Contest:
    """The ways to play, over one model."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Load the model of ``folder`` for both sides."""
        self.settings = settings
        self.theirs = textarena().agents.HFLocalAgent(
            str(folder), device="cpu", max_new_tokens=settings.tokens, hf_kwargs={}
        )
        self.theirs.pipeline.generation_config.do_sample = False
        self.forgetful = TransformersLM.from_pretrained(folder, device="cpu", memory_bytes=0)
        self.remembering = TransformersLM.from_pretrained(folder, device="cpu")
        self.fed = 0
        self.theirs.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def ways(self) -> dict[str, Callable[[int], Played]]:
        """Return what plays a number of dialogues, by name."""
        return {
            "HFLocalAgent": self._play_theirs,
            "ours, one by one": lambda count: self._play_ours(self.forgetful, count, alone=True),
            "ours, batched": lambda count: self._play_ours(self.forgetful, count),
            "ours, batched, remembering": lambda count: self._play_ours(self.remembering, count),
        }

    def _play_theirs(self, count: int) -> Played:
        envs = games(self.settings, count)
        self.fed = 0
        begun = time.process_time(), time.perf_counter()
        said = [play([env], lambda texts: [self.theirs(texts[0])])[0] for env in envs]
        return Played(said, time.process_time() - begun[0], time.perf_counter() - begun[1], self.fed)

    def _play_ours(self, lm: TransformersLM, count: int, *, alone: bool = False) -> Played:
        sampling = Sampling(self.settings.tokens)

        def speak(texts: list[str]) -> list[str]:
            prompts = [[{"role": "user", "content": f"{self.theirs.system_prompt}\n{text}"}] for text in texts]
            return [reply.text for reply in lm.generate(prompts, sampling)]

        envs = games(self.settings, count)
        lm.memory.clear()
        lm.counts.reset()
        begun = time.process_time(), time.perf_counter()
        said = [play([env], speak)[0] for env in envs] if alone else play(envs, speak)
        return Played(said, time.process_time() - begun[0], time.perf_counter() - begun[1], lm.counts.prefilled)

    def _count(self, _model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        tokens = kwargs["input_ids"].shape[1]
        self.fed += tokens if tokens > 1 else 0


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values.

    Raises:
        RuntimeError: Two ways said different things.
    """
    logging.set_verbosity_error()
    rows = []
    with TemporaryDirectory() as folder, torch_threads(1):
        save_random_model(Path(folder), template=PLAIN_TEMPLATE, end_every=20)
        contest = Contest(settings, Path(folder))
        for way in contest.ways().values():
            way(1)  # warms up
        for count in settings.dialogues:
            rows += _rows(contest, count, settings.repeats)
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "rows": rows,
    }


def _rows(contest: Contest, count: int, repeats: int) -> list[dict[str, Any]]:
    runs: dict[str, list[Played]] = {name: [] for name in contest.ways()}
    for _ in range(repeats):
        for name, way in contest.ways().items():
            runs[name].append(way(count))
    wanted = runs["HFLocalAgent"][0].said
    utterances = sum(map(len, wanted))
    rows: list[dict[str, Any]] = []
    for name, found in runs.items():
        for played in found:
            if played.said != wanted:
                _complain(name, played.said, wanted)
        cpu = statistics.median(utterances / played.cpu for played in found)
        wall = statistics.median(utterances / played.wall for played in found)
        first = rows[0] if rows else {"cpu": cpu, "wall": wall}
        rows.append(
            {
                "dialogues": count,
                "way": name,
                "utterances": utterances,
                "cpu": cpu,
                "wall": wall,
                "times_cpu": cpu / first["cpu"],
                "times_wall": wall / first["wall"],
                "prefilled": found[0].prefilled / utterances,
            }
        )
    return rows


def _complain(name: str, said: Transcripts, wanted: Transcripts) -> None:
    where = next(i for i, (mine, theirs) in enumerate(zip(said, wanted, strict=True)) if mine != theirs)
    raise RuntimeError(
        f"{name} played dialogue {where} otherwise than HFLocalAgent: {said[where]!r:.200} instead of "
        f"{wanted[where]!r:.200}"
    )


def show(report: dict[str, Any], console: Console) -> None:
    """Print ``report`` as a table."""
    table = Table("dialogues", "", "utterances/s", "times", "by wall time", "prefilled/utterance", box=box.SIMPLE)
    for row in report["rows"]:
        figures = (f"{row['cpu']:.0f}", f"{row['times_cpu']:.2f}", f"{row['wall']:.0f}", f"{row['prefilled']:.0f}")
        table.add_row(str(row["dialogues"]), row["way"], *figures)
    console.print(table)
    console.print("All ways said the same. Utterances/s and times by CPU time, medians.")
    console.print(f"load average at the end: {report['load_average']}", highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("textarena_speed", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
