"""Sotopia's files (Zhou et al. 2023, arXiv:2310.11667): scenarios, characters, their combinations, and episodes.

``read_combinations`` reads the folder with ``envs.json``, ``agents.json`` and ``env_agent_combos.json``;
``read_episodes`` the published episodes with their judge's scores, one JSON object a line.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.envs.social_goal_rules import DIMENSIONS, RANGES

ROLES = ("first", "second")
RELATIONSHIPS = (
    "strangers",
    "people who know each other by name",
    "acquaintances",
    "friends",
    "a couple",
    "family",
)
"""What the two are to each other, by Sotopia's code 0 to 5."""
_FILES = ("envs.json", "agents.json", "env_agent_combos.json")
_VIEWED = re.compile(r"""<(\w+)\s+viewer=["']?(\w+)["']?\s*>(.*?)</\1>""", re.DOTALL)
_TAG = re.compile(r"</?\w+(?:\s[^<>]*)?>")
_VIEWERS = {"agent_1": "first", "agent_2": "second"}
_SAID = re.compile(r'said: "(.*)"', re.DOTALL)


class Combination(NamedTuple):
    """A scenario with two characters.

    Attributes:
        key: Its id.
        environment: Id of the scenario.
        relationship: Code 0 to 5.
        public: What both know.
        private: What the first and the second are told: who they are, their goal, what they know of the other.
        secrets: Those of the first and of the second.
    """

    key: str
    environment: str
    relationship: int
    public: str
    private: tuple[str, str]
    secrets: tuple[str, str]


class SotopiaEpisode(NamedTuple):
    """A published episode.

    Attributes:
        key: Its id.
        names: The first character and the second.
        dialogue: What was told and said, from the first one's side; non-verbal acts stand in brackets.
        scores: The judge's seven scores by role.
        overall: Their means by role.
        reasoning: The judge's explanation.
    """

    key: str
    names: tuple[str, str]
    dialogue: Dialogue
    scores: Mapping[str, Mapping[str, float]]
    overall: Mapping[str, float]
    reasoning: str


def read_combinations(folder: str | Path) -> tuple[Combination, ...]:
    """Read every combination of the scenarios and characters in ``folder``.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged or of another format; the message names file, record and what was expected.
    """
    paths = [Path(folder) / name for name in _FILES]
    scenes, people, combinations = (_loaded(path, kind) for path, kind in zip(paths, (dict, dict, list), strict=True))
    for path, records, check in ((paths[0], scenes, _check_scene), (paths[1], people, _check_person)):
        for key, record in records.items():
            _checked(path, key, check, record)
    found = []
    for number, record in enumerate(combinations):
        found.append(_checked(paths[2], number, lambda given: _combined(given, scenes, people), record))
    if not found:
        raise ValueError(f"{paths[2]}: expected at least one combination, got an empty list")
    return tuple(found)


def read_episodes(path: str | Path) -> list[SotopiaEpisode]:
    """Read published episodes, one JSON object a line, plain or gzip.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is damaged or of another format; the message names file and line.
    """
    path = Path(path)
    episodes = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                message = f"{path}, line {number}: expected one JSON object, got a damaged line: {error}"
                raise ValueError(message) from error
            episodes.append(_checked(path, f"on line {number}", _episode, record))
    return episodes


def shown_to(text: str, role: str) -> str:
    """Return ``text`` as ``role`` sees it: without what is marked for other viewers, and without tags.

    >>> shown_to('At a party. <p viewer="environment">They know Rafael.</p> <info>Be nice.</info>', "first")
    'At a party. Be nice.'
    """
    text = _VIEWED.sub(lambda span: span[3] if _VIEWERS.get(span[2]) == role else "", text)
    return re.sub(r"[ \t]+", " ", _TAG.sub("", text)).strip()


# --- scenarios ---------------------------------------------------------------------------------


def _combined(record: Any, scenes: Mapping[str, Any], people: Mapping[str, Any]) -> Combination:
    first, second = record["agent_ids"]
    if record["env_id"] not in scenes:
        raise ValueError(f"env_id {record['env_id']!r} is not in envs.json")
    if not {first, second} <= people.keys():
        raise ValueError(f"agent_ids {[first, second]!r} are not both in agents.json")
    scene, pair = scenes[record["env_id"]], (people[first], people[second])
    relationship = scene["relationship"]
    private = [
        " ".join(
            [
                f"You are {_name(pair[i])}. {_background(pair[i])} Your secret: {pair[i]['secret']}",
                f"Your goal: {shown_to(scene['agent_goals'][i], ROLES[i])}",
                view(pair[1 - i], relationship),
            ]
        )
        for i in (0, 1)
    ]
    public = f"{shown_to(scene['scenario'], '')} The two are {RELATIONSHIPS[relationship]}."
    secrets = (pair[0]["secret"], pair[1]["secret"])
    return Combination(str(record["pk"]), record["env_id"], relationship, public, (private[0], private[1]), secrets)


def view(person: Mapping[str, Any], relationship: int) -> str:
    """Return what is known of ``person``, a record of ``agents.json``, in a relationship of this code."""
    if relationship == 0:
        return "You know nothing of the other."
    if relationship == 1:
        return f"The other is called {_name(person)}."
    if relationship == 2:
        return f"The other: {_public(person)}"
    return f"The other: {_background(person)}"


def _name(person: Mapping[str, Any]) -> str:
    return f"{person['first_name']} {person['last_name']}"


def _public(person: Mapping[str, Any]) -> str:
    who = f"{_name(person)}, {person['age']}, {person['gender'].lower()}, {person['occupation'].lower()}"
    return f"{who} ({person['gender_pronoun'].lower()}). {person['public_info']}"


def _background(person: Mapping[str, Any]) -> str:
    return f"{_public(person)} {person['personality_and_values']}".strip()


def _check_scene(record: Any) -> None:
    _texts(record, "scenario")
    goals, relationship = record["agent_goals"], record["relationship"]
    if not isinstance(goals, list) or len(goals) != 2 or not all(isinstance(goal, str) for goal in goals):
        raise ValueError(f"agent_goals must be two texts, got {goals!r:.60}")
    if isinstance(relationship, bool) or not isinstance(relationship, int) or not 0 <= relationship <= 5:
        raise ValueError(f"relationship must be a code from 0 to 5, got {relationship!r:.40}")


def _check_person(record: Any) -> None:
    texts = "first_name last_name occupation gender gender_pronoun public_info personality_and_values secret"
    _texts(record, *texts.split())
    if not isinstance(record["age"], int):
        raise TypeError(f"age must be a whole number, got {record['age']!r:.40}")


def _texts(record: Any, *names: str) -> None:
    for name in names:
        if not isinstance(record[name], str):
            raise TypeError(f"{name} must be text, got {record[name]!r:.40}")


# --- episodes ----------------------------------------------------------------------------------


def _episode(record: Any) -> SotopiaEpisode:
    first, second = record["agents_background"]
    names = (first, second)
    role_of = dict(zip(names, ROLES, strict=True))
    turns = tuple(Turn(role_of[name], text) for name, text in _utterances(record["raw_messages"], names))
    stale = "stales" in str(record["reasoning"]).partition("Agent 1 comments")[0]
    stop = "left" if turns and turns[-1].text == _LEFT else "stale" if stale else "max_turns"
    rewards = [_scores(one) for one in record["rewards"]]
    scores = dict(zip(ROLES, (one[0] for one in rewards), strict=True))
    private = {
        role_of[name]: f"You are {name}. {shown_to(record['agents_background'][name], role_of[name])} "
        f"Your goal: {shown_to(record['social_goals'][name], role_of[name])} {_seen_by(record, name, names)}"
        for name in names
    }
    hidden = {"episode": record["episode_id"], "environment": record["environment_id"], "names": list(names)}
    scenario = Scenario(shown_to(record["scenario"], ""), private, hidden)
    dialogue = Dialogue(scenario, ("first", "second"), 0, turns, {}, stop)
    overall = dict(zip(ROLES, (one[1] for one in rewards), strict=True))
    return SotopiaEpisode(str(record["episode_id"]), names, dialogue, scores, overall, str(record["reasoning"]))


def _seen_by(record: Any, name: str, names: tuple[str, str]) -> str:
    """Return what ``name`` was told of the other when the episode began."""
    (other,) = {*names} - {name}
    brief = next(
        text for sender, reader, text in record["raw_messages"][0] if (sender, reader) == ("Environment", name)
    )
    lines = brief.splitlines()
    known = next((x.partition(": ")[2].strip() for x in lines if x.startswith(f"{other}'s background:")), "")
    return f"The other: {known}" if known else "You know nothing of the other."


_LEFT = "[left the conversation]"


def _utterances(steps: Any, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Yield who did what, step by step; doing nothing is no turn."""
    for step in steps:
        for sender, _, message in step:
            if sender in names and message != "did nothing":
                said = _SAID.fullmatch(message.strip())
                yield sender, said[1] if said else f"[{message.strip().replace('[', '').replace(']', ':')}]"


def _scores(given: Any) -> tuple[dict[str, float], float]:
    """Return the seven scores and the overall one; refuse what is out of range."""
    scores = {name: given[name] for name in DIMENSIONS}
    for name, score in scores.items():
        low, high = RANGES[name]
        if isinstance(score, bool) or not isinstance(score, int | float) or not low <= score <= high:
            raise ValueError(f"{name} must be a number from {low} to {high}, got {score!r:.40}")
    mean = sum(scores.values()) / len(scores)
    if not math.isclose(given["overall_score"], mean, abs_tol=1e-6):
        raise ValueError(f"overall_score must be the mean {mean:.4f} of the seven, got {given['overall_score']!r:.40}")
    return {name: float(score) for name, score in scores.items()}, mean


# --- files -------------------------------------------------------------------------------------


def _loaded(path: Path, kind: type) -> Any:
    try:
        data = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got a damaged or other file: {error}") from error
    if not isinstance(data, kind):
        expected = "object of records by id" if kind is dict else "list"
        raise ValueError(f"{path}: expected a JSON {expected}, got {type(data).__name__}")
    return data


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no file {str(path)!r}; expected a folder with Sotopia's {', '.join(_FILES)}, or a file of its episodes"
        ) from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, plain or gzip, got a damaged or other file: {error}") from error


def _checked(path: Path, key: Any, read: Any, record: Any) -> Any:
    """Return what ``read`` makes of ``record``; an error names file and record."""
    try:
        return read(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}, record {key}: expected Sotopia's format, got {str(record)!r:.80}: {why}") from error
