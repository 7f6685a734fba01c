"""Dialogues as Gymnasium environments: one engine, for one dialogue and for many.

``begin`` and ``advance`` are the engine: pure functions on ``Dialogue`` values that make one batched
call to the task's partner and one to its reward. ``DialogueVectorEnv`` and ``DialogueEnv`` hold the
values, count episodes and speak Gymnasium. Branching a state is ``advance`` on the same value twice.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import load_env_creator
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dialog_gym.dialogue import Dialogue, Draws, Scenario, Turn, turn_line
from dialog_gym.errors import DialogueOverError, RenderModeError, SettingError, unknown
from dialog_gym.render import as_text, show
from dialog_gym.rewards.base import checked, finite
from dialog_gym.spaces import Utterance
from dialog_gym.task import Task

Info = dict[str, Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

MAX_TRANSCRIPT = 10_000_000  # characters; a bound the observation space must state and no transcript meets
_SEEDS = 2**53  # dialogue seeds stay exact in every JSON reader


class Outcome(NamedTuple):
    """What one utterance in each of ``n`` dialogues led to."""

    dialogues: list[Dialogue]
    rewards: list[float]
    costs: list[float]
    parts: Parts


Parts = Mapping[str, Mapping[str, Any]]
"""What rewards and costs are made of, and what is only measured: for each name in ``PARTS``, numbers by name."""
NOTHING: Mapping[str, Any] = {}
PARTS = ("reward_terms", "cost_terms", "signals")


def begin(task: Task, seed: int, scenario: Scenario | None = None) -> Dialogue:
    """Return the dialogue that ``seed`` names, as the agent finds it before its first word."""
    drawn = task.scenario(Draws(seed, "scenario")) if scenario is None else scenario
    return task.opening(Dialogue(drawn, task.roles, seed))


def advance(task: Task, dialogues: Sequence[Dialogue], texts: Sequence[str]) -> Outcome:
    """Say ``texts[i]`` as the agent in ``dialogues[i]`` and let the partners answer, as one batch.

    The arguments are left as they are. Texts must be members of the action space.
    """
    agent, partner = task.roles
    heard = [
        Dialogue(d.scenario, d.roles, d.seed, (*d.turns, Turn(agent, text)), d.state, "", False, d.turn + 1)
        for d, text in zip(dialogues, texts, strict=True)
    ]
    limit = task.max_turns
    after = []
    for d, (text, state, stop, success) in zip(heard, task.reply(heard), strict=True):
        turns = (*d.turns, Turn(partner, text)) if text else d.turns
        if not stop and d.turn >= limit:
            stop = "max_turns"
        if state is None:
            state = d.state
        after.append(Dialogue(d.scenario, d.roles, d.seed, turns, state, stop, success, d.turn))
    scores, terms = task.reward.scored(after)
    rewards = finite(task.reward, scores, after)
    if task.success_above is not None:
        after = _judged(*task.success_above, dialogues, after, terms)
    costs, cost_terms = [0.0] * len(after), NOTHING
    if task.cost is not None:
        scores, cost_terms = task.cost.scored(after)
        costs = finite(task.cost, scores, after)
    signals = {name: checked(signal, after) for name, signal in task.signals.items()}
    return Outcome(after, rewards, costs, {"reward_terms": terms, "cost_terms": cost_terms, "signals": signals})


def _judged(
    term: str, bar: float, before: Sequence[Dialogue], after: Sequence[Dialogue], terms: Mapping[str, Any]
) -> list[Dialogue]:
    """Return ``after`` with success where it was reached before or where ``term`` is above ``bar``."""
    if term not in terms:
        raise ValueError(f"success is settled by the reward term {term!r}, but the rewards measure {list(terms)}")
    scores = terms[term].tolist()
    reached = [was.success or score > bar for was, score in zip(before, scores, strict=True)]
    return [replace(d, success=True) if won else d for d, won in zip(after, reached, strict=True)]


def no_parts(task: Task, value: Any) -> Parts:
    """Return ``Outcome.parts`` of ``task`` with ``value`` under every name: what is reported before the first word."""
    cost = () if task.cost is None else task.cost.terms
    names = {"reward_terms": task.reward.terms, "cost_terms": cost, "signals": task.signals}
    return {part: dict.fromkeys(names[part], value) for part in PARTS}


class DialogueEnv(gym.Env[str, str]):
    """One dialogue; an action is what the agent says, an observation the transcript as its role sees it.

    ``terminated``: the partner ended the dialogue (a deal, a walk-out). ``truncated``: the agent has
    used up ``task.max_turns``. An empty utterance is a turn. Lone surrogates, which no file can hold,
    become U+FFFD. ``reset(options=...)`` takes ``{"dialogue": ...}`` (a value or its JSON) to go on
    from any state, and ``{"scenario": ...}`` to play a given scenario.

    ``info`` always has: ``dialogue``, ``turn``, ``success``, ``stop_reason`` ("" while it goes on), ``cost``, and,
    each a number by name, ``reward_terms``, ``cost_terms`` and ``signals`` (what is measured and not rewarded).
    """

    metadata: ClassVar[Info] = {"render_modes": ["human", "ansi"], "render_fps": 4}  # type: ignore[misc]

    def __init__(self, task: Task, *, render_mode: str | None = None) -> None:
        """Hold one dialogue of ``task``."""
        self.task = task
        self.render_mode = _render_mode(render_mode)
        self.action_space = Utterance(task.max_chars)
        self.observation_space = Utterance(MAX_TRANSCRIPT)
        self.dialogue: Dialogue | None = None
        self._transcript = ""

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[str, Info]:
        """Begin a new dialogue; see the class for ``options``."""
        super().reset(seed=seed)
        episode = int(self.np_random.integers(_SEEDS))
        options = options or {}
        self.dialogue = _opened(self.task, episode, options.get("dialogue"), options.get("scenario"))
        self._transcript = self.dialogue.transcript(self.task.roles[0])
        self._show()
        return self._transcript, self._info(self.dialogue, no_parts(self.task, (0.0,)), 0.0)

    def step(self, action: str) -> tuple[str, float, bool, bool, Info]:
        """Say ``action`` and hear the partner's answer.

        Raises:
            TypeError: ``action`` is not a string.
            ValueError: ``action`` is too long.
            DialogueOverError: The dialogue has ended or never began.
        """
        before = self.dialogue
        if before is None or before.stop_reason:
            raise DialogueOverError(_over("The dialogue", before))
        (after,), (reward,), (cost,), parts = advance(self.task, (before,), (_said(action, self.task.max_chars),))
        self.dialogue = after
        self._transcript += _lines(after.turns[len(before.turns) :])
        self._show()
        truncated = after.stop_reason == "max_turns"
        terminated = after.stop_reason != "" and not truncated
        return self._transcript, reward, terminated, truncated, self._info(after, parts, cost)

    def render(self) -> str | None:
        """Return the dialogue as text ("ansi"), or show it ("human")."""
        if self.render_mode is None or self.dialogue is None:
            return None
        if self.render_mode == "ansi":
            return as_text(self.dialogue, self.task.render_hint)
        show(self.dialogue, self.task.render_hint)
        return None

    def get_state(self) -> Info:
        """Return all that determines how this environment goes on, as JSON values."""
        return {
            "dialogue": None if self.dialogue is None else self.dialogue.to_json(),
            "rng": self.np_random.bit_generator.state,
        }

    def set_state(self, state: Info) -> tuple[str, Info]:
        """Continue from what ``get_state`` returned."""
        self.np_random.bit_generator.state = state["rng"]
        if state["dialogue"] is None:
            self.dialogue = None
            return "", {}
        self.dialogue = Dialogue.from_json(state["dialogue"])
        self._transcript = self.dialogue.transcript(self.task.roles[0])
        return self._transcript, self._info(self.dialogue, no_parts(self.task, (0.0,)), 0.0)

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _info(self, dialogue: Dialogue, parts: Parts, cost: float) -> Info:
        return {
            "dialogue": dialogue,
            "turn": dialogue.turn,
            "success": dialogue.success,
            "stop_reason": dialogue.stop_reason,
            "cost": cost,
            **{part: {name: float(given[0]) for name, given in named.items()} for part, named in parts.items()},
        }


class DialogueVectorEnv(VectorEnv[tuple[str, ...], Sequence[str], Floats]):
    """``num_envs`` dialogues stepped together: one batched call per model and turn.

    Row ``i`` after ``reset(seed=s)`` equals ``DialogueEnv`` after ``reset(seed=s + i)``, turn for turn
    and episode after episode, for any number of rows. Everything said of ``DialogueEnv`` holds per row.

    Autoreset follows Gymnasium. ``next_step`` (default): a row that ended begins anew at the next step,
    whose action for it is ignored. ``same_step``: it begins anew at once; what it ended with is in
    ``infos["final_obs"]`` and ``infos["final_info"]``. ``disabled``: it stays as it is, whatever is said
    (reward 0, no model call), until ``reset(options={"reset_mask": ...})``.
    """

    metadata: ClassVar[Info] = {  # type: ignore[misc]
        "render_modes": ["human", "ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        """Hold ``num_envs`` dialogues of ``task``."""
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.task, self.num_envs = task, num_envs
        self.render_mode = _render_mode(render_mode)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata: Info = {  # type: ignore[misc]
            **type(self).metadata,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_action_space = Utterance(task.max_chars)
        self.single_observation_space = Utterance(MAX_TRANSCRIPT)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.dialogues: list[Dialogue] = []
        self._transcripts: list[str] = []
        self._rngs: list[np.random.Generator] = []

    @property
    def live(self) -> Bools:
        """Which rows hold a dialogue that goes on, shape ``(num_envs,)``."""
        going = [not d.stop_reason for d in self.dialogues]
        return np.array(going or [False] * self.num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Info | None = None
    ) -> tuple[tuple[str, ...], Info]:
        """Begin all rows anew, or those that ``options["reset_mask"]`` names.

        Args:
            seed: An integer ``s`` (row ``i`` is seeded ``s + i``), or one integer or None per row. Rows
                that are not reset keep their random stream.
            options: ``reset_mask`` (bool, shape ``(num_envs,)``), ``dialogues`` and ``scenarios`` (one
                per row or None: as in ``DialogueEnv``).
        """
        options = options or {}
        mask = self._mask(options.get("reset_mask"))
        self._seed(seed, mask)
        given = {name: _per_row(name, options.get(name), self.num_envs) for name in ("dialogues", "scenarios")}
        # Everything is drawn before anything is stored: a failure leaves the rows as they were.
        opened = [
            (row, _opened(self.task, self._next_seed(row), given["dialogues"][row], given["scenarios"][row]))
            for row in np.flatnonzero(mask).tolist()
        ]
        if not self.dialogues:
            self.dialogues, self._transcripts = [opened[0][1]] * self.num_envs, [""] * self.num_envs
        for row, dialogue in opened:
            self._open(row, dialogue)
        self._show()
        return tuple(self._transcripts), self._infos(self._nothing, [0.0] * self.num_envs)

    def step(  # type: ignore[override]
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], Floats, Bools, Bools, Info]:
        """Say ``actions[i]`` in dialogue ``i``; the partners answer as one batch.

        Raises:
            TypeError: An action is not a string.
            ValueError: Too many or too few actions, or one is too long. No dialogue has changed then.
            DialogueOverError: ``reset`` was never called.
        """
        if not self.dialogues:
            raise DialogueOverError(_over("No dialogue", None))
        if len(actions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} actions, one per dialogue, got {len(actions)}")
        rows = [row for row, dialogue in enumerate(self.dialogues) if not dialogue.stop_reason]
        limit = self.task.max_chars
        said = actions if len(rows) == self.num_envs else [actions[row] for row in rows]
        texts = [
            text if type(text) is str and len(text) <= limit and text.isascii() else _said(text, limit, row)
            for row, text in zip(rows, said, strict=True)
        ]
        over = range(0) if len(rows) == self.num_envs else sorted(set(range(self.num_envs)).difference(rows))
        rewards, costs, parts = [0.0] * self.num_envs, [0.0] * self.num_envs, self._nothing
        if rows:
            dialogues, transcripts = self.dialogues, self._transcripts
            after = advance(self.task, [dialogues[row] for row in rows], texts)
            for part, named in after.parts.items():
                for name, given in named.items():
                    parts[part][name][rows] = given
            for row, dialogue, reward, cost in zip(rows, *after[:3], strict=True):
                for turn in dialogue.turns[len(dialogues[row].turns) :]:
                    transcripts[row] += "\n" + turn_line(turn)
                dialogues[row], rewards[row], costs[row] = dialogue, reward, cost
        if over and self.autoreset_mode is AutoresetMode.NEXT_STEP:
            for row in over:
                self._open(row, begin(self.task, self._next_seed(row)))
        return self._outcome(rewards, costs, parts)

    def render(self) -> tuple[str, ...] | None:
        """Return every dialogue as text ("ansi"), or show them ("human")."""
        if self.render_mode == "ansi":
            return tuple(as_text(dialogue, self.task.render_hint) for dialogue in self.dialogues)
        if self.render_mode == "human":
            for dialogue in self.dialogues:
                show(dialogue, self.task.render_hint)
        return None

    def get_state(self) -> Info:
        """Return all that determines how these rows go on, as JSON values."""
        return {
            "dialogues": [dialogue.to_json() for dialogue in self.dialogues],
            "rngs": [rng.bit_generator.state for rng in self._rngs],
        }

    def set_state(self, state: Info) -> tuple[tuple[str, ...], Info]:
        """Continue from what ``get_state`` returned.

        Raises:
            ValueError: The state is that of another number of rows.
        """
        if len(state["dialogues"]) != self.num_envs:
            raise ValueError(f"expected the state of {self.num_envs} rows, got {len(state['dialogues'])}")
        self._rngs = [np.random.Generator(np.random.PCG64()) for _ in range(self.num_envs)]
        for rng, saved in zip(self._rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved
        self.dialogues = [Dialogue.from_json(dialogue) for dialogue in state["dialogues"]]
        self._transcripts = [dialogue.transcript(self.task.roles[0]) for dialogue in self.dialogues]
        return tuple(self._transcripts), self._infos(self._nothing, [0.0] * self.num_envs)

    @property
    def _nothing(self) -> dict[str, dict[str, Floats]]:
        parts = no_parts(self.task, 0.0)
        return {part: {name: np.zeros(self.num_envs) for name in parts[part]} for part in PARTS}

    def _outcome(
        self, rewards: list[float], costs: list[float], parts: Parts
    ) -> tuple[tuple[str, ...], Floats, Bools, Bools, Info]:
        stops = [dialogue.stop_reason for dialogue in self.dialogues]
        truncated = np.array([stop == "max_turns" for stop in stops])
        terminated = np.array([stop != "" for stop in stops]) & ~truncated
        infos = self._infos(parts, costs)
        self._show()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and any(stops):
            infos = self._same_step_reset(np.flatnonzero(terminated | truncated).tolist(), infos)
        return tuple(self._transcripts), np.array(rewards), terminated, truncated, infos

    def _same_step_reset(self, rows: list[int], final: Info) -> Info:
        ended = np.zeros(self.num_envs, dtype=np.bool_)
        ended[rows] = True
        observations = np.full(self.num_envs, None, dtype=object)
        for row in rows:
            observations[row] = self._transcripts[row]
            self._open(row, begin(self.task, self._next_seed(row)))
        given = {part: {name: final[part][name] for name in self._nothing[part]} for part in PARTS}
        others = {part: {name: np.where(ended, 0.0, v) for name, v in named.items()} for part, named in given.items()}
        fresh = self._infos(others, np.where(ended, 0.0, final["cost"]).tolist())
        masked = {f"_{name}": ended for name in ("final_obs", "final_info")}
        final_info = {key: ended if key.startswith("_") else value for key, value in final.items()}
        final_info |= {part: _masked(named, ended) for part, named in given.items()}
        return {**fresh, "final_obs": observations, "final_info": final_info, **masked}

    def _infos(self, parts: Parts, costs: list[float]) -> Info:
        held = np.empty(self.num_envs, dtype=object)
        stops = np.empty(self.num_envs, dtype=object)
        held[:] = self.dialogues
        stops[:] = [dialogue.stop_reason for dialogue in self.dialogues]
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        return {
            "dialogue": held,
            "turn": np.array([dialogue.turn for dialogue in self.dialogues]),
            "success": np.array([dialogue.success for dialogue in self.dialogues]),
            "stop_reason": stops,
            "cost": np.array(costs),
            **{part: _masked(named, everyone) for part, named in parts.items()},
            **dict.fromkeys(_MASKS, everyone),
        }

    def _open(self, row: int, dialogue: Dialogue) -> None:
        self.dialogues[row] = dialogue
        self._transcripts[row] = dialogue.transcript(self.task.roles[0])

    def _next_seed(self, row: int) -> int:
        return int(self._rngs[row].integers(_SEEDS))

    def _seed(self, seed: int | Sequence[int | None] | None, mask: Bools) -> None:
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + row for row in range(self.num_envs)]
        seeds = _per_row("seed", seed, self.num_envs)
        rngs: Sequence[np.random.Generator | None] = self._rngs or [None] * self.num_envs
        self._rngs = [
            seeding.np_random(seeds[row])[0] if rng is None or (mask[row] and seeds[row] is not None) else rng
            for row, rng in enumerate(rngs)
        ]

    def _mask(self, mask: Any) -> Bools:
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        if mask is None or (not self.dialogues and np.all(mask)):
            return everyone
        asked = np.asarray(mask)
        if asked.shape != everyone.shape or asked.dtype != np.bool_:
            raise ValueError(
                f"reset_mask must be a bool array of shape ({self.num_envs},), got {asked.dtype} {asked.shape}"
            )
        if not self.dialogues:
            raise DialogueOverError("the first reset must begin every row; call reset() without a reset_mask")
        return asked

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()


def make_env(task: str, *, render_mode: str | None = None, **settings: Any) -> DialogueEnv:
    """Entry point of ``gym.make``: ``task`` is ``"module:Class"``, ``settings`` its arguments."""
    return DialogueEnv(load_task(task, settings), render_mode=render_mode)


def make_vector_env(
    task: str,
    num_envs: int = 1,
    *,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **settings: Any,
) -> DialogueVectorEnv:
    """Entry point of ``gym.make_vec``."""
    return DialogueVectorEnv(
        load_task(task, settings), num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode
    )


def load_task(task: str, settings: Mapping[str, Any]) -> Task:
    """Import ``"module:Class"`` and construct it with ``settings``.

    Some settings are none of the task's. ``partner``, a language model or its spec, plays the other role;
    ``partner_temperature`` (default 0) and ``partner_tokens`` (64) say how. ``judge``, likewise (or any ``Reward``),
    rewards in place of the task, which is still reported; ``rubric`` names what it judges. ``reward`` and ``cost``, a
    ``Reward``, the name of one or a function that makes one of the task (``dialog_gym.rewards.other.find_reward``), do
    the same without a model. Of all these, None is the same as nothing.

    Raises:
        SettingError: The task has no setting of a name in ``settings``; the message names the nearest.
    """
    module, _, name = task.partition(":")
    own = {key: value for key, value in settings.items() if key not in _COMMON_SETTINGS}
    make = getattr(importlib.import_module(module), name)
    need_settings(make, own)
    made: Task = make(**own)
    given = {key: settings[key] for key in _COMMON_SETTINGS if settings.get(key) is not None}
    if given.keys() & {"partner", "partner_temperature", "partner_tokens"}:
        from dialog_gym.partner import played_by_model

        made = played_by_model(
            made, given.get("partner"), given.get("partner_temperature"), given.get("partner_tokens")
        )
    if given.keys() & {"judge", "rubric"}:
        from dialog_gym.rewards.judge import rewarded_by_judge

        made = rewarded_by_judge(made, given.get("judge"), given.get("rubric"))
    if given.keys() & {"reward", "cost"}:
        from dialog_gym.rewards.other import with_named

        made = with_named(made, given.get("reward"), given.get("cost"))
    return made


def env_task(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Task:
    """Return the task that is played in a registered environment, without making the environment.

    Args:
        env_id: Id of a text or a prefix environment; of ``module:id`` the module must have been imported.
        env_kwargs: Arguments of the environment. Those that are not the task's (of a prefix environment: who speaks,
            how, and what is observed) are left out.

    Raises:
        gym.error.Error: There is no such environment.
        ValueError: It is not one of dialogues.
        SettingError: The task has no such setting.
    """
    spec = gym.spec(env_id.rpartition(":")[2])
    settings = {**spec.kwargs, **(env_kwargs or {})}
    if "task" not in settings:
        raise ValueError(f"{env_id} is not an environment of dialogues; `dialog-gym envs` lists them")
    if env_kwargs:  # only then: the entry point of a prefix environment imports torch
        make = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
        parameters = {} if make is None else inspect.signature(make).parameters
        for name in [name for name, own in parameters.items() if own.kind is own.KEYWORD_ONLY]:
            settings.pop(name, None)
    return load_task(settings.pop("task"), settings)


def need_settings(make: Callable[..., Task], own: Mapping[str, Any], *more: str) -> None:
    """Refuse settings that ``make`` does not take.

    Args:
        make: Class of a task, or a function that makes one. One that takes any settings refuses none; it may call
            this with what it passes them on to.
        own: Settings by name.
        more: Names that the message tells as known too.

    Raises:
        SettingError: There is one.
    """
    parameters = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in own.keys() - parameters.keys():
        raise SettingError(unknown("setting", name, {*parameters, *more, *_COMMON_SETTINGS}).args[0])


_COMMON_SETTINGS = ("partner", "partner_temperature", "partner_tokens", "judge", "rubric", "reward", "cost")
_MASKS = tuple(f"_{name}" for name in ("dialogue", "turn", "success", "stop_reason", "cost", *PARTS))


def _masked(terms: Mapping[str, Any], mask: Bools) -> Info:
    return {**terms, **{f"_{name}": mask for name in terms}}


def _opened(task: Task, seed: int, dialogue: Any, scenario: Any) -> Dialogue:
    if dialogue is not None and scenario is not None:
        raise ValueError("give reset a dialogue to go on from or a scenario to play, not both")
    if dialogue is not None:
        resumed = dialogue if isinstance(dialogue, Dialogue) else Dialogue.from_json(dialogue)
        if resumed.roles != task.roles:
            raise ValueError(f"expected a dialogue between {task.roles}, got one between {resumed.roles}")
        return resumed
    if scenario is not None and not isinstance(scenario, Scenario):
        scenario = Scenario.from_json(scenario)
    return begin(task, seed, scenario)


def _said(action: Any, limit: int, row: int | None = None) -> str:
    where = "action" if row is None else f"actions[{row}]"
    if not isinstance(action, str):
        raise TypeError(f"{where} must be what the agent says, a str, got {type(action).__name__} {action!r:.80}")
    if len(action) > limit:
        raise ValueError(
            f"{where} has {len(action)} characters, at most {limit} can be said in one turn; "
            f"shorten it: {action[:60]!r}..."
        )
    if action.isascii():
        return action
    return action.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lines(turns: Sequence[Turn]) -> str:
    return "".join(["\n" + turn_line(turn) for turn in turns])


def _over(what: str, dialogue: Dialogue | None) -> str:
    why = "has not begun" if dialogue is None else f"has ended ({dialogue.stop_reason})"
    return f"{what} {why}; call reset() before step()"


def _per_row(name: str, values: Any, rows: int) -> Sequence[Any]:
    if values is None:
        return [None] * rows
    if isinstance(values, (str, Mapping, Dialogue, Scenario)) or len(values) != rows:
        raise ValueError(f"{name} must have one entry (or None) for each of the {rows} rows, got {values!r:.80}")
    return list(values)


def _render_mode(mode: str | None) -> str | None:
    if mode not in (None, "human", "ansi"):
        raise RenderModeError(f"render_mode must be None, 'human' or 'ansi', got {mode!r}")
    return mode


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    try:
        return AutoresetMode[mode.upper()]
    except KeyError:
        raise ValueError(f"autoreset_mode must be 'next_step', 'same_step' or 'disabled', got {mode!r}") from None
