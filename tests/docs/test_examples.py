"""The three programs to copy are short, run, and show what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.fixture
def main(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(EXAMPLES[0].with_name(f"{request.param}.py")), run_name=request.param)["main"]


def test_there_are_three_of_fewer_than_80_lines():
    assert [path.stem for path in EXAMPLES] == ["learn_reward", "own_world", "steer"]
    for path in EXAMPLES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


def test_own_world_tells_who_listens_from_who_does_not(tmp_path, monkeypatch):
    import gymnasium as gym

    monkeypatch.syspath_prepend(str(EXAMPLES[0].parent))
    import own_world  # type: ignore[import-not-found, unused-ignore]

    try:
        found = own_world.main(256)
    finally:
        for env_id in [name for name in gym.registry if name.startswith("my/Menu")]:
            del gym.registry[env_id]
    assert found["listens"].interval[0] > found["in order"].interval[1]
    # Of six dishes in order the first three are served, each to a sixth of the guests: (1 + .9 + .8) / 6 = .45
    assert found["in order"].mean == pytest.approx(0.45, abs=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("main", ["steer"], indirect=True)
def test_steer_beats_the_model_left_alone(main):
    found = main(["--quick"])
    assert found["td3"].interval[0] > found["lm"].interval[1]


@pytest.mark.slow
@pytest.mark.parametrize("main", ["learn_reward"], indirect=True)
def test_learn_reward_goes_its_whole_road(main):
    found = main(["--quick"])
    assert found["ppo on GELI's reward"].interval[1] > found["lm-sampled"].interval[0]
