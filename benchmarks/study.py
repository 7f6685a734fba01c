"""The study of Sodhi et al. 2023 (arXiv:2307.12425) as one command, on any corpus of dialogues.

Corpus -> contexts -> base language model -> candidates -> scores -> tf, tf_all, tf_top, dt, ilql -> responses on
held-out contexts, and what they are worth. Every stage leaves its result in one folder and is not computed again:

    contexts.jsonl   turns of the agent, drawn from the dialogues to learn from and from the held-out ones
    people/          the dialogues to learn from, as episodes
    base/            the base model, a small one built here from ``people``, unless ``lm`` names another
    candidates.jsonl per training context what the person said, and ``n`` responses of the base model
    speed.json       candidates per second beside transformers' ``generate``
    scores.jsonl     their likeness to the person's response, and the reward: 1 above ``threshold``, else 0
    rankings/        contexts with scored candidates, the data of tf_all, tf_top, dt and ilql; human/ that of tf
    runs/            training
    said-*, measured-*.jsonl, evaluation_*.csv, took-*.json: held-out responses, what they score, and the time
    worth-*.jsonl    what ILQL thinks these responses are worth
    report.json, table.md, best_of_*.png, first_*.png

The file of each stage begins with its settings and the hashes of the files it is made of; a folder of other settings
is refused. The same command goes on where it was killed. What is drawn follows from seed and context.

What is as in the paper: the person's response is candidate 0 and has reward 1 without being scored; the reward is
strict, score > .6 of BERTScore's F1, rescaled; greedy first, then ``k`` - 1 others; best of the first k; the rows
``ilql by V`` and ``dt by V`` have the same responses in the order of ILQL's V, the highest first. Deviations:

1. The base model is trained here, or any other. ``tf`` goes on from it with the persons' responses, as long as the
   other methods; its own row is ``base``.
2. ``bertscore`` is rescaled by what random pairs of responses of this corpus score, with all-MiniLM-L6-v2 (extra
   ``semantic``). Where that is not installed, ``fallback`` takes its place, a lexical metric, and the report says so.
3. Candidates are sampled by default (``by="beam"``: transformers' beam search, which is theirs). All candidates of a
   context are different; they had six, here there are fewer where the model always says the same.
4. A context is as many of the newest turns as the model reads; there, 96 tokens.
5. METEOR without synonyms; perplexity is the base model's, in nats; no BLEURT.

``dialog-gym study camrest FILE --out runs/study``
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dialog_gym import checkpoint
from dialog_gym.agent import agent_spec, parse
from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks import study_scores as scores
from dialog_gym.benchmarks import study_speech as speech
from dialog_gym.benchmarks.study_data import PARTS, Context, Source, lines, read_contexts, write_rankings
from dialog_gym.benchmarks.study_report import plot, shown
from dialog_gym.benchmarks.study_settings import METHODS, Settings
from dialog_gym.benchmarks.study_speech import How, Voice
from dialog_gym.data.used import content_hash
from dialog_gym.lm import load
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.rewards.encoders import encoder_folder

log = logging.getLogger("dialog_gym")

BASE = "base"
HUMAN = "human"


class Study:
    """The stages of one study, each of which goes on from the results of those before.

    Attributes:
        settings: What is studied.
        metric: What scores candidates here.
        notes: What a reader of the report must know.
    """

    def __init__(self, settings: Settings) -> None:
        """Find out what can be measured here."""
        self.settings, self.out = settings, settings.out
        self.metric, self.notes = settings.metric, list[str]()
        if settings.metric == "bertscore":
            try:
                encoder_folder(settings.encoder)
            except ModuleNotFoundError:
                self.metric = settings.fallback
                self.notes.append(
                    f"no encoder is installed: candidates are scored by {settings.fallback}, which is lexical"
                )

    # --- stages -----------------------------------------------------------------------------------

    def contexts(self) -> tuple[list[Context], list[Context]]:
        """Return the contexts to learn from, and those held out."""
        one = self.settings
        source = Source(one.corpus, one.path, one.splits, one.skip_bad, one.options)
        counts = dict(zip(PARTS, (one.contexts, one.held_out), strict=True))
        found = read_contexts(self.out, source, counts, one.seed)
        train, heldout = ([context for context in found if context.part == part] for part in PARTS)
        return train, heldout

    def base(self) -> str:
        """Return the spec of the base model, which is built from the dialogues to learn from unless it was named."""
        if self.settings.lm:
            return self.settings.lm
        from dialog_gym.lm import speaker_build, speaker_corpus

        people = speaker_corpus.Source("", str(self.out / "people"))
        speaker_build.build(
            speaker_build.Options(
                people, self.out / BASE, progress=self.settings.progress, **{"minutes": 10.0, **self.settings.lm_args}
            )
        )
        return str(self.out / BASE)

    def candidates(self, train: Sequence[Context], lm: TransformersLM) -> list[list[tuple[str, str]]]:
        """Return of each context the person's response and those of the base model, as (text, source).

        A context whose newest turn is longer than the model can read has none.
        """
        one, voice = self.settings, Voice(lm)
        how = How(one.by, one.n, one.max_tokens, one.temperature)

        def make(some: Sequence[Context]) -> list[list[tuple[str, str]]]:
            fits = [voice.fits(context.dialogue, one.max_tokens) for context in some]
            read = [context for context, good in zip(some, fits, strict=True) if good]
            said = iter(speech.candidates(voice, [c.dialogue for c in read], [c.reference for c in read], how))
            return [
                [(context.reference, HUMAN), *((text, BASE) for text in next(said))] if good else []
                for context, good in zip(some, fits, strict=True)
            ]

        config = {"contexts": self._hash("contexts.jsonl"), "lm": _named(lm), "how": vars(how)}
        found = lines(self.out / "candidates.jsonl", config, train, make, one.chunk)
        if not (path := self.out / "speed.json").exists():
            readable = [context.dialogue for context, texts in zip(train, found, strict=True) if texts]
            checkpoint.write_json(path, speech.speed(voice, readable[: one.chunk], how))
        return [[(text, source) for text, source in texts] for texts in found]

    def baseline(self, train: Sequence[Context]) -> list[float] | None:
        """Return what random pairs of responses score by BERTScore, None where that is not used."""
        used = {"bertscore", "click"} & {*self.settings.metrics, self.metric}
        try:
            encoder_folder(self.settings.encoder)
        except ModuleNotFoundError:
            return None
        if not used:
            return None
        references = [context.reference for context in train[:500]]
        config = {"contexts": self._hash("contexts.jsonl"), "encoder": self.settings.encoder, "pairs": len(references)}
        encoder, seed = self.settings.encoder, self.settings.seed
        found: list[list[float]] = lines(
            self.out / "baseline.jsonl", config, [None], lambda _: [scores.baseline_of(references, encoder, seed)]
        )
        return found[0]

    def judge(self, names: Sequence[str], train: Sequence[Context], lm: TransformersLM) -> scores.Judge:
        """Return what measures responses."""
        baseline = self.baseline(train)
        return scores.Judge(
            names, lm, encoder=self.settings.encoder, baseline=baseline, threshold=self.settings.threshold
        )

    def rewards(
        self, train: Sequence[Context], said: Sequence[Sequence[tuple[str, str]]], judge: scores.Judge
    ) -> list[list[float]]:
        """Return the reward of each candidate; the person's is 1 and never scored. Rankings are written."""
        one = self.settings

        def make(some: Sequence[tuple[Context, Sequence[tuple[str, str]]]]) -> list[dict[str, list[float]]]:
            texts = [[text for text, _ in candidates[1:]] for _, candidates in some]
            found = judge.measure(self.metric, [context for context, _ in some], texts)
            rows = [[1.0, *raw] if candidates else [] for raw, (_, candidates) in zip(found, some, strict=True)]
            return [{"score": row, "reward": [self._reward(value) for value in row]} for row in rows]

        config = {"candidates": self._hash("candidates.jsonl"), "metric": self.metric, "threshold": one.threshold}
        if self.metric == "bertscore":
            config |= {"baseline": self._hash("baseline.jsonl")}
        config |= {"graded": one.graded}
        pairs = list(zip(train, said, strict=True))
        found = lines(self.out / "scores.jsonl", config, pairs, make)
        rewards = [row["reward"] for row in found]
        meta = {"metric": self.metric, "scores": self._hash("scores.jsonl")}
        write_rankings(self.out / "rankings", train, said, rewards, meta)
        write_rankings(self.out / HUMAN, train, [texts[:1] for texts in said], [row[:1] for row in rewards], meta)
        return rewards

    def _reward(self, score: float) -> float:
        return score if self.settings.graded else float(score > self.settings.threshold)

    def train(self, method: str, seed: int, lm: str) -> Any:
        """Return the agent of one run, trained now unless it is there."""
        one, spec = self.settings, agent_spec(method)
        binary: dict[str, dict[str, Any]] = {"tf_top": {"threshold": 1.0}, "dt": {"edges": (1.0,), "target": 1.0}}
        more = {} if one.graded else binary.get(method, {})
        args = {
            "env": "",
            "lm": lm,
            "data": (str(self.out / (HUMAN if method == "tf" else "rankings")),),
            "out": str(self.out / "runs" / f"{method}-{seed}"),
            "steps": one.steps,
            "seed": seed,
            "empty": "skip",
            "max_tokens": one.max_tokens,
            "track": "none",
            "progress": one.progress,
        }
        return spec.train(spec.args(**{**args, **more, **one.agent_args.get(method, {})}))

    def evaluate(
        self, name: str, voice: Voice, about: Any, heldout: Sequence[Context], judge: scores.Judge
    ) -> dict[str, list[list[float]]]:
        """Return what the responses of ``voice`` score by metric, (contexts, k); they are written as CSV too.

        Args:
            name: Of the method and its seed.
            voice: Who answers.
            about: What determines who that is, JSON.
            heldout: Where.
            judge: What measures.
        """
        one, cpu, wall = self.settings, time.process_time(), time.perf_counter()
        how = How(one.by, one.k - 1, one.max_tokens, one.temperature)
        config = {"contexts": self._hash("contexts.jsonl"), "who": about, "how": vars(how)}
        path, measured = self.out / f"said-{name}.jsonl", self.out / f"measured-{name}.jsonl"
        new = not measured.exists()
        said = lines(
            path, config, heldout, lambda some: speech.responses(voice, [c.dialogue for c in some], how), one.chunk
        )

        def measure(some: Sequence[tuple[Context, Sequence[str]]]) -> list[dict[str, list[float]]]:
            contexts, texts = [context for context, _ in some], [those for _, those in some]
            by_metric = {metric: judge.measure(metric, contexts, texts) for metric in judge.known}
            return [{metric: rows[row] for metric, rows in by_metric.items()} for row in range(len(some))]

        config = {"said": content_hash(path), "metrics": list(judge.known), "threshold": one.threshold}
        rows = lines(measured, config, list(zip(heldout, said, strict=True)), measure)
        numbers = {metric: [row[metric] for row in rows] for metric in judge.known}
        if new:
            took = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
            checkpoint.write_json(self.out / f"took-{name}.json", {"contexts": len(heldout), **took})
        scores.write_csv(self.out / f"evaluation_{name}.csv", heldout, said, numbers)
        return numbers

    def by_value(
        self, name: str, numbers: scores.Numbers, seed: int, spec: str, heldout: Sequence[Context]
    ) -> dict[str, list[list[float]]]:
        """Return ``numbers``, what the responses of ``name`` score, with responses in the order of ILQL's V."""
        agent, path = self.train("ilql", seed, spec), self.out / f"said-{name}.jsonl"
        said = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[1:-1]]
        worth = lines(
            self.out / f"worth-{name}.jsonl",
            {"said": content_hash(path), "by": self._about("ilql", seed)},
            list(zip(heldout, said, strict=True)),
            lambda some: speech.worth(agent, [one.dialogue for one, _ in some], [texts for _, texts in some]),
            self.settings.chunk,
        )
        return scores.ordered(numbers, worth)

    def _hash(self, name: str) -> str:
        return content_hash(self.out / name)

    # --- all of them ------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Do what is missing, and return the report; a method that fails is told there, and the rest goes on."""
        one = self.settings
        train, heldout = self.contexts()
        spec = self.base()
        lm = load(spec)
        if not isinstance(lm, TransformersLM):
            raise ValueError(f"a study trains its base model, so it must be one of transformers, got {spec!r}")
        said = self.candidates(train, lm)
        judge = self.judge(tuple(dict.fromkeys((self.metric, *one.metrics))), train, lm)
        rewards = self.rewards(train, said, judge)
        judge.known = tuple(name for name in judge.known if name in one.metrics)
        if missing := [name for name in one.metrics if name not in judge.known]:
            self.notes.append(f"not measured, since not installed: {', '.join(missing)}")
        readable = [context for context in heldout if Voice(lm).fits(context.dialogue, one.max_tokens + 1)]
        if left := len(heldout) - len(readable):
            self.notes.append(f"{left} held-out contexts have a turn that is too long to be read, and are left out")
        found: dict[str, dict[int, scores.Numbers]] = {}
        found[BASE] = {0: self.evaluate(BASE, Voice(lm), _named(lm), readable, judge)}
        failed = []
        for seed in range(1, one.seeds + 1):
            for method in one.methods:
                try:
                    found.setdefault(method, {})[seed] = self._method(method, seed, spec, readable, judge)
                except Exception:
                    log.exception("%s, seed %d, failed; the others go on", method, seed)
                    failed.append(f"{method}-{seed}")
            done = {method for method in one.methods if f"{method}-{seed}" not in failed}
            for method in sorted(done & {"dt", "ilql"}) if one.k > 1 and "ilql" in done else ():
                numbers = self.by_value(f"{method}-{seed}", found[method][seed], seed, spec, readable)
                found.setdefault(f"{method} by V", {})[seed] = numbers
        return self._report(found, said, rewards, failed, len(readable))

    def _method(
        self, method: str, seed: int, spec: str, heldout: Sequence[Context], judge: scores.Judge
    ) -> dict[str, list[list[float]]]:
        agent = self.train(method, seed, spec)
        return self.evaluate(f"{method}-{seed}", Voice(agent), self._about(method, seed), heldout, judge)

    def _about(self, method: str, seed: int) -> str:
        return content_hash(self.out / "runs" / f"{method}-{seed}" / "config.json")

    def _report(
        self,
        found: Mapping[str, scores.BySeed],
        said: Sequence[Sequence[tuple[str, str]]],
        rewards: Sequence[Sequence[float]],
        failed: Sequence[str],
        heldout: int,
    ) -> dict[str, Any]:
        counts = [len(texts) for texts in said if texts]
        others = [reward for row in rewards for reward in row[1:]]
        seeds = range(1, self.settings.seeds + 1)
        names = [BASE, *(f"{name}-{seed}" for name in METHODS if name in found for seed in seeds)]
        took = {name: _read(path) for name in names if (path := self.out / f"took-{name}.json").exists()}
        report = {
            "scored_by": self.metric,
            "notes": self.notes,
            "contexts": {"train": len(counts), "heldout": heldout, "too_long": len(said) - len(counts)},
            "candidates": {
                "mean_per_context": float(np.mean(counts)),
                "with_all": float(np.mean([count == self.settings.n + 1 for count in counts])),
                "reward_of_the_model": float(np.mean(others)) if others else None,
                "speed": _read(self.out / "speed.json"),
            },
            "evaluation": took,
            "failed": list(failed),
            "lines": [line._asdict() for line in scores.table(found)],
            "gains": [line._asdict() for line in scores.gains(found, "tf")],
        }
        checkpoint.write_json(self.out / "report.json", report)
        checkpoint.write_text(self.out / "table.md", shown(report) + "\n")
        if self.settings.plot:
            plot(report, self.out)
        return report


def _named(lm: TransformersLM) -> dict[str, Any]:
    """Return what tells one model's weights from another's as far as its embeddings do, as JSON values."""
    found: dict[str, Any] = json.loads(json.dumps({"name": lm.name, **lm.fingerprint()}))
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m dialog_gym.benchmarks.study") -> int:
    """Do what is missing and show the report; return the exit status, 1 if a method failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog=prog)
    settings.out.mkdir(parents=True, exist_ok=True)
    with torch_threads(1):
        report = Study(settings).run()
    sys.stdout.write((json.dumps(report, indent=2) if settings.json else shown(report)) + "\n")
    return int(bool(report["failed"]))


if __name__ == "__main__":
    sys.exit(main())
