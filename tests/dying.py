"""A task that kills the process it runs in, once: ``tests.dying:toy/Dying-v0``."""

import os
import signal
from pathlib import Path

from dialog_gym.registration import register
from tests.toy import GuessTask


class Dying(GuessTask):
    """Dies when the ``answers``-th reply of a process is asked for, unless ``marker`` is there."""

    def __init__(self, answers: int = 1, marker: str = "") -> None:
        super().__init__()
        self.answers, self.marker = answers, marker

    def reply(self, dialogues):
        if len(self.batches) + 1 == self.answers and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reply(dialogues)


register("toy/Dying-v0", "tests.dying:Dying")
