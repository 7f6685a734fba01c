"""Where speakers lie that were built here: the user's cache. ``speaker:NAME`` is the one in ``speakers/NAME``.

Models that are too large to ship are built by ``dialog-gym fit speaker`` and found by their short name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

COMMAND = "dialog-gym fit speaker --corpus FORMAT PATH"


def cache_folder() -> Path:
    """Return the folder for what was built here and can be built again.

    ``$DIALOG_GYM_CACHE``, else ``$XDG_CACHE_HOME/dialog_gym``, else ``~/.cache/dialog_gym``. It is not made.
    """
    if own := os.environ.get("DIALOG_GYM_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache") / "dialog_gym"


def speaker_folder(name: str) -> Path:
    """Return where the speaker ``name`` lies, or would.

    Raises:
        ValueError: The name has other characters than letters, digits, ``_``, ``-`` and ``.``.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"a speaker is named by letters, digits, '_', '-' and '.', got {name!r:.60}")
    return cache_folder() / "speakers" / name


def built_speaker(name: str) -> Path:
    """Return the folder of the speaker ``name``.

    Raises:
        ValueError: It was not built; the message names those that were, and the command that builds one.
    """
    folder = speaker_folder(name)
    if (folder / "config.json").is_file():
        return folder
    built = sorted(path.parent.name for path in folder.parent.glob("*/config.json"))
    raise ValueError(
        f"there is no speaker {name!r} in {folder.parent} (there: {', '.join(built) or 'none'}); build it: {COMMAND}"
    )
