"""The commands ``dialog-gym merge`` and ``dialog-gym choose``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from dialog_gym.commands import Settings, env_name, parse_settings, print_json, show_rows, told_by_run
from dialog_gym.env import env_task
from dialog_gym.lm.choose import choose

Out = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Sources = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER[=WEIGHT]")]
Runs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


def merge_models(out: Out, sources: Sources, q: tuple[float, ...] = (), json: bool = False) -> None:
    """Merge language models linearly: their weights are averaged, nothing is trained.

    Sources are models of transformers, LoRA adapters, or runs and agents of this package, which merge to an agent.
    For instance: dialog-gym merge runs/merged runs/helpful=0.25 runs/safe=0.75, or the same for several weights of the
    second: dialog-gym merge runs/merged runs/helpful runs/safe --q 0.25 0.5 0.75

    Args:
        out: Folder to write, which must not be there; with --q a folder for each is made in it.
        sources: Folders with their weights, which need not sum to 1; without weights all are equal.
        q: Merge two sources with the weights 1 - q and q, for each q that is given.
        json: Print JSON.
    """
    from dialog_gym.lm.merge import merge, merge_grid

    parts = [_part(source) for source in sources]
    if len(parts) < 2:
        raise ValueError(f"merging needs at least two sources, got {len(parts)}")
    if q and (len(parts) != 2 or any(weight is not None for _, weight in parts)):
        raise ValueError("--q is for two sources without weights of their own")
    if q:
        made = merge_grid(out, parts[0][0], parts[1][0], q)
        rows = [{"folder": str(place), "q": share} for share, place in made.items()]
    else:
        if len({weight is None for _, weight in parts}) > 1 or len({name for name, _ in parts}) < len(parts):
            raise ValueError("give each source once, and all of them a weight (FOLDER=WEIGHT) or none")
        weights: dict[str | Path, float] = {name: 1.0 if weight is None else weight for name, weight in parts}
        rows = [{"folder": str(merge(out, weights))}]
    show_rows(rows, json)


def choose_run(
    runs: Runs,
    budget: float | None = None,
    env: str | None = None,
    settings: Settings = (),
    episodes: int = 512,
    seed: int = 500_000,
    rows: int = 32,
    json: bool = False,
) -> None:
    """Play validation dialogues with each run and name the one that earns most within a budget of cost.

    It makes the choice of q (dialog-gym merge --q) or of beta / lambda (stages of sacpo) automatic.

    Args:
        runs: Runs or agents.
        budget: Highest mean cost of an episode; default: that of the environment.
        env: Environment; a run knows its own.
        settings: Argument of the environment, for instance side=seller; a run knows its own.
        episodes: Number of dialogues.
        seed: Seed of the first. Report other dialogues than you choose by.
        rows: Dialogues in parallel; no influence on the result.
        json: Print JSON.
    """
    if not runs:
        raise ValueError("expected runs to choose between, got none; for instance dialog-gym choose runs/A runs/B")
    places = [_place_of(run, env, parse_settings(settings)) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if place != places[0]:
            raise ValueError(
                f"runs of one environment can be compared, got {runs[0]} ({_shown(places[0])}) and {run} "
                f"({_shown(place)}): name one with --env and --settings"
            )
    limit = env_task(*places[0]).budget if budget is None else budget
    if limit is None:
        raise ValueError("the environment has no budget of its own; give one with --budget")
    told = [_played(run, place, (episodes, seed, rows)) for run, place in zip(runs, places, strict=True)]
    chosen = choose(runs, [row["reward"] for row in told], [row["cost"] for row in told], limit)
    if json:
        print_json({"budget": limit, "candidates": told, "chosen": chosen._asdict()})
        return
    show_rows([{**row, "chosen": "*" if row["run"] == chosen.name else ""} for row in _rounded(told)], False)


def run(words: list[str]) -> None:
    """Run the command that ``words`` are."""
    commands: dict[str, Callable[..., None]] = {"merge": merge_models, "choose": choose_run}
    tyro.cli(commands[words[0]], prog=f"dialog-gym {words[0]}", args=words[1:], config=(tyro.conf.FlagCreatePairsOff,))


def _part(source: str) -> tuple[str, float | None]:
    """Return folder and weight of ``FOLDER`` or ``FOLDER=WEIGHT``."""
    if Path(source).is_dir() or "=" not in source:
        return source, None
    folder, _, weight = source.rpartition("=")
    try:
        return folder, float(weight)
    except ValueError:
        raise ValueError(f"a source is FOLDER or FOLDER=WEIGHT with a number, got {source!r}") from None


def _place_of(run: str, env: str | None, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the environment that a run is played in, and its arguments."""
    from dialog_gym.agent import load_agent

    told, saved = told_by_run(Path(run)), getattr(load_agent(run), "args", None)
    name = env or told.get("env") or getattr(saved, "env", "")
    if not name:
        raise ValueError(f"where should {run!r} be played? Add --env, for instance --env Advice-v0")
    return env_name(name), {**told.get("env_kwargs", getattr(saved, "env_kwargs", {})), **settings}


def _shown(place: tuple[str, dict[str, Any]]) -> str:
    return " ".join([place[0], *(f"{name}={value}" for name, value in place[1].items())])


def _played(run: str, place: tuple[str, dict[str, Any]], trial: tuple[int, int, int]) -> dict[str, Any]:
    """Return what a run earns and costs."""
    from dialog_gym.agent import load_agent
    from dialog_gym.rollout import evaluate

    name, kwargs = place
    episodes, seed, rows = trial
    found = evaluate(load_agent(run), name, episodes=episodes, seed=seed, rows=rows, env_kwargs=kwargs)
    return {"run": run, "reward": float(found.mean), "cost": float(found.cost)}


def _rounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "reward": f"{row['reward']:.3f}", "cost": f"{row['cost']:.3f}"} for row in rows]
