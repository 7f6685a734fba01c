"""The command ``dialog-gym fit speaker``: a small language model that talks as the people of a corpus do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from dialog_gym.commands import Settings, env_name, parse_settings, print_json, show_rows, text_id
from dialog_gym.lm.speaker_cache import speaker_folder

ReaderOptions = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="option", metavar="KEY=VALUE")
]


def fit_speaker(
    corpus: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="FORMAT PATH")] = None,
    data: Path | None = None,
    env: str = "",
    settings: Settings = (),
    option: ReaderOptions = (),
    split: str = "",
    heldout: str = "",
    skip_bad: bool = False,
    name: str = "",
    out: Path | None = None,
    steps: int = 0,
    minutes: float = 0.0,
    epochs: float = 5.0,
    width: int = 192,
    layers: int = 4,
    heads: int = 6,
    vocabulary: int = 2000,
    context: int = 512,
    batch: int = 16,
    learning_rate: float = 2e-3,
    float32: bool = False,
    steer: bool = False,
    steer_epochs: float = 1.0,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Train a small Llama on dialogues, from both sides: a partner, or the frozen model that a planner steers.

    It is built into the cache of the user ($DIALOG_GYM_CACHE, else $XDG_CACHE_HOME/dialog_gym, else
    ~/.cache/dialog_gym) and called speaker:NAME from then on, wherever a language model is asked for. The same command
    started again goes on where it was stopped. For instance:

    dialog-gym fit speaker --corpus deal_or_no_deal FOLDER --env DealOrNoDeal-v0

    Args:
        corpus: Format of a published corpus, and its file or folder (or hub:NAME).
        data: A data set of episodes to learn from instead.
        env: Environment whose notation is learned; default: plain words.
        settings: Argument of the environment, for instance side=seller.
        option: Option of the reader of the corpus.
        split: Split to learn from; default: train, or where there is none, 19 dialogues of 20.
        heldout: Split to measure perplexity on; default: validation, or where there is none, one dialogue of 20.
        skip_bad: Leave out and count damaged records.
        name: Short name; default: that of the corpus or data set.
        out: Folder to build in instead of the cache.
        steps: Updates.
        minutes: CPU minutes of training instead, told by timing a few updates.
        epochs: Passes over the chats, where neither is given.
        width: Hidden size.
        layers: Transformer layers.
        heads: Attention heads.
        vocabulary: Most tokens.
        context: Longest chat in tokens; what is longer is cut.
        batch: Chats an update.
        learning_rate: At its peak.
        float32: Compute in full precision; faster on processors without bfloat16, half as fast on others.
        steer: Build NAME-steer too: a copy tuned together with a prefix map, which says what it is steered to.
        steer_epochs: Passes over the chats in that tuning; codes of acts are learned first, those of numbers later.
        seed: All randomness.
        json: Print JSON.
    """
    from dialog_gym.lm import speaker_build, speaker_steer
    from dialog_gym.lm.speaker_corpus import Source

    if (corpus is None) == (data is None):
        raise ValueError("give either --corpus FORMAT PATH or --data FOLDER")
    form, path = ("", str(data)) if corpus is None else corpus
    called = name or form or Path(path).name
    options = speaker_build.Options(
        source=Source(form, path, split, heldout, skip_bad, parse_settings(option)),
        out=out or speaker_folder(called),
        env=text_id(env_name(env)).rpartition(":")[2] if env else "",
        env_kwargs=parse_settings(settings),
        steps=steps,
        minutes=minutes,
        epochs=epochs,
        width=width,
        layers=layers,
        heads=heads,
        vocabulary=vocabulary,
        context=context,
        batch=batch,
        learning_rate=learning_rate,
        bfloat16=not float32,
        seed=seed,
    )
    tuning = speaker_steer.Tuning(seed, steer_epochs=steer_epochs)
    if steer:
        speaker_steer.world_of(options)  # told before it takes time
    reports = {options.out: speaker_build.build(options)}
    if steer:
        reports[speaker_steer.steered_folder(options.out)] = speaker_steer.build(options, tuning)
    if json:
        print_json({str(folder): report for folder, report in reports.items()})
        return
    show_rows([_row(folder, report) for folder, report in reports.items()], False)
    for folder in reports:
        spec = f"hf:{folder}" if out else f"speaker:{folder.name}"
        Console(highlight=False, soft_wrap=True).print(f"{folder} is the language model {spec}", markup=False)


def run(words: list[str]) -> None:
    """Run the command with ``words`` as its flags."""
    tyro.cli(fit_speaker, prog="dialog-gym fit speaker", args=words, config=(tyro.conf.FlagCreatePairsOff,))


def _row(folder: Path, report: dict[str, Any]) -> dict[str, str]:
    test = report["heldout"]
    return {
        "speaker": folder.name,
        "parameters": f"{report['parameters']:,}",
        "updates": f"{report['steps']:,}",
        "CPU s": f"{report['cpu_seconds']:.0f}",
        "perplexity": f"{test['perplexity']:.2f}",
        "per word": f"{test['word_perplexity']:.2f}",
    }
