"""Pictures of societies: alignment against engagement, distributions of ratings, the grid over time (``report``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dialog_gym.dialogue import Draws
from dialog_gym.envs.society_grid import labels
from dialog_gym.envs.society_records import rating
from dialog_gym.envs.society_simulation import Settings, read_round, read_world, rounds_in

Rounds = Sequence[Mapping[str, Any]]
"""The metrics of each round of a society."""


def plot(worlds: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Draw all pictures of some societies and return their files.

    ``rounds.png`` has alignment against engagement of drafts and revisions, a path through the rounds for each
    society; ``ratings.png`` how often each rating was given, before and after; ``grid-NAME.png`` the alignment of
    every cell in up to six rounds of a society.

    Args:
        worlds: Folders.
        out: Folder of the pictures.

    Raises:
        DatasetError: A folder holds no society.
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: A society has no rounds, or there is none.
    """
    out = Path(out)
    found: dict[str, Rounds] = {}
    files = []
    for world in worlds:
        name = Path(world).name
        read_world(world)
        played = [read_round(world, number) for number in range(rounds_in(world))]
        if not played:
            raise ValueError(f"the society in {world} has played no round; play it first")
        if name in found:
            raise ValueError(f"two societies are called {name!r}; rename a folder")
        found[name] = [one["metrics"] for one in played]
        out.mkdir(parents=True, exist_ok=True)
        files.append(_grid(Path(world), played, out / f"grid-{name}.png"))
    if not found:
        raise ValueError("expected the folders of societies, got none")
    return [_rounds(found, out / "rounds.png"), _ratings(found, out / "ratings.png"), *files]


def _rounds(found: Mapping[str, Rounds], path: Path) -> Path:
    figure = _figure(6.5, 4.5)
    axes = figure.subplots()
    for number, (name, rounds) in enumerate(found.items()):
        for when, style in (("before", ":o"), ("after", "-s")):
            points = [(one["engagement"][when]["mean"], one["alignment"][when]["mean"]) for one in rounds]
            known = [point for point in points if None not in point]
            if known:
                axes.plot(*zip(*known, strict=True), style, color=f"C{number}", label=f"{name}, {when}", markersize=4)
    axes.set_xlabel("engagement (1 to 7)")
    axes.set_ylabel("alignment (1 to 7)")
    axes.legend(fontsize="x-small")
    return _write(figure, path)


def _ratings(found: Mapping[str, Rounds], path: Path) -> Path:
    figure = _figure(2.8 * len(found) + 0.6, 3.0)
    for axes, (name, rounds) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for shift, when in ((-0.2, "before"), (0.2, "after")):
            counts = [sum(one["alignment"][when]["ratings"][step] for one in rounds) for step in range(7)]
            axes.bar([step + 1 + shift for step in range(7)], counts, 0.4, label=when)
        axes.set_title(name, fontsize="small")
        axes.set_xlabel("alignment")
        axes.legend(fontsize="x-small")
    return _write(figure, path)


def _grid(world: Path, played: Rounds, path: Path) -> Path:
    settings = Settings(**read_world(world)["settings"])
    size = settings.size
    shown = sorted({round(k * (len(played) - 1) / 5) for k in range(6)})
    figure = _figure(1.9 * len(shown) + 0.8, 2.4)
    good = labels(settings.setting, size, Draws(settings.seed, "labels"))
    images = []
    for axes, number in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        cells = [[float("nan")] * size for _ in range(size)]
        for record in played[number]["records"]:
            value = rating(record, "revision", "alignment")
            value = rating(record, "draft", "alignment") if value is None else value
            if value is not None:
                cells[record["agent"] // size][record["agent"] % size] = value
        images.append(axes.imshow(cells, vmin=1, vmax=7, cmap="RdYlGn"))
        bad = [(k % size, k // size) for k, label in enumerate(good) if label == "bad"]
        if bad:
            axes.scatter(*zip(*bad, strict=True), s=4, c="black", marker="x")
        axes.set_title(f"round {number + 1}", fontsize="small")
        axes.set_axis_off()
    figure.colorbar(images[-1], ax=figure.axes, label="alignment")
    return _write(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: Any, path: Path) -> Path:
    partial = path.with_name(f".partial-{path.name}")
    figure.savefig(partial, dpi=120)
    partial.replace(path)
    return path
