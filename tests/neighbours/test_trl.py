"""TRL's GRPOTrainer learns in our environments: a real trainer, a real step, masks that hold the agent's tokens."""

from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("trl", reason="trl is not installed: pip install 'dialog-gym[train]'")
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

import dialog_gym  # noqa: F401
from dialog_gym.benchmarks.random_model import save_random_model
from dialog_gym.env import DialogueEnv
from dialog_gym.lm import WEIGHTS
from dialog_gym.lm.chat import ChatFormat
from dialog_gym.neighbours.trl import Dialogues, dialogue_return, prompts
from dialog_gym.rewards.reward_model import quiet

BARGAIN, CHAT = "dialog_gym/Bargain-v0", "dialog_gym/Chat-v0"


def text_env(env_id):
    env = gym.make(env_id).unwrapped
    assert isinstance(env, DialogueEnv)
    return env


def trainer_of(folder, rollout, out, **changes):
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 400,
        "max_steps": 1,
        "learning_rate": 1e-2,
        "beta": 0.0,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "seed": 3,
        **changes,
    }
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer, data = AutoTokenizer.from_pretrained(folder), Dataset.from_list(prompts(rollout.env, 4, seed=11))
    with pytest.warns(UserWarning, match="experimental"):
        return GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=dialogue_return,
            args=GRPOConfig(**settings),
            train_dataset=data,
            rollout_func=rollout,
        )


class Kept(Dialogues):
    """Keeps what TRL was given."""

    def __call__(self, names, trainer):
        self.names, self.output = names, super().__call__(names, trainer)
        return dict(self.output)


@pytest.fixture(scope="module", params=["a model that bargains", "a model that babbles"])
def step(request, tmp_path_factory):
    """One step of training, with utterances that the model ends itself and with such that the limit cuts."""
    torch.manual_seed(5)
    folder, env_id = WEIGHTS / "tiny", BARGAIN
    if request.param == "a model that babbles":
        folder, env_id = save_random_model(tmp_path_factory.mktemp("model")), CHAT
    rollout = Kept(env_id, tokens=24)
    with quiet():
        trainer = trainer_of(folder, rollout, tmp_path_factory.mktemp("out"))
        before = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
        seen: list[Any] = []
        score = trainer._generate_and_score_completions

        def scored(inputs):
            seen.append(score(inputs))
            return seen[-1]

        trainer._generate_and_score_completions = scored
        trainer.train()
    assert max(rollout.output["dialogue_turns"]) > 2
    return trainer, rollout, before, seen[0]


def spans(ids, mask):
    """Return runs of tokens with one value of the mask: (value, ids)."""
    found: list[tuple[int, list[int]]] = []
    for token, value in zip(ids, mask, strict=True):
        if not found or found[-1][0] != value:
            found.append((value, []))
        found[-1][1].append(token)
    return found


def test_masks_cover_exactly_what_the_agent_said(step):
    trainer, rollout, _, _ = step
    chats, env = ChatFormat(trainer.processing_class), text_env(rollout.env)
    for name, dialogue, ids, mask in zip(
        rollout.names, rollout.played, rollout.output["completion_ids"], rollout.output["env_mask"], strict=True
    ):
        runs = spans(ids, mask)
        assert [value for value, _ in runs] == [1, 0] * (len(runs) // 2) + [1]
        env.reset(seed=int(name.rpartition("#")[2]))
        for value, said in runs:
            if value:
                assert len(said) <= 24
                env.step(env.task.utterance(env.dialogue, chats.decode([said])[0]))
        assert env.dialogue == dialogue


def test_the_model_has_read_the_chat_as_the_template_writes_it(step):
    trainer, rollout, _, _ = step
    tokenizer, task = trainer.processing_class, text_env(rollout.env).task
    chats = ChatFormat(tokenizer)
    for dialogue, start, ids, mask in zip(
        rollout.played,
        rollout.output["prompt_ids"],
        rollout.output["completion_ids"],
        rollout.output["env_mask"],
        strict=True,
    ):
        runs = spans(ids, mask)
        if not dialogue.stop_reason:
            continue  # cut: the newest answer was not read
        chat = [dict(message) for message in task.messages(dialogue, task.roles[0])]
        spoken = [k for k, message in enumerate(chat) if message["role"] == "assistant"]
        raw = [tokenizer.decode([t for t in run if t not in chats.stop_ids]) for value, run in runs if value]
        for k, text in zip(spoken, raw, strict=True):
            chat[k]["content"] = text
        wanted = chats.render(chat[: spoken[-1]]) + raw[-1]
        read = tokenizer.decode(start + ids[: len(ids) - (ids[-1] in chats.stop_ids)])
        assert "".join(read.split()) == "".join(wanted.split())


def test_returns_are_those_of_the_dialogues(step):
    trainer, rollout, _, _ = step
    output, env = rollout.output, text_env(rollout.env)
    assert len(set(rollout.names)) == 1  # a group is one scenario
    for row, dialogue in enumerate(rollout.played):
        env.reset(seed=int(rollout.names[row].rpartition("#")[2]))
        steps = [env.step(text) for text in dialogue.texts(env.task.roles[0])]
        rewards = [reward for _, reward, *_ in steps]
        assert output["dialogue_rewards"][row] == pytest.approx(rewards)
        assert output["dialogue_return"][row] == pytest.approx(sum(rewards))
        assert output["dialogue_cost"][row] == pytest.approx(sum(info["cost"] for *_, info in steps))
        assert output["dialogue_turns"][row] == len(rewards)
        assert output["dialogue_success"][row] == dialogue.success
    log = trainer.state.log_history[0]
    assert log["reward"] == pytest.approx(sum(output["dialogue_return"]) / 4, abs=1e-5)
    assert log["completions/mean_length"] == pytest.approx(sum(map(sum, output["env_mask"])) / 4)


def test_the_trainer_trains_on_the_agents_tokens_alone(step):
    _, rollout, _, scored = step
    width = scored["completion_ids"].shape[1]
    for row, mask in enumerate(rollout.output["env_mask"]):
        trained = (scored["tool_mask"] * scored["completion_mask"])[row].tolist()
        assert trained == mask + [0] * (width - len(mask))


def test_a_step_moves_the_model_if_returns_differ(step):
    trainer, rollout, before, _ = step
    moved = any(not torch.equal(one, before[name]) for name, one in trainer.model.named_parameters())
    assert moved == (len(set(rollout.output["dialogue_return"])) > 1)
    assert moved or rollout.env == BARGAIN


def test_a_dialogue_that_does_not_fit_is_cut_and_says_so(tmp_path):
    rollout = Kept(CHAT, tokens=24)
    with quiet():
        trainer = trainer_of(save_random_model(tmp_path / "m"), rollout, tmp_path, max_completion_length=110)
        trainer.train()
    assert rollout.output["dialogue_cut"] == [1.0] * 4
    assert max(map(len, rollout.output["completion_ids"])) <= 110
    assert not any(dialogue.stop_reason for dialogue in rollout.played)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="tokens must be at least 1"):
        Dialogues(BARGAIN, tokens=0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        prompts(BARGAIN, 0)
    rollout = Dialogues(BARGAIN, tokens=24)
    with quiet():
        trainer = trainer_of(WEIGHTS / "tiny", rollout, tmp_path, max_completion_length=20)
    with pytest.raises(ValueError, match="more than a whole completion"):
        rollout([f"{BARGAIN}#1"], trainer)
    trainer.max_completion_length = 100
    bad: tuple[Any, ...] = ("hello", f"{CHAT}#1", f"{BARGAIN}#x", [{"role": "user", "content": "hi"}])
    for prompt in bad:
        with pytest.raises(ValueError, match="expected a prompt such as"):
            rollout([prompt], trainer)
    trainer.use_vllm = True
    with pytest.raises(ValueError, match="use_vllm=False"):
        rollout([f"{BARGAIN}#1"], trainer)
