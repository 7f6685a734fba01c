"""GRPO by TRL on our text environments: ``GRPOTrainer(rollout_func=Dialogues("dialog_gym/Bargain-v0"), ...)``.

TRL 1.16 has two hooks for environments. With ``environment_factory`` the model acts by tool calls, in the JSON of its
chat template, and the words of a dialogue would be an argument of a tool; a model has to know tools before it can say
anything. ``rollout_func`` plays whole dialogues as they are, so it is the one used. TRL calls both experimental.

A dialogue is one completion: the agent's utterances, which are trained (``env_mask`` 1), and between them what the
chat template and the partner add (``env_mask`` 0). A prompt of the data set names the environment and the seed, as
``prompts`` writes it, since TRL hands over nothing else; what the model reads is made here. TRL repeats each prompt
``num_generations`` times, so a group is one scenario with one partner, played several times.

Reward functions get one value per dialogue in ``dialogue_return`` (the undiscounted sum of rewards),
``dialogue_cost``, ``dialogue_success``, ``dialogue_turns`` and ``dialogue_cut`` (1 where ``max_completion_length``
left no room for another turn; the dialogue ends there, unfinished), and in ``dialogue_rewards`` the rewards per turn.
The function ``dialogue_return`` here is the reward function that wants the return alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from trl.models.utils import unwrap_model_for_generation

from dialog_gym.baselines import text_rows
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.chat import ChatFormat
from dialog_gym.rollout import make_rows
from dialog_gym.task import Task

Ids = list[int]
_MARK = "\u241evq7\u241e"  # nobody says it


def prompts(env: str, count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Return rows of a data set, ``datasets.Dataset.from_list(prompts(...))``: dialogues ``seed`` and ``count`` on.

    >>> prompts("dialog_gym/Bargain-v0", 2, seed=7)
    [{'prompt': 'dialog_gym/Bargain-v0#7'}, {'prompt': 'dialog_gym/Bargain-v0#8'}]
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return [{"prompt": f"{env}#{number}"} for number in range(seed, seed + count)]


def dialogue_return(dialogue_return: list[float], **_: Any) -> list[float | None]:
    """Reward each completion by the return of its dialogue; a reward function for ``GRPOTrainer``."""
    return [*dialogue_return]


@dataclass
class _Tape:
    """One dialogue as a completion."""

    prompt: Ids
    completion: Ids = field(default_factory=list)
    mask: Ids = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    cost: float = 0.0
    cut: bool = False
    over: bool = False
    dialogue: Dialogue | None = None

    def add(self, ids: Ids, spoken: bool) -> None:
        """Append tokens; ``spoken`` ones are the agent's."""
        self.completion += ids
        self.mask += [int(spoken)] * len(ids)


class Dialogues:
    """Plays dialogues with the model in training; the ``rollout_func`` of a ``GRPOTrainer``.

    All dialogues of a call go on in step, one ``generate`` and one call of the partner per turn. It generates with
    transformers, with the settings of the trainer (temperature and the like). What the model reads is
    ``Task.messages`` at the start, then its own tokens as it wrote them and the partner's newest words.

    Attributes:
        played: The dialogues of the newest call, in the order of its prompts.
    """

    def __init__(self, env: str, *, tokens: int = 64, env_kwargs: dict[str, Any] | None = None) -> None:
        """Play ``env``, with at most ``tokens`` tokens an utterance.

        Raises:
            ValueError: ``tokens`` is below 1.
        """
        if tokens < 1:
            raise ValueError(f"tokens must be at least 1, got {tokens}")
        self.env, self.tokens, self.env_kwargs = env, tokens, dict(env_kwargs or {})
        self.played: list[Dialogue] = []
        self._made: dict[int, Any] = {}

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Play the dialogues that ``prompts`` name; return what TRL wants of a ``rollout_func``.

        Raises:
            ValueError: A prompt names none, or the trainer cannot be served; the message says why.
        """
        self._check(trainer)
        seeds = [self._seed(prompt) for prompt in prompts]
        chats = ChatFormat(trainer.processing_class)
        env = self._env(len(seeds))
        task = text_rows(env).task
        _, infos = env.reset(seed=seeds)
        agent = task.roles[0]
        tapes = [_Tape(ids) for ids in chats.encode([task.messages(d, agent) for d in infos["dialogue"]])]
        while live := [row for row, tape in enumerate(tapes) if not tape.over]:
            said = self._generate([tapes[row].prompt + tapes[row].completion for row in live], chats, trainer)
            texts = [""] * len(tapes)
            for row, ids in zip(live, said, strict=True):
                tapes[row].add(ids, spoken=True)
                text = task.utterance(infos["dialogue"][row], chats.decode([ids])[0])
                texts[row] = text[: task.max_chars]
            _, rewards, terminated, truncated, infos = env.step(texts)
            for row in live:
                tape, dialogue = tapes[row], infos["dialogue"][row]
                tape.rewards.append(float(rewards[row]))
                tape.cost += float(infos["cost"][row])
                tape.dialogue, tape.over = dialogue, bool(terminated[row] or truncated[row])
                if not tape.over:
                    self._hear(tape, task, dialogue, chats, trainer.max_completion_length)
        self.played = [tape.dialogue for tape in tapes if tape.dialogue is not None]
        return _output(tapes)

    def _env(self, rows: int) -> Any:
        """Return an environment with ``rows`` rows: its models are loaded once, not at every step of training."""
        if rows not in self._made:
            self._made = {rows: make_rows(self.env, rows, self.env_kwargs)}
        return self._made[rows]

    def _hear(self, tape: _Tape, task: Task, dialogue: Dialogue, chats: ChatFormat, room: int) -> None:
        """Append what the chat goes on with after the agent's newest words, or cut the dialogue for want of room."""
        ids = _answer(task, dialogue, chats)
        if tape.completion[-1:] == ids[:1]:
            ids = ids[1:]  # the model itself has ended its turn
        if len(tape.completion) + len(ids) + self.tokens > room:
            tape.cut = tape.over = True
        else:
            tape.add(ids, spoken=False)

    def _generate(self, read: list[Ids], chats: ChatFormat, trainer: Any) -> list[Ids]:
        """Let the model in training speak after each of ``read``; the token that ended it is the last."""
        pad = trainer.processing_class.pad_token_id
        width = max(map(len, read))
        device = trainer.accelerator.device
        ids = torch.tensor([[pad] * (width - len(one)) + one for one in read], device=device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in read], device=device)
        config = copy.deepcopy(trainer.generation_config)
        stops = sorted({*chats.stop_ids, *trainer.eos_token_ids})
        config.update(max_new_tokens=self.tokens, eos_token_id=stops, pad_token_id=pad)
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model, torch.no_grad():
            made = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, width:]
        return [_until(one, set(stops)) for one in made.tolist()]

    def _seed(self, prompt: Any) -> int:
        env, _, seed = prompt.rpartition("#") if isinstance(prompt, str) else ("", "", "")
        if env != self.env or not seed.isdecimal():
            raise ValueError(
                f"expected a prompt such as '{self.env}#7', an environment and a seed, got {prompt!r:.200}; make the "
                "data set with dialog_gym.neighbours.trl.prompts"
            )
        return int(seed)

    def _check(self, trainer: Any) -> None:
        if trainer.use_vllm or getattr(trainer, "use_transformers_continuous_batching", False):
            raise ValueError("Dialogues generates with transformers: set use_vllm=False and no continuous batching")
        if self.tokens > trainer.max_completion_length:
            raise ValueError(
                f"an utterance may have {self.tokens} tokens, more than a whole completion: max_completion_length is "
                f"{trainer.max_completion_length}"
            )


def _answer(task: Task, dialogue: Dialogue, chats: ChatFormat) -> Ids:
    """Return the tokens between the agent's newest utterance and its next: end of turn, partner, head of its turn."""
    chat = [dict(message) for message in task.messages(dialogue, task.roles[0])]
    last = max(k for k, message in enumerate(chat) if message["role"] == "assistant")
    chat[last]["content"] = _MARK
    text = chats.render(chat).rpartition(_MARK)[2]
    return list(chats.tokenizer(text, add_special_tokens=False)["input_ids"])


def _until(ids: Ids, stops: set[int]) -> Ids:
    """Return ``ids`` up to the first of ``stops``, with it."""
    end = next((k + 1 for k, token in enumerate(ids) if token in stops), len(ids))
    return ids[:end]


def _output(tapes: Sequence[_Tape]) -> dict[str, Any]:
    ended = [tape.dialogue for tape in tapes if tape.dialogue is not None]
    return {
        "prompt_ids": [tape.prompt for tape in tapes],
        "completion_ids": [tape.completion for tape in tapes],
        "logprobs": None,
        "env_mask": [tape.mask for tape in tapes],
        "dialogue_return": [sum(tape.rewards) for tape in tapes],
        "dialogue_rewards": [tape.rewards for tape in tapes],
        "dialogue_cost": [tape.cost for tape in tapes],
        "dialogue_cut": [float(tape.cut) for tape in tapes],
        "dialogue_success": [float(dialogue.success) for dialogue in ended],
        "dialogue_turns": [float(dialogue.turn) for dialogue in ended],
    }
