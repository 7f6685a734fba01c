"""One's own chats: a table with a row per message, or records with a list of messages.

CSV, TSV, JSON (an array), JSON lines or Parquet. Options name the columns; where one is not given, the usual names are
tried. ``dialog-gym data read chats my.csv --option conversation=ticket --option role=author --option agent=support``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from dialog_gym.data.corpora.base import grouped, proper, recorded
from dialog_gym.data.corpora.files import CorpusError, Numbered, Source
from dialog_gym.data.episodes import Recorded

ROLES = ("assistant", "user")
USUAL: Mapping[str, tuple[str, ...]] = {
    "conversation": ("conversation_id", "dialogue_id", "conversation", "dialogue", "conv_id", "session_id", "id"),
    "role": ("role", "speaker", "sender", "author", "from"),
    "text": ("text", "content", "message", "utterance", "value", "body"),
    "messages": ("messages", "conversations", "turns", "utterances", "chat"),
}
"""Names of columns that are tried where none is given."""
AGENTS = ("assistant", "agent", "bot", "gpt", "model", "system", "support", "listener")


class _Columns(NamedTuple):
    """Where things stand, see ``read``."""

    conversation: str
    role: str
    text: str
    messages: str
    agent: str
    context: str
    reward: str
    score: str


def read(
    source: Source,
    conversation: str = "",
    role: str = "",
    text: str = "",
    messages: str = "",
    agent: str = "",
    context: str = "",
    reward: str = "",
    score: str = "",
) -> Iterator[Recorded]:
    """Yield the conversations, between ``"assistant"``, the agent, and ``"user"``.

    ``scenario.hidden``: ``id``. ``state["turns"]``: ``{"speaker": ...}``, who spoke by the file's own name.

    Args:
        source: The files.
        conversation: Column that says which conversation a message belongs to; its messages follow each other.
        role: Column that says who speaks.
        text: Column that says what.
        messages: Column with a list of messages, where a record is a whole conversation.
        agent: What ``role`` is for the agent, several with commas between; everybody else is the partner.
        context: What ``role`` is where the text is no turn but what both know (``"system"`` of a chat template).
        reward: Column that says what a message of the agent earned, 0 where it is empty.
        score: Column that says what the conversation was given: its first value that is not empty.

    Raises:
        CorpusError: No column has the name that was given, or none of the usual ones; or nobody is the agent.
    """
    given, begun = _Columns(conversation, role, text, messages, agent, context, reward, score), set[bytes]()
    for number, key, group, whole in _conversations(source, given):
        with source.record(number, key):
            if whole is None:
                mark = blake2b(key.encode(), digest_size=8).digest()
                if mark in begun:
                    raise ValueError("the messages of a conversation must follow each other; sort the file by them")
                begun.add(mark)
            yield _conversation(group, whole or group[0], key, number, given)


def _conversations(
    source: Source, given: _Columns
) -> Iterator[tuple[int, str, list[Mapping[str, Any]], Mapping[str, Any] | None]]:
    """Yield number, id, messages, and the record that holds them if there is one."""
    rows = source.rows()
    first = next(rows, None)
    if first is None:
        return
    if not isinstance(first[1], Mapping):
        raise CorpusError(f"{source.place(first[0])}: expected {source.expected}; got another: {first[1]!r:.60}")
    messages = given.messages or next((name for name in USUAL["messages"] if name in first[1]), "")
    if messages:
        for number, row in _again(first, rows):
            with source.record(number):
                key = next(
                    (str(row[name]) for name in (given.conversation, *USUAL["conversation"]) if name in row), ""
                )
                yield number, key, list(row[messages]), row
        return
    column = _column("conversation", given.conversation, first[1])
    for number, key, group in grouped(source, _again(first, rows), column):
        yield number, key, group, None


def _again(first: tuple[int, Any], rest: Numbered) -> Numbered:
    yield first
    yield from rest


def _conversation(
    group: list[Mapping[str, Any]], whole: Mapping[str, Any], key: str, number: int, given: _Columns
) -> Recorded:
    role, text = (_column(name, getattr(given, name), group[0]) for name in ("role", "text"))
    context = [row for row in group if given.context and row[role] == given.context]
    said = [row for row in group if not given.context or row[role] != given.context]
    speakers = list(dict.fromkeys(row[role] for row in said))
    agents = _agents(given.agent, speakers)
    turns = [(ROLES[row[role] not in agents], row[text]) for row in said]
    rewards = None
    if given.reward:
        rewards = [_number(row[given.reward]) or 0.0 for row in said if row[role] in agents]
    scores = [_number(row[given.score]) for row in [whole, *group] if given.score in row] if given.score else []
    if given.score and not scores:
        raise KeyError(given.score)
    return recorded(
        ROLES,
        turns,
        number,
        public="\n".join(proper(row[text], "a context") for row in context),
        hidden={"id": key},
        state={"turns": [{"speaker": row[role]} for row in said]},
        rewards=rewards,
        score=next((score for score in scores if score is not None), None),
    )


def _column(option: str, given: str, row: Mapping[str, Any]) -> str:
    found = [name for name in ([given] if given else USUAL[option]) if name in row]
    if not found:
        wanted = repr(given) if given else f"one of {', '.join(USUAL[option])}"
        raise CorpusError(
            f"expected a column with the {option}: {wanted}, got {', '.join(map(str, row))}; name it: "
            f"{option}=COLUMN (--option {option}=COLUMN)"
        )
    return found[0]


def _agents(given: str, speakers: list[Any]) -> set[Any]:
    names = [name.strip() for name in given.split(",")] if given else [s for s in speakers if str(s).lower() in AGENTS]
    if not given and not names:
        raise CorpusError(
            f"expected one of the speakers {', '.join(map(repr, speakers))} to be the agent; say who: agent=NAME "
            "(--option agent=NAME)"
        )
    return {speaker for speaker in speakers if str(speaker) in names} if given else set(names)


def _number(value: Any) -> float | None:
    """Return a number out of a cell, None out of an empty one."""
    return None if value is None or value == "" else float(value)
