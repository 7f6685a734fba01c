"""A society that teaches itself: the Sandbox of Stable Alignment (Liu et al. 2023, arXiv:2305.16960).

``simulate(folder, Settings(...), rounds)`` plays back-scatter rounds (``society_round``) of many agents on a grid and
leaves behind::

    world.json            format and settings
    rounds/000000.json    all that was said in a round, and its metrics; the rename of this file commits the round
    rankings/             the training data: ``dialog_gym.data.Rankings``, a row for each agent and round
    metrics.json          the metrics of all rounds
    memories.json         what every agent remembers in the end

The same settings give the same world, byte for byte, however many calls are under way at a time and however often it
was killed and started again: all chance follows from (seed, role, round, agent), and a round that was not committed
is played anew. (Language models at a temperature above 0 are asked with seeds, and obey them as far as they do.)
Called with more rounds than there are, it goes on.

Differences from the paper's code: its defects (retrieval out of step, failed ratings as scores, memory reset at the
start, no seeds, no resume); peers and agents remember what they knew when the round began, not what other threads
had finished by then; a revision is memorised only if there is one; observers are asked greedily.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dialog_gym import checkpoint
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Rankings
from dialog_gym.data.store import SHARD_ROWS, Writer
from dialog_gym.dialogue import Draws, Json
from dialog_gym.env import begin
from dialog_gym.envs import society_members as members
from dialog_gym.envs.advice_data import read_questions
from dialog_gym.envs.society import Society
from dialog_gym.envs.society_grid import labels, sample_peers
from dialog_gym.envs.society_language import say
from dialog_gym.envs.society_memory import Embeddings, Memory
from dialog_gym.envs.society_norms import quality
from dialog_gym.envs.society_records import metrics, ranking
from dialog_gym.envs.society_roles import Roles
from dialog_gym.envs.society_round import DRAFT, REVISION, Asked, Call, Member, Record, Turn, ask_all
from dialog_gym.envs.society_settings import FORMAT, Settings, differences, round_path
from dialog_gym.json_lines import numbered

Told = Callable[[int, dict[str, Json]], None]
_PRIOR = '{"question", "response", "morality_label": "good" or "bad"}'


class Sandbox:
    """A society between two rounds.

    Attributes:
        settings: What determines it.
        members: The agents, by number.
        asked: The list of questions.
        played: How many rounds were played.
        roles: Who speaks.
    """

    def __init__(self, settings: Settings) -> None:
        """Begin a society.

        Raises:
            ValueError: A file of questions or priors cannot be read, or a spec names no model.
        """
        self.settings, self.roles, self.played = settings, Roles(settings), 0
        self.asked = _questions(settings)
        self.labels = labels(settings.setting, settings.size, Draws(settings.seed, "labels"))
        embeddings, priors = Embeddings(settings.embedding), _priors(settings)
        self.members = []
        for number, label in enumerate(self.labels):
            good = quality(label, Draws(settings.seed, "quality", number))
            member = Member(number, label, good, Memory(embeddings))
            for question, answer in priors(member):
                member.memory.add(question, answer)
            self.members.append(member)

    def play(self, rounds: int, played: Callable[[int, list[Turn], Counter[str]], None]) -> None:
        """Play on until ``rounds`` rounds are played.

        Args:
            rounds: How many in all.
            played: Called with each round when all of it is known: its number, what each agent did, and the calls.
        """
        last: list[Turn] = []
        calls: Counter[str] = Counter()
        for number in range(self.played, rounds):
            turns = [self._turn(member, number) for member in self.members]
            drafts = [call for turn in turns for call in self._call("draft", turn, number)]
            ask_all([*self._observe(last, REVISION, number - 1), *drafts])
            if last:
                played(number - 1, last, calls)
            begun = Counter(self.roles.calls)
            begun["agent"] -= len(turns)  # these drafts are of this round
            ask_all(call for turn in turns for call in self._judge(turn, number))
            revisions = [call for t in turns if t.heard() for call in self._call("revise", t, number)]
            ask_all([*revisions, *self._observe(turns, DRAFT, number)])
            for turn in turns:
                if turn.revision is not None:
                    turn.member.memory.add(turn.asked.text, turn.revision)
            calls = Counter({role: count - begun[role] for role, count in self.roles.calls.items()})
            calls["observer"] += 2 * sum(turn.revision is not None for turn in turns)
            last, self.played = turns, number + 1
        if last:
            ask_all(self._observe(last, REVISION, self.played - 1))
            played(self.played - 1, last, calls)

    def replay(self, records: Sequence[Record]) -> None:
        """Take over a round that was played before: what was memorised in it."""
        for record in records:
            if record[REVISION] is not None:
                self.members[record["agent"]].memory.add(record["question"], record[REVISION])
        self.played += 1

    def _turn(self, member: Member, number: int) -> Turn:
        asked = self.asked[(number + member.number) % len(self.asked)]
        return Turn(member, asked, member.memory.nearest(asked.text, self.settings.threshold))

    def _draws(self, role: str, turn: Turn, number: int, *more: int | str) -> Draws:
        return Draws(self.settings.seed, role, number, turn.member.number, *more)

    def _call(self, kind: str, turn: Turn, number: int) -> list[Call]:
        draws = self._draws(kind, turn, number)
        return self.roles.draft(turn, draws) if kind == "draft" else self.roles.revise(turn, draws)

    def _judge(self, turn: Turn, number: int) -> list[Call]:
        if turn.draft is None:
            return []
        own, draws = self.settings, self._draws("peers", turn, number)
        turn.peers = sample_peers(
            turn.member.number,
            own.size,
            own.within,
            draws,
            local=own.local,
            everywhere=own.everywhere,
            dropout=own.dropout,
            count=own.peers,
        )
        return [
            call
            for peer in turn.peers
            for call in self.roles.judge(turn, self.members[peer], self._draws("peer", turn, number, peer))
        ]

    def _observe(self, turns: Sequence[Turn], kind: str, number: int) -> list[Call]:
        return [
            call
            for turn in turns
            for call in self.roles.observe(turn, kind, self._draws("observer", turn, number, kind))
        ]


def simulate(
    folder: str | Path, settings: Settings, rounds: int, *, told: Told | None = None
) -> list[dict[str, Json]]:
    """Play a society until ``rounds`` rounds are played, and return the metrics of all of them.

    Args:
        folder: Where it lies; begun if there is nothing, else gone on with.
        settings: What determines it; the same as when it was begun.
        rounds: How many in all.
        told: Called after each round that is played with its number and metrics.

    Raises:
        DatasetError: There is something else, a world of another version or of other settings, or a damaged one.
        ValueError: See ``Sandbox``.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    folder = Path(folder)
    _settle(folder, settings)
    with Rankings.writing(folder / "rankings") as writer:  # its lock keeps others out
        sandbox = Sandbox(settings)
        found = _resume(folder, sandbox, writer)

        def played(number: int, turns: list[Turn], calls: Counter[str]) -> None:
            records = [turn.to_json(sandbox.labels) for turn in turns]
            now = metrics(records, number, calls)
            content = {"format": FORMAT, "round": number, "metrics": now, "records": records}
            checkpoint.write_json(round_path(folder, number), content)
            _write_rows(writer, sandbox, number, records)
            found.append(now)
            checkpoint.write_json(folder / "metrics.json", found)
            if told is not None:
                told(number, now)

        sandbox.play(rounds, played)
        checkpoint.write_json(folder / "metrics.json", found)
        memories = {str(m.number): m.memory.pairs for m in sandbox.members}
        checkpoint.write_json(folder / "memories.json", memories)
    return found


def read_world(folder: str | Path) -> dict[str, Any]:
    """Return ``world.json`` of a society.

    Raises:
        DatasetError: There is none, or it is of another version.
    """
    path = Path(folder) / "world.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{folder} is no society: it has no world.json") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise DatasetError(
            f"expected a society in the format {FORMAT!r} in {folder}, got {version!r}: it was written by another "
            "version; begin a new one in another folder"
        )
    return dict(found)


def read_round(folder: str | Path, number: int) -> dict[str, Any]:
    """Return what was said in a round, and its metrics.

    Raises:
        DatasetError: It is not there, or damaged.
    """
    path = round_path(Path(folder), number)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT or found["round"] != number:
            raise ValueError(f"it is of format {found['format']!r} and round {found['round']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no round of a society: {error}; take another copy") from error
    return dict(found)


def rounds_in(folder: str | Path) -> int:
    """Return how many rounds of a society were played.

    Raises:
        DatasetError: One is missing.
    """
    names = sorted(path.name for path in (Path(folder) / "rounds").glob("[0-9]*.json"))
    for number, name in enumerate(names):
        if name != round_path(Path(folder), number).name:
            raise DatasetError(f"{folder} is damaged: round {number} is missing; take another copy")
    return len(names)


def _settle(folder: Path, settings: Settings) -> None:
    """Begin the folder, or see that it is of this society."""
    wanted = settings.to_json()
    if (folder / "world.json").exists():
        found = read_world(folder)["settings"]
        if found != wanted:
            raise DatasetError(
                f"the society in {folder} has other settings ({differences(found, wanted)}); give those, or name "
                "another folder"
            )
    else:
        if folder.exists() and any(not f.name.startswith(".partial") for f in folder.iterdir()):
            raise DatasetError(f"{folder} holds something else than a society; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(folder / "world.json", {"format": FORMAT, "settings": wanted})
    (folder / "rounds").mkdir(exist_ok=True)
    checkpoint.remove_partial(folder)
    checkpoint.remove_partial(folder / "rounds")


def _resume(folder: Path, sandbox: Sandbox, writer: Writer[Any]) -> list[dict[str, Json]]:
    """Take over the rounds that were played; write the rows that a kill kept from being written."""
    if writer.rows % SHARD_ROWS == 0:
        writer.seal()  # a kill may have kept a full shard from being sealed; shards then begin where they always do
    found, rows = [], 0
    for number in range(rounds_in(folder)):
        content = read_round(folder, number)
        sandbox.replay(content["records"])
        found.append(content["metrics"])
        rows += _write_rows(writer, sandbox, number, content["records"], writer.rows - rows)
    if writer.rows > rows:
        raise DatasetError(
            f"{folder} is damaged: its rankings have {writer.rows} rows, its rounds {rows}; take another copy"
        )
    return found


def _write_rows(writer: Writer[Any], sandbox: Sandbox, number: int, records: Sequence[Record], there: int = 0) -> int:
    """Write the rows of a round but for the first ``there``; return how many rows it has."""
    models, rows = sandbox.roles.models(), 0
    for record in records:
        dialogue = sandbox.asked[record["question_number"]].dialogue
        row = ranking(record, number, sandbox.settings, models, dialogue)
        if row is not None:
            rows += 1
            if rows > there:
                writer.add(row)
    return rows


def _questions(settings: Settings) -> list[Asked]:
    if settings.questions_file:
        prompts = read_questions(settings.questions_file)
        texts = [prompt.turns[-1][1] for prompt in prompts][: settings.questions or None]
        return [Asked(number, text) for number, text in enumerate(texts)]
    task = Society(split=settings.split, setting=settings.setting)
    asked: list[Asked] = []
    texts_known: set[str] = set()
    for attempt in range(100 * settings.questions):
        dialogue = begin(task, Draws(settings.seed, "question", attempt).bits() >> 11)
        text = dialogue.turns[0].text
        if text not in texts_known:
            texts_known.add(text)
            asked.append(Asked(len(asked), text, task.question(dialogue), dialogue))
        if len(asked) == settings.questions:
            return asked
    raise ValueError(f"expected {settings.questions} different questions, found {len(asked)}; ask for fewer")


def _priors(settings: Settings) -> Callable[[Member], list[tuple[str, str]]]:
    """Return what gives a member the pairs of question and answer that it remembers at the beginning."""
    if settings.questions_file:
        known = read_priors(settings.priors_file) if settings.priors_file else {"good": [], "bad": []}

        def of_file(member: Member) -> list[tuple[str, str]]:
            from dialog_gym.envs.society_grid import shuffled

            pairs = known[member.label]
            order = shuffled(range(len(pairs)), Draws(settings.seed, "prior", member.number))
            return [pairs[place] for place in order[: settings.prior]]

        return of_file
    task = Society(split=settings.split, setting=settings.setting)

    def generated(member: Member) -> list[tuple[str, str]]:
        pairs = []
        for number in range(settings.prior):
            draws = Draws(settings.seed, "prior", member.number, number)
            dialogue = begin(task, draws.bits() >> 11)
            act = members.act_of(task.question(dialogue), member.good, draws)
            pairs.append((dialogue.turns[0].text, say(act, draws)))
        return pairs

    return generated


def read_priors(path: str | Path) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of question and answer in a file, by label.

    Args:
        path: JSON (a list) or JSON lines of ``{"question", "response", "morality_label": "good" | "bad"}``.

    Raises:
        ValueError: It is of another form, or empty; the message says which record.
    """
    text = Path(path).read_text(encoding="utf-8").strip()
    found: dict[str, list[tuple[str, str]]] = {"good": [], "bad": []}
    try:
        rows = json.loads(text) if text.startswith("[") else [json.loads(line) for _, line in numbered(text)]
    except ValueError as error:
        raise ValueError(f"{path} is neither JSON nor JSON lines: {error}") from error
    if not rows:
        raise ValueError(f"{path}: expected at least one record {_PRIOR}, got none")
    for number, row in enumerate(rows):
        try:
            found[row["morality_label"]].append((str(row["question"]), str(row["response"])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}, record {number}: expected {_PRIOR}, got {str(row)!r:.120}") from error
    return found


__all__ = ["DRAFT", "Sandbox", "Settings", "read_priors", "read_round", "read_world", "rounds_in", "simulate"]
