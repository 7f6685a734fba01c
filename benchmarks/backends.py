"""Roll-outs through any backend, against the backend's own raw generation of the same prompts and lengths.

A roll-out is what a trainer does: a vector environment of N dialogues, whose agent is spoken by the model, one batched
call per turn; all of its time counts, that of environment, partner, templates, tokenizer and texts too. Every batch
it asked for is noted, and then generated again, greedily, each prompt to the length of its reply, in the barest way:

* transformers: ``model.generate`` on the batch, padded on the left (``raw_generation.Replay``);
* vLLM: one ``LLM.generate`` on the token ids, without log-probabilities, with vLLM's own texts or without;
* a server: one request per prompt, as many at a time, posted and read by aiohttp alone.

Both begin each repeat with empty caches and may keep what they like from turn to turn. Repeats play different
dialogues; ratios are taken repeat by repeat. Rates are by wall time; where the model runs in this process, the ratio
by CPU time is fairer on a busy machine.

``python -m dialog_gym.benchmarks.backends --lm hf:NAME_OR_PATH --rows 32 64``; with ``--prefix pca`` (or another map)
the roll-out is steered by random actions, while raw generation knows no prefix.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks import command
from dialog_gym.env import DialogueVectorEnv
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, Messages, Sampling, Session
from dialog_gym.lm.speaker import Speaker
from dialog_gym.runs import versions

AIM = 0.85


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        lm: Spec of the language model.
        rows: Dialogues in parallel, one measurement each.
        steps: Turns of all rows in one repeat.
        repeats: How often both are timed; medians count.
        max_tokens: Longest reply.
        prefix: Map that steers the roll-out; empty: unsteered.
        observer: Model whose states the map needs, where ``lm`` has none.
        threads: Torch threads in this process; 0 leaves them as they are.
        json: Print JSON.
    """

    lm: str = "tiny-bargain"
    rows: tuple[int, ...] = (32, 64)
    steps: int = 8
    repeats: int = 5
    max_tokens: int = 32
    prefix: str = ""
    observer: str = ""
    threads: int = 0
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.rows or min(*self.rows, self.steps, self.repeats, self.max_tokens) < 1:
            raise ValueError(f"rows, steps, repeats and max_tokens must be at least 1, got {self}")


class Asked(NamedTuple):
    """Replies that were asked for together: the chats, and tokens per reply."""

    prompts: list[Messages]
    lengths: list[int]


class Rate(NamedTuple):
    """Tokens of replies per second."""

    wall: float
    cpu: float


class Line(NamedTuple):
    """Roll-out against one way of raw generation; tokens per second by wall time, and tokens per prompt and reply."""

    rows: int
    way: str
    rollout: float
    raw: float
    ratio: float
    cpu_ratio: float | None
    prompt: float
    reply: float

    @property
    def met(self) -> bool:
        """Whether the aim is met, by CPU time where that can be told."""
        return (self.ratio if self.cpu_ratio is None else self.cpu_ratio) >= AIM


Raw = Callable[[Sequence[Asked]], Callable[[], int]]
"""Prepares raw generation of what was asked; the job it returns does it and tells how many tokens it made."""


class Recorder:
    """A session that notes what is asked of the one below."""

    def __init__(self, session: Session) -> None:
        """Note what is asked of ``session``."""
        self.session = session
        self.asked: list[Asked] = []
        self._prompts: dict[int, Messages] = {}

    def read(self, rows: Sequence[int], prompts: Sequence[Messages]) -> Any:
        """Read ``prompts``."""
        self._prompts.update(zip(rows, prompts, strict=True))
        return self.session.read(rows, prompts)

    def write(self, rows: Sequence[int], sampling: Sampling, **options: Any) -> Any:
        """Reply, and note how long the replies are."""
        said = self.session.write(rows, sampling, **options)
        self.asked.append(Asked([self._prompts[row] for row in rows], [len(one.tokens) for one in said]))
        return said

    def forget(self, rows: Sequence[int] | None = None) -> None:
        """Forget."""
        self.session.forget(rows)


class Rollout:
    """Dialogues that are played again and again, from other seeds each time."""

    def __init__(self, settings: Settings, lm: LanguageModel, rows: int) -> None:
        """Make ``rows`` dialogues in which ``lm`` speaks."""
        self.settings, self.rows = settings, rows
        self.env = DialogueVectorEnv(Bargain(), rows, autoreset_mode="disabled")
        with mock.patch.object(
            lm, "session", lambda *args, session=lm.session, **more: Recorder(session(*args, **more))
        ):
            self.speaker = Speaker(
                self.env.task,
                lm,
                rows,
                prefix=settings.prefix or None,
                sampling=Sampling(settings.max_tokens),
                observer=settings.observer or None,
            )
        self.recorder: Any = self.speaker.session
        size = 0 if self.speaker.prefix is None else self.speaker.prefix.action_size
        self.actions = np.random.default_rng(0).uniform(-1, 1, (settings.steps, rows, size)).astype(np.float32)

    def play(self, seed: int) -> int:
        """Play from ``seed``; return the number of tokens that were said."""
        self.recorder.asked = []
        self.speaker.forget()
        self.env.reset(seed=seed)
        every = range(self.rows)
        for actions in self.actions:
            said = self.speaker.speak(every, self.env.dialogues, actions if self.speaker.prefix else None)
            _, _, terminated, truncated, _ = self.env.step(said)
            if (over := terminated | truncated).any():
                self.env.reset(options={"reset_mask": over})
        return sum(sum(batch.lengths) for batch in self.recorder.asked)


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values."""
    lm = load(settings.lm)
    with torch_threads(settings.threads):
        lines = [line for rows in settings.rows for line in _compare(settings, lm, rows)]
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "lines": [{**line._asdict(), "met": line.met} for line in lines],
    }


def _compare(settings: Settings, lm: LanguageModel, rows: int) -> list[Line]:
    """Return a line for each way of raw generation."""
    rollout = Rollout(settings, lm, rows)
    ways, empty = raw_ways(lm, rows)
    pairs: dict[str, list[tuple[Rate, Rate]]] = {name: [] for name in ways}
    asked: list[Asked] = []
    for repeat in range(settings.repeats + 1):
        empty()
        ours = _rate(partial(rollout.play, 1000 * repeat))
        asked = rollout.recorder.asked
        for name, way in ways.items():
            job = way(asked)
            empty()
            theirs = _rate(job)
            if repeat:  # the first one warms up
                pairs[name].append((ours, theirs))
    sizes = [len(ids) for batch in asked for ids in _token_ids(lm, batch)]
    lengths = [length for batch in asked for length in batch.lengths]
    means = (statistics.mean(sizes) if sizes else 0.0, statistics.mean(lengths))
    return [Line(rows, name, *_medians(found, in_process(lm)), *means) for name, found in pairs.items()]


def _medians(pairs: Sequence[tuple[Rate, Rate]], here: bool) -> tuple[float, float, float, float | None]:
    ours, theirs = (statistics.median(rate.wall for rate in rates) for rates in zip(*pairs, strict=True))
    by_wall = statistics.median(a.wall / b.wall for a, b in pairs)
    return ours, theirs, by_wall, statistics.median(a.cpu / b.cpu for a, b in pairs) if here else None


def _rate(job: Callable[[], int]) -> Rate:
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = job()
    return Rate(tokens / (time.perf_counter() - wall), tokens / (time.process_time() - cpu))


# Raw generation, by backend.


def raw_ways(lm: LanguageModel, rows: int) -> tuple[dict[str, Raw], Callable[[], None]]:
    """Return the ways of raw generation that the backend of ``lm`` has, and what empties its caches.

    Raises:
        ValueError: The backend is not known here.
    """
    kind, backend = type(lm).__name__, lm  # by name, so that no backend is imported that is not used
    if kind == "TransformersLM":
        return _transformers_ways(backend)
    if kind == "VllmLM":
        return _vllm_ways(backend)
    if kind == "OpenAILM":
        return {"requests": lambda asked: lambda: asyncio.run(_post_all(backend, asked, rows))}, lambda: None
    raise ValueError(f"raw generation is not known for a {kind}")


def in_process(lm: Any) -> bool:
    """Return whether the model works in this process, on its CPU."""
    kind = type(lm).__name__
    if kind == "VllmLM":
        from vllm.platforms import current_platform

        return bool(current_platform.is_cpu()) and type(lm.engine.llm_engine.engine_core).__name__ == "InprocClient"
    return kind == "TransformersLM" and lm.device.type == "cpu"


def _transformers_ways(lm: Any) -> tuple[dict[str, Raw], Callable[[], None]]:
    from dialog_gym.benchmarks.raw_generation import Batch, Replay

    def generate(asked: Sequence[Asked]) -> Callable[[], int]:
        return Replay(lm, [Batch(_token_ids(lm, batch), batch.lengths) for batch in asked]).generate

    return {"model.generate": generate}, lm.memory.clear


def _vllm_ways(lm: Any) -> tuple[dict[str, Raw], Callable[[], None]]:
    from vllm import SamplingParams

    def way(detokenize: bool) -> Raw:
        def prepare(asked: Sequence[Asked]) -> Callable[[], int]:
            batches = [
                (
                    [{"prompt_token_ids": ids} for ids in _token_ids(lm, batch)],
                    [
                        SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True, detokenize=detokenize)
                        for length in batch.lengths
                    ],
                )
                for batch in asked
            ]

            def job() -> int:
                outputs = [lm.engine.generate(*batch, use_tqdm=False) for batch in batches]
                return sum(len(one.outputs[0].token_ids) for batch in outputs for one in batch)

            return job

        return prepare

    return {"LLM.generate, texts": way(True), "LLM.generate, ids": way(False)}, lm.engine.reset_prefix_cache


async def _post_all(lm: Any, asked: Sequence[Asked], rows: int) -> int:
    """Post what was asked, batch by batch, all prompts of a batch at a time; return the tokens generated."""
    import aiohttp

    salt = str(time.time_ns())  # nothing of what the server remembers is used, as in the roll-out of other dialogues
    connector = aiohttp.TCPConnector(limit=rows)
    async with aiohttp.ClientSession(connector=connector) as client:

        async def post(prompt: Any, length: int) -> int:
            path, what = ("completions", "prompt") if isinstance(prompt[0], int) else ("chat/completions", "messages")
            body = {"model": lm.model, what: prompt, "max_tokens": length, "temperature": 0}
            if "logprobs" in lm.supports:  # a vLLM server
                body |= {"ignore_eos": True, "cache_salt": salt}
            async with client.post(f"{lm.url}/{path}", json=body) as response:
                response.raise_for_status()
                return int((await response.json())["usage"]["completion_tokens"])

        tokens = 0
        for batch in asked:
            pairs = zip(_token_ids(lm, batch) or batch.prompts, batch.lengths, strict=True)
            tokens += sum(await asyncio.gather(*(post(prompt, length) for prompt, length in pairs)))
        return tokens


def _token_ids(lm: Any, batch: Asked) -> list[list[int]]:
    """Return the prompts as token ids; none where only the server knows them."""
    embedder = getattr(lm, "embedder", None)
    chat = getattr(lm, "chat", None) if embedder is None else embedder.chat
    return [] if chat is None else list(chat.encode(batch.prompts))


def show(report: dict[str, Any], console: Console) -> None:
    """Print ``report`` as a table."""
    settings = report["settings"]
    steered = f", steered by {settings['prefix']!r}" if settings["prefix"] else ""
    table = Table(
        "rows", "raw generation", "roll-out", "raw", "ratio", "by CPU", "met", box=box.SIMPLE, pad_edge=False
    )
    for line in report["lines"]:
        rates = (f"{line['rollout']:,.0f}", f"{line['raw']:,.0f}", f"{line['ratio']:.2f}")
        by_cpu = "" if line["cpu_ratio"] is None else f"{line['cpu_ratio']:.2f}"
        table.add_row(str(line["rows"]), line["way"], *rates, by_cpu, "yes" if line["met"] else "NO")
    console.print(f"{settings['lm']}{steered}: tokens of replies per second", soft_wrap=True)
    console.print(table)
    last = report["lines"][-1]
    console.print(f"Tokens on average: prompt {last['prompt']:.0f}, reply {last['reply']:.1f}. Aim: ratio >= {AIM}.")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("backends", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
