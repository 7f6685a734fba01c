"""What ``dialog-gym new`` writes, with other names: an environment and a reward that work, and their tests."""

from __future__ import annotations
