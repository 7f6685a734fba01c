"""What ``dialog_gym.benchmarks.study`` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dialog_gym.benchmarks import study_scores as scores
from dialog_gym.benchmarks import study_speech as speech
from dialog_gym.errors import unknown

METHODS = ("tf", "tf_all", "tf_top", "dt", "ilql")


@dataclass(frozen=True)
class Settings:
    """What is studied.

    Attributes:
        corpus: Format of the corpus.
        path: Its file or folder.
        out: Folder of all stages.
        options: Options of its reader, as JSON.
        splits: Its own splits to learn from and to be tested on; none: 70 and 30 percent, by a hash.
        skip_bad: Leave out damaged records.
        contexts: Contexts to learn from.
        held_out: Contexts to be tested on.
        lm: The base model; "": one that is built.
        lm_args: How it is built (``speaker_build.Options``), as JSON.
        n: Candidates per context beside the person's.
        by: Candidates and responses are samples, or beams.
        temperature: Of samples.
        max_tokens: Longest response in tokens.
        metric: What scores candidates: bertscore, bleu, chrf, meteor or overlap.
        encoder: Encoder of bertscore: semantic, or a folder.
        fallback: Lexical metric where there is no encoder.
        threshold: The reward is 1 above it.
        graded: The reward is the score itself.
        methods: What is trained.
        steps: Updates.
        seeds: Seeds 1, 2, ... of training.
        agent_args: Further settings by method, as JSON.
        k: Responses per held-out context.
        metrics: What is measured; what is not installed is left out, and the report says so.
        seed: Of all that is drawn besides.
        chunk: Contexts that are answered together.
        plot: Write images (needs matplotlib).
        json: Print JSON.
        progress: Show progress bars.
    """

    corpus: Annotated[str, tyro.conf.Positional]
    path: Annotated[str, tyro.conf.Positional]
    out: Path = Path("runs/study")
    options: dict[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    skip_bad: bool = False
    contexts: int = 2000
    held_out: int = 1000
    lm: str = ""
    lm_args: dict[str, Any] = field(default_factory=dict)
    n: int = 5
    by: speech.By = "sample"
    temperature: float = 1.0
    max_tokens: int = 32
    metric: str = "bertscore"
    encoder: str = "semantic"
    fallback: Literal["overlap", "chrf", "bleu", "meteor"] = "overlap"
    threshold: float = 0.6
    graded: bool = False
    methods: tuple[str, ...] = METHODS
    steps: int = 300
    seeds: int = 1
    agent_args: dict[str, Any] = field(default_factory=dict)
    k: int = 5
    metrics: tuple[str, ...] = scores.METRICS
    seed: int = 1
    chunk: int = 64
    plot: bool = True
    json: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        scoring = ("bertscore", *scores.LEXICAL)
        for what, names, known in (
            ("method", (*self.methods, *self.agent_args), METHODS),
            ("metric", self.metrics, scores.METRICS),
            ("metric", (self.metric,), scoring),
        ):
            for name in names:
                if name not in known:
                    raise unknown(what, name, known)
        for name in ("contexts", "held_out", "n", "steps", "seeds", "k", "chunk", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.splits) not in (0, 2):
            raise ValueError(f"splits are two, to learn from and to be tested on, or none; got {self.splits}")
