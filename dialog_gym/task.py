"""What the author of an environment writes: scenarios, the partner, the end and the reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from dialog_gym.dialogue import Dialogue, Draws, Json, Scenario

if TYPE_CHECKING:
    from dialog_gym.rewards.base import Reward


class Reply(NamedTuple):
    """The partner's answer to one agent turn.

    Attributes:
        text: What the partner says; ``""`` adds no turn (the partner left without a word).
        state: The partner's hidden state afterwards, JSON; None keeps the present one.
        stop_reason: Why the dialogue is over now (``"deal"``, ``"left"``, ...), ``""`` if it goes on.
        success: Whether the agent's goal was reached.
    """

    text: str
    state: Mapping[str, Json] | None = None
    stop_reason: str = ""
    success: bool = False


class Task(ABC):
    """A game played in words. Subclass, and register with ``dialog_gym.registration.register``.

    A task keeps no memory of any dialogue: whatever the partner must remember is in
    ``Dialogue.state``, and chance comes from ``Dialogue.draws``. So any dialogue can be stepped
    beside any other, forked, written as JSON and resumed, with the same result.

    Attributes:
        roles: The agent's role and the partner's.
        max_turns: Agent turns after which the dialogue is truncated.
        max_chars: Longest utterance, in characters.
        reward: What the agent earns for its newest turn.
        cost: A constraint, reported in ``info["cost"]`` and not part of the reward; None for 0.
        budget: Mean cost of an episode that is allowed; None where there is no limit.
        signals: What is measured for the newest agent turn and neither rewarded nor a cost (the partner's visible
            affect), reported in ``info["signals"]`` by these names.
        success_above: Where a score settles success and not the partner (a judge of its answers): a name in
            ``info["reward_terms"]`` and the score above which the goal is reached. Once reached, it stays reached.
            The dialogue goes on; rewards are computed before, costs and signals after. None: ``Reply.success`` tells.
    """

    roles: tuple[str, str]
    max_turns: int = 8
    max_chars: int = 2000
    reward: Reward
    cost: Reward | None = None
    budget: float | None = None
    signals: Mapping[str, Reward] = MappingProxyType({})
    success_above: tuple[str, float] | None = None
    model_tokens: ClassVar[tuple[str, ...]] = ()  # tokens of the notation for language models, see ``messages``
    render_hint: ClassVar[str] = ""  # a line under the heading of a rendered dialogue

    @abstractmethod
    def scenario(self, draws: Draws) -> Scenario:
        """Draw what is settled before the first word."""

    @abstractmethod
    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest agent turn of each dialogue, as one batch.

        A reply must depend on its own dialogue alone. A failing model raises; it never returns a
        made-up utterance.
        """

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Return how the dialogue ends if the agent's newest turn alone ends it, else None.

        Asked where a language model speaks for the partner (``dialog_gym.partner``), before it is. By default a
        partner always has a word.
        """
        return None

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Return what follows when a language model, as the partner, answers the newest agent turn with ``text``.

        By default it is plain talk: nothing in it ends the dialogue. Override it (and ``settled``) where words
        settle something: ``Bargain-v0`` closes the deal when one agrees to the other's price.
        """
        return Reply(text)

    def contradicts(self, dialogue: Dialogue) -> bool | None:
        """Return whether the partner's newest turn contradicts its scenario or what it said before; None: not known.

        Counted in the report on a partner (``dialog_gym.partner_report``), above all of a language model in its place.
        Override it where the words can be checked: a price beyond the partner's limit, a fact that it takes back.
        """
        return None

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Return ``dialogue`` (no turns yet) as the agent finds it: initial state, perhaps a greeting."""
        return dialogue

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat a language model continues to speak as ``role``.

        Override together with ``utterance`` when models should read and write another notation than
        people do (``Bargain-v0`` shows them prices in percent of the list price).
        """
        return dialogue.messages(role)

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Turn what a language model wrote in ``dialogue`` into what is said."""
        return text.strip()

    def oracle(self, dialogue: Dialogue) -> str:
        """Say what the best policy that sees the hidden state would say. Embedded worlds only (``World``).

        Raises:
            NotImplementedError: This task has no oracle.
        """
        raise NotImplementedError(f"{type(self).__name__} has no oracle; only embedded worlds have one")
