"""Evening-v0: find out what a friend would like to do tonight.

Observation: the transcript, that is the four activities on offer and what has been said.
Action: an utterance. The first activity it names counts; an utterance that names none is a turn too.
Reward: 0.9 ** (turns - 1) when the friend agrees, else 0, so in [0, 1].
Terminates: "agreed" (its favourite was named) or "left" (it ran out of patience). Truncates after ``max_turns``.
Success: the friend agreed.
The friend: has one favourite. To anything else it hints whether the favourite is outdoors. It is patient for four
proposals; a turn that proposes nothing, or the same again, costs double.
Optimum: ``oracle`` earns 1.
History: v0, the first version.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.registration import register
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Reply, Task

OUTDOORS = {"swimming": True, "hiking": True, "chess": False, "cooking": False}
PATIENCE = 4
HINTS = {
    True: ("I need some fresh air.", "Not in this lovely weather, let us go out!"),
    False: ("It is cold out there.", "I would rather stay at home."),
}


class Agreement(Reward):
    """0.9 ** (turns - 1) at the turn in which the friend agrees, else 0."""

    name = "agreement"
    low = 0.0
    high = 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> npt.NDArray[np.float32]:
        """Return one score per dialogue, shape (n,), for the newest agent turn."""
        return np.array([0.9 ** (d.turn - 1) if d.success else 0.0 for d in dialogues], dtype=np.float32)


class Evening(Task):
    """The friend is scripted. What it remembers is in ``Dialogue.state``, chance comes from ``Dialogue.draws``."""

    roles = ("guest", "friend")
    max_turns = 6
    reward = Agreement()

    def scenario(self, draws: Draws) -> Scenario:
        """Draw the friend's favourite; it stands in its own goal and in ``hidden``, and the agent sees neither."""
        favourite = draws.choice(sorted(OUTDOORS))
        return Scenario(
            public=f"Two friends plan their evening: {', '.join(sorted(OUTDOORS))}?",
            private={
                "guest": "Find out what your friend would like best, and propose it soon.",
                "friend": f"You would love to spend the evening with {favourite}. Do not say so, hint at it.",
            },
            hidden={"favourite": favourite},
        )

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Set the friend's first state; the agent speaks first."""
        return replace(dialogue, state={"patience": PATIENCE, "heard": []})

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest agent turn of each dialogue."""
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Reply:
        favourite = dialogue.scenario.hidden["favourite"]
        proposed = activity(dialogue.turns[-1].text)
        if proposed == favourite:
            return Reply("Yes, I would love that!", stop_reason="agreed", success=True)
        heard = dialogue.state["heard"]
        is_new = proposed is not None and proposed not in heard
        state = {
            "patience": dialogue.state["patience"] - (1 if is_new else 2),
            "heard": [*heard, proposed] if is_new else heard,
        }
        if state["patience"] <= 0:
            return Reply("Let us do it another time.", state, "left")
        return Reply(dialogue.draws("hint").choice(HINTS[OUTDOORS[favourite]]), state)

    def oracle(self, dialogue: Dialogue) -> str:
        """Propose the favourite, which only the oracle knows: the upper end of the normalised score."""
        return f"How about {dialogue.scenario.hidden['favourite']}?"


def activity(text: str) -> str | None:
    """Return the first activity that ``text`` names, None if it names none.

    >>> activity("Chess or hiking?")
    'chess'
    """
    words = re.findall(r"[a-z]+", text.lower())
    return next((word for word in words if word in OUTDOORS), None)


register("my/Evening-v0", "dialog_gym.authoring.templates.evening:Evening")
