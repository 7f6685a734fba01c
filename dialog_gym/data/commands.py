"""The commands of ``dialog-gym`` for data: ``collect``, ``branch`` and ``data``."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from rich.console import Console

from dialog_gym import data as library
from dialog_gym.commands import (
    EnvName,
    PolicyName,
    Settings,
    env_name,
    need_folder,
    parse_settings,
    print_json,
    show_rows,
    told_by_run,
    with_models,
)
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes
from dialog_gym.data.rankings import Rankings
from dialog_gym.data.store import Table

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
Format = Literal["jsonl", "preference", "kto", "minari", "buffer"]


def collect(
    env: EnvName,
    policy: PolicyName,
    out: Path,
    episodes: int = 512,
    seed: int = 0,
    rows: int = 32,
    lm: str | None = None,
    partner: str | None = None,
    settings: Settings = (),
    ray: str | None = None,
    workers: int = 0,
    gpus: float = 0.0,
    json: bool = False,
) -> None:
    """Write episodes of any policy to a folder; the same command started again goes on.

    Args:
        env: Environment, text or prefix.
        policy: A run folder or a saved agent; oracle, lm, lm-sampled, random or constant; or a scripted policy of the
            environment, for instance infers; `dialog-gym envs --json` lists them.
        out: The data set; episodes of several policies and environments may lie in one.
        episodes: How many there are to be of this policy.
        seed: Seed of the first; the others follow. Evaluations take those from 1000000 on.
        rows: Dialogues in parallel; no influence on what is written.
        lm: Language model that speaks; default: the one that was made in this world, else tiny.
        partner: Language model to talk to instead of the scripted partner.
        settings: Argument of the environment, for instance side=seller; a run knows its own.
        ray: Workers play: local (started on this machine, on loopback), or the address of a Ray cluster.
        workers: How many; 0: one for each CPU.
        gpus: GPUs of each worker.
        json: Print JSON.
    """
    from dialog_gym.data.collect import collect as collect_episodes
    from dialog_gym.distributed.cluster import Cluster

    need_folder(policy)
    cluster = Cluster.of(ray, workers, gpus)
    env_id = env_name(env)
    told = told_by_run(Path(policy)) if Path(policy).is_dir() else {}
    steers = _acts_by_vectors(env_id)
    kwargs = with_models(
        {**told.get("env_kwargs", {}), **parse_settings(settings)}, lm=lm if steers else None, partner=partner
    )
    how: dict[str, Any] = {"rows": rows, "env_kwargs": kwargs, "lm": lm or "", "cluster": cluster}
    found = collect_episodes(env_id, policy, episodes, out, seed=seed, progress=True, **how)
    _tell(found, json)


def branch(
    env: EnvName,
    out: Path,
    episodes: int = 256,
    reach: str = "random",
    per_episode: int = 1,
    candidates: tuple[str, ...] = ("lm-sampled",),
    k: int = 8,
    by: str = "oracle",
    plays: int = 16,
    temperature: float = 1.0,
    seed: int = 0,
    rows: int = 32,
    lm: str | None = None,
    partner: str | None = None,
    reward: str | None = None,
    cost: str | None = None,
    judge: str | None = None,
    rubric: str = "goal",
    settings: Settings = (),
    ray: str | None = None,
    workers: int = 0,
    gpus: float = 0.0,
    json: bool = False,
) -> None:
    """Fork states, say several things in each, score them, and write the rankings to a folder.

    The same command started again goes on.

    Args:
        env: Environment.
        out: The data set.
        episodes: Dialogues in which states are found.
        reach: Policy that leads to the states, as in collect.
        per_episode: How many of its turns are branched in each dialogue; 0: all.
        candidates: Who proposes what could be said, by turns: lm-sampled, lm, oracle or scripted policies.
        k: Candidates of a state.
        by: Who plays on after a candidate, whose return then counts; next: only the reward of the next step counts.
        plays: Play-outs of each candidate, with fresh chance.
        temperature: Of lm-sampled.
        seed: Seed of the first dialogue.
        rows: Dialogues in parallel; no influence on what is written.
        lm: Language model that speaks; default: the one that was made in this world, else tiny.
        partner: Language model to talk to instead of the scripted partner.
        reward: What is earned instead, by name: Success, or module:name of your own.
        cost: What is constrained instead, named likewise.
        judge: Language model that rewards every turn instead of the environment, for instance openai:MODEL@URL.
        rubric: What it judges: goal, helpfulness, harmlessness or sotopia.
        settings: Argument of the environment, for instance side=seller.
        ray: Workers do it: local (started on this machine, on loopback), or the address of a Ray cluster.
        workers: How many; 0: one for each CPU.
        gpus: GPUs of each worker.
        json: Print JSON.
    """
    from dialog_gym.data.rank import Options, collect_rankings
    from dialog_gym.distributed.cluster import Cluster
    from dialog_gym.rewards.judge import Judge

    need_folder(reach)
    cluster = Cluster.of(ray, workers, gpus)
    env_id = env_name(env)
    told = told_by_run(Path(reach)) if Path(reach).is_dir() else {}
    own = lm if _acts_by_vectors(env_id) else None
    given = {**told.get("env_kwargs", {}), **parse_settings(settings)}
    kwargs = with_models(given, lm=own, partner=partner, reward=reward, cost=cost)
    options = Options(env_id, kwargs, reach, per_episode, candidates, k, by, plays, lm or "", temperature)
    how: dict[str, Any] = {"rows": rows, "reward": None if judge is None else partial(Judge, judge, rubric)}
    _tell(collect_rankings(options, episodes, out, seed=seed, progress=True, cluster=cluster, **how), json)


def data(
    what: tyro.conf.Positional[Literal["info", "export", "import"]],
    folder: Folder,
    file: Path | None = None,
    format: Format = "jsonl",
    by: str = "score",
    pairs: Literal["ends", "neighbours", "all"] = "ends",
    margin: float = 0.0,
    threshold: float | None = None,
    notation: Literal["plain", "task"] = "plain",
    vectors: bool = False,
    verify: bool = False,
    json: bool = False,
) -> None:
    """Tell what a data set holds, write it in another format, or make one of a file.

    `dialog-gym data read --help`: read a published corpus or your own chats; `dialog-gym data corpora`: which.
    `dialog-gym data make-candor --help`: talks with one score each; `dialog-gym data society --help`: rated answers.

    Args:
        what: info, export to --file, or import from --file (JSON lines, Parquet, or a folder of Minari).
        folder: The data set.
        file: What is written or read.
        format: jsonl (everything); preference and kto (rankings, as TRL reads them); minari, and buffer (episodes of
            prefix environments, for `train td3 --buffer`).
        by: Numbers that rank: score, or another one; -cost prefers what costs less.
        pairs: preference: the best against the worst, neighbours, or all.
        margin: preference: scores must differ by more.
        threshold: kto: what a good candidate has at least; default: it exceeds the mean of its ranking.
        notation: plain words, or what models that know the task's own notation read (tiny).
        vectors: minari: states and actions as vectors instead of texts.
        verify: Read everything and compare the content hash.
        json: Print JSON.
    """
    if what == "import":
        return _tell(_import(_named(file, what), folder), json)
    table = library.load(folder)
    if verify:
        table.verify()
    if what == "info":
        return _tell(table, json)
    path = _named(file, what)
    if format == "minari" or format == "buffer":
        count = _export_episodes(table, path, format, vectors)
    else:
        count = _export_rows(table, path, format, by, pairs, margin, threshold, notation)
    told = {"file": str(path), "format": format, "rows": count, "content_hash": table.content_hash}
    return print_json(told) if json else show_rows([told], False)


def summary(table: Table[Any]) -> dict[str, Any]:
    """Return what a data set holds, as JSON values."""
    told: dict[str, Any] = {
        "folder": str(table.path),
        "kind": table.kind,
        "rows": len(table),
        "shards": table.shards,
        "content_hash": table.content_hash,
    }
    if isinstance(table, Episodes):
        sources: dict[tuple[str, str], list[float]] = {}
        for row in table.select("env", "policy", "rewards"):
            sources.setdefault((row["env"], row["policy"]), []).append(sum(row["rewards"]))
        told["sources"] = [
            {"env": env, "policy": policy, "episodes": len(returns), "return": float(np.mean(returns))}
            for (env, policy), returns in sources.items()
        ]
    if isinstance(table, Rankings):
        counts, envs = Counter[int](), Counter[str]()
        for row in table.select("scores", "meta"):
            counts[len(row["scores"])] += 1
            envs[str(row["meta"].get("env", ""))] += 1
        told["sources"] = [{"env": env, "rankings": count} for env, count in envs.items()]
        told["candidates"] = {str(count): rows for count, rows in sorted(counts.items())}
    return told


def _tell(table: Table[Any], as_json: bool) -> None:
    told = summary(table)
    if as_json:
        return print_json(told)
    sources = told.pop("sources")
    Console(highlight=False, soft_wrap=True).print(*(f"{name}: {value}" for name, value in told.items()), sep="\n")
    return show_rows(sources, False) if sources else None


def _named(file: Path | None, what: str) -> Path:
    if file is None:
        raise ValueError(f"which file to {what}? Add --file")
    return file


def _import(file: Path, folder: Path) -> Table[Any]:
    from dialog_gym.data.exchange import import_rows, read_table

    if file.is_dir():
        from dialog_gym.data.minari import from_minari

        return import_rows(Episodes, from_minari(file), folder)
    return read_table(file, folder)


def _export_episodes(table: Table[Any], path: Path, format: str, vectors: bool) -> int:
    if not isinstance(table, Episodes):
        raise DatasetError(f"{format} is a format for episodes, {table.path} holds {table.kind}")
    if format == "minari":
        from dialog_gym.data.minari import to_minari

        return to_minari(table, path, vectors=vectors)
    from dialog_gym.data.episodes import write_buffer

    return write_buffer(path, table)


def _export_rows(
    table: Table[Any],
    path: Path,
    format: str,
    by: str,
    pairs: Any,
    margin: float,
    threshold: float | None,
    notation: str,
) -> int:
    from dialog_gym.data import exchange

    if format == "jsonl":
        return exchange.write_rows(path, exchange.lines(table))
    if not isinstance(table, Rankings):
        raise DatasetError(f"{format} is a format for rankings, {table.path} holds {table.kind}")
    reads = _task_notation(table) if notation == "task" else None
    if format == "preference":
        rows = exchange.preferences(table, by=by, pairs=pairs, margin=margin, notation=reads)
    else:
        rows = exchange.labelled(table, by=by, threshold=threshold, notation=reads)
    return exchange.write_rows(path, rows)


def _task_notation(table: Rankings) -> Any:
    """Return how the models of the package read the dialogues of the one environment that the rankings are of."""
    origins = {(row["meta"].get("env", ""), str(row["meta"].get("env_kwargs", {}))) for row in table.select("meta")}
    envs = {env for env, _ in origins}
    if len(origins) != 1 or "" in envs:
        raise ValueError(f"a task's notation needs rankings of one environment, got those of {sorted(envs)}")
    from dialog_gym.commands import text_id

    meta = next(iter(table)).meta
    own = {name: value for name, value in meta["env_kwargs"].items() if name not in _OF_STEERING}
    return gym.make(text_id(meta["env"]), **own).unwrapped.task.messages  # type: ignore[attr-defined]


_OF_STEERING = ("lm", "prefix", "observer", "state", "temperature", "max_tokens", "partner")


def _acts_by_vectors(env_id: str) -> bool:
    from dialog_gym.commands import text_id

    return text_id(env_id) != env_id
