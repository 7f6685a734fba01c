"""Minari: what it reads is what was played, and it comes back with nothing lost."""

import numpy as np
import pytest

from dialog_gym.data import DatasetError, Episodes
from dialog_gym.data.collect import collect
from dialog_gym.data.exchange import import_rows
from dialog_gym.data.minari import from_minari, to_minari
from dialog_gym.env import DialogueEnv
from dialog_gym.envs.bargain import Bargain
from tests.data.rows import row, same

minari = pytest.importorskip("minari")


def formats():
    import importlib.util

    skip = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is not installed")
    return ["arrow", "parquet", pytest.param("hdf5", marks=skip)]


@pytest.mark.parametrize("data_format", formats())
def test_texts_come_back_with_nothing_lost(tmp_path, data_format):
    rows = [row(number, turns=1 + number % 3) for number in range(5)]
    there = import_rows(Episodes, rows, tmp_path / "data")
    assert to_minari(there, tmp_path / "minari", data_format=data_format) == 5
    assert list(from_minari(tmp_path / "minari")) == rows
    assert (
        import_rows(Episodes, from_minari(tmp_path / "minari"), tmp_path / "back").content_hash == there.content_hash
    )


def test_a_folder_may_be_named_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = import_rows(Episodes, [row(0)], tmp_path / "data")
    assert to_minari(there, "exported/minari") == 1
    assert list(from_minari("exported/minari")) == [row(0)]


@pytest.mark.parametrize("data_format", formats())
def test_minari_reads_what_a_single_environment_gave(tmp_path, data_format):
    there = collect("dialog_gym/Bargain-v0", "oracle", 3, tmp_path / "data", seed=5)
    to_minari(there, tmp_path / "minari", dataset_id="bargain/oracle-v3", data_format=data_format)
    dataset = minari.MinariDataset(tmp_path / "minari")
    assert (dataset.id, dataset.total_episodes) == ("bargain/oracle-v3", 3)
    task = Bargain()
    env = DialogueEnv(task)
    for k, episode in enumerate(dataset.iterate_episodes()):
        observation, info = env.reset(seed=5 + k)
        seen, said, rewards, costs = [observation], [], [], [info["cost"]]
        while not info["stop_reason"]:
            said.append(task.oracle(info["dialogue"]))
            observation, reward, _, _, info = env.step(said[-1])
            seen.append(observation)
            rewards.append(reward)
            costs.append(info["cost"])
        assert [text(one) for one in episode.observations] == seen
        assert [text(one) for one in episode.actions] == said
        assert episode.rewards.tolist() == rewards
        assert episode.infos["reward_terms.deal"].tolist() == [0.0, *rewards]
        assert episode.infos["cost"].tolist() == costs
        assert episode.terminations.tolist() == [False] * (len(said) - 1) + [True]
        assert not episode.truncations.any()
    again = dataset.recover_environment()
    assert again.reset(seed=5)[0] == env.reset(seed=5)[0]


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def test_vectors(tmp_path):
    there = collect("dialog_gym/BargainPrefix-v0", "random", 3, tmp_path / "data")
    to_minari(there, tmp_path / "minari", vectors=True)
    first = minari.MinariDataset(tmp_path / "minari")[0]
    (expected, *_) = there
    assert expected.states is not None
    assert expected.actions is not None
    assert np.array_equal(first.observations, expected.states)
    assert np.array_equal(first.actions, expected.actions)
    assert all(same(one, other) for one, other in zip(from_minari(tmp_path / "minari"), there, strict=True))


def test_data_of_others(tmp_path):
    from gymnasium.spaces import Text
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    storage = MinariStorage.new(tmp_path / "theirs", Text(99), Text(99), data_format="arrow")
    grows = EpisodeBuffer(
        0,
        None,
        None,
        ["Q", "Q\nyes\nfine", "Q\nyes\nfine\nno\nbad"],
        ["yes", "no"],
        [1, 2],
        [False, True],
        [False] * 2,
    )
    newest = EpisodeBuffer(1, None, None, ["Q", "fine", "bad"], ["yes", "no"], [1, 2], [False] * 2, [False, True])
    storage.update_episodes([grows, newest])
    for found, stop in zip(from_minari(tmp_path / "theirs"), ("terminated", "max_turns"), strict=True):
        assert [tuple(turn) for turn in found.dialogue.turns] == [
            ("agent", "yes"),
            ("partner", "fine"),
            ("agent", "no"),
            ("partner", "bad"),
        ]
        assert (found.rewards, found.dialogue.stop_reason) == ((1.0, 2.0), stop)
        assert found.dialogue.scenario.public == "Q"


def test_mistakes(tmp_path):
    there = import_rows(Episodes, [row(0)], tmp_path / "data")
    with pytest.raises(ValueError, match="has no vectors"):
        to_minari(there, tmp_path / "minari", vectors=True)
    assert not (tmp_path / "minari").exists()
    with pytest.raises(DatasetError, match="is there already"):
        to_minari(there, tmp_path)
    with pytest.raises(DatasetError, match=r"cannot read .* as a Minari data set"):
        list(from_minari(tmp_path))
    with pytest.raises(DatasetError, match="has no episodes"):
        to_minari(import_rows(Episodes, [], tmp_path / "none"), tmp_path / "new")
