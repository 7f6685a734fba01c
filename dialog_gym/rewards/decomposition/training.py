"""Learn a reward per utterance from one score per conversation, a local signal, or both: ``dialog-gym fit reward``.

Methods (``learner.METHODS``): ``geli`` (lambda * global + (1 - lambda) * local loss), ``rrd`` and ``rrd-unbiased``
(K turns of each conversation at a time), ``ircr`` (R / T for every turn), ``rudder`` (differences of predictions),
``regression`` (R from the sum over all turns), ``li`` (the local signal alone).

Differences from the published code of GELI, beside those that ``losses``, ``turns`` and ``model`` tell:

1. One stage: the head learns both losses at once from the beginning, and the encoder is not tuned to the signal first
   (``tune`` tunes it to the whole loss).
2. Scores and signals are learned in standard units (``scores="standard"``): a turn's reward has about unit spread,
   and the mean score is a constant. ``scores="raw"`` learns them as they are.
3. Conversations are split by a hash of their name, so both sides of one talk are on one side. Half of those held out
   choose the head (the lowest loss, without dropout, over all turns), the others report on it.
4. A turn without a signal (None) counts for no local loss, where the published code takes it for neutral.

What is read of a turn matters as much as the method. ``utterances=20`` is GELI's, as is to read no ``answer``. With
few conversations less context is better, and an answer tells what a turn did: from 200 conversations of 40 turns of
``Chat-v0``, the reward of a bag of words went with the truth at .38 by ``utterances=2, answer=True``, at .25 by 20 and
the answer, and at .17 without the answer. What came up long ago is not seen then: compare ``truth/pearson``, or
``eval/global_loss`` where no truth is known, before you choose.
"""

from __future__ import annotations

import json
import logging
import math
import mimetypes
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dialog_gym.data.corpora.spec import CORPUS, parse_corpus
from dialog_gym.rewards.decomposition import conversations
from dialog_gym.rewards.decomposition.conversations import Conversation, Read, Wanted
from dialog_gym.rewards.decomposition.learner import LOCAL, METHODS, SAMPLED, Link, Method
from dialog_gym.rewards.decomposition.model import HeadName, HeadSpec, Reading, Scale, TurnModel
from dialog_gym.runs import RunFolder
from dialog_gym.tracking import progress_bar

log = logging.getLogger("dialog_gym")

NO_EFFECT = ("out", "keep", "track", "progress", "cache", "threads", "device")
"""Settings that leave the numbers alone, and may change from start to start of one run."""


@dataclass(frozen=True)
class Args:
    """What to learn from, and how."""

    episodes: str = ""
    """Folder of episodes, or corpus:NAME:PATH?OPTION=VALUE."""
    out: str = "runs/reward"
    """Run folder. The same command started again goes on there."""
    method: Method = "geli"
    """How the score is decomposed."""
    local: str = ""
    """Local signal of geli and li: the name of a column of the episodes (affect), vader, faces, classifier:FOLDER."""
    weight: float = 0.5
    """GELI's lambda: weight of the global loss, in [0, 1]. The local loss has the rest."""
    link: Link = "same"
    """GELI: the reward itself is the signal (same), or the signal is a learned shift + gain * reward (fitted)."""
    k: int = 0
    """Turns drawn of a conversation per update; 0: half the mean for rrd and rrd-unbiased (at least 2), else all."""
    replacement: bool = False
    """Draw turns with replacement."""
    score: Literal["score", "return"] = "score"
    """What is decomposed: the score of the dialogue as a whole, or the sum of its rewards."""
    score_range: tuple[float, float] | None = None
    """What a score may be; any other is an error."""
    scores: Literal["standard", "raw"] = "standard"
    """Learn scores and signals in standard units, or as they are."""
    min_turns: int = 2
    """Agent turns that a conversation needs."""
    skip_bad: bool = False
    """Leave out and count conversations that cannot be used."""
    encoder: str = "bag"
    """Who reads turns: bag, tiny, semantic, a folder, ..."""
    pool: Literal["last", "mean", "both"] = "last"
    """What of a model's states: at the last token, the mean over all, or both."""
    notation: str = ""
    """Environment whose notation is read; the tiny models know no other. auto: that of the first episode."""
    utterances: int = 20
    """Most utterances that are read, the response included; 20 as in GELI. Few conversations teach more about turns
    that are read with less before them: try 2."""
    answer: bool = False
    """Read the partner's answer to the turn too, on top of utterances. GELI does not; where an answer tells what the
    turn was worth, it helps much. While a dialogue is played, the reward of a turn comes after the answer."""
    max_tokens: int = 1024
    """Most tokens that are read."""
    tune: bool = False
    """Tune the encoder too. Nothing is cached then."""
    tune_learning_rate: float = 5e-6
    """Of the encoder, as in GELI."""
    cache: str = ""
    """Folder of encodings; "": encodings in the user's cache."""
    head: Literal["auto", "mlp", "geli", "lstm"] = "auto"
    """Network on the encodings; auto: lstm for rudder, else mlp."""
    hidden: int = 0
    """Width of the head; 0: mlp 64, geli 128, lstm 16."""
    dropout: float = 0.0
    """On the head's hidden layer; GELI has 0.2."""
    steps: int = 1000
    """Updates."""
    batch: int = 32
    """Conversations per update."""
    learning_rate: float = 3e-3
    """Of AdamW, falling linearly to 0; 5e-3 in GELI."""
    weight_decay: float = 0.01
    """Of AdamW."""
    held_out: float = 0.2
    """Share of the conversations that is not learned from: half of it chooses the best head, half reports on that."""
    seed: int = 1
    """Source of all randomness."""
    eval_every: int = 50
    """Updates between evaluations on held-out conversations."""
    checkpoint_every: int = 250
    """Updates between checkpoints."""
    keep: int = 2
    """Checkpoints to keep."""
    track: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Where metrics go besides metrics.jsonl."""
    progress: bool = True
    """Show a progress bar."""
    threads: int = 1
    """Torch threads."""
    device: str = ""
    """Where the encoder runs; "": the CPU, of language models a GPU if there is one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be learned."""
        self._check_numbers()
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method in LOCAL and not self.local:
            raise ValueError(f"method {self.method!r} needs a local signal: local='affect', 'vader', 'faces', ...")
        if self.k < 0 or (self.k == 1 and self.method in ("rrd-unbiased", "geli")):
            raise ValueError(f"k must be 0 or at least 2 (one draw tells no variance), got {self.k}")
        if self.link == "fitted" and self.method != "geli":
            raise ValueError("link='fitted' is for geli: the local signal alone does not settle its own scale")
        if self.method == "rudder" and self.head not in ("auto", "lstm"):
            raise ValueError(f"rudder learns differences of an lstm's predictions, got head={self.head!r}")
        if self.head == "lstm" and (self.method in ("rrd", "rrd-unbiased") or (self.method == "geli" and self.k)):
            raise ValueError("an lstm reads every turn and cannot learn from some: take head='mlp', or geli with k=0")
        HeadSpec(dropout=self.dropout, hidden=self.hidden)

    def _check_numbers(self) -> None:
        for name in ("steps", "batch", "eval_every", "checkpoint_every", "keep", "min_turns", "utterances"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "threads", "weight_decay", "tune_learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            raise ValueError(f"score_range must be the lowest and the highest score, got {self.score_range}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight (lambda) must be in [0, 1], got {self.weight}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a share between 0 and 1, got {self.held_out}")

    @property
    def head_spec(self) -> HeadSpec:
        """The network."""
        automatic: HeadName = "lstm" if self.method == "rudder" else "mlp"
        return HeadSpec(automatic if self.head == "auto" else self.head, self.hidden, self.dropout)

    @property
    def read_utterances(self) -> int:
        """Most utterances that are read of a dialogue; facts are counted from its beginning, so they need all."""
        return sys.maxsize if self.encoder == "facts" else self.utterances

    @property
    def wanted(self) -> Wanted:
        """What is read of the data."""
        return Wanted(
            score="none" if self.method == "li" and self.score_range is None else self.score,
            score_range=self.score_range,
            local=self.local,
            utterances=self.read_utterances,
            answer=self.answer,
            min_turns=self.min_turns,
            skip_bad=self.skip_bad,
        )


def fit_reward(args: Args) -> TurnModel:
    """Learn a reward in the run folder ``args.out``, or go on where that stands; return the best one.

    Killed at any moment and started again, it ends with the same numbers. ``result.json`` holds the metrics of the
    best head on held-out conversations that did not choose it, ``reward/`` the model (``load_reward`` takes the run
    folder too), and ``turns.json`` the rewards of their turns with signals and, in embedded worlds, true values.

    Raises:
        DatasetError: The data cannot be learned from.
        RunFolderError: The folder is of another run, or cannot be written.
        ValueError: A setting does not fit the data.
    """
    from dialog_gym.agents.loop import torch_threads
    from dialog_gym.rewards.decomposition.fitting import Fitting

    config = {"agent": "reward", **{k: v for k, v in asdict(args).items() if k not in NO_EFFECT}}
    opened = RunFolder.open(args.out, config, keep=args.keep, track=args.track, data=data_files(args.episodes))
    with torch_threads(args.threads), opened as run:
        if run.finished:
            log.info("%s has finished already; its reward is loaded", run.path)
            return TurnModel.load(run.path)
        fitting = Fitting(args, run.path)
        if last := run.last():
            log.info("%s: going on from step %d", run.path, last[0])
            fitting.restore(*last)
        with run.catching_interrupts():
            _loop(fitting, run, args)
        return _finish(fitting, run, args)


def _loop(fitting: Any, run: RunFolder, args: Args) -> None:
    with progress_bar(f"fit {args.method}", args.steps, done=fitting.step, show=args.progress) as show:
        while fitting.step < args.steps:
            fitting.advance()
            step, metrics = fitting.step, {}
            if step % args.eval_every == 0 or step == args.steps:
                metrics = {**fitting.pop_losses(), **fitting.evaluate()}
                run.log(step, metrics)
            show(step, metrics)
            if step % args.checkpoint_every == 0 or step == args.steps:
                run.save(step, *fitting.state())
                run.stop_if_interrupted(step)


def _finish(fitting: Any, run: RunFolder, args: Args) -> TurnModel:
    from dialog_gym import checkpoint

    model: TurnModel = fitting.best_model()
    metrics, turns = fitting.report()
    model.about = {"method": args.method, "metrics": metrics, "data": args.episodes.rpartition("/")[2]}
    checkpoint.write_json(run.path / "turns.json", turns)
    model.save(run.path / "reward")
    fitting.close()
    run.finish(metrics)
    return model


def data_files(source: str) -> list[str]:
    """Return the data set and files whose content a run notes.

    Of a corpus that is a folder these are all files but recordings and pictures, which no reader reads.
    """
    if not source:
        raise ValueError("expected the episodes to learn from: a folder, or corpus:NAME:PATH?OPTION=VALUE")
    if not source.startswith(CORPUS):
        return [source]
    path = Path(parse_corpus(source).path)
    if not path.is_dir():
        return [str(path)]
    return sorted(str(file) for file in path.rglob("*") if file.is_file() and not _is_recording(file))


def _is_recording(file: Path) -> bool:
    kind, _ = mimetypes.guess_type(file.name)
    return (kind or "").partition("/")[0] in ("audio", "video", "image")


def scale_of(train: Sequence[Conversation], args: Args) -> Scale:
    """Return the standard units of scores and signals, from the conversations that are learned from.

    A score has the spread of a sum of T rewards of unit spread, T the mean number of turns.

    Raises:
        ValueError: All scores or all signals are equal, or there is no signal: nothing can be learned.
    """
    scores = np.array([one.score for one in train], np.float64)
    local = np.concatenate([one.local for one in train])
    local = local[~np.isnan(local)]
    if args.method != "li" and float(scores.std()) < 1e-9:
        raise ValueError(
            f"all {len(scores)} conversations have the score {scores[0]:g}: there is nothing to decompose"
        )
    if args.method in LOCAL and (not len(local) or float(local.std()) < 1e-9):
        what = f"the value {local[0]:g} everywhere" if len(local) else "no value anywhere"
        raise ValueError(f"the local signal {args.local!r} has {what}: there is nothing to learn from it")
    if args.scores == "raw":
        return Scale()
    turns = float(np.mean([len(one.rows) for one in train]))
    offset, unit = (0.0, 1.0) if args.method == "li" else (float(scores.mean()), float(scores.std()) / turns**0.5)
    there = len(local) and float(local.std()) > 1e-9
    shift, spread = (float(local.mean()), float(local.std())) if there else (0.0, 1.0)
    if args.method == "li":
        unit = spread  # rewards in units of the signal, which is all that is known
    return Scale(offset, unit, shift, spread)


def reading_of(args: Args) -> Reading:
    """Return what is read of a turn; the notation ``auto`` is that of the first episode."""
    notation = args.notation
    if notation == "auto":
        first = next(iter(conversations.records(args.episodes, skip_bad=args.skip_bad)))
        notation = first.env.replace("Prefix-v", "-v")
    return Reading(args.encoder, args.pool, args.max_tokens, notation, args.read_utterances, args.answer)


def drawn_turns(args: Args, train: Sequence[Conversation]) -> int:
    """Return K: how many turns of a conversation an update learns from, 0 for all."""
    if args.method in ("rrd", "rrd-unbiased") and not args.k:
        return max(2, round(float(np.mean([len(one.rows) for one in train])) / 2))
    return args.k if args.method in SAMPLED else 0


def told(read: Read, train: int) -> dict[str, Any]:
    """Return what of the data is told in the result."""
    return {"conversations": train, "held_out": len(read.conversations) - train, "skipped": read.skipped}


def summary(folder: str | Path) -> dict[str, Any]:
    """Return the result of a finished run."""
    found: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    return found
