"""Training on preferences: what a small model learns of people's preferences, how fast, and whether it can be killed.

* *accuracy*: a small Llama with a vocabulary of the corpus learns to say the chosen answers of HH-RLHF's helpful pairs
  (``tf_top``), then DPO on the pairs. Share of held-out pairs in which the policy's log-ratio to the reference is
  higher for the chosen answer, before and after; beside it the share in which the chosen answer is the longer one.
* *speed*: pairs per CPU second of ``dialog_gym.agents.dpo.train`` and of TRL's ``DPOTrainer.train`` on the same pairs,
  tokens, batches and optimiser settings, in turn, in one thread. Each is run with few and with many steps: the
  difference is what pairs cost, the reference's pass included, without the set-up. TRL keeps the reference beside the
  policy (its default), or asks it beforehand, as we do.
* *kills*: a run is killed (SIGKILL) at random moments and started again until it ends; its weights are compared with
  those of a run that nobody killed.

``python -m dialog_gym.benchmarks.preference_training --data .../helpful-base.test.jsonl.gz``
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from dialog_gym.agents import dpo, tf
from dialog_gym.agents.lm_network import load_model
from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks import command
from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.rankings import Ranking
from dialog_gym.lm.tiny_corpus import chat_text, train_tokenizer
from dialog_gym.lm.tiny_training import new_llama
from dialog_gym.rewards.reward_model import quiet
from dialog_gym.rollout import wilson

AIM = 0.95  # of TRL's pairs per second
SHARED = (
    "data", "env", "limit", "held_out", "epochs", "batch", "max_tokens", "empty", "eval_every", "checkpoint_every",
    "seed", "track", "progress", "device",
)  # fmt: skip
"""Settings that the two trainings have in common; both hold out the same pairs."""


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        data: A file of pairs in HH-RLHF's format.
        limit: Most pairs; 0: all.
        width: Hidden size of the model.
        layers: Of the model.
        vocabulary: Most tokens.
        context: Longest chat in tokens.
        held_out: Share of the pairs that nothing is learned from.
        epochs: Passes over the pairs, of both trainings.
        batch: Pairs per update.
        beta: Of DPO.
        lr: Of DPO.
        speed_steps: Updates of each speed run; 0: none.
        repeats: Speed runs of each.
        kills: Runs that are killed.
        seed: All randomness.
        json: Print JSON.
    """

    data: Path = Path("../shared/data/hh_rlhf/helpful-base.test.jsonl.gz")
    limit: int = 0
    width: int = 128
    layers: int = 3
    vocabulary: int = 2000
    context: int = 256
    held_out: float = 0.2
    epochs: float = 1.0
    batch: int = 16
    beta: float = 0.1
    lr: float = 3e-4
    speed_steps: int = 24
    repeats: int = 2
    kills: int = 3
    seed: int = 1
    json: bool = False


def measure(settings: Settings) -> dict[str, Any]:
    """Return what the module docstring names."""
    with tempfile.TemporaryDirectory() as place, torch_threads(1):
        folder = Path(place)
        args = _args(settings, folder)
        base = _base(settings, folder)
        args = replace(args, lm=base)
        report: dict[str, Any] = {"settings": {**asdict(settings), "data": settings.data.name}}
        report["accuracy"] = accuracy(args)
        if settings.speed_steps:
            report["speed"] = speed(replace(args, epochs=0.0, steps=settings.speed_steps), settings.repeats)
        if settings.kills:
            report["kills"] = [
                killed(replace(args, epochs=0.0, steps=16, limit=200), n) for n in range(settings.kills)
            ]
    return report


# --- the model ------------------------------------------------------------------------------------


def _args(settings: Settings, folder: Path) -> dpo.Args:
    return dpo.Args(
        data=(f"corpus:hh_rlhf:{settings.data}",),
        env="",
        limit=settings.limit,
        held_out=settings.held_out,
        epochs=settings.epochs,
        batch=settings.batch,
        beta=settings.beta,
        lr=settings.lr,
        max_tokens=64,
        empty="skip",
        eval_every=10**9,
        checkpoint_every=50,
        seed=settings.seed,
        out=str(folder / "dpo"),
        track="none",
        progress=False,
        device="cpu",
    )


def _base(settings: Settings, folder: Path) -> str:
    """Return a model that has learned to say what was chosen in the pairs that are not held out."""
    texts = []
    for row in read_corpus("hh_rlhf", str(settings.data)):
        if isinstance(row, Ranking):
            texts.append(chat_text([*map(dict, row.messages), {"role": "assistant", "content": row.candidates[-1]}]))
    tokenizer = train_tokenizer(texts, (), settings.vocabulary, settings.context)
    torch.manual_seed(settings.seed)
    model = new_llama(tokenizer, settings.width, settings.layers, 4, seed=settings.seed, context=settings.context)
    model.save_pretrained(folder / "random")
    tokenizer.save_pretrained(folder / "random")
    shared = {name: getattr(_args(settings, folder), name) for name in SHARED}
    place: dict[str, Any] = {"lm": f"hf:{folder / 'random'}", "out": str(folder / "base")}
    tf.train_top(tf.TopArgs(**shared, **place, threshold=1.0, best="none", lr=2e-3))
    return f"hf:{folder / 'base' / 'agent' / 'model'}"


# --- accuracy -------------------------------------------------------------------------------------


def accuracy(args: dpo.Args) -> dict[str, Any]:
    """Return how often held-out pairs are told right, before training, after it, and by length alone."""
    begin = time.process_time()
    dpo.train(args)
    last = json.loads((Path(args.out) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    seconds = time.process_time() - begin
    training = dpo.Training(dpo.DPO, args)
    count = len(training.held_rows)
    share = last["eval/rewards/accuracies"]
    return {
        "pairs": len(training.train_rows),
        "held_out": count,
        "accuracy": share,
        "interval": wilson(round(share * count), count),
        "on_training_pairs": last["train/rewards/accuracies"],
        "loss": last["eval/loss"],
        "longer_is_chosen": statistics.fmean(len(row.chosen) > len(row.rejected) for row in training.held_rows),
        "likelier_is_chosen": statistics.fmean(row.reference[0] > row.reference[1] for row in training.held_rows),
        "cpu_seconds": seconds,
    }


# --- speed ----------------------------------------------------------------------------------------


def speed(args: dpo.Args, repeats: int) -> dict[str, Any]:
    """Return pairs per CPU second of our command and of TRL's trainer, each run in turn."""
    args = replace(args, held_out=0.0, checkpoint_every=10**9)
    rows = [replace(row, reference=()).example() for row in dpo.Training(dpo.DPO, replace(args, steps=1)).train_rows]
    runs: dict[str, Callable[[dpo.Args], object]] = {
        "dialog_gym": dpo.train,
        "trl": lambda told: direct(told, rows),
        "trl, reference beforehand": lambda told: direct(told, rows, beforehand=True),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            few = args.steps // 4
            spent = [_seconds(run, replace(args, steps=steps)) for steps in (few, args.steps)]
            found[name].append((args.steps - few) * args.batch / (spent[1] - spent[0]))
    means = {name: statistics.fmean(values) for name, values in found.items()}
    return {
        "pairs_per_second": means,
        "all": found,
        "of_trl": means["dialog_gym"] / means["trl"],
        "of_trl_beforehand": means["dialog_gym"] / means["trl, reference beforehand"],
        "aim": AIM,
    }


def _seconds(run: Callable[[dpo.Args], object], args: dpo.Args) -> float:
    with tempfile.TemporaryDirectory() as place:
        begin = time.process_time()
        run(replace(args, out=f"{place}/run"))
        return time.process_time() - begin


class Direct(DPOTrainer):
    """TRL's trainer as it is, on rows that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *settings: Any) -> Dataset:
        return dataset


def direct(args: dpo.Args, rows: Sequence[Mapping[str, Any]], *, beforehand: bool = False) -> None:
    """Train with TRL's trainer alone; ``beforehand`` asks the reference before training."""
    model, tokenizer = load_model(args.lm, "float32", "cpu")
    config = DPOConfig(
        output_dir=args.out,
        per_device_train_batch_size=args.batch,
        max_steps=args.steps,
        learning_rate=args.lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(args.warmup * args.steps),
        beta=args.beta,
        bf16=False,
        gradient_checkpointing=False,
        max_length=None,
        use_cpu=True,
        logging_steps=args.log_every,
        save_strategy="no",
        precompute_ref_log_probs=beforehand,
        report_to=[],
        disable_tqdm=True,
        seed=args.seed,
    )
    reference = None if beforehand else load_model(args.lm, "float32", "cpu")[0]
    data = Dataset.from_list([dict(row) for row in rows[: args.steps * args.batch]])
    with quiet():
        trainer = Direct(model=model, ref_model=reference, args=config, train_dataset=data, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


# --- kills ----------------------------------------------------------------------------------------


def killed(args: dpo.Args, number: int) -> dict[str, Any]:
    """Return whether a run that is killed at a random moment ends with the weights of one that is not."""
    args = replace(args, checkpoint_every=3, log_every=1, eval_every=0)
    with tempfile.TemporaryDirectory() as place:
        whole = dpo.train(replace(args, out=f"{place}/whole"))
        told = replace(args, out=f"{place}/killed")
        process = multiprocessing.get_context("fork").Process(target=dpo.train, args=(told,))
        process.start()
        steps = Path(told.out) / "metrics.jsonl"
        moment = random.Random(f"{args.seed} {number}").randrange(1, args.steps - 1)
        while process.is_alive() and not (steps.exists() and len(steps.read_bytes().splitlines()) >= moment):
            time.sleep(0.001)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        at = len(steps.read_bytes().splitlines())
        ended = dpo.train(told)
    theirs = dict(whole.network.named_parameters())
    equal = all(torch.equal(value, theirs[name]) for name, value in ended.network.named_parameters())
    return {"killed_in_step": at + 1, "steps": args.steps, "same_weights": equal}


# --- the command ------------------------------------------------------------------------------------


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report."""
    found = report["accuracy"]
    table = Table(
        title=f"Held-out pairs told right ({found['held_out']} of HH-RLHF helpful; {found['pairs']} learned)"
    )
    for name in ("judge", "share"):
        table.add_column(name)
    low, high = found["interval"]
    table.add_row("DPO", f"{found['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
    table.add_row("likelier under the model before", f"{found['likelier_is_chosen']:.3f}")
    table.add_row("longer", f"{found['longer_is_chosen']:.3f}")
    console.print(table)
    if "speed" in report:
        found = report["speed"]
        table = Table(title=f"Pairs per CPU second ({found['of_trl']:.2f} of TRL's; aim {found['aim']})")
        for name in ("trainer", "pairs/s", "runs"):
            table.add_column(name)
        for name, value in found["pairs_per_second"].items():
            table.add_row(name, f"{value:.1f}", " ".join(f"{one:.1f}" for one in found["all"][name]))
        console.print(table)
    for one in report.get("kills", []):
        same = "the same weights" if one["same_weights"] else "OTHER WEIGHTS"
        console.print(f"killed in step {one['killed_in_step']} of {one['steps']}, resumed: {same}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure with the settings in ``argv`` and print."""
    command.run("preference_training", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
