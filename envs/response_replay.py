"""Corpora as environments, for ``Response-v0``: the partner says what was recorded, whatever the agent says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue, Draws, Scenario, Turn
from dialog_gym.envs.response_metrics import metric_named
from dialog_gym.rewards.base import Reward
from dialog_gym.splits import part
from dialog_gym.task import Reply, Task

HISTORIES = ("said", "recorded")
EPISODES = ("dialogue", "response")
_OPTIONS: Mapping[str, Mapping[str, Any]] = {"abcd": {"actions": False}}  # of readers, where others fit better here


class Record(NamedTuple):
    """A recorded dialogue, in turns that alternate as far as they did.

    Attributes:
        key: Names it.
        scenario: What both knew, and each alone.
        turns: What was said; consecutive turns of one role are one, line by line.
        places: Which of them are the agent's.
    """

    key: str
    scenario: Scenario
    turns: tuple[Turn, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, episode: Recorded, corpus: str) -> Record:
        """Return the record that a reader of ``corpus`` yielded."""
        dialogue = episode.dialogue
        turns: list[Turn] = []
        for role, text in dialogue.turns:
            if turns and turns[-1].role == role:
                turns[-1] = Turn(role, f"{turns[-1].text}\n{text}")
            else:
                turns.append(Turn(role, text))
        key = str(dialogue.scenario.hidden.get("id") or f"{corpus} {episode.seed}")
        places = tuple(place for place, turn in enumerate(turns) if turn.role == dialogue.roles[0])
        return cls(key, dialogue.scenario, tuple(turns), places)


class Replay(Task):
    """A recorded corpus to answer in; see ``dialog_gym.envs.response`` for the rules.

    Args:
        corpus: Format, as ``dialog_gym.data.corpora.read_corpus`` takes it.
        scenarios: File or folder (or ``"hub:NAME"``) of the corpus.
        split: ``"all"``, ``"train"`` or ``"heldout"``: 70 and 30 percent of the dialogues, by a hash of their ids.
        corpus_split: The corpus' own split, where it has some (``"train"``, ``"validation"``, ``"test"``).
        metric: What each answer earns, against what was recorded there: a name (``response_metrics.metric_named``) or
            any ``Reward``, which finds the recorded answer in ``dialogue.state["references"]``.
        encoder: Folder of the model of ``"bertscore"``, ``"click"`` and ``"bleurt"``.
        episode: ``"dialogue"``: answer every turn of a dialogue; ``"response"``: one turn of it, all turns of all
            dialogues being equally likely.
        history: What a language model reads as its own earlier answers: ``"said"``, or ``"recorded"`` (teacher
            forcing). What is observed as text, and kept in the dialogue, is what was said.
        context: Recorded turns before the first answer that are kept; None: all.
        max_turns: Answers after which the dialogue is truncated; None: as many as were recorded.
        limit: Dialogues that are read; None: all.
        skip_bad: Leave out damaged records.
        options: Those of the reader; of ABCD the turns that are no words are left out unless ``{"actions": True}``.
    """

    def __init__(
        self,
        corpus: str,
        scenarios: str | Path,
        split: str = "all",
        corpus_split: str = "",
        metric: str | Reward = "bleu",
        encoder: str | None = None,
        episode: str = "dialogue",
        history: str = "said",
        context: int | None = None,
        max_turns: int | None = None,
        limit: int | None = None,
        skip_bad: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the corpus; see the class for the arguments."""
        _one_of("episode", episode, EPISODES)
        _one_of("history", history, HISTORIES)
        for name, number in (("context", context), ("max_turns", max_turns), ("limit", limit)):
            least = 0 if name == "context" else 1
            if number is not None and number < least:
                raise ValueError(f"{name} must be at least {least} or None, got {number}")
        self.episode, self.history, self.context = episode, history, context
        reading = read_corpus(
            corpus, scenarios, split=corpus_split, skip_bad=skip_bad, **{**_OPTIONS.get(corpus, {}), **(options or {})}
        )
        self.records, self.roles = _records(reading, corpus, limit)
        self.records = part(self.records, split, lambda record: record.key, f"dialogues of {corpus}")
        longest = max(len(record.places) for record in self.records)
        # Recorded turns of the agent in the context count as turns of the dialogue, and one answer ends it by itself.
        self.max_turns = longest if episode == "response" else max_turns or longest
        self.pairs = [(number, place) for number, record in enumerate(self.records) for place in record.places]
        self.reward = metric_named(metric, encoder)
        if metric == "click":
            self.success_above = (self.reward.name, 0.5)

    def scenario(self, draws: Draws) -> Scenario:
        """Draw a dialogue, or a turn of one."""
        if self.episode == "response":
            number, place = draws.choice(self.pairs)
        else:
            number = draws.integer(0, len(self.records))
            place = self.records[number].places[0]
        record = self.records[number]
        hidden = {"id": record.key, "place": place, "turns": [list(turn) for turn in record.turns]}
        return Scenario(record.scenario.public, record.scenario.private, hidden)

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Return the dialogue up to the turn that is to be answered."""
        hidden = dialogue.scenario.hidden
        place = hidden["place"]
        first = 0 if self.context is None else max(place - self.context, 0)
        turns = tuple(Turn(role, text) for role, text in hidden["turns"][first:place])
        state = {"first": first, "references": [hidden["turns"][place][1]]}
        return Dialogue(dialogue.scenario, self.roles, dialogue.seed, turns, state)

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Say what the partner said next, in each dialogue."""
        return [self._reply(dialogue, None) for dialogue in dialogues]

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Return the end where no further turn of the agent was recorded."""
        reply = self._reply(dialogue, None)
        return reply._replace(text="") if reply.stop_reason else None

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Go on after a language model, as the partner, said ``text``; the references stay the recorded ones."""
        return self._reply(dialogue, text)

    def _reply(self, dialogue: Dialogue, text: str | None) -> Reply:
        turns = dialogue.scenario.hidden["turns"]
        place, *further = self._mine(dialogue, self._answers(dialogue) - 1)
        state = {**dialogue.state, "references": [turns[place][1]]}
        if self.episode == "response":
            return Reply("", state, "answered")
        recorded = "\n".join(turns[k][1] for k in range(place + 1, further[0] if further else len(turns)))
        return Reply(recorded if text is None else text, state, "" if further else "end")

    def _answers(self, dialogue: Dialogue) -> int:
        """Return how many answers the agent has given; what it says in the context was recorded."""
        hidden, first = dialogue.scenario.hidden, dialogue.state["first"]
        before = [role for role, _ in hidden["turns"][first : hidden["place"]]]
        return dialogue.turn - before.count(self.roles[0])

    def _mine(self, dialogue: Dialogue, skipped: int) -> list[int]:
        """Return where the agent's recorded turns are, from the first to be answered on, without those ``skipped``."""
        hidden = dialogue.scenario.hidden
        turns, start = hidden["turns"], hidden["place"]
        return [place for place in range(start, len(turns)) if turns[place][0] == self.roles[0]][skipped:]

    def recorded(self, dialogue: Dialogue) -> str:
        """Return what was recorded where the agent speaks now: the answer of a person; "" where there is none."""
        places = self._mine(dialogue, self._answers(dialogue))
        return str(dialogue.scenario.hidden["turns"][places[0]][1]) if places else ""

    def oracle(self, dialogue: Dialogue) -> str:
        """Say what was recorded: what the person said earns the most that a metric gives."""
        return self.recorded(dialogue)

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat that a language model continues; under ``history="recorded"``, as it was recorded."""
        if self.history == "said" or role != self.roles[0]:
            return dialogue.messages(role)
        hidden, first = dialogue.scenario.hidden, dialogue.state["first"]
        turns = tuple(Turn(who, text) for who, text in hidden["turns"][first : first + len(dialogue.turns)])
        return Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed, turns).messages(role)


def _records(reading: Any, corpus: str, limit: int | None) -> tuple[tuple[Record, ...], tuple[str, str]]:
    """Return the dialogues in which the agent speaks, and the roles."""
    records, roles = list[Record](), ("", "")
    for episode in reading:
        if not isinstance(episode, Recorded):
            raise ValueError(
                f"expected a corpus of dialogues, got {corpus!r}, which holds preferences; train on it (DPO, KTO), or "
                "ask its questions in Advice-v0"
            )
        record = Record.of(episode, corpus)
        if record.places:
            records.append(record)
            roles = episode.dialogue.roles
        if limit is not None and len(records) >= limit:
            break
    if not records:
        raise ValueError(f"expected dialogues of {corpus} in which the agent speaks, got none")
    return tuple(records), roles


def _one_of(name: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {given!r}")
