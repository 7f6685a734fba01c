"""Sotopia's files (Zhou et al. 2023, arXiv:2310.11667): scenarios, characters, their combinations, and episodes.

``read_combinations`` reads the folder with ``envs.json``, ``agents.json`` and ``env_agent_combos.json``;
``read_episodes`` the published episodes with their judge's scores, one JSON object a line.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym.data.corpora.sotopia import ROLES, SotopiaEpisode, episode, shown_to
from dialog_gym.json_lines import numbered

__all__ = [
    "RELATIONSHIPS",
    "ROLES",
    "Combination",
    "SotopiaEpisode",
    "read_combinations",
    "read_episodes",
    "shown_to",
    "view",
]

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
    for number, line in numbered(_text(path)):
        try:
            record = json.loads(line)
        except ValueError as error:
            message = f"{path}, line {number}: expected one JSON object, got a damaged line: {error}"
            raise ValueError(message) from error
        episodes.append(_checked(path, f"on line {number}", episode, record))
    return episodes


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
