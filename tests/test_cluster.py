"""Workers of a real Ray cluster on this machine: the same episodes, and what happens when something dies."""

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.agents.loop import mean_return
from dialog_gym.agents.td3 import TD3, Args
from dialog_gym.baselines import Trial
from dialog_gym.baselines import evaluate as evaluate_here
from dialog_gym.benchmarks.api_server import ApiServer, Fault
from dialog_gym.cli import main
from dialog_gym.commands import _cluster_of
from dialog_gym.data import Episodes
from dialog_gym.data.collect import collect
from dialog_gym.data.rank import Options, collect_rankings
from dialog_gym.distributed import (
    Cluster,
    Done,
    Pool,
    RemotePlay,
    RemoteTrial,
    connected,
    map_tasks,
    remote_evaluation,
)
from dialog_gym.distributed import cluster as cluster_module
from dialog_gym.distributed import pool as pool_module
from dialog_gym.distributed.parts import FOLDER, Ahead, Part, in_order, parts_of
from dialog_gym.errors import ClusterError, LanguageModelError
from dialog_gym.rollout import evaluate

TEXT, PREFIX, DYING = "dialog_gym/Bargain-v0", "dialog_gym/BargainPrefix-v0", "tests.dying:toy/Dying-v0"
TWO = Cluster(workers=2)


@pytest.fixture(scope="module")
def ray():
    """One cluster with two CPUs for all tests that need one; they reuse its connection."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'dialog-gym[ray]'")
    with connected(TWO) as workers:
        assert workers == 2
        yield ray


# -- the same result, whoever does the work ---------------------------------------------------------------------------


def test_one_and_two_workers_write_what_this_process_writes(ray, tmp_path):
    asked: dict[str, Any] = {"rows": 4, "seed": 5, "env_kwargs": {"side": "seller"}}
    alone = collect(TEXT, "infers", 19, tmp_path / "0", **asked)
    for workers in (1, 2):
        found = collect(TEXT, "infers", 19, tmp_path / str(workers), cluster=Cluster(workers=workers), **asked)
        assert found.content_hash == alone.content_hash
        assert list(found) == list(alone)
        assert not (tmp_path / str(workers) / FOLDER).exists()


def test_rankings_too(ray, tmp_path):
    options = Options(TEXT, reach="infers", candidates=("oracle", "infers"), k=2, by="oracle", plays=2)
    alone = collect_rankings(options, 70, tmp_path / "0", seed=3)
    collect_rankings(options, 40, tmp_path / "2", seed=3)  # it goes on in the middle of a part
    found = collect_rankings(options, 70, tmp_path / "2", seed=3, cluster=TWO)
    assert found.content_hash == alone.content_hash
    assert len(found) > 40


def test_evaluations_too(ray):
    trial = Trial(TEXT, episodes=20, rows=8)
    with RemoteTrial(trial, TWO) as remote:
        for policy in ("infers", "oracle"):
            assert remote.score(policy).episodes == evaluate_here(policy, trial).episodes
        with pytest.raises(KeyError, match="did you mean 'infers'"):
            remote.score("infer")


def test_commands_take_workers(ray, tmp_path, capsys):
    command = ["evaluate", "infers", "--env", "Bargain-v0", "--episodes", "12", "--rows", "4", "--raw", "--json"]
    main(command)
    alone = json.loads(capsys.readouterr().out)
    main([*command, "--ray", "local", "--workers", "2"])
    assert json.loads(capsys.readouterr().out) == alone
    main(["collect", "Bargain-v0", "infers", "--out", str(tmp_path), "--episodes", "6", "--ray", "local", "--json"])
    assert json.loads(capsys.readouterr().out)["rows"] == 6


# -- an agent that learns ---------------------------------------------------------------------------------------------


def test_new_weights_reach_the_same_workers(ray):
    args = Args(eval_episodes=12, eval_seed=7, rows=6, hidden=(8,), critic_hidden=(8,))
    sizes = (_size("observation"), _size("action"))
    first, second = (TD3(*sizes, args), TD3(*sizes, args))
    here = [evaluate(agent, PREFIX, episodes=12, seed=7, rows=6).episodes for agent in (first, second)]
    assert here[0] != here[1], "agents that do the same could not be told apart"
    with RemotePlay(PREFIX, TWO, rows=6) as play:
        with pytest.raises(ValueError, match="call set_weights"):
            play.episodes(1)
        assert play.set_weights(first) == 1
        assert tuple(play.episodes(12, seed=7)) == here[0]
        processes = {_pid(who) for who in play._pool._seen.values()}
        assert play.set_weights(second) == 2
        assert tuple(play.episodes(12, seed=7)) == here[1]
        assert {_pid(who) for who in play._pool._seen.values()} == processes
        assert play._pool.lost == 0


@pytest.mark.slow
def test_who_takes_a_lost_workers_place_gets_the_newest_weights(ray):
    args = Args(eval_episodes=12, eval_seed=7, rows=6, hidden=(8,), critic_hidden=(8,))
    first, second = (TD3(_size("observation"), _size("action"), args) for _ in range(2))
    wanted = evaluate(second, PREFIX, episodes=12, seed=7, rows=6).episodes
    with RemotePlay(PREFIX, TWO, rows=6) as play:
        play.set_weights(first)
        play.episodes(12, seed=7)
        play.set_weights(second)
        os.kill(min(_pid(who) for who in play._pool._seen.values()), signal.SIGKILL)
        assert tuple(play.episodes(12, seed=7)) == wanted
    with remote_evaluation(args, Cluster(workers=1)) as remote:
        assert remote(first) == mean_return(args)(first)


def test_train_takes_workers_apart_from_its_settings():
    assert _cluster_of(["--steps", "9", "--ray=local", "--workers", "2"]) == (TWO, ["--steps", "9"])
    assert _cluster_of(["--steps", "9"]) == (None, ["--steps", "9"])
    with pytest.raises(ValueError, match="--workers and --gpus are for --ray"):
        _cluster_of(["--workers", "2"])


# -- what dies --------------------------------------------------------------------------------------------------------


def test_the_work_of_a_killed_worker_is_done_again_once(ray, tmp_path, caplog):
    alone = collect(DYING, "oracle", 40, tmp_path / "0", rows=4, env_kwargs=_quiet(tmp_path))
    found = collect(DYING, "oracle", 40, tmp_path / "2", rows=4, env_kwargs=_once(tmp_path), cluster=TWO)
    assert [episode.seed for episode in found] == list(range(40))
    assert [episode.dialogue for episode in found] == [episode.dialogue for episode in alone]
    assert (tmp_path / "marker").exists()
    assert "a worker was lost" in caplog.text
    assert "was run again" in caplog.text


@pytest.mark.slow  # processes start again and again
def test_a_worker_that_always_dies_is_an_error_and_the_others_go_on(ray, monkeypatch):
    monkeypatch.setattr(pool_module, "RESTARTS", 1)  # each takes seconds
    found = sorted(map_tasks(_die_at_three, range(8), workers=2), key=lambda done: done.item)
    assert [done.item for done in found] == list(range(8))
    assert [done.value for done in found if done.error is None] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(found[3].error, ClusterError)
    assert "lost more than" in str(found[3].error)


def test_an_item_that_fails_does_not_stop_the_others(ray):
    found = {done.item: done for done in map_tasks(_halve, [2, 3, 4], workers=1)}
    assert (found[0].value, found[2].value) == (1, 2)
    assert isinstance(found[1].error, ValueError)
    assert "3 is odd" in str(found[1].error)


def test_a_model_server_that_dies_takes_nothing_with_it(ray, tmp_path):
    with ApiServer(_partner) as server:
        asked: dict[str, Any] = {"rows": 3, "env_kwargs": {"partner": f"openai:x@{server.url}?attempts=1"}}
        whole = collect(TEXT, "infers", 15, tmp_path / "whole", **asked)
        limit = server.counts["requests"] * 3 // 2
        server.faults = lambda request: Fault("cut") if request.index >= limit else None
        with pytest.raises(LanguageModelError, match=r"\d+ of 15 episodes are in .*; the same command goes on"):
            collect(TEXT, "infers", 15, tmp_path / "parts", cluster=TWO, **asked)
        before = len(Episodes.load(tmp_path / "parts"))
        assert 0 < before < 15
        server.faults = None
        found = collect(TEXT, "infers", 15, tmp_path / "parts", cluster=TWO, **asked)
    assert found.content_hash == whole.content_hash


# -- what cannot be used ----------------------------------------------------------------------------------------------


def test_it_listens_on_loopback_alone(ray):
    from dialog_gym.benchmarks.ray_scaling import descendants, listening

    assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert listening([os.getpid(), *descendants(os.getpid())]) == {"127.0.0.1"}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_more_workers_than_there_are_cpus(ray):
    with (
        pytest.raises(ClusterError, match=r"3 workers need 3 CPUs.*the cluster has 2"),
        Pool(_doubling, Cluster(workers=3)),
    ):
        pass
    with pytest.raises(ClusterError, match=r"2 GPUs.*ask for fewer"), Pool(_doubling, Cluster(workers=2, gpus=1)):
        pass


def test_workers_of_another_version(ray, monkeypatch):
    own = cluster_module.worker_versions()
    monkeypatch.setattr(cluster_module, "worker_versions", lambda: {**own, "dialog_gym": "0.0.7"})
    with (
        pytest.raises(ClusterError, match=r"runs dialog_gym .* and this process 0\.0\.7; install the same"),
        Pool(_doubling, Cluster(workers=1)),
    ):
        pass
    assert ray.is_initialized(), "a connection that was there is kept"


def test_versions_that_matter_and_those_that_are_told(caplog):
    own = {"dialog_gym": "1.0", "python": "3.11.4", "torch": "2.1", "host": "here"}
    cluster_module.check_versions({**own, "python": "3.11.9", "torch": "2.2", "host": "there"}, own)
    assert "torch 2.2 against 2.1" in caplog.text
    with pytest.raises(ClusterError, match=r"the worker on there runs python 3\.12\.4 and this process 3\.11\.4"):
        cluster_module.check_versions({**own, "python": "3.12.4", "host": "there"}, own)


JOIN = """
import ray, ray._private.utils as utils
from dialog_gym.distributed import Cluster, ClusterError, map_tasks
right = utils.compute_version_info
utils.compute_version_info = lambda: (right()[0], "3.10.1")
cluster = Cluster({address!r})
try:
    list(map_tasks(abs, [-3], address={address!r}, workers=1))
except ClusterError as error:
    print(error)
utils.compute_version_info = right
print(list(map_tasks(abs, [-3], address={address!r}, workers=1)))
"""


def test_another_process_joins_unless_it_runs_another_python(ray):
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", JOIN.format(address=address)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    refused, worked = done.stdout.splitlines()
    assert f"the cluster at {address} runs other versions; install the same on every machine" in refused
    assert "3.10.1" in refused
    assert worked == "[Done(item=0, value=3, error=None)]"


@pytest.mark.parametrize("address", ["ray://host:10001", "host", "host:port", "host:70000", ""])
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match=r"Ray's client|local, auto or HOST:PORT"):
        Cluster(address)


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(cluster_module, "ANSWER_SECONDS", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no cluster answers at {address}.*ray start --head"):
            cluster_module._require_answer(address)
        closed.listen()
        with pytest.raises(ClusterError, match="timed out"):
            cluster_module._require_answer(address)
    with ApiServer(lambda body: "Hi!") as server, pytest.raises(ClusterError, match="is no Ray cluster"):
        cluster_module._require_answer(server.url.removeprefix("http://").removesuffix("/v1"))


# -- parts ------------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_parts_cover_every_seed_once_and_are_cut_at_the_same_places(seeds, size):
    parts = parts_of([(seed, 1) for seed in sorted(seeds)], 0, size)
    assert [seed for part in parts for seed in range(part.first, part.first + part.size)] == sorted(seeds)
    assert all(part.first // size == (part.first + part.size - 1) // size for part in parts)
    (whole,) = parts_of([(3, size)], 3, size)
    assert whole == Part(3, size)


class Arriving:
    """Stands for a pool: what comes of items, in a given order."""

    def __init__(self, order, failing=()):
        self.order, self.failing = order, failing
        self.asked: list[Part] = []

    def run(self, items):
        self.asked = list(items)
        for item in self.order:
            if item < len(self.asked):
                part = self.asked[item]
                failed = ValueError(f"{part.first} failed") if part.first in self.failing else None
                yield Done(item, None if failed else [part.first], failed)


@given(st.permutations(range(6)))
def test_results_are_put_in_order(order):
    parts = parts_of([(0, 6)], 0, 1)
    pool: Any = Arriving(order)
    assert [rows for _, rows in in_order(pool, parts)] == [[k] for k in range(6)]


def test_what_finished_before_an_error_is_kept_and_not_done_again(tmp_path, caplog):
    parts = parts_of([(0, 4)], 0, 1)
    episodes = {
        part.first: list(collect(TEXT, "infers", 1, tmp_path / f"{part.first}", seed=part.first)) for part in parts
    }

    class Playing(Arriving):
        def run(self, items):
            return (done._replace(value=done.value and episodes[done.value[0]]) for done in super().run(items))

    ahead = Ahead(Episodes, tmp_path, {"env": "x"})
    pool: Any = Playing([3, 0, 1, 2], failing=(1,))
    found = in_order(pool, parts, ahead)
    assert next(found) == (parts[0], episodes[0])
    with pytest.raises(ValueError, match="1 failed"):
        next(found)
    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    assert Ahead(Episodes, tmp_path, {"env": "y"}).find(parts[3]) is None, "of another environment"
    pool = Playing([0, 1, 2, 3])
    assert list(in_order(pool, parts[1:], ahead)) == [(part, episodes[part.first]) for part in parts[1:]]
    assert pool.asked == [parts[1]]
    assert "2 parts that had finished before are there" in caplog.text
    assert not (tmp_path / FOLDER).exists()


def _size(space):
    import gymnasium as gym

    return getattr(gym.make(PREFIX), f"{space}_space").shape[0]


def _pid(who):
    return int(who.split()[1])


def _quiet(folder):
    return {"answers": 0, "marker": str(folder / "marker")}


def _once(folder):
    return {"answers": 5, "marker": str(folder / "marker")}


def _die_at_three(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def _halve(item):
    if item % 2:
        raise ValueError(f"{item} is odd")
    return item // 2


def _doubling():
    return partial(int.__mul__, 2)


def _partner(body):
    return "I could do 80%." if len(body["messages"]) < 4 else "Fine, agreed."
