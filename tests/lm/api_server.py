"""Where the server was; it moved to ``dialog_gym.benchmarks.api_server``."""

from dialog_gym.benchmarks.api_server import FAULTS, ApiServer, Fault, Request, from_schema

__all__ = ["FAULTS", "ApiServer", "Fault", "Request", "from_schema"]
