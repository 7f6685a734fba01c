"""Where workers are: a cluster of this machine's own, on loopback, or one that somebody has started.

Whoever can reach the ports of a Ray cluster may run what he likes in it. So a local cluster listens on 127.0.0.1
alone and has no dashboard; one over several machines is started by hand, in a network where that is safe:
``ray start --head --node-ip-address=ADDRESS`` on the first, ``ray start --address=ADDRESS:6379`` on the others, and
the program runs on one of them. No usage statistics are sent.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from dialog_gym.errors import ClusterError
from dialog_gym.runs import versions

log = logging.getLogger("dialog_gym")

LOCAL = "local"
LOOPBACK = "127.0.0.1"
ANSWER_SECONDS = 5.0  # for a port that is said to be a cluster's
START_SECONDS = 120.0  # for all workers to start; Ray's own take some 10 s on a busy machine
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray keeps to loopback, on every system
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # preface, empty SETTINGS


@dataclass(frozen=True)
class Cluster:
    """Where work is done, and by how many.

    Attributes:
        address: ``"local"`` starts a cluster on this machine and stops it in the end; ``"auto"`` or ``"HOST:PORT"``
            joins one that is running, of which this machine is part.
        workers: How many, each with an environment and a model of its own; 0: one for each CPU of the cluster.
        gpus: GPUs of each worker; 0.5 lets two share one. Without any, workers see no GPU.
    """

    address: str = LOCAL
    workers: int = 0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what names no cluster."""
        if self.workers < 0 or self.gpus < 0:
            raise ValueError(f"workers and gpus must be at least 0, got {self.workers} and {self.gpus}")
        if self.address.startswith("ray://"):
            raise ValueError(
                f"{self.address} is an address for Ray's client, which is not used here; run this on a machine of "
                "the cluster, with HOST:PORT or auto"
            )
        if self.address not in (LOCAL, "auto"):
            _host_and_port(self.address)

    @classmethod
    def of(cls, ray: str | None, workers: int, gpus: float) -> Cluster | None:
        """Return what the flags ``--ray``, ``--workers`` and ``--gpus`` say; None without ``--ray``."""
        if ray is None and (workers or gpus):
            raise ValueError("--workers and --gpus are for --ray local or --ray ADDRESS; add that")
        return None if ray is None else cls(ray, workers, gpus)


@contextmanager
def connected(cluster: Cluster) -> Iterator[int]:
    """Be connected to ``cluster`` in the block; yield the number of workers that it is to have.

    A connection that this process has already is used as it is, whatever ``cluster.address`` says, and is kept.

    Raises:
        ClusterError: Nobody answers there, it runs other versions, or it is too small.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    mine = not ray.is_initialized()
    if mine:
        _connect(cluster)
    try:
        yield _worker_count(cluster, ray.cluster_resources())
    finally:
        if mine:
            ray.shutdown()


def check_versions(found: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> None:
    """Compare what a worker runs (``worker_versions``) with what this process runs.

    Raises:
        ClusterError: Its dialog_gym or its Python (major and minor) is another one.
    """
    own = worker_versions() if own is None else own
    for name in ("dialog_gym", "python"):
        if _level(name, found[name]) != _level(name, own[name]):
            raise ClusterError(
                f"the worker on {found['host']} runs {name} {found[name]} and this process {own[name]}; install the "
                f"same on every machine of the cluster"
            )
    others = {name for name in own if name != "host" and found.get(name) != own[name]}
    if others:
        told = ", ".join(f"{name} {found.get(name)} against {own[name]}" for name in sorted(others))
        log.warning("the worker on %s runs other versions: %s; numbers may differ", found["host"], told)


def worker_versions() -> dict[str, Any]:
    """Return what this process runs, and where."""
    from dialog_gym import __version__

    return {**versions(), "dialog_gym": __version__, "host": platform.node()}


def _connect(cluster: Cluster) -> None:
    import ray
    from ray._private import worker

    worker.print_to_stdstream = _to_log  # Ray would write to standard output, where --json is
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if cluster.address == LOCAL:
            with _on_loopback():
                ray.init(
                    LOCAL, num_cpus=cluster.workers or None, include_dashboard=False, namespace="dialog_gym", **quiet
                )
                _check_loopback()
            return
        with _way_to(cluster.address):
            ray.init(cluster.address, namespace="dialog_gym", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        ray.shutdown()
        if isinstance(error, ClusterError):
            raise
        raise ClusterError(_why(cluster, error)) from error


def _to_log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    """Write what Ray's own processes complain of to the log."""
    for line in data["lines"]:
        log.warning("Ray says: %.160s ...", line)


def _why(cluster: Cluster, error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if "Version mismatch" in text:
        return f"the cluster at {cluster.address} runs other versions; install the same on every machine: {text}"
    if cluster.address == LOCAL:
        return f"Ray could not be started on this machine: {text}"
    return (
        f"no connection to the cluster at {cluster.address}: {text}. It must be running (ray start --head), this "
        "machine must be part of it (ray start --address=HOST:PORT), and where it asks for a token, RAY_AUTH_MODE="
        "token must be set here too"
    )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let Ray take 127.0.0.1 as the address of this node: its servers then listen there alone.

    ``_node_ip_address="127.0.0.1"`` does not (Ray 2.60): it is replaced by the address that others can reach.
    """
    from ray._private import ray_constants

    before, told = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(_CLUSTERS)
    ray_constants.ENABLE_RAY_CLUSTER = False  # of this process, where Ray may have been imported long ago
    os.environ[_CLUSTERS] = "0"  # of the processes that it starts
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(_CLUSTERS)
        if told is not None:
            os.environ[_CLUSTERS] = told


@contextmanager
def _way_to(address: str) -> Iterator[None]:
    """See that a cluster answers, and let Ray look on loopback where it answers there alone.

    Ray takes 127.0.0.1 for the address at which others reach this machine.
    """
    if address == "auto":
        yield
        return
    _require_answer(address)
    host, port = _host_and_port(address)
    alone = host in (LOOPBACK, "localhost")
    if alone:
        import ray

        with suppress(ClusterError):
            _require_answer(f"{ray.util.get_node_ip_address()}:{port}")
            alone = False
    with _on_loopback() if alone else nullcontext():
        yield


def _check_loopback() -> None:
    import ray

    address = ray.util.get_node_ip_address()
    if address != LOOPBACK:
        raise ClusterError(
            f"this version of Ray ({ray.__version__}) listens on {address} instead of {LOOPBACK}, where others could "
            "reach it; install the version in constraints.txt"
        )


def _require_answer(address: str) -> None:
    """Refuse an address where no gRPC server speaks; Ray itself would try for many minutes.

    Raises:
        ClusterError: Nobody listens, or what listens says nothing.
    """
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return  # nobody speaks there before the certificates are shown
    try:
        with socket.create_connection(_host_and_port(address), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(_HTTP2)
            answer = connection.recv(9)
    except OSError as error:
        raise ClusterError(
            f"no cluster answers at {address} ({str(error) or type(error).__name__}); start one there with `ray "
            "start --head`, or use local"
        ) from error
    if answer[3:4] != b"\x04":  # every HTTP/2 server begins with its SETTINGS
        raise ClusterError(f"what answers at {address} is no Ray cluster; its port is the one `ray start` names, 6379")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and int(port) < 2**16):
        raise ValueError(f"the address of a cluster is local, auto or HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


def _worker_count(cluster: Cluster, resources: Mapping[str, float]) -> int:
    cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
    count = cluster.workers or max(1, min(cpus, int(gpus / cluster.gpus) if cluster.gpus else cpus))
    if count > cpus or count * cluster.gpus > gpus:
        raise ClusterError(
            f"{count} workers need {count} CPUs and {count * cluster.gpus:g} GPUs, and the cluster has {cpus} and "
            f"{gpus:g}; ask for fewer workers"
        )
    return count


def _level(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version
