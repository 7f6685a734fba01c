"""A language model as a policy: it reads the dialogue, and says the agent's next utterance.

The contract for algorithms (``tf``, ``dt``, ``ilql``, ``ppo``, ...), each of which subclasses ``LMPolicy``:

- ``build(args)`` makes the policy that ``args.lm`` names, with an adapter if ``args.lora`` is above 0, the value heads
  of ``head_sizes(args)`` and the tokens of ``new_tokens(args)``; a subclass overrides these two.
- ``act(observations, infos)`` says one utterance per row; ``speak(dialogues)`` returns with it what an online
  algorithm learns from: prompt ids, tokens drawn (the stop token included) and their log-probabilities.
- ``prompt_ids(dialogues)`` are the tokens that are read before a reply. ``lm_tokens.token_rows`` encodes alike.
- ``reshape(hidden, logits)`` changes the logits from which the next token is drawn; by default it leaves them. It is
  called at every token while the policy acts, with the last hidden states (n, d) and logits (n, vocabulary).
- ``network`` is what is trained, ``lm`` the same weights as a ``TransformersLM`` with caches: after weights have
  changed, call ``forget`` before it acts.

Words follow the task's notation (``Task.messages``, ``Task.utterance``), of the environment in ``args.env`` or of
``policy.task = ...``. Chance follows from the dialogue alone (its seed and turn).

A saved policy is a folder with ``checkpoint.json`` and ``arrays.safetensors`` (heads, settings), and ``model/`` as
transformers or peft save it (safetensors, tokenizer), with the checksums of its files. Weights that were tuned as a
whole are a model for everybody: ``--lm hf:runs/tf/agent/model``; those of an adapter are
``--lm "hf:BASE?adapter=runs/tf/agent/model"``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from dialog_gym import checkpoint
from dialog_gym.agent import Agent, args_from_json
from dialog_gym.agents.lm_data import task_of
from dialog_gym.agents.lm_network import (
    LORA_TARGETS,
    Adapter,
    LMNetwork,
    add_tokens,
    embeddings_of,
    load_model,
    make_room,
    prepare_training,
)
from dialog_gym.agents.loop import RunArgs, at_least
from dialog_gym.agents.state import to_numpy, to_torch
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.dialogue import Dialogue
from dialog_gym.errors import naming, unknown
from dialog_gym.lm.base import Generation, Sampling
from dialog_gym.lm.session import TransformersSession
from dialog_gym.lm.speaker import begins
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.lm.wording import Wording
from dialog_gym.rewards.reward_model import quiet
from dialog_gym.task import Task

MODEL = "model"
_SUMS = "checksums.json"


@dataclass(frozen=True)
class LMArgs(RunArgs):
    """What every agent that is a language model can be told."""

    env: str = "dialog_gym/Bargain-v0"
    """Environment it is played in, by text; empty for data of no environment (then nothing is played)."""
    lm: str = "tiny"
    """Language model to begin with: tiny, hf:NAME_OR_PATH, or a folder."""
    lora: int = 0
    """Rank of a LoRA adapter, which alone is trained; 0 trains every weight."""
    lora_alpha: float = 16.0
    """The adapter's update is scaled by this over its rank."""
    lora_dropout: float = 0.0
    """Dropout on what the adapter reads."""
    lora_targets: tuple[str, ...] = (LORA_TARGETS,)
    """Names of the layers that get an adapter; all-linear: all but the output."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the frozen weights beside an adapter; what is trained is float32."""
    device: Literal["auto", "cpu"] = "auto"
    """Where it runs: auto takes the GPU of this process if there is one."""
    max_length: int = 0
    """Most tokens of a dialogue that are read, the oldest turns going first; 0: what the model takes."""
    max_tokens: int = 32
    """Longest utterance in tokens."""
    temperature: float = 0.0
    """0 says the most probable words, 1 samples the model's own distribution."""
    top_p: float = 1.0
    """Samples among the most probable tokens that together have this probability."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "lora", "max_length", "lora_dropout")
        at_least(self, 1, "max_tokens")
        Sampling(self.max_tokens, self.temperature, self.top_p)
        if self.dtype != "float32" and not self.lora:
            raise ValueError(f"dtype={self.dtype!r} is for frozen weights: train an adapter (lora above 0)")

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that is trained, None for all weights."""
        return Adapter(self.lora, self.lora_alpha, self.lora_dropout, self.lora_targets) if self.lora else None


class Utterance(NamedTuple):
    """What a policy said.

    Attributes:
        text: The words, as people read them.
        prompt: Token ids that it read.
        drawn: The tokens drawn, the one that ended the turn included, with their log-probabilities at temperature 1.
    """

    text: str
    prompt: list[int]
    drawn: Generation


@dataclass
class _Rows:
    """A session, and the dialogue last read in each of its rows."""

    session: TransformersSession
    seen: list[Dialogue | None] = field(default_factory=list)


class LMPolicy(Agent):
    """A language model that speaks for the agent in text environments.

    Attributes:
        args: Its settings.
        more: What an algorithm keeps with the policy besides, JSON by name.
        network: What is trained.
        lm: The same model, with caches for speaking.
        tokens: Ids of the tokens it was given beside its own, in their order.
    """

    args_class: ClassVar[type[LMArgs]] = LMArgs

    def __init__(self, args: Any, network: LMNetwork, tokenizer: Any, tokens: Sequence[int], base: Mapping[str, Any]):
        """Use ``build`` or ``load``."""
        self.args, self.network, self.tokens, self.base = args, network, list(tokens), dict(base)
        self.more: dict[str, Any] = {}
        trained = network.trainable()
        self.lm = TransformersLM(network.plain, tokenizer, f"{type(self).name}({args.lm})")
        for parameter in trained.values():  # a TransformersLM freezes its model
            parameter.requires_grad_(True)
        if args.max_length:
            self.lm.max_positions = min(args.max_length, self.lm.max_positions or args.max_length)
        self._task: Task | None = None
        self._rows: _Rows | None = None

    # --- what an algorithm may override -----------------------------------------------------------

    @classmethod
    def head_sizes(cls, args: Any) -> dict[str, int]:
        """Return the outputs of each head on the model's states by name, 0 for one per token; by default no heads."""
        return {}

    @classmethod
    def new_tokens(cls, args: Any) -> list[str]:
        """Return special tokens to add to the model, in an order that means something; by default none."""
        return []

    def reshape(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """Return the logits to draw from, (n, vocabulary), given hidden states (n, d); by default those of the model.

        Tokens that the policy was given itself are never said.
        """
        if self.tokens:
            logits = logits.index_fill(-1, torch.tensor(self.tokens, device=logits.device), -torch.inf)
        return logits

    def prompt_ids(self, dialogues: Sequence[Dialogue]) -> list[list[int]]:
        """Return the token ids that are read before the reply in each dialogue."""
        return self.lm.encode([self.words(dialogue) for dialogue in dialogues], self.args.max_tokens)

    def words(self, dialogue: Dialogue) -> list[dict[str, str]]:
        """Return ``dialogue`` as its agent's role is put it: by the task, or as it stands where there is none."""
        agent = dialogue.roles[0]
        return self.wording.messages(dialogue, agent) if self._plays else dialogue.messages(agent)

    # --- acting -----------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """Whose notation is read and written.

        Raises:
            ValueError: The policy was trained without an environment (set ``task``), or its actions are no text.
        """
        if self._task is None:
            if not self._plays:
                raise ValueError("this policy was trained without an environment: set policy.task to what it plays")
            self._task = task_of(self.args.env, self.args.env_kwargs, by_text=True)
        return self._task

    @task.setter
    def task(self, task: Task) -> None:
        self._task = task

    @property
    def _plays(self) -> bool:
        return self._task is not None or bool(self.args.env)

    @property
    def wording(self) -> Wording:
        """How ``task`` is put to the model."""
        return Wording(self.task, self.lm)

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.args.max_tokens, self.args.temperature, self.args.top_p)

    def set(self, **settings: Any) -> Self:
        """Change settings of speaking (temperature, top_p, max_tokens, those of the algorithm); return the policy.

        Raises:
            KeyError: There is no such setting; the message names the nearest.
            ValueError: A value is refused.
        """
        known = {field.name for field in fields(self.args)}
        if strange := sorted(set(settings) - known):
            raise unknown("setting", strange[0], known)
        self.args = replace(self.args, **settings)
        self.forget()
        return self

    def act(self, observations: Any, infos: Mapping[str, Any] | None = None) -> list[str]:
        """Return what is said in each row, ``""`` where the dialogue is over.

        Raises:
            ValueError: ``infos`` has no dialogues: this is no text environment of dialogues.
        """
        dialogues = (infos or {}).get("dialogue")
        if dialogues is None:
            raise ValueError(
                f"{self.name} acts on the dialogues in infos['dialogue'], as text environments of dialogues give "
                f"them; got infos with {sorted(infos or {})}"
            )
        return ["" if said is None else said.text for said in self.speak(dialogues)]

    def speak(
        self, dialogues: Sequence[Dialogue], *, sampling: Sampling | None = None, draw: str = "speech"
    ) -> list[Utterance | None]:
        """Return what is said in each dialogue, None where it is over; its rows are remembered from call to call.

        Args:
            dialogues: One per row.
            sampling: Instead of the policy's own.
            draw: Name of the stream of chance; another name gives another sample of the same dialogue.

        Raises:
            ValueError: The roles are not those of the policy's task.
        """
        live = [row for row, dialogue in enumerate(dialogues) if not dialogue.stop_reason]
        found: list[Utterance | None] = [None] * len(dialogues)
        if not live:
            return found
        playing = [dialogues[row] for row in live]
        self._check_roles(playing)
        prompts = self.prompt_ids(playing)
        seeds = [dialogue.draws(draw).bits() >> 1 for dialogue in playing]
        rows = self._rows_for(len(dialogues))
        with self.acting(), naming("the agent's words", playing):
            self._read(rows, live, playing, prompts)
            said = rows.session.write(live, sampling or self.sampling, seeds=seeds)
        wording = self.wording
        for row, dialogue, prompt, drawn in zip(live, playing, prompts, said, strict=True):
            found[row] = Utterance(wording.utterance(dialogue, drawn.text), prompt, drawn)
        return found

    def forget(self) -> None:
        """Drop all caches: the weights have changed."""
        self._rows = None
        self.lm.memory.clear()

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, the model is in evaluation mode and its logits go through ``reshape``."""
        training, output = self.network.training, self.network.plain.get_output_embeddings()
        self.network.eval()
        hook = output.register_forward_hook(self._reshaped)
        try:
            yield
        finally:
            hook.remove()
            self.network.train(training)

    def _reshaped(self, module: Any, inputs: Any, output: Tensor) -> Tensor:
        hidden = inputs[0]
        flat = self.reshape(hidden.flatten(0, -2), output.flatten(0, -2))
        return flat.view(output.shape)

    def _rows_for(self, count: int) -> _Rows:
        if self._rows is None or self._rows.session.rows != count:
            self._rows = _Rows(self.lm.session(count), [None] * count)
        return self._rows

    def _read(self, rows: _Rows, live: list[int], dialogues: list[Dialogue], prompts: list[list[int]]) -> None:
        """Read the prompts; a new episode shares nothing with the last one in its row, not even rounding."""
        new = [row for row, dialogue in zip(live, dialogues, strict=True) if begins(rows.seen[row], dialogue)]
        rows.session.forget(new)
        self.lm.in_batches(
            len(live), lambda part: list(rows.session.read_batch(live[part], [list(ids) for ids in prompts[part]]))
        )
        for row, dialogue in zip(live, dialogues, strict=True):
            rows.seen[row] = dialogue

    def _check_roles(self, dialogues: Sequence[Dialogue]) -> None:
        expected = tuple(self.task.roles)
        for dialogue in dialogues:
            if dialogue.roles != expected:
                raise ValueError(
                    f"this policy plays {self.args.env or type(self.task).__name__} as {expected[0]!r} to "
                    f"{expected[1]!r}, got a dialogue between {dialogue.roles[0]!r} and {dialogue.roles[1]!r}: set "
                    "policy.task to what it is to play"
                )

    # --- making, saving, loading ------------------------------------------------------------------

    @classmethod
    def build(cls, args: Any, *, device: str | None = None) -> Self:
        """Return the untrained policy that ``args`` describe; what is drawn follows from ``args.seed``.

        Raises:
            ValueError: The model cannot be had, or not trained like this.
        """
        model, tokenizer = load_model(args.lm, args.dtype, device or device_of(args))
        generator = torch.Generator().manual_seed(args.seed)
        base = {"spec": args.lm, "vocabulary": embeddings_of(model).shape[0]}
        with torch.random.fork_rng():
            torch.manual_seed(args.seed)
            tokens = add_tokens(model, tokenizer, cls.new_tokens(args), generator) if cls.new_tokens(args) else []
            model = prepare_training(model, args.adapter, tokens)
            network = LMNetwork(model, cls.head_sizes(args))
        return cls(args, network, tokenizer, tokens, base)

    def save(self, folder: str | Path) -> None:
        """Write weights, tokenizer and settings."""
        heads = to_numpy(self.network.heads.state_dict())
        data = {"args": asdict(self.args), "tokens": self.tokens, "base": self.base, "more": self.more}
        checkpoint.write(folder, self.name, heads, data, beside=self._save_model)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None) -> Self:
        """Read what ``save`` wrote.

        Raises:
            CheckpointError: It is no policy of this kind, it is damaged, or its adapter is for another model.
        """
        heads, data = checkpoint.read(folder, cls.name)
        saved = Path(folder) / MODEL
        _check_sums(saved)
        try:
            args = args_from_json(cls.args_class, data["args"])
            with torch.random.fork_rng():  # what is drawn is overwritten
                model, tokenizer = _load_saved(saved, args, data, device)
                network = LMNetwork(model, cls.head_sizes(args))
            network.heads.load_state_dict(to_torch(heads))
            policy = cls(args, network, tokenizer, data["tokens"], data["base"])
            policy.more = data["more"]
            return policy
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise CheckpointError(f"{folder} does not fit this version of {cls.name}: {error}") from error

    def _save_model(self, folder: Path) -> None:
        place = folder / MODEL
        was = self.network.plain.config.use_cache
        self.network.plain.config.use_cache = True
        with quiet():
            # peft would add all embeddings to an adapter; those that are new are in it anyway
            whole = {"save_embedding_layers": False} if self.network.has_adapter else {}
            self.network.model.save_pretrained(str(place), **whole)
            self.lm.tokenizer.save_pretrained(str(place))
        self.network.plain.config.use_cache = was
        (place / "README.md").unlink(missing_ok=True)  # peft's form with nothing in it
        sums = {path.name: checkpoint.checksum(path) for path in sorted(place.iterdir())}
        (place / _SUMS).write_text(json.dumps(sums), encoding="utf-8")


def device_of(args: LMArgs) -> str | None:
    """Return where a policy of ``args`` is put, None for a GPU if there is one."""
    return None if args.device == "auto" else args.device


def _load_saved(place: Path, args: Any, data: Mapping[str, Any], device: str | None) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    device = device or device_of(args)
    if args.adapter is None:
        model, tokenizer = load_model(f"hf:{place}", args.dtype, device)
        return prepare_training(model, None), tokenizer
    from peft import PeftModel

    model, _ = load_model(data["base"]["spec"], args.dtype, device)
    rows = embeddings_of(model).shape[0]
    if rows != data["base"]["vocabulary"]:
        raise CheckpointError(
            f"{place} is an adapter for a model of {data['base']['vocabulary']} tokens, and {data['base']['spec']!r} "
            f"has {rows} now: it is another model"
        )
    tokenizer = AutoTokenizer.from_pretrained(str(place))
    if data["tokens"]:
        make_room(model, data["tokens"])
    return PeftModel.from_pretrained(model, str(place), is_trainable=True), tokenizer


def _check_sums(place: Path) -> None:
    try:
        sums = json.loads((place / _SUMS).read_text(encoding="utf-8"))
        wrong = [name for name, crc in sums.items() if checkpoint.checksum(place / name) != crc]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place} cannot be read: {error}; take another copy or an older checkpoint") from error
    if wrong:
        raise CheckpointError(f"{place / wrong[0]} is damaged; take another copy or an older checkpoint")
