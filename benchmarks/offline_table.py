"""The tables of ``dialog_gym.benchmarks.offline``, read from the files of its cells."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.benchmarks.statistics import Earned, earned, markdown_table, t_interval, with_interval
from dialog_gym.rollout import bootstrap

METHODS = ("tf", "tf_all", "tf_top", "dt", "ilql")
ONLINE = ("gae", "rloo", "grpo", "td3")


class Difference(NamedTuple):
    """A policy less another, paired by seed."""

    policy: str
    less: str
    seeds: int
    mean: float
    low: float
    high: float


def method_of(policy: str) -> str:
    """Return the agent of a policy's name.

    >>> method_of("ilql@0~1"), method_of("tf")
    ('ilql', 'tf')
    """
    return policy.partition("~")[0].partition("@")[0]


def read_cells(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all cells of ``folder`` by policy, in the order of the table, seeds ascending."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in folder.glob("*-*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(data["config"]["cell"]["policy"], []).append(data)
    order = ("lm", "lm-sampled", "random", *METHODS, *ONLINE, "oracle")

    def place(policy: str) -> tuple[int, str]:
        last = len(order) * (2 * (policy == "oracle") + ("~" in policy))
        return last + order.index(method_of(policy)), policy

    by_seed = {name: sorted(made, key=lambda data: data["config"]["cell"]["seed"]) for name, made in found.items()}
    return {name: by_seed[name] for name in sorted(by_seed, key=place)}


def rows_of(folder: Path) -> list[Earned]:
    """Return the table of all cells in ``folder``, and first what the logged dialogues earned, on their items."""
    found = read_cells(folder)
    references: dict[str, float] = {
        name: found[name][0]["result"]["mean"] for name in ("lm", "oracle") if name in found
    }
    rows = [earned(name, made, references) for name, made in found.items()]
    if not (folder / "data.json").exists():
        return rows
    returns = json.loads((folder / "data.json").read_text(encoding="utf-8"))["returns"]
    return [
        Earned("(data)", 1, float(np.mean(returns)), *bootstrap(returns), None, None, None, *(3 * (np.nan,))),
        *rows,
    ]


def differences_of(folder: Path) -> list[Difference]:
    """Return what each method earns more than ``tf``, and each ILQL more than itself without its values, spoken alike.

    Student's t over the differences of the means by seed; with one seed a bootstrap over the same episodes.
    """
    found = read_cells(folder)
    spoken = {name: "".join(name.partition("~")[1:]) for name in found}
    pairs = [(name, f"tf{spoken[name]}") for name in found if method_of(name) in METHODS]
    pairs += [(name, f"ilql@0{spoken[name]}") for name in found if method_of(name) == "ilql"]
    known = [(name, less) for name, less in pairs if less in found and less != name]
    return [_difference(found[name], found[less], name, less) for name, less in known]


def _difference(more: Sequence[Any], less: Sequence[Any], name: str, other: str) -> Difference:
    one, two = ({data["config"]["cell"]["seed"]: data["result"] for data in made} for made in (more, less))
    seeds = sorted(set(one) & set(two))
    gains = [one[seed]["mean"] - two[seed]["mean"] for seed in seeds]
    if len(seeds) == 1:
        low, high = bootstrap(np.subtract(one[seeds[0]]["returns"], two[seeds[0]]["returns"]))
    else:
        low, high = t_interval(gains)
    return Difference(name, other, len(seeds), float(np.mean(gains)), low, high)


def markdown(rows: Iterable[Earned], differences: Iterable[Difference] = ()) -> str:
    """Return both tables as Markdown, the second only if there are differences."""
    names = ("policy", "seeds", "return", "normalised", "turns", "success", "CPU s")
    tables = [markdown_table(names, map(_shown, rows))]
    told = [
        (f"{one.policy} - {one.less}", f"{one.seeds}", with_interval(3, one.mean, one.low, one.high))
        for one in differences
    ]
    tables += [markdown_table(("difference", "seeds", "return"), told)] if told else []
    return "\n\n".join(tables)


def _shown(row: Earned) -> tuple[str, ...]:
    score = with_interval(2, row.normalised, row.normalised_low, row.normalised_high)
    rest = ("", "", "") if np.isnan(row.turns) else _rest(row)
    return row.policy, f"{row.seeds}", with_interval(3, row.mean, row.low, row.high), score, *rest


def _rest(row: Earned) -> tuple[str, str, str]:
    return f"{row.turns:.1f}", f"{row.success_rate:.0%}", f"{row.cpu_seconds:.0f}"


def write_csv(path: Path, rows: Sequence[Earned]) -> None:
    """Write the table as CSV."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Earned._fields)
        writer.writerows(rows)
