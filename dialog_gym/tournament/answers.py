"""Who plays, what is asked, and the answers: every player answers the same questions, once.

A player is whatever ``dialog-gym evaluate`` accepts: the folder of a run or an agent, a scripted policy or a baseline
by name; or the spec of a language model. Questions are the dialogues of an environment (by their seeds), or a file of
prompts. Answers are episodes (``dialog_gym.data.Episodes``) in ``answers/SOURCE/PLAYER``; what is there is not made
again, and answers of another player of the same name are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dialog_gym import baselines, checkpoint
from dialog_gym.agent import agent_identity, load_agent
from dialog_gym.data.collect import collect
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.rollout import Episode
from dialog_gym.tournament.matches import TournamentError
from dialog_gym.tracking import progress_bar

if TYPE_CHECKING:
    from dialog_gym.data.branch import Talker
    from dialog_gym.envs.advice import Advice

HELPFULNESS, HARMLESSNESS = "helpfulness", "harmlessness"
CRITERIA = (HELPFULNESS, HARMLESSNESS)
TOGETHER = 64  # prompts that are put to a player at once


class Player(NamedTuple):
    """Who answers.

    Attributes:
        name: In tables and journals.
        what: A folder, the name of a policy, or the spec of a language model.
    """

    name: str
    what: str

    @property
    def folder(self) -> Path | None:
        """The folder of a run or an agent, None where ``what`` is none."""
        path = Path(self.what)
        agent = any((path / inner).exists() for inner in (checkpoint.INDEX, f"agent/{checkpoint.INDEX}"))
        return path if agent or any(path.glob(f"checkpoints/step-*/agent/{checkpoint.INDEX}")) else None

    @property
    def identity(self) -> str:
        """What the answers depend on: ``what``, and of an agent a hash that changes with its weights."""
        return self.what if self.folder is None else agent_identity(self.folder)


def read_player(text: str) -> Player:
    """Return the player that ``NAME=WHAT`` or ``WHAT`` says; without a name, the last part of a path is it.

    >>> read_player("H=runs/dpo")
    Player(name='H', what='runs/dpo')
    >>> read_player("openai:m@http://host/v1?timeout=9").name
    'openai:m@http://host/v1?timeout=9'
    """
    name, equals, what = text.partition("=")
    if equals and name and what and not re.search(r"[:?/]", name):
        return Player(name, what)
    return Player(Path(text).name if Path(text).is_dir() else text, text)


class Source(Protocol):
    """Where questions come from.

    Attributes:
        name: Of its folder, and the first part of the ids of its questions.
        criteria: By what its answers are compared.
    """

    @property
    def name(self) -> str:
        """Of its folder."""
        ...

    @property
    def criteria(self) -> tuple[str, ...]:
        """By what its answers are compared."""
        ...

    def config(self) -> dict[str, Any]:
        """Return what the answers depend on, as JSON values."""
        ...

    def answer(self, player: Player, folder: Path, *, progress: bool = False) -> Episodes:
        """Let ``player`` answer what it has not yet answered in ``folder``; return all its answers."""
        ...


@dataclass(frozen=True)
class Played:
    """The dialogues of an environment.

    Attributes:
        env: Id of a text environment.
        env_kwargs: Its arguments.
        episodes: How many dialogues.
        seed: Of the first.
        rows: Dialogues in parallel; no influence on the answers.
        lm: Who ``lm`` is; "": see ``dialog_gym.baselines.Trial``.
        criteria: By what they are compared.
    """

    env: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 128
    seed: int = baselines.HELD_OUT
    rows: int = 32
    lm: str = ""
    criteria: tuple[str, ...] = CRITERIA

    @property
    def name(self) -> str:
        """The last part of the id."""
        return self.env.rpartition("/")[2]

    def config(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        told = asdict(self)
        return {name: told[name] for name in ("env", "env_kwargs", "episodes", "seed", "lm")}

    def answer(self, player: Player, folder: Path, *, progress: bool = False) -> Episodes:
        """Let ``player`` play the dialogues that it has not played yet."""
        trial = baselines.Trial(self.env, self.env_kwargs, self.episodes, self.seed, self.rows)
        known = {*baselines.POLICIES, *baselines.scripted_policies(trial)}
        name, lm = player.what, self.lm
        if player.folder is None and name not in known:
            name, lm = "lm", player.what
        return collect(
            self.env,
            name,
            self.episodes,
            folder,
            seed=self.seed,
            rows=self.rows,
            env_kwargs=self.env_kwargs,
            lm=lm,
            progress=progress,
        )


@dataclass(frozen=True)
class Prompted:
    """The prompts of a file, each answered once.

    Attributes:
        path: A file as ``Advice-v0`` reads them (``dialog_gym.envs.advice_data``): prompts, SafeRLHF, HH, SACPO.
        limit: Most prompts; 0: all.
        max_tokens: Longest answer of a language model.
        criteria: By what answers are compared.
    """

    path: Path
    limit: int = 0
    max_tokens: int = 512
    criteria: tuple[str, ...] = CRITERIA

    @property
    def name(self) -> str:
        """The name of the file, without its ending."""
        return self.path.name.partition(".")[0]

    def config(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        from dialog_gym.data.used import content_hash

        return {"prompts": content_hash(self.path), "limit": self.limit, "max_tokens": self.max_tokens}

    def answer(self, player: Player, folder: Path, *, progress: bool = False) -> Episodes:
        """Let ``player`` answer the prompts that it has not answered yet."""
        from dialog_gym.envs.advice import Advice

        task = Advice(questions=self.path)
        asked = self._dialogues(task)
        with Episodes.writing(folder) as writer:
            left = asked[writer.rows :]  # answers are written in the order of the prompts
            talk = self._talker(task, player) if left else None
            with progress_bar(f"answer {player.name}", len(asked), done=writer.rows, show=progress) as update:
                for start in range(0, len(left), TOGETHER):
                    some = left[start : start + TOGETHER]
                    assert talk is not None
                    for dialogue, text in zip(some, talk(some), strict=True):
                        writer.add(_answered(dialogue, text, player.name))
                    update(writer.rows, {})
        return Episodes.load(folder)

    def _dialogues(self, task: Advice) -> list[Dialogue]:
        told = task.scenario(Draws(0))
        prompts = task.prompts[: self.limit or None]
        scenarios = [replace(told, hidden={"turns": [list(turn) for turn in prompt.turns]}) for prompt in prompts]
        return [task.opening(Dialogue(scenario, task.roles, seed)) for seed, scenario in enumerate(scenarios)]

    def _talker(self, task: Advice, player: Player) -> Talker:
        if player.folder is not None:
            agent: Any = load_agent(player.folder)
            agent.task = task
            return lambda dialogues: list(agent.act(None, {"dialogue": list(dialogues)}))
        from dialog_gym.data.branch import model_talker
        from dialog_gym.lm.base import Sampling

        return model_talker(task, player.what, Sampling(self.max_tokens))


def _answered(dialogue: Dialogue, text: str, player: str) -> Recorded:
    ended = replace(dialogue.said(dialogue.roles[0], text), stop_reason="answered")
    nothing = (0.0,) * ended.turn
    return Recorded.of(Episode(dialogue.seed, ended, nothing, nothing), policy=player)


# --- all answers ----------------------------------------------------------------------------------


Answers = Mapping[tuple[str, str], Episode]
"""The answers, by player and question."""


def answer_all(
    players: Sequence[Player], sources: Sequence[Source], out: Path, *, progress: bool = False
) -> dict[tuple[str, str], Episode]:
    """Let all players answer all questions, or what is missing, and return the answers.

    Raises:
        TournamentError: Two players or sources have folders of one name, or there are answers of somebody else.
    """
    for kind, names in (("players", [p.name for p in players]), ("sources", [s.name for s in sources])):
        if len({slug(name).lower() for name in names}) < len(names):
            raise TournamentError(f"expected {kind} with different names (as names of files), got {names}")
    found: dict[tuple[str, str], Episode] = {}
    for source in sources:
        ids: list[str] | None = None
        for player in players:
            folder = out / "answers" / slug(source.name) / slug(player.name)
            _claim(folder.with_name(f"{folder.name}.json"), {"player": player.identity, **source.config()})
            mine = {f"{source.name}/{one.seed}": one for one in source.answer(player, folder, progress=progress)}
            if ids is not None and ids != list(mine):
                raise TournamentError(f"{folder} does not hold the same questions as the others; remove it")
            ids = list(mine)
            found |= {(player.name, question): episode for question, episode in mine.items()}
    return found


def slug(name: str) -> str:
    """Return ``name`` as the name of a file.

    >>> slug("DPO(H) -> DPO(S) .1")
    'DPO_H_-_DPO_S_.1'
    """
    return re.sub(r"[^\w.+-]+", "_", name).strip("_") or "_"


def _claim(path: Path, config: Mapping[str, Any]) -> None:
    """Note whose answers lie in a folder, or refuse another's."""
    if (old := checkpoint.claim(path, config)) is not None:
        raise TournamentError(
            f"{path.with_suffix('')} holds answers of {old}, and now {dict(config)} is asked for: give the player "
            "another name, or remove the folder and the file beside it"
        )
