"""For authors of environments and rewards: templates to start from, and the commands ``new`` and ``check``."""

from __future__ import annotations
