"""What a reward model reads of a turn: what was said before it, the turn, and perhaps the partner's answer.

As in GELI, at most ``utterances`` of a dialogue are read, the response among them; where they are too many tokens the
oldest go, never the response. Unlike the published code, only the agent's turns are responses, whichever their
position.
"""

from __future__ import annotations

from collections.abc import Iterator

from dialog_gym.dialogue import Dialogue

UTTERANCES = 20
"""Most utterances read, the response included, as in stage 2 of GELI."""
AGENT, PARTNER = "AI", "User"
"""What text encoders see of the roles, as in GELI."""


def beginnings(dialogue: Dialogue, utterances: int = UTTERANCES, *, answer: bool = False) -> Iterator[Dialogue]:
    """Yield the dialogue as it was at each agent turn, cut to the newest utterances; the hidden state is left out.

    Args:
        dialogue: A whole dialogue, or one that goes on.
        utterances: Most utterances, the response included, at least 1.
        answer: Whether what the partner answered is read too; it comes on top.

    Raises:
        ValueError: ``utterances`` is below 1.
    """
    for place, turn in enumerate(dialogue.turns):
        if turn.role == dialogue.roles[0]:
            yield beginning(dialogue, place, utterances, answer=answer)


def beginning(dialogue: Dialogue, place: int, utterances: int = UTTERANCES, *, answer: bool = False) -> Dialogue:
    """Return the dialogue as it was at its turn ``place``, which is the agent's; see ``beginnings``."""
    if utterances < 1:
        raise ValueError(f"utterances must be at least 1 (the response itself), got {utterances}")
    end = place + 1
    while answer and end < len(dialogue.turns) and dialogue.turns[end].role != dialogue.roles[0]:
        end += 1
    turns = dialogue.turns[max(0, place + 1 - utterances) : end]
    return Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed, turns)


def response_place(heard: Dialogue) -> int:
    """Return the place of the newest agent turn, which is the response.

    Raises:
        ValueError: The agent has not spoken.
    """
    places = [place for place, turn in enumerate(heard.turns) if turn.role == heard.roles[0]]
    if not places:
        raise ValueError(f"the agent ({heard.roles[0]}) has said nothing yet in the dialogue of seed {heard.seed}")
    return places[-1]


def written(heard: Dialogue, separator: str) -> str:
    r"""Return a beginning as text: the context, ``separator``, the response, and the answer if it is there.

    >>> from dialog_gym.dialogue import Scenario
    >>> talk = Dialogue(Scenario(""), ("clerk", "guest")).said("guest", "Hi!").said("clerk", "Hello.")
    >>> written(talk, "</s>")
    'User: Hi! </s> AI: Hello.'
    """
    place = response_place(heard)
    lines = [f"{AGENT if role == heard.roles[0] else PARTNER}: {text}" for role, text in heard.turns]
    context, said = " ".join(lines[:place]), " ".join(lines[place:])
    return f"{context} {separator} {said}".strip()
