"""``verifiers`` plays our environments: its own runner, interception server, trace and clients; a model over HTTP.

It does not install beside our constraints (``openai`` 2 against 3). In an environment of its own::

    pip install . verifiers==0.4.0 pytest hypothesis
    python -m pytest tests/neighbours/test_verifiers.py
"""

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("verifiers.v1", reason="verifiers is not installed, and does not install beside our pins")
import verifiers.v1 as vf
from aiohttp import web

import dialog_gym  # noqa: F401
from dialog_gym.dialogue import Dialogue
from dialog_gym.env import DialogueEnv
from dialog_gym.envs.bargain import Bargain
from dialog_gym.envs.chat import Chat
from dialog_gym.neighbours.verifiers import load_environment

SAID = "I would give you $20 for it."


class Endpoint:
    """An OpenAI-compatible server on this machine: says the same each time, and keeps what it was asked."""

    def __init__(self, status=200, said=SAID):
        self.status, self.said, self.asked = status, said, []

    async def answer(self, request):
        self.asked.append(await request.json())
        if self.status != 200:
            return web.json_response({"error": {"message": "out of order"}}, status=self.status)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self.said}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )

    @asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        client = vf.EvalClientConfig(base_url=f"http://127.0.0.1:{port}/v1", api_key_var="DIALOG_GYM_NO_KEY")
        try:
            yield vf.ModelContext(model="m", client=client)
        finally:
            await runner.cleanup()


def played(env, endpoint):
    """Run all tasks of an environment of theirs; return the episodes."""

    async def play():
        async with endpoint.serving() as ctx, env.serving():
            return await asyncio.gather(*(env.run_episode(task, ctx) for task in env.taskset))

    return asyncio.run(play())


def by_hand(task, seed, text):
    """Return the rewards, costs and the dialogue of a policy that always says ``text``."""
    env = DialogueEnv(task)
    _, info = env.reset(seed=seed)
    rewards, costs = [], []
    while not info["stop_reason"]:
        _, reward, _, _, info = env.step(task.utterance(info["dialogue"], text))
        rewards.append(float(reward))
        costs.append(info["cost"])
    return rewards, costs, info["dialogue"]


@pytest.mark.parametrize(("env_id", "task"), [("dialog_gym/Bargain-v0", Bargain()), ("dialog_gym/Chat-v0", Chat())])
def test_their_traces_hold_what_our_environment_gives(env_id, task):
    episodes = played(load_environment(env_id, episodes=5, seed=30), Endpoint())
    assert [episode.ok for episode in episodes] == [True] * 5
    for seed, episode in enumerate(episodes, 30):
        (trace,) = episode.traces
        rewards, costs, dialogue = by_hand(task, seed, SAID)
        told = trace.info["dialog_gym"]
        assert told["rewards"] == pytest.approx(rewards)
        assert Dialogue.from_json(told["dialogue"]) == dialogue
        assert trace.reward == pytest.approx(sum(rewards))
        assert trace.metrics["cost"] == pytest.approx(sum(costs))
        assert trace.metrics["success"] == dialogue.success
        assert trace.metrics["turns"] == trace.num_turns == len(rewards)


def test_the_model_reads_the_chat_that_our_language_models_read():
    endpoint, task = Endpoint(), Chat()
    (episode,) = played(load_environment("dialog_gym/Chat-v0", episodes=1, seed=3), endpoint)
    dialogue = Dialogue.from_json(episode.traces[0].info["dialog_gym"]["dialogue"])
    system, *rest = task.messages(dialogue, task.roles[0])
    read = endpoint.asked[-1]["messages"]
    assert read[0]["content"] == system["content"]
    heard = [message["content"] for message in rest if message["role"] == "user"]
    asked = [message["content"] for message in read if message["role"] == "user"]
    assert asked[-len(heard) + 1 :] == heard[:-1]  # the last answer is heard by nobody
    assert [message["content"] for message in read if message["role"] == "assistant"] == [SAID] * (dialogue.turn - 1)


def test_the_command_lines_way_by_a_module_of_ones_own(tmp_path, monkeypatch):
    names = "__all__, DialogueGym, DialogueTaskset, InProcessHarness"
    (tmp_path / "my_dialogues.py").write_text(f"from dialog_gym.neighbours.verifiers import {names}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_dialogues", raising=False)
    config = vf.resolve_env_config(
        {
            "taskset": {"id": "my_dialogues", "env": "dialog_gym/Chat-v0", "episodes": 2},
            "agent": {"runtime": {"type": "subprocess"}},
        }
    )
    episodes = played(vf.load_environment(config), Endpoint())
    assert [episode.ok for episode in episodes] == [True, True]
    assert all(episode.traces[0].metrics["turns"] > 0 for episode in episodes)


def test_a_model_that_fails_is_an_error_and_no_utterance():
    (episode,) = played(load_environment("dialog_gym/Chat-v0", episodes=1), Endpoint(status=500))
    assert not episode.ok
    assert all(trace.has_error and not trace.rewards for trace in episode.traces)


def test_where_theirs_stops_the_model_what_was_earned_until_then_counts():
    env = load_environment("dialog_gym/Chat-v0", episodes=1, seed=4)
    env.config.agent.max_turns = 2
    (episode,) = played(env, Endpoint())
    (trace,) = episode.traces
    assert episode.ok
    assert trace.metrics["turns"] == 2
    assert trace.reward == pytest.approx(sum(by_hand(Chat(), 4, SAID)[0][:2]))


def test_a_long_utterance_is_cut_at_what_the_environment_takes():
    (episode,) = played(load_environment("dialog_gym/Chat-v0", episodes=1), Endpoint(said="word " * 2000))
    assert episode.ok
    dialogue = Dialogue.from_json(episode.traces[0].info["dialog_gym"]["dialogue"])
    assert {len(text) for text in dialogue.texts(dialogue.roles[0])} == {Chat().max_chars}


def test_mistakes():
    with pytest.raises(TypeError, match="expected a text environment"):
        load_environment("CartPole-v1")
    with pytest.raises(ValueError, match="episodes"):
        load_environment(episodes=0)
