"""The command ``dialog-gym fit reward``: learn a reward per utterance from one score per conversation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dialog_gym.agent import parse
from dialog_gym.commands import print_json, show_rows, text_id
from dialog_gym.rewards.decomposition.training import Args, fit_reward, summary


def run(words: Sequence[str]) -> None:
    """Run the command with ``words`` as its flags; ``--json`` prints the result as JSON, ``--no-plots`` draws nothing.

    ``--lambda`` is another name of ``--weight``.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true")
    own.add_argument("--no-plots", action="store_true")
    options, rest = own.parse_known_args(list(words))
    rest = ["--weight" + word.removeprefix("--lambda") if _is_lambda(word) else word for word in rest]
    args = parse(Args, rest, prog="dialog-gym fit reward")
    if args.notation and args.notation != "auto":
        args = replace(args, notation=_notation(args.notation))
    fit_reward(args)
    found = summary(args.out)
    if not options.no_plots:
        found["plots"] = [str(path) for path in _plots(Path(args.out))]
    if options.json:
        print_json({"out": args.out, "settings": asdict(args), **found})
        return
    show_rows([_row(args, found)], False)
    Console(highlight=False, soft_wrap=True).print(f"the reward is in {Path(args.out) / 'reward'}", markup=False)


def _is_lambda(word: str) -> bool:
    return word == "--lambda" or word.startswith("--lambda=")


def _notation(name: str) -> str:
    from dialog_gym.commands import env_name

    return text_id(env_name(name)).rpartition(":")[2]


def _plots(folder: Path) -> list[Path]:
    from dialog_gym.rewards.decomposition.plots import draw

    try:
        return draw(folder)
    except ModuleNotFoundError:
        return []  # matplotlib is an extra


def _row(args: Args, found: dict[str, Any]) -> dict[str, str]:
    row = {"method": args.method, "conversations": str(found["conversations"]), "skipped": str(found["skipped"])}
    names = {
        "eval/global_loss": "global loss",
        "eval/explained": "explained",
        "eval/local_loss": "local loss",
        "truth/pearson": "Pearson",
        "truth/spearman": "Spearman",
        "truth/pearson_dialogue": "in a dialogue",
    }
    return row | {title: f"{found[name]:.3f}" for name, title in names.items() if name in found}
