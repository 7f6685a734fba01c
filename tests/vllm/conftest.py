"""A real vLLM engine in this process and a real server on loopback, one of each for all tests of this folder.

``make test-vllm`` runs them in an environment of their own; the default test run does not come here.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from dialog_gym.lm import WEIGHTS, load

os.environ.update(
    VLLM_CPU_KVCACHE_SPACE="1",  # GiB
    VLLM_LOGGING_LEVEL="WARNING",
    VLLM_HOST_IP="127.0.0.1",  # else it looks for an address that others could reach
    VLLM_NO_USAGE_STATS="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",  # tests share the machine
)

POSITIONS = 4096


def pytest_collection_modifyitems(items):
    for item in items:  # vLLM's own use of torch and Python; not ours to mend
        for kind in ("DeprecationWarning", "FutureWarning", "UserWarning", "ResourceWarning"):
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The steerable model, which may read more tokens than it was trained on, since a judge's question is long."""
    copy = tmp_path_factory.mktemp("models") / "steerable"
    shutil.copytree(WEIGHTS / "tiny-bargain", copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": POSITIONS}))
    return copy


@pytest.fixture(scope="session")
def reference(folder):
    """The same weights through transformers."""
    return load(f"hf:{folder}")


@pytest.fixture(scope="session")
def engine(folder):
    """The same weights through vLLM in this process; its name is its spec."""
    lm: Any = load(f"vllm:{folder}?max_model_len={POSITIONS}&enforce_eager=true")
    yield lm
    lm.close()


@pytest.fixture(scope="session")
def server(folder, tmp_path_factory):
    """The same weights behind vLLM's server; the base of its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
        "--served-model-name", "steerable", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--max-model-len", str(POSITIONS), "--enforce-eager", "--enable-prompt-embeds",
        "--no-enable-chunked-prefill",  # vLLM 0.32 on a CPU dies of seeds in a batch that it splits
        "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _stop(process)


def _die_with_parent():
    """Let Linux end the server if the tests are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
        if process.poll() is not None:
            break
    pytest.fail(f"vLLM's server did not start (exit code {process.poll()}); the end of its log:\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and the processes it started, gently if they let us."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            continue
    process.wait(20)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])
