"""Plots of leaderboards: what is drawn, that no words meet, and that the same results make the same bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg

from dialog_gym.benchmarks import leaderboard_plots
from dialog_gym.benchmarks.leaderboard import leaderboard
from dialog_gym.benchmarks.leaderboard_plots import looks, write_plots
from dialog_gym.benchmarks.results_folder import Result, Results

AGENTS = ("lm", "oracle", "random", "td3", "ppo", "ilql", "dt", "tf", "sacpo", "stable_alignment", "sb3_sac")
WORLDS = ("Advice", "Bargain", "Chat", "SocialGoal")


def result(world, agent, seed):
    rng = np.random.default_rng([len(world), len(agent), seed])
    score = {"lm": 0.0, "oracle": 1.0}.get(agent, 0.1 * AGENTS.index(agent) - 0.2 + rng.normal(0, 0.05))
    learns = agent not in ("lm", "oracle", "random")
    costs = world == "Advice"
    unit = ("episodes", "updates")[agent in ("ilql", "dt", "tf")]
    return Result(
        path=Path(f"{world}--{agent}--{seed}.json"),
        world=world,
        env=f"dialog_gym/{world}-v0",
        agent=agent,
        seed=seed,
        seeds=(1, 2),
        returns=np.array([score - 0.1, score + 0.1]),
        costs=np.full(2, 0.5 * score if costs else 0.0),
        success=0.5,
        budget=0.25 if costs else None,
        curve=((0, 0.0), (500, score / 2), (1000, score)) if learns else (),
        curve_unit=unit if learns else "",
        learned_from=unit if learns else "",
        tokens=None,
        cpu_seconds=float(rng.uniform(20, 60)),
        wall_seconds=1.0,
        versions={},
        episodes=None,
    )


@pytest.fixture(scope="module")
def results():
    return Results(
        tuple(
            result(world, agent, seed)
            for world in WORLDS
            for agent in AGENTS
            for seed in range(1, 2 if agent in ("lm", "oracle") else 4)
            if agent != "sacpo" or world == "Advice"
        )
    )


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    """Return the folder of the plots, and the figures that were written there."""
    figures = {}
    write = leaderboard_plots._write

    def note(figure, stem):
        figures[stem.name] = figure
        return write(figure, stem)

    folder = tmp_path_factory.mktemp("plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaderboard_plots, "_write", note)
        paths = write_plots(results, leaderboard(results, resamples=50), folder, resamples=50)
    return folder, figures, paths


def test_all_plots_are_there_as_svg_and_png(written):
    folder, figures, paths = written
    names = ["totals", "profiles", "learning", "costs", "compute"]
    assert list(figures) == names
    assert paths == [folder / f"{name}{suffix}" for name in names for suffix in (".svg", ".png")]
    assert sorted(folder.iterdir()) == sorted(paths)
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths if path.suffix == ".png")


def test_the_same_results_make_the_same_bytes(results, tmp_path):
    few = Results(
        tuple(one for one in results.results if one.agent in ("lm", "oracle", "td3") and one.world == "Chat")
    )
    one, two = (write_plots(few, leaderboard(few), tmp_path / name, resamples=50) for name in "ab")
    assert len(one) == len(two) == 8
    for path, other in zip(one, two, strict=True):
        assert path.read_bytes() == other.read_bytes(), path.name
        assert b"dc:date" not in path.read_bytes()


def test_a_learning_curve_says_what_it_is_scaled_by(written):
    axes = written[1]["learning"].axes
    told = [" ".join(panel.get_ylabel().split()) for panel in axes]
    assert told == ["return on training items, scaled by lm and oracle on held-out ones (IQM)", ""]


def test_compute_says_what_it_does_not_count(written):
    told = written[1]["compute"]._supxlabel.get_text()
    assert "without shared models, recorded dialogues and rankings; of a resumed run the last start" in told


def ticks_of(axes):
    """Return the labels of the ticks that are in view."""
    for place, axis, limits in ((0, axes.xaxis, axes.get_xlim()), (1, axes.yaxis, axes.get_ylim())):
        low, high = sorted(limits)
        yield from (text for text in axis.get_ticklabels() if low <= text.get_position()[place] <= high)


def words_of(figure):
    """Return the boxes of all words of a figure, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [
        figure._suptitle,
        figure._supxlabel,
        figure._supylabel,
        *(text for one in figure.legends for text in one.get_texts()),
    ]
    for axes in figure.axes:
        if axes.axison:
            texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *ticks_of(axes)]
    shown = [text for text in texts if text is not None and text.get_visible() and text.get_text()]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in shown]


def test_mixed_versions_and_lost_files_are_marked_in_each_plot(results, tmp_path, monkeypatch):
    figures = []

    def note(figure, stem):
        figures.append(figure)
        return []

    monkeypatch.setattr(leaderboard_plots, "_write", note)
    some = tuple(one for one in results.results if one.agent in ("lm", "oracle", "td3") and one.world == "Advice")
    commits = f"commit {'a' * 40} and {'b' * 40}"
    told = replace(results, results=some, mixed=(commits, "torch 2 and 3"), broken=("x.json: empty",))
    write_plots(told, leaderboard(told, resamples=50), tmp_path, resamples=50)
    assert len(figures) == 5
    for figure in figures:
        mark = figure.get_suptitle()
        whole = " ".join(mark.split())
        assert whole == f"Mixed versions or settings: {commits}; torch 2 and 3. Files left out: 1"
        boxes = words_of(figure)
        (box,) = [box for text, box in boxes if text == mark]
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for text, other in boxes if text != mark)


def test_results_of_one_version_have_no_mark(written):
    assert {figure.get_suptitle() for figure in written[1].values()} == {""}


@pytest.mark.parametrize("name", ["totals", "profiles", "learning", "costs", "compute"])
def test_words_are_on_the_page_and_do_not_meet(written, name):
    figure = written[1][name]
    boxes = words_of(figure)
    assert len(boxes) > 10
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert inside, f"{text!r} leaves the page"
    for (one, box), (other, second) in combinations(boxes, 2):
        assert not box.overlaps(second), f"{one!r} and {other!r} meet"


def test_every_agent_is_in_the_legend(written):
    for name in ("costs", "compute"):
        (legend,) = written[1][name].legends
        assert {text.get_text() for text in legend.get_texts()} >= set(AGENTS)
    (legend,) = written[1]["profiles"].legends
    assert "sacpo (1 world)" in {text.get_text() for text in legend.get_texts()}


def test_points_stand_where_the_numbers_are(written, results):
    board = leaderboard(results, resamples=50)
    axes = written[1]["totals"].axes[0]
    drawn = {float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert drawn == {total.iqm.value for total in board.totals}
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "sacpo (1 world)", "the best on top"
    (budget,) = [line for line in written[1]["costs"].axes[0].lines if line.get_label() == "budget"]
    assert list(budget.get_xdata()) == [0.25, 0.25]
    assert [axes.get_title() for axes in written[1]["costs"].axes] == ["Advice"], "nothing costs in the others"


def test_agents_look_different():
    names = [f"agent{k}" for k in range(28)]
    assert len(set(looks(names).values())) == 30
    assert looks(names)["agent3"] == looks(list(reversed(names)))["agent3"]


def test_one_agent_with_one_run_can_be_drawn(results, tmp_path):
    alone = Results(tuple(one for one in results.results if one.agent in ("lm", "oracle") and one.world == "Chat"))
    paths = write_plots(alone, leaderboard(alone), tmp_path)
    assert {path.stem for path in paths} == {"totals", "profiles", "compute"}
    unscaled = Results(alone.results[:1])
    assert {path.stem for path in write_plots(unscaled, leaderboard(unscaled), tmp_path / "new")} == {"compute"}
