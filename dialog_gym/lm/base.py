"""What every language model offers, whichever library or server runs it.

Nothing here imports torch: environments, judges and partners speak to these protocols only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dialog_gym.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

Messages: TypeAlias = Sequence[Mapping[str, str]]
"""A chat: mappings with ``role`` (``system``, ``user`` or ``assistant``) and ``content``."""

Position: TypeAlias = Literal["end", "start"]
"""Where a prefix goes: right before the reply, or at the start of the prompt (after BOS)."""

Embeddings: TypeAlias = "torch.Tensor | NDArray[Any]"
"""Input embeddings of a prefix, (n, prefix tokens, embedding size)."""

Schema: TypeAlias = Mapping[str, Any]
"""A JSON schema that a reply must obey."""

CAPABILITIES: Mapping[str, str] = {
    "prefix": "'tiny-bargain', 'hf:NAME_OR_PATH', 'vllm:NAME_OR_PATH', or 'openai:MODEL@URL' of a vLLM server",
    "state": "'tiny', 'hf:NAME_OR_PATH'",
    "logprobs": "'tiny', 'hf:NAME_OR_PATH', 'vllm:NAME_OR_PATH', or 'openai:MODEL@URL' of a vLLM server",
    "json": "'vllm:NAME_OR_PATH', 'openai:MODEL@URL'",
}
"""What a backend may be able to do: take a prefix, give its state, score a text, obey a JSON schema; and which can."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn.

    Attributes:
        max_tokens: Longest reply, in tokens, the end-of-turn token included.
        temperature: 0 takes the most probable token, 1 samples the model's own distribution.
        top_p: Samples among the most probable tokens that together have this probability.
    """

    max_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that no backend could obey."""
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and at least 0 (which is greedy), got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")


class Generation(NamedTuple):
    """One reply.

    Attributes:
        text: What was said, without special tokens and outer white space.
        tokens: The token ids drawn, the end-of-turn token included if there was one; empty if a server did not
            tell them.
        logprobs: Log-probability of each token drawn under the model at temperature 1 without
            ``top_p`` (but given the prefix), whatever the sampling was; empty if a server did not tell them.
        stop: ``"end"`` if the model ended its turn, ``"length"`` if it was cut.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Literal["end", "length"]


@dataclass(slots=True)
class Counts:
    """Work done by a model so far; padding is not counted.

    Attributes:
        forwards: Calls of the network, each over a whole batch; 0 where the network is elsewhere.
        prefilled: Prompt and prefix tokens fed to it (a server's own count, where there is one).
        generated: Tokens of replies drawn from it.
        requests: Requests sent to a server, those sent again included.
        retries: How many of them were sent again, by what had gone wrong: ``"429"``, ``"500"``, ``"connection"``,
            ``"timeout"``, ``"malformed"``, ``"empty"``.
        hits: Replies taken from a cache on disk instead of the model.
        cost: Price of all tokens, in the currency of the prices that were given.
    """

    forwards: int = 0
    prefilled: int = 0
    generated: int = 0
    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    hits: int = 0
    cost: float = 0.0

    def reset(self) -> None:
        """Set all counts to zero."""
        self.__init__()  # type: ignore[misc]


class Session(Protocol):
    """Several chats (rows) with a memory for what the model has computed of each.

    The memory saves time and never changes a result beyond float rounding: the state and the reply
    are functions of the text of a prompt, the prefix and the seed.
    """

    def read(self, rows: Sequence[int], prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Read one prompt in each of ``rows``; return the states, (n, hidden_size).

        The state is the last hidden state (after the final norm) of the last token of the prompt with
        the generation prompt. Only what the row does not hold yet is computed.
        """
        ...

    def write(
        self,
        rows: Sequence[int],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
    ) -> list[Generation]:
        """Reply to the prompts last read in ``rows``. May be called again for another reply to the same."""
        ...

    def forget(self, rows: Sequence[int] | None = None) -> None:
        """Drop the memory of ``rows`` (None: all); they must be read again before they are written."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen model that writes replies and reads prompts.

    Attributes:
        name: For people and logs.
        hidden_size: Length of a state vector, 0 where ``"state"`` is not supported.
        supports: What it can do, a subset of ``CAPABILITIES``. The rest raises ``UnsupportedError``.
        counts: Work done so far.
    """

    name: str
    hidden_size: int
    supports: frozenset[str]
    counts: Counts

    def generate(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
        schema: Schema | None = None,
    ) -> list[Generation]:
        """Return one reply to each prompt; sampled token t of a row depends on its seed, t and its logits alone.

        Args:
            prompts: Chats to go on with, in one batch.
            sampling: How replies are drawn.
            prefixes: Input embeddings put into the prompts (``"prefix"``).
            seeds: One integer per prompt, needed at a temperature above 0.
            position: Where the prefixes go.
            schema: JSON schema that every reply obeys (``"json"``).
        """
        ...

    def embed(self, prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Return the state of each prompt, (n, hidden_size); see ``Session.read``."""
        ...

    def logprobs(
        self, prompts: Sequence[Messages], continuations: Sequence[str | Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Return the log-probability of each token of each continuation, given its prompt.

        A continuation is a text, scored without an end-of-turn token, or token ids as in ``Generation.tokens``.
        """
        ...

    def session(self, rows: int, *, mean: bool = False) -> Session:
        """Return a memory for ``rows`` chats that go on from call to call.

        With ``mean``, ``Session.read`` returns (n, 2 * hidden_size): the state, and the mean of the last hidden
        states of all tokens of the prompt, which tells more of what was said long ago.
        """
        ...


def require(lm: LanguageModel, needed: Collection[str], purpose: str) -> None:
    """Refuse ``lm`` where it cannot do what ``purpose`` needs.

    Args:
        lm: The model somebody asked for.
        needed: Members of ``CAPABILITIES``.
        purpose: What needs them, as the subject of a sentence: ``"steering by vectors"``.

    Raises:
        UnsupportedError: The model lacks one; the message says which backend has it.
    """
    for capability in sorted(set(needed) - lm.supports):
        raise UnsupportedError(
            f"{purpose} needs {capability!r}, which language model {lm.name!r} does not support (it supports "
            f"{', '.join(sorted(lm.supports)) or 'plain replies alone'}); use {CAPABILITIES[capability]}"
        )
