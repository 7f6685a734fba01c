"""Fit a prefix map to a language model on the dialogues of a world or a corpus, and report what its actions change.

``pca`` is computed from the embeddings. ``clone`` trains a map on a model that stays frozen. ``steer`` tunes
a copy of the model together with the map; the folder then holds both, and is used as ``lm``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from dialog_gym import checkpoint
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import env_task
from dialog_gym.json_lines import numbered
from dialog_gym.task import Task

if TYPE_CHECKING:
    from dialog_gym.lm.control import Attributes
    from dialog_gym.lm.fitting import Fitted, Kind

Chat = list[dict[str, str]]

CONTEXTS = 24  # prompts of the report
ACTIONS = 16  # random actions said in each


@dataclass(frozen=True)
class Options:
    """What to fit.

    Attributes:
        kind: ``"pca"``, ``"clone"`` or ``"steer"``.
        lm: The language model or its spec.
        out: Folder for the map, the report, and with ``steer`` the model.
        env: Id of the text environment whose self-play the map learns from.
        env_kwargs: Its arguments.
        chats: A file to learn from instead, see ``read_chats``.
        corpus: Format and path of a corpus to learn from instead, in the notation of ``env``.
        dialogues: How many dialogues of self-play or of the corpus.
        steps: Updates.
        informed: Whether ``clone`` learns codes from replies, so that an action can mean something.
        action_size: Numbers in an action.
        prefix_tokens: Embeddings in a prefix.
        position: ``"end"`` (right before the reply) or ``"start"`` (of the prompt).
        seed: All randomness.
        progress: Whether to show progress bars.
    """

    kind: Kind
    lm: str
    out: Path
    env: str = "dialog_gym/Bargain-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    chats: Path | None = None
    corpus: tuple[str, str] | None = None
    dialogues: int = 400
    steps: int = 300
    informed: bool = True
    action_size: int = 16
    prefix_tokens: int = 2
    position: str = "end"
    seed: int = 0
    progress: bool = True


@dataclass(frozen=True)
class Lessons:
    """What a map is fitted on and judged by.

    Attributes:
        chats: To learn from; every assistant message is a reply.
        prompts: Other chats, each cut before a reply: the contexts of the report.
        attributes: Describes replies by numbers, where the world can.
    """

    chats: list[Chat]
    prompts: list[Chat]
    attributes: Attributes | None = None


def fit(options: Options) -> dict[str, Any]:
    """Fit, save, report; return what ``report.json`` holds.

    Raises:
        ValueError: The language model takes no prefixes here, or there is nothing to learn from.
    """
    from dialog_gym.lm import load
    from dialog_gym.lm.control import control_report
    from dialog_gym.lm.fitting import FitSettings, fit_prefix
    from dialog_gym.lm.transformers_lm import TransformersLM

    lm = load(options.lm)
    if not isinstance(lm, TransformersLM):
        raise ValueError(f"a prefix map needs a model that runs in this process (transformers), got {options.lm!r}")
    lessons = _lessons(options)
    fitted = fit_prefix(
        options.kind,
        lm,
        lessons.chats,
        action_size=options.action_size,
        prefix_tokens=options.prefix_tokens,
        position=options.position,  # type: ignore[arg-type]  # checked there
        settings=FitSettings(steps=options.steps, informed=options.informed),
        attributes=lessons.attributes,
        seed=options.seed,
        progress=options.progress,
    )
    with Console(stderr=True, quiet=not options.progress).status("Saying random actions in other contexts"):
        control = control_report(
            fitted.lm,
            fitted.map,
            lessons.prompts,
            actions=ACTIONS,
            attributes=lessons.attributes,
            encode=None if fitted.encoder is None else fitted.encode,
            seed=options.seed,
        )
    report = {
        "kind": options.kind,
        "use": save(fitted, options),
        "loss": _losses(fitted),
        "control": control.to_json(),
    }
    checkpoint.write_json(options.out / "report.json", report)
    return report


def row(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what a table shows of a report."""
    control = report["control"]
    shown = {
        "map": report["kind"],
        "distinct replies": f"{control['distinct']:.2f}",
        "unlike unsteered": f"{control['unlike_unsteered']:.2f}",
    }
    if transplant := control["transplant"]:
        shown["transplant"] = f"{transplant['similarity']:.2f} (chance {transplant['chance']:.2f})"
    if loss := report["loss"]:
        shown["loss"] = f"{loss['end']:.3f} (unsteered {loss['unsteered']:.3f})"
    return shown


def save(fitted: Fitted, options: Options) -> dict[str, str]:
    """Write the map, with ``steer`` also its model; return the settings of an environment that use them."""
    from dialog_gym.lm.transformers_lm import TransformersLM

    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.kind != "steer":
        fitted.map.save(out)
        return {"lm": options.lm, "prefix": str(out)}
    fitted.lm.model.save_pretrained(out)
    fitted.lm.tokenizer.save_pretrained(out)
    fitted.map.bind(TransformersLM.from_pretrained(out)).save(out / "steer")
    return {"lm": str(out), "prefix": "steer"}


def _losses(fitted: Fitted) -> dict[str, float]:
    """Return the loss per token of replies without a prefix, and at both ends of the training."""
    if not fitted.losses:
        return {}
    ends = {"begin": fitted.losses[:20], "end": fitted.losses[-20:]}
    return {"unsteered": fitted.unsteered, **{name: float(np.mean(some)) for name, some in ends.items()}}


def read_chats(path: Path) -> list[Chat]:
    """Read JSON lines: each a chat (a list of ``{"role", "content"}``) or an object with one as ``messages``.

    Raises:
        ValueError: A line is something else; the message names it.
    """
    chats: list[Chat] = []
    for number, line in numbered(path.read_text(encoding="utf-8")):
        try:
            read = json.loads(line)
            messages = read["messages"] if isinstance(read, dict) else read
            chats.append([{"role": str(m["role"]), "content": str(m["content"])} for m in messages])
        except (KeyError, TypeError, ValueError) as error:
            form = '{"messages": [{"role": "user", "content": "Hi"}]}'
            raise ValueError(f"{path}, line {number}: expected a chat such as {form}, got {line:.80}") from error
    return chats


def _lessons(options: Options) -> Lessons:
    if options.chats is not None:
        chats = read_chats(options.chats)
        held_out = max(3, min(CONTEXTS, len(chats) // 5))
        if len(chats) <= held_out:
            raise ValueError(f"{options.chats} has {len(chats)} chats; at least {held_out + 1} are needed")
        return Lessons(chats[:-held_out], _cut(chats[-held_out:]))
    task = env_task(options.env, options.env_kwargs)
    return _from_self_play(task, options) if options.corpus is None else _from_corpus(task, *options.corpus, options)


def _from_corpus(task: Task, name: str, path: str, options: Options) -> Lessons:
    from dialog_gym.lm.speaker_corpus import Source, chats_of, read_parts

    parts = read_parts(Source(name, path))
    order = np.random.default_rng(options.seed).permutation(len(parts.train))[: options.dialogues]
    chats = list(chats_of((parts.train[row] for row in order), task))
    others = list(chats_of(parts.heldout[:CONTEXTS], task))[:CONTEXTS]
    return Lessons(chats, _cut(others), _attributes(task, parts.train[0]))


def _from_self_play(task: Task, options: Options) -> Lessons:
    self_play = getattr(task, "self_play", None)
    if self_play is None:
        raise ValueError(f"{options.env} cannot play itself; give chats to learn from: --chats FILE")

    def played(name: str, count: int) -> list[Dialogue]:
        return [self_play(Draws(options.seed, name, k)) for k in range(count)]

    dialogues = played("fit prefix", options.dialogues)
    agent = task.roles[0]
    chats, others = (
        [task.messages(dialogue, agent) for dialogue in some]
        for some in (dialogues, played("fit prefix report", CONTEXTS))
    )
    return Lessons(chats, _cut(others), _attributes(task, dialogues[0]))


def _attributes(task: Task, dialogue: Dialogue) -> Attributes | None:
    describe = getattr(task, "attributes", None)
    if describe is None:
        return None

    def attributes(texts: Sequence[str]) -> npt.NDArray[Any]:
        # Models speak the world's own notation, which means the same in every dialogue.
        return np.stack([describe(dialogue, task.roles[0], text) for text in texts])

    return attributes


def _cut(chats: Sequence[Chat]) -> list[Chat]:
    """Return each chat up to one of its replies: the first of the first chat, the second of the second, ..."""
    cut = []
    for k, chat in enumerate(chats):
        places = [i for i, message in enumerate(chat) if message["role"] == "assistant"] or [len(chat)]
        cut.append(chat[: places[k % len(places)]])
    return cut
