"""Build a speaker: a small Llama that talks as the people of a corpus do, from both sides.

Read the dialogues, learn a tokenizer, train (``speaker_training``), measure on held-out dialogues, write a folder that
``AutoModelForCausalLM.from_pretrained`` loads, with a card. The same command started again goes on from the last
checkpoint, or tells the report if all is done. With ``steer`` a second folder, ``FOLDER-steer``, holds a copy that is
tuned together with a prefix map (``tiny_steer``) where the task describes replies by attributes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dialog_gym import checkpoint
from dialog_gym.env import env_task
from dialog_gym.lm.build_tiny import save_model
from dialog_gym.lm.pretrained import no_bar
from dialog_gym.lm.speaker_corpus import Messages, Parts, Source, chats_of, data_hash, lessons_of, read_parts
from dialog_gym.lm.speaker_training import KIND, Lesson, Settings, Trainer, likelihood
from dialog_gym.lm.tiny_corpus import chat_text, train_tokenizer
from dialog_gym.lm.tiny_training import new_llama
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.runs import lock_folder
from dialog_gym.task import Task

REPORT = "report.json"
_UNFINISHED = "training"  # folder of the checkpoint
_TIMED = 6  # updates that are timed where a number of minutes is given


@dataclass(frozen=True)
class Options:
    """What to build.

    Attributes:
        source: The dialogues.
        out: Folder of the speaker.
        env: Id of the environment whose notation is learned, ``""`` for plain words.
        env_kwargs: Its arguments.
        steps: Updates; 0: as many as ``minutes`` or ``epochs`` say.
        minutes: CPU minutes that training should take, told by timing a few updates; 0: as ``epochs`` says. The number
            of updates is in the report; give it as ``steps`` to have the same again elsewhere.
        epochs: Passes over the chats.
        width: Hidden size.
        layers: Transformer layers.
        heads: Attention heads.
        vocabulary: Most tokens, those of the task included.
        context: Longest chat in tokens; what is longer is cut.
        batch: Chats an update.
        learning_rate: At its peak.
        bfloat16: Whether training computes in half precision.
        seed: All randomness.
        save_every: Updates between two checkpoints.
        progress: Whether to show progress.
    """

    source: Source
    out: Path
    env: str = ""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    minutes: float = 0.0
    epochs: float = 5.0
    width: int = 192
    layers: int = 4
    heads: int = 6
    vocabulary: int = 2000
    context: int = 512
    batch: int = 16
    learning_rate: float = 2e-3
    bfloat16: bool = True
    seed: int = 0
    save_every: int = 200
    progress: bool = True

    def told(self) -> dict[str, Any]:
        """Return what determines the result, but for the number of updates, as JSON."""
        free = ("out", "steps", "minutes", "epochs", "save_every", "progress")
        told: dict[str, Any] = json.loads(json.dumps({k: v for k, v in asdict(self).items() if k not in free}))
        return told


def task_of(options: Options) -> Task | None:
    """Return the task whose notation is learned, None for plain words.

    Raises:
        ValueError: The environment is not one of dialogues.
    """
    if not options.env:
        return None
    return env_task(options.env, options.env_kwargs)


def build(options: Options) -> dict[str, Any]:
    """Build the speaker, or go on; return what ``report.json`` holds.

    Raises:
        ValueError: The folder holds a speaker, or the beginning of one, that was built with other settings.
        RunFolderError: Another process builds there.
    """
    task, done = task_of(options), options.out / REPORT
    if done.exists():
        report: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        same_settings(options.told(), report["settings"], options.out)
        return report
    parts = read_parts(options.source)
    chats = list(chats_of(parts.train, task))
    known = {chat_text(chat) for chat in chats}
    other = [chat for chat in chats_of(parts.heldout, task) if chat_text(chat) not in known]
    options.out.mkdir(parents=True, exist_ok=True)
    with _locked(options.out):
        report = _train(options, task, parts, chats, other)
        checkpoint.write_json(done, report)
        shutil.rmtree(options.out / _UNFINISHED, ignore_errors=True)
    return report


def _train(
    options: Options, task: Task | None, parts: Parts, chats: list[Messages], other: list[Messages]
) -> dict[str, Any]:
    tokens = sorted(task.model_tokens) if task is not None else []
    tokenizer = train_tokenizer(map(chat_text, chats), tokens, options.vocabulary, options.context)
    lessons, test = (lessons_of(some, tokenizer, options.context, options.progress) for some in (chats, other))
    about = {**options.told(), "data": data_hash(chats)}
    trainer = _trainer(options, tokenizer, lessons, about)
    unfinished = options.out / _UNFINISHED
    trainer.run(save=lambda: trainer.save(unfinished, about), every=options.save_every, progress=options.progress)
    trainer.save(unfinished, about)
    _publish(trainer.model, tokenizer, options.out)
    saved = TransformersLM.from_pretrained(options.out)
    found = likelihood(saved.model, saved.tokenizer, test)
    report = {
        "settings": options.told(),
        "steps": trainer.settings.steps,
        "data": about["data"],
        "parts": parts.told,
        "dialogues": len(parts.train),
        "chats": len(chats),
        "tokens": sum(len(lesson.ids) for lesson in lessons),
        "cut": _cut_share(chats, lessons),
        "skipped": parts.skipped,
        "parameters": trainer.model.num_parameters(),
        "cpu_seconds": trainer.seconds,
        "threads": torch.get_num_threads(),
        "loss": sum(trainer.losses[-50:]) / len(trainer.losses[-50:]),
        "heldout": {
            "chats": len(test),
            "perplexity": found.per_token,
            "word_perplexity": found.per_word,
            "tokens": found.tokens,
            "words": found.words,
        },
    }
    _write_card(options, report)
    return report


def _trainer(
    options: Options, tokenizer: PreTrainedTokenizerFast, lessons: list[Lesson], about: Mapping[str, Any]
) -> Trainer:
    """Return a training, at the step where it was stopped."""
    unfinished, steps = options.out / _UNFINISHED, options.steps
    begun = (unfinished / checkpoint.INDEX).exists()
    if begun:
        index = checkpoint.read_index(unfinished)
        if index["kind"] != KIND:
            raise ValueError(f"{unfinished} holds no training of a speaker; choose another folder")
        same_settings(about, index["data"]["about"], options.out)
        found = int(index["data"]["settings"]["steps"])
        if steps not in (0, found):
            raise ValueError(f"{options.out} holds a training of {found} steps, not {steps}; choose another folder")
        steps = found
    elif not steps and options.minutes:
        steps = _steps_in(options, tokenizer, lessons)
    elif not steps:
        steps = max(1, round(options.epochs * len(lessons) / options.batch))
    trainer = _new_trainer(options, tokenizer, lessons, steps)
    if begun:
        trainer.load(unfinished)
    return trainer


def _new_trainer(options: Options, tokenizer: PreTrainedTokenizerFast, lessons: list[Lesson], steps: int) -> Trainer:
    model = new_llama(
        tokenizer, options.width, options.layers, options.heads, seed=options.seed, context=options.context
    )
    settings = Settings(steps, options.batch, options.learning_rate, bfloat16=options.bfloat16, seed=options.seed)
    return Trainer(model, lessons, settings)


def _steps_in(options: Options, tokenizer: PreTrainedTokenizerFast, lessons: list[Lesson]) -> int:
    """Return how many updates take ``options.minutes``, by those of a training that is thrown away."""
    timed = _new_trainer(options, tokenizer, lessons, 1 + _TIMED)
    spread = [lessons[len(lessons) * i // options.batch] for i in range(options.batch)]  # short and long ones
    timed.update(spread)
    began = time.process_time()
    for _ in range(_TIMED):
        timed.update(spread)
    return max(1, round(60 * options.minutes * _TIMED / (time.process_time() - began)))


def _publish(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model so that there is a ``config.json`` only when all else is there."""
    partial = folder / ".partial-model"
    shutil.rmtree(partial, ignore_errors=True)
    assert isinstance(model, LlamaForCausalLM)
    with no_bar():
        save_model(model, tokenizer, partial)
    for file in sorted(partial.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, folder / file.name)
    partial.rmdir()


def same_settings(wanted: Mapping[str, Any], found: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder that was begun with other settings.

    Raises:
        ValueError: One of ``wanted`` is not as ``found``.
    """
    changed = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if changed:
        name = changed[0]
        raise ValueError(
            f"{folder} was begun with other settings: {name} was {found.get(name)!r}, now {wanted.get(name)!r}; "
            "choose another folder (--out), or remove it"
        )


def _cut_share(chats: list[Messages], lessons: list[Lesson]) -> float:
    """Return the share of replies that were cut off because a chat was too long."""
    replies = sum(message["role"] == "assistant" for chat in chats for message in chat)
    return 1 - sum(len(lesson.replies) for lesson in lessons) / replies


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = lock_folder(folder, "speaker folder")
    try:
        yield
    finally:
        lock.close()


def _write_card(options: Options, report: Mapping[str, Any]) -> None:
    test = report["heldout"]
    notation = f"in the notation of {options.env}" if options.env else "in plain words"
    settings = json.dumps({**report["settings"], "steps": report["steps"]})
    figures = {
        "perplexity per token": f"{test['perplexity']:.3f}",
        "perplexity per word": f"{test['word_perplexity']:.3f}",
        "held out": f"{test['chats']:,} chats; {test['tokens']:,} tokens and {test['words']:,} words of replies, each "
        "end of turn counted as one",
        "data": f"{report['data']} (hash of the chats); {report['parts']}",
        "seed": options.seed,
        "updates": f"{report['steps']:,}",
        "training": f"{report['cpu_seconds']:.0f} CPU seconds; the same bit for bit with {report['threads']} threads "
        "on a like processor",
        "replies cut off": f"{report['cut']:.1%}",
        "bad records left out": report["skipped"],
    }
    checkpoint.write_text(
        options.out / "README.md",
        f"# {options.out.name}\n\nA small Llama ({report['parameters']:,} parameters) trained from nothing on "
        f"{report['dialogues']:,} dialogues of {options.source.corpus or 'a data set of episodes'}, told from both "
        f"sides ({report['chats']:,} chats). It learned the replies, {notation}. It knows nothing else.\n\n"
        + "".join(f"- {name}: {value}\n" for name, value in figures.items())
        + f"\nBuilt by `dialog-gym fit speaker` with `{settings}`. The licence of the corpus holds for what is "
        "learned from it.\n",
    )
