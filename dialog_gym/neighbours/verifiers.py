r"""Our environments as environments of ``verifiers`` 0.4 (``verifiers.v1``): a taskset, an environment, a harness.

``verifiers`` finds these by the name of a top-level module. For its command line and for prime-rl write one file, say
``dialogues.py``, beside what is started, with the line ``from dialog_gym.neighbours.verifiers import __all__,
DialogueGym, DialogueTaskset, InProcessHarness``::

    vf-eval dialogues --env.taskset.env dialog_gym/Bargain-v0 --env.taskset.episodes 20 \
        --env.agent.runtime.type subprocess --client.base-url http://127.0.0.1:8000/v1 --model NAME --no-push

(``--no-push``: without it, ``vf-eval`` sends what was said to its makers' platform where it finds a key for it.)

In a program, ``load_environment("dialog_gym/Bargain-v0")`` needs no file. A dialogue is a task: the environment's id
and a seed. The agent's role is the model's; the partner answers on the host, between two segments of the harness, as
TextArena's games do in ``verifiers``. What the model reads and writes is what our language models do
(``Task.messages``, ``Task.utterance``). The trace holds the undiscounted return as its reward, per-turn rewards and
the dialogue in ``trace.info["dialog_gym"]``, and metrics (success, cost, turns, sums of reward terms).

``verifiers`` wants ``openai`` below 3, our constraints pin 3: install it in an environment of its own, beside
``dialog-gym``, which needs Gymnasium and NumPy alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import gymnasium as gym
import verifiers.v1 as vf
from pydantic import Field

from dialog_gym.dialogue import Dialogue
from dialog_gym.env import DialogueEnv
from dialog_gym.task import Task

NAME = "dialog_gym_neighbours_verifiers"
"""The name under which ``load_environment`` makes this module known."""

__all__ = [
    "DialogueGym",
    "DialogueTaskset",
    "InProcessHarness",
]  # one of each kind: verifiers takes what it finds here


class DialogueData(vf.TaskData):  # type: ignore[misc]
    """A dialogue to play.

    Attributes:
        env: Id of a text environment.
        env_kwargs: Its arguments.
        seed: What it is reset with.
    """

    env: str
    env_kwargs: dict[str, Any]
    seed: int


class DialogueTask(vf.Task[DialogueData, vf.State, vf.TaskConfig]):  # type: ignore[misc]
    """A dialogue to play; ``DialogueGym`` scores it."""


class DialogueTasksetConfig(vf.TasksetConfig):  # type: ignore[misc]
    """Which dialogues.

    Attributes:
        env: Id of a text environment.
        env_kwargs: Its arguments.
        episodes: How many dialogues; seeds are ``seed`` to ``seed + episodes - 1``.
        seed: The first.
        opening: What a model is told where it speaks first, since a chat begins with a message to it.
    """

    env: str = "dialog_gym/Bargain-v0"
    env_kwargs: dict[str, Any] = Field(default_factory=dict)
    episodes: int = Field(100, ge=1)
    seed: int = Field(0, ge=0)
    opening: str = Field("You speak first.", min_length=1)


class DialogueTaskset(vf.Taskset[DialogueTask, DialogueTasksetConfig]):  # type: ignore[misc]
    """One task per seed, its prompt what the agent reads before its first word."""

    def load(self) -> Iterator[DialogueTask]:
        """Yield the tasks."""
        config = self.config
        env = make(config.env, config.env_kwargs)
        for seed in range(config.seed, config.seed + config.episodes):
            dialogue: Dialogue = env.reset(seed=seed)[1]["dialogue"]
            system, *rest = env.task.messages(dialogue, env.task.roles[0])
            data = DialogueData(
                name=f"{config.env}#{seed}",
                system_prompt=system["content"],
                prompt="\n".join(message["content"] for message in rest) or config.opening,
                env=config.env,
                env_kwargs=config.env_kwargs,
                seed=seed,
            )
            yield DialogueTask(data, config.task)
        env.close()


class DialogueGymConfig(vf.EnvConfig):  # type: ignore[misc]
    """One seat, the model's.

    Attributes:
        agent: The model in the agent's role.
    """

    agent: vf.AgentConfig = vf.AgentConfig()


class DialogueGym(vf.Env[DialogueGymConfig]):  # type: ignore[misc]
    """One of our environments, with a model behind a harness as its agent.

    An utterance longer than the environment takes is cut at ``Task.max_chars``. Where ``verifiers`` stops the model
    (``max_turns`` of the seat, a limit of tokens), the dialogue ends unfinished with what it has earned so far.
    """

    async def run(self, task: DialogueTask, agents: vf.Agents) -> None:
        """Play one dialogue."""
        data = task.data
        env = make(data.env, data.env_kwargs)
        info = env.reset(seed=data.seed)[1]
        rewards: list[float] = []
        sums: dict[str, float] = {"cost": 0.0}
        async with agents.agent.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated:
                text = env.task.utterance(info["dialogue"], segment.last_reply)[: env.task.max_chars]
                _, reward, terminated, truncated, info = env.step(text)
                rewards.append(float(reward))
                sums["cost"] += info["cost"]
                for name, value in info["reward_terms"].items():
                    sums[f"term_{name}"] = sums.get(f"term_{name}", 0.0) + value
                if terminated or truncated:
                    break
                segment = await interaction.turn(heard(env.task, info["dialogue"]))
        trace = interaction.trace
        trace.info["dialog_gym"] = {"rewards": rewards, "dialogue": info["dialogue"].to_json()}
        env.close()
        if trace.has_error:
            return  # a model that failed has earned nothing that could be told, not 0
        trace.record_reward("dialogue_return", sum(rewards))
        trace.record_metrics({"success": float(info["success"]), "turns": float(info["turn"]), **sums})


class InProcessHarness(vf.Harness[vf.HarnessConfig]):  # type: ignore[misc]
    """Chats with the model from this process; the harnesses of ``verifiers`` start a process for each turn.

    Every call goes through the interception server, as the contract of harnesses demands. No tools.
    """

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def session(self, *given: Any, **named: Any) -> vf.HarnessSession:
        """Return what keeps the chat and the connection of one rollout."""
        return _Chat(self, *given, **named)

    async def launch(self, *given: Any, **named: Any) -> vf.ProgramResult:
        """Let the model answer the task's prompt."""
        chat = _Chat(self, *given, **named)
        try:
            return await chat._run(None)
        finally:
            await chat.close()


class _Chat(vf.HarnessSession):  # type: ignore[misc]
    """The chat of one rollout."""

    _http: aiohttp.ClientSession | None = None
    _said: list[dict[str, Any]]

    async def _run(self, messages: Any) -> vf.ProgramResult:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
            system, prompt = self.harness.resolve_prompt(self.data)
            self._said = [{"role": "system", "content": system}] if system else []
            given = [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else [*(prompt or [])]
            messages = [*given, *(messages or [])]
        self._said += [{"role": message.role, "content": message.content} for message in messages]
        asked = {"model": self.ctx.model, "messages": self._said}
        headers = {"Authorization": f"Bearer {self.secret}"}
        async with self._http.post(f"{self.endpoint}/chat/completions", json=asked, headers=headers) as answer:
            if answer.status != 200:
                return vf.ProgramResult(exit_code=1, stdout="", stderr=await answer.text())
            text = (await answer.json())["choices"][0]["message"]["content"]
        self._said.append({"role": "assistant", "content": text})
        return vf.ProgramResult(exit_code=0, stdout=text or "", stderr="")

    async def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            await self._http.close()
        await super().close()


def load_environment(env: str = "dialog_gym/Bargain-v0", **settings: Any) -> DialogueGym:
    """Return a text environment of ours as an environment of ``verifiers``, played in this process.

    Args:
        env: Its id.
        settings: Fields of ``DialogueTasksetConfig``, ``task`` excepted.

    Raises:
        TypeError: It is no text environment of ours.
    """
    make(env, settings.get("env_kwargs") or {}).close()
    sys.modules[NAME] = sys.modules[__name__]  # for verifiers, which takes top-level modules only
    seat = {"harness": {"id": NAME}, "runtime": {"type": "subprocess"}, "network_notice": False}
    config = {"id": NAME, "taskset": {"id": NAME, "env": env, **settings}, "agent": seat}
    return DialogueGym(vf.resolve_env_config(config))


def make(env: str, env_kwargs: dict[str, Any]) -> DialogueEnv:
    """Make a text environment.

    Raises:
        TypeError: It is no text environment of ours.
    """
    made = gym.make(f"dialog_gym:{env}" if ":" not in env else env, **env_kwargs).unwrapped
    if not isinstance(made, DialogueEnv):
        raise TypeError(f"expected a text environment such as dialog_gym/Bargain-v0, got {env!r} ({made})")
    return made


def heard(task: Task, dialogue: Dialogue) -> str:
    """Return what the partner has said since the agent's newest turn, as a language model reads it."""
    chat = task.messages(dialogue, task.roles[0])
    last = max(k for k, message in enumerate(chat) if message["role"] == "assistant")
    return "\n".join(message["content"] for message in chat[last + 1 :])
