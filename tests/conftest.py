"""One thread, no network, no screen: the same for every test and for the processes it starts."""

import ipaddress
import os
import signal
import socket

import hypothesis
import pytest

os.environ.update(
    OMP_NUM_THREADS="1",  # tiny networks spend their time on handing work over between threads otherwise
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    WANDB_MODE="offline",
    MPLBACKEND="Agg",
)

# A shell that starts the tests in the background has Ctrl-C ignored, here and in every process started from here.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("default", deadline=None)  # a loaded machine is not a failing test
hypothesis.settings.load_profile("default")


def is_local(address: object) -> bool:
    """Return whether a socket address stays on this machine (paths of Unix sockets do)."""
    if not isinstance(address, tuple):
        return True
    try:
        return bool(ipaddress.ip_address(address[0]).is_loopback)
    except ValueError:
        return bool(address[0] == "localhost")


@pytest.fixture(autouse=True)
def _no_network(request, monkeypatch):
    """Refuse connections that leave this machine, except in tests marked ``network``."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def guarded(self, address):
        if not is_local(address):
            raise ConnectionRefusedError(f"a test tried to reach {address!r}; mark it 'network' if it must")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
