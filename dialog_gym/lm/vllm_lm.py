"""A vLLM engine in this process: many dialogues at once on one GPU, or on a CPU.

Tested with vLLM 0.32 on a CPU; ``make test-vllm`` does it again.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
import safetensors
from numpy.typing import NDArray

from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Counts, Embeddings, Generation, Messages, Position, Sampling, Schema, require
from dialog_gym.lm.chat_session import ChatSession
from dialog_gym.lm.prompt_embeds import PromptEmbedder

if TYPE_CHECKING:
    from torch import Tensor

    from dialog_gym.lm.chat import ChatFormat

_PROCESSES = "VLLM_ENABLE_V1_MULTIPROCESSING"
_HERE: WeakSet[Any] = WeakSet()  # engines that live in this process
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of LoRA adapters, as far as vLLM makes room for them


class VllmLM:
    """A ``LanguageModel`` over ``vllm.LLM``.

    All prompts of a call are one call of the engine, which batches them as it sees fit. Chats become tokens as in
    ``TransformersLM``, so a model reads the same ids in both, and a greedy reply in float32 is the same. Sampled
    replies differ, since vLLM draws in its own way, but depend on the seed of their row alone (up to the rounding of
    the logits, which may change with the batch).

    The engine remembers what it has computed of each chat (automatic prefix caching), so a session only keeps the
    prompts. It tells no states: let a speaker observe through another model (``observer="hf:NAME"``).

    Attributes:
        name: For people and logs.
        engine: The ``vllm.LLM``.
        embedder: Writes chats as tokens and as embeddings.
        hidden_size: 0, as there are no states.
        max_positions: Most tokens of a prompt with its prefix and its reply.
        supports: ``prefix``, ``logprobs`` and ``json``.
        counts: Work done so far.
    """

    supports = frozenset({"prefix", "logprobs", "json"})
    hidden_size = 0

    def __init__(
        self, engine: Any, embedder: PromptEmbedder, name: str = "", lora: Any = None, *, logprobs: bool = True
    ) -> None:
        """Speak through ``engine``.

        Args:
            engine: A ``vllm.LLM`` made with ``enable_prompt_embeds=True``.
            embedder: Reads chats for the same model, in the engine's dtype.
            name: For people and logs; default: the engine's.
            lora: A ``LoRARequest`` that all replies are made with.
            logprobs: Whether replies come with their log-probabilities.
        """
        self.engine = engine
        self.embedder = embedder
        self.name = name or str(engine.model_config.model)
        self.max_positions: int = engine.model_config.max_model_len
        self.counts = Counts()
        self._lora = lora
        self._tells_logprobs = logprobs
        self._stop = sorted(embedder.chat.stop_ids)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        dtype: str = "float32",
        *,
        name: str = "",
        adapter: str | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float | None = None,
        enforce_eager: bool = False,
        logprobs: bool = True,
        **engine: Any,
    ) -> VllmLM:
        """Start an engine for a model.

        Args:
            name_or_path: Folder, or name on a hub.
            dtype: Of the weights: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored).
            name: For people and logs; default ``name_or_path``, and ``adapter`` behind a plus.
            adapter: Folder of a LoRA adapter that peft saved, None for none.
            max_model_len: Most tokens of a prompt and its reply; None: what the model can read.
            gpu_memory_utilization: Share of the memory of the GPU (or of the machine, on a CPU) that weights and
                cache may take, in (0, 1]; None: vLLM's default.
            enforce_eager: Start sooner and run slower: nothing is compiled.
            logprobs: Whether replies come with their log-probabilities. Planners do not need them, and on a CPU they
                cost a small model a sixth of its speed.
            engine: Further arguments of ``vllm.LLM``, such as ``tensor_parallel_size`` or ``kv_cache_memory_bytes``.

        Raises:
            ModuleNotFoundError: vLLM is not installed.
            ValueError: The model does not load, or an argument is not known.
        """
        vllm = _vllm()
        embedder = PromptEmbedder.from_pretrained(str(name_or_path), dtype)
        settings: dict[str, Any] = {
            "enable_prefix_caching": True,
            "enforce_eager": enforce_eager,
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        if vllm.platforms.current_platform.is_cpu():
            settings["enable_chunked_prefill"] = False  # 0.32 on a CPU dies of seeds in a batch that it splits
        if max_model_len is not None:
            settings["max_model_len"] = max_model_len
        if gpu_memory_utilization is not None:
            settings["gpu_memory_utilization"] = gpu_memory_utilization
        lora = None
        if adapter is not None:
            settings |= {"enable_lora": True, "max_lora_rank": _rank(Path(adapter))}
            settings["lora_target_modules"] = _adapted(Path(adapter))
            lora = vllm.lora.request.LoRARequest("adapter", 1, str(adapter))
        settings |= engine
        try:
            with _process_for_engine(vllm.envs) as here:
                started = vllm.LLM(str(name_or_path), dtype=dtype, enable_prompt_embeds=True, **settings)
                if here:
                    _HERE.add(started)
        except Exception as error:  # of many kinds, down to a RuntimeError of the engine's own start
            raise ValueError(
                f"vLLM cannot load {str(name_or_path)!r} with dtype {dtype!r} and {settings}: {error}; a model that "
                "is too large for the memory may fit with a smaller max_model_len or another gpu_memory_utilization, "
                "and one that vLLM does not know runs as 'hf:NAME_OR_PATH'"
            ) from error
        name = name or (str(name_or_path) if adapter is None else f"{name_or_path}+{adapter}")
        return cls(started, embedder, name, lora, logprobs=logprobs)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.embedder.tokenizer

    @property
    def chat(self) -> ChatFormat:
        """How chats become tokens."""
        return self.embedder.chat

    @property
    def folder(self) -> Path | None:
        """Where the model was loaded from, None if not from a folder."""
        return self.embedder.folder

    @property
    def embedding_matrix(self) -> Tensor:
        """The input embeddings, (vocabulary, embedding size)."""
        return self.embedder.embedding_matrix

    @property
    def embedding_size(self) -> int:
        """Length of one prefix embedding."""
        return self.embedder.embedding_size

    def fingerprint(self) -> dict[str, int | str]:
        """Return what tells this model's input embeddings from another's, as ``TransformersLM.fingerprint``."""
        return self.embedder.fingerprint()

    def session(self, rows: int, *, mean: bool = False) -> ChatSession:
        """Return a memory for ``rows`` chats; it keeps the prompts alone (the engine remembers the rest)."""
        return ChatSession(self, rows)

    def generate(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
        schema: Schema | None = None,
    ) -> list[Generation]:
        """Return one reply to each prompt; see ``LanguageModel.generate``.

        Strings in an answer by ``schema`` may hold raw control characters, for ``json.loads(text, strict=False)``.

        Raises:
            ValueError: Prefixes, seeds or the length of a prompt do not fit, or vLLM does not take the sampling (it
                takes temperatures up to 2).
            LanguageModelError: The engine failed.
        """
        if not prompts:
            return []
        inputs = self._inputs(prompts, prefixes, position)
        outputs = self._run(inputs, self._parameters(sampling, seeds, schema, len(prompts)))
        said = [output.outputs[0] for output in outputs]
        self.counts.generated += sum(len(one.token_ids) for one in said)
        texts = self.chat.decode([one.token_ids for one in said])
        return [_generation(text, one) for text, one in zip(texts, said, strict=True)]

    def embed(self, prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Refuse: the engine tells no states.

        Raises:
            UnsupportedError: Always.
        """
        require(self, {"state"}, "the state of a prompt")
        raise AssertionError("vLLM tells no states")

    def logprobs(
        self, prompts: Sequence[Messages], continuations: Sequence[str | Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Return the log-probability of each token of each continuation, in one call of the engine.

        A continuation is a text, scored without an end-of-turn token, or token ids as in ``Generation.tokens``.

        Raises:
            ValueError: There is not one continuation per prompt, or one is too long.
            LanguageModelError: The engine failed.
        """
        if len(prompts) != len(continuations):
            raise ValueError(f"expected one continuation per prompt, got {len(continuations)} for {len(prompts)}")
        if not prompts:
            return []
        replies = [
            self.chat.encode_reply(said, prompt) if isinstance(said, str) else [int(token) for token in said]
            for prompt, said in zip(prompts, continuations, strict=True)
        ]
        starts = self.embedder.encode(prompts, self._limit(max(map(len, replies)) + 1))
        tokens = [ids + reply for ids, reply in zip(starts, replies, strict=True)]
        self._check_lengths([len(ids) for ids in tokens])
        read = _vllm().SamplingParams(max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False)
        outputs = self._run([{"prompt_token_ids": ids} for ids in tokens], [read] * len(tokens))
        return [
            np.array(output.prompt_logprobs.logprobs[len(ids) - len(reply) - 1 :][: len(reply)], np.float32)
            for output, ids, reply in zip(outputs, tokens, replies, strict=True)
        ]

    def close(self) -> None:
        """Stop the engine and free its memory; the model cannot be used any more."""
        self.engine.llm_engine.engine_core.shutdown()
        _HERE.discard(self.engine)

    def _inputs(
        self, prompts: Sequence[Messages], prefixes: Embeddings | None, position: Position
    ) -> list[dict[str, Any]]:
        if prefixes is None:
            tokens = self.embedder.encode(prompts, self._limit())
            self._check_lengths([len(ids) for ids in tokens])
            return [{"prompt_token_ids": ids} for ids in tokens]
        embedded = self.embedder.embed(prompts, prefixes, position, self._limit())
        self._check_lengths([len(one) for one in embedded])
        return [{"prompt_embeds": one} for one in embedded]

    def _limit(self, room: int = 64) -> int:
        """Return how long a prompt may be before it loses its oldest turns, as in ``TransformersLM``."""
        return self.max_positions - min(room, self.max_positions // 4)

    def _check_lengths(self, lengths: Sequence[int]) -> None:
        if not min(lengths):
            raise ValueError(f"prompt {lengths.index(0)} has no token: a chat needs a message or a generation prompt")
        if (longest := max(lengths)) >= self.max_positions:
            raise ValueError(
                f"prompt {lengths.index(longest)} has {longest} tokens, system messages and newest turn alone, which "
                f"leaves no room for a reply in the {self.max_positions} positions of {self.name}: shorten the "
                "scenario or what may be said in a turn, or raise max_model_len"
            )

    def _parameters(
        self, sampling: Sampling, seeds: Sequence[int] | None, schema: Schema | None, rows: int
    ) -> list[Any]:
        if seeds is not None and len(seeds) != rows:
            raise ValueError(f"expected one seed per prompt, got {len(seeds)} seeds for {rows} prompts")
        if sampling.temperature > 0 and seeds is None:
            raise ValueError(f"sampling at temperature {sampling.temperature} needs seeds, one integer per row")
        shared: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop_token_ids": self._stop,
            "logprobs": 0 if self._tells_logprobs else None,  # 0: of the token drawn alone
            "flat_logprobs": True,
            "detokenize": False,
        }
        vllm = _vllm()
        try:
            if schema is not None:
                shared["structured_outputs"] = vllm.sampling_params.StructuredOutputsParams(json=dict(schema))
            if sampling.temperature == 0 or seeds is None:
                return [vllm.SamplingParams(**shared)] * rows
            return [vllm.SamplingParams(**shared, seed=int(seed)) for seed in seeds]
        except vllm.exceptions.VLLMValidationError as error:
            raise ValueError(f"vLLM refuses {sampling}: {error}") from error

    def _run(self, inputs: Sequence[Any], parameters: Sequence[Any]) -> list[Any]:
        """Return the engine's outputs in the order of ``inputs``; leave nothing running if it fails."""
        with _signals_between_steps(self.engine.llm_engine):
            try:
                outputs: list[Any] = self.engine.generate(inputs, parameters, use_tqdm=False, lora_request=self._lora)
            except BaseException as error:
                self._abort()
                if not isinstance(error, Exception):  # Ctrl-C
                    raise
                raise LanguageModelError(f"vLLM failed on {len(inputs)} prompts for {self.name!r}: {error}") from error
        self.counts.prefilled += sum(map(_length, inputs)) - sum(output.num_cached_tokens or 0 for output in outputs)
        return outputs

    def _abort(self) -> None:
        """Drop what an interrupted call left behind: the next one would be given its replies."""
        engine = self.engine.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)


@contextmanager
def _signals_between_steps(engine: Any) -> Iterator[None]:
    """Let Ctrl-C, and a handler of SIGTERM, act between two steps of ``engine`` only.

    In the middle of one they would leave a scheduler that plans requests which have been dropped, and every later
    call would fail.

    Args:
        engine: A ``vllm.v1.engine.llm_engine.LLMEngine``.
    """
    if threading.current_thread() is not threading.main_thread():  # no handler ever runs here
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    step = engine.step

    def act() -> None:
        while came:
            number = came.pop(0)
            handlers[number](number, None)  # type: ignore[operator,index,misc]

    def whole_step() -> Any:
        outputs = step()
        act()
        return outputs

    held = [number for number, handler in handlers.items() if callable(handler)]
    engine.step = whole_step
    for number in held:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, handlers[number])
        del engine.step
        act()


def _vllm() -> Any:
    try:
        import vllm
        import vllm.envs
        import vllm.exceptions
        import vllm.lora.request
        import vllm.platforms
        import vllm.sampling_params
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a model named 'vllm:NAME_OR_PATH' needs the package {error.name}: pip install 'dialog-gym[vllm]' in an "
            "environment with a GPU (CONTRIBUTING.md tells how the tests run it on a CPU), or name the model "
            "'hf:NAME_OR_PATH'",
            name=error.name,
        ) from error
    return vllm


@contextmanager
def _process_for_engine(envs: Any) -> Iterator[bool]:
    """Choose where the next engine lives, and say whether it is this process.

    The first one does, unless the user says otherwise, which saves the traffic. Engines in one process share what
    vLLM holds globally, and the first that stops would take it from the others.

    Args:
        envs: ``vllm.envs``, which reads the environment only until the first engine has started.
    """
    told = os.environ.get(_PROCESSES)
    os.environ.setdefault(_PROCESSES, "1" if _HERE else "0")
    envs.disable_envs_cache()
    try:
        yield os.environ[_PROCESSES] == "0"
    finally:
        if told is None:
            os.environ.pop(_PROCESSES, None)
        if _HERE:
            envs.enable_envs_cache()


def _generation(text: str, said: Any) -> Generation:
    stop: Literal["end", "length"] = "end" if said.finish_reason == "stop" else "length"
    scores = () if said.logprobs is None else tuple(said.logprobs.logprobs)
    return Generation(text, tuple(said.token_ids), scores, stop)


def _rank(adapter: Path) -> int:
    """Return the room that vLLM must make for an adapter."""
    try:
        rank = int(json.loads((adapter / "adapter_config.json").read_text())["r"])
        return next(room for room in _RANKS if room >= rank)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise ValueError(
            f"expected {str(adapter)!r} to hold a LoRA adapter of rank at most {_RANKS[-1]} in peft's format "
            f"(adapter_config.json), got {type(error).__name__} {error}"
        ) from error


def _adapted(adapter: Path) -> list[str]:
    """Return the names of the layers that an adapter changes; vLLM is to leave the others as they are.

    Left alone, it would wrap the embeddings too, and 0.32 on a CPU dies of that when a batch holds words and
    embeddings.
    """
    file = adapter / "adapter_model.safetensors"
    try:
        with safetensors.safe_open(file, "pt") as weights:
            names = {key.partition(".lora_")[0].rpartition(".")[2] for key in weights.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"expected weights of a LoRA adapter at {str(file)!r}, got {error}") from error
    if embeddings := sorted(name for name in names if name in ("embed_tokens", "wte")):
        raise ValueError(
            f"the adapter {str(adapter)!r} changes {', '.join(embeddings)}, and prompts reach vLLM as embeddings made "
            "without it: merge it into the model (peft's merge_and_unload) and name the merged folder"
        )
    return sorted(names)


def _length(one: Any) -> int:
    return len(one["prompt_token_ids"] if "prompt_token_ids" in one else one["prompt_embeds"])
