"""Suites, measurements and reports; every module in it is one benchmark, run as ``python -m``."""

if __name__ != "dialog_gym.benchmarks":
    raise ImportError(f"import this folder as dialog_gym.benchmarks, not as {__name__!r}")
