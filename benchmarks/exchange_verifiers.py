"""The exchange in ``verifiers``: an environment of theirs, a scripted model that answers at once, no subprocess.

Theirs is made for language models behind HTTP: a turn is a segment of a *harness*, a program that calls the model
through an interception server on this machine, which keeps the trace. The cheapest way that keeps this contract is
taken: the harness is a coroutine of this process and not a program (``InProcessHarness``), and what answers its calls
is an object behind the interception server and not an endpoint. What is left is an HTTP request, the trace, the
checks and the hooks. The built-in harness starts a process per segment instead.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.interception import server as interception

from dialog_gym.benchmarks.exchange import BUYER, PUBLIC, Played, answer, words
from dialog_gym.neighbours.verifiers import InProcessHarness

NAME = "dialog_gym_exchange"


class ExchangeData(vf.TaskData):  # type: ignore[misc]
    """A dialogue, by its number."""

    row: int
    turns: int


class ExchangeTask(vf.Task[ExchangeData, vf.State, vf.TaskConfig]):  # type: ignore[misc]
    """A dialogue to play."""


class ExchangeTasksetConfig(vf.TasksetConfig):  # type: ignore[misc]
    """How many dialogues of how many turns."""

    count: int = 1
    turns: int = 8


class ExchangeTaskset(vf.Taskset[ExchangeTask, ExchangeTasksetConfig]):  # type: ignore[misc]
    """The dialogues; as a model's prompt cannot be empty, the number of the dialogue is in it."""

    def load(self) -> list[ExchangeTask]:
        """Return one task per dialogue."""
        return [
            ExchangeTask(
                ExchangeData(prompt=f"{PUBLIC}\n{BUYER}", name=str(row), row=row, turns=self.config.turns),
                self.config.task,
            )
            for row in range(self.config.count)
        ]


class ExchangeEnvConfig(vf.EnvConfig):  # type: ignore[misc]
    """One seat."""

    player: vf.AgentConfig = vf.AgentConfig()


class ExchangeEnv(vf.Env[ExchangeEnvConfig]):  # type: ignore[misc]
    """The seller as the user, on the host, as in their TextArena environment."""

    async def run(self, task: ExchangeTask, agents: vf.Agents) -> None:
        """Play one dialogue."""
        said: list[str] = []
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            for turn in range(task.data.turns):
                if segment.terminated:
                    raise RuntimeError(f"the dialogue broke off: {interaction.trace.errors}")
                said += (segment.last_reply, answer(segment.last_reply, turn))
                if turn + 1 < task.data.turns:
                    segment = await interaction.turn(said[-1])
        interaction.trace.record_reward("finished", 1.0)
        interaction.trace.info["said"] = said


class ScriptedClient(vf.Client):  # type: ignore[misc]
    """The model: says the buyer's words at once."""

    async def get_response(
        self,
        dialect: Any,
        body: dict[str, Any],
        sampling: Any,
        session_id: str | None = None,
        turn: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the next words; which dialogue it is says the name of the model."""
        spoken = sum(message["role"] == "assistant" for message in body["messages"])
        text = words(int(body["model"]), spoken)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        raw = {"id": "-", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        response = dialect.parse_response(dialect.validate_response(raw))
        response.raw = raw
        return response


__all__ = ["ExchangeEnv", "ExchangeTaskset", "InProcessHarness"]


class VerifiersWay:
    """All dialogues at once as coroutines of one event loop; serving begins before the clock starts."""

    def __init__(self, turns: int) -> None:
        """Begin to serve."""
        sys.modules[NAME] = sys.modules[__name__]  # theirs are found by the name of a top-level module
        self.turns = turns
        self.client = vf.EvalClientConfig(base_url="http://127.0.0.1:9/v1", api_key_var="DIALOG_GYM_NO_KEY")
        self._resolve = interception.resolve_client
        interception.resolve_client = lambda config: ScriptedClient()
        self.loop = asyncio.new_event_loop()
        self.serving: dict[int, tuple[vf.Env, Any]] = {}

    def play(self, count: int) -> list[Played]:
        """Play ``count`` dialogues."""
        env = self._serve(count)
        episodes = self.loop.run_until_complete(self._episodes(env))
        for episode in episodes:
            if not episode.ok:
                raise RuntimeError(f"a dialogue in verifiers failed: {episode.errors or episode.traces[0].errors}")
        traces = [episode.traces[0] for episode in episodes]
        return [Played(tuple(trace.info["said"]), float(trace.reward)) for trace in traces]

    async def _episodes(self, env: vf.Env) -> list[Any]:
        return await asyncio.gather(
            *(
                env.run_episode(task, vf.ModelContext(model=str(task.data.row), client=self.client))
                for task in env.taskset
            )
        )

    def _serve(self, count: int) -> vf.Env:
        if count not in self.serving:
            player = {"harness": {"id": NAME}, "runtime": {"type": "subprocess"}, "network_notice": False}
            taskset = {"id": NAME, "count": count, "turns": self.turns}
            env = vf.load_environment(vf.resolve_env_config({"id": NAME, "taskset": taskset, "player": player}))
            held = env.serving()
            self.loop.run_until_complete(held.__aenter__())
            self.serving[count] = env, held
        return self.serving[count][0]

    def close(self) -> None:
        """Stop serving."""
        for _, held in self.serving.values():
            self.loop.run_until_complete(held.__aexit__(None, None, None))
        self.loop.close()
        interception.resolve_client = self._resolve
