"""What a language model says in many contexts: greedy, sampled or by beam search, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from dialog_gym.agents.ilql import ILQL
from dialog_gym.agents.lm_policy import LMPolicy, Utterance
from dialog_gym.agents.lm_tokens import reply_ids
from dialog_gym.benchmarks.throughput import alternate
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import Generation, Sampling
from dialog_gym.lm.transformers_lm import TransformersLM

By = Literal["sample", "beam"]
SPARE = 2  # beams beyond those asked for, where some turn out the same words
ROUNDS = 4  # times that samples which repeat are drawn again

Ids = list[list[int]]


@dataclass(frozen=True)
class How:
    """How responses are made.

    Attributes:
        by: Samples, or beam search (transformers' own).
        count: Responses beside the greedy one or the human one.
        max_tokens: Longest response.
        temperature: Of samples.
    """

    by: By
    count: int
    max_tokens: int
    temperature: float = 1.0


class Voice:
    """A language model, or a policy made of one, that answers in contexts."""

    def __init__(self, who: TransformersLM | LMPolicy) -> None:
        """Speak as ``who``."""
        self.lm = who.lm if isinstance(who, LMPolicy) else who
        self.policy = who if isinstance(who, LMPolicy) else None

    def acting(self) -> AbstractContextManager[None]:
        """Inside, logits are as the policy reshapes them."""
        return self.policy.acting() if self.policy is not None else nullcontext()

    def fits(self, dialogue: Dialogue, max_tokens: int) -> bool:
        """Return whether the newest turn is short enough to be read."""
        try:
            self.ids([dialogue], max_tokens)
        except ValueError:
            return False
        return True

    def ids(self, dialogues: Sequence[Dialogue], max_tokens: int) -> Ids:
        """Return what is read before each response, oldest turns left out where it would be too long."""
        if self.policy is not None:
            return self.policy.prompt_ids(dialogues)
        return self.lm.encode([dialogue.messages(dialogue.roles[0]) for dialogue in dialogues], max_tokens)


def candidates(voice: Voice, dialogues: Sequence[Dialogue], taken: Sequence[str], how: How) -> list[list[str]]:
    """Return up to ``how.count`` responses to each context, all different and none of them the one in ``taken``.

    Samples that repeat are drawn again, at most ``ROUNDS`` times; where beams turn out the same words, ``SPARE`` more
    are searched. A model that is all too sure has fewer to say.
    """
    prompts = voice.ids(dialogues, how.max_tokens)
    found: list[list[str]] = [[] for _ in dialogues]
    if how.by == "beam":
        for wide in (how.count, how.count + SPARE):
            short = [row for row, texts in enumerate(found) if len(texts) < how.count]
            drawn = beams(voice, [prompts[row] for row in short], wide, how.max_tokens) if short else []
            for row, texts in zip(short, drawn, strict=True):
                found[row] = _fresh(texts, taken[row])[: how.count]
        return found
    with _reading(voice, prompts) as write:
        for again in range(ROUNDS):
            rows = [row for row, texts in enumerate(found) for _ in range(how.count - len(texts))]
            seeds = [_seed(dialogues[row], place, again) for place, row in _numbered(rows)]
            said = write(rows, Sampling(how.max_tokens, how.temperature), seeds)
            for row, text in zip(rows, said, strict=True):
                found[row] = _fresh([*found[row], text], taken[row])
    return found


def responses(voice: Voice, dialogues: Sequence[Dialogue], how: How) -> list[list[str]]:
    """Return the greedy response to each context, and ``how.count`` more, which may repeat."""
    prompts, sampling = voice.ids(dialogues, how.max_tokens), Sampling(how.max_tokens, how.temperature)
    rows = [row for row in range(len(dialogues)) for _ in range(how.count)]
    with _reading(voice, prompts) as write:
        found = [[text] for text in write(list(range(len(dialogues))), Sampling(how.max_tokens), None)]
        if how.by == "sample":
            seeds = [_seed(dialogues[row], place, 0) for place, row in _numbered(rows)]
            for row, text in zip(rows, write(rows, sampling, seeds), strict=True):
                found[row].append(text)
    if how.by == "beam" and how.count:
        more = beams(voice, prompts, how.count, how.max_tokens)
        found = [[*texts, *others] for texts, others in zip(found, more, strict=True)]
    return found


def worth(policy: ILQL, dialogues: Sequence[Dialogue], texts: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return what ``policy`` thinks each response to each context is worth, by V before its last token."""
    policy.set(rank="v")
    said, longest = [], policy.args.max_tokens
    for dialogue, prompt, some in zip(dialogues, policy.prompt_ids(dialogues), texts, strict=True):
        for text in some:
            tokens = reply_ids(policy.lm, text, policy.words(dialogue), len(prompt), longest)
            said.append(Utterance(text, prompt, Generation(text, tuple(tokens), (0.0,) * len(tokens), "end")))
    found = iter(policy.worth(said))
    return [[next(found) for _ in some] for some in texts]


Write = Callable[[Sequence[int], Sampling, "list[int] | None"], list[str]]


@contextmanager
def _reading(voice: Voice, prompts: Ids) -> Iterator[Write]:
    """Read the prompts once; inside, the function returns a response behind the prompt of each of some rows."""
    with voice.acting():
        session = voice.lm.session(len(prompts))
        session.read_batch(range(len(prompts)), [list(ids) for ids in prompts])

        def write(rows: Sequence[int], sampling: Sampling, seeds: list[int] | None) -> list[str]:
            if not rows:
                return []
            said = session.spread(list(rows)).write(range(len(rows)), sampling, seeds=seeds)
            return [one.text.strip() for one in said]

        yield write


@torch.inference_mode()
def beams(voice: Voice, prompts: Ids, count: int, max_tokens: int, **settings: Any) -> list[list[str]]:
    """Return ``count`` responses to each prompt by transformers' beam search, the likeliest first."""
    from transformers import GenerationConfig

    lm: Any = voice.lm
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(one)) + one for one in prompts], device=lm.device)
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=lm.device)
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        num_return_sequences=count,
        eos_token_id=sorted(lm.chat.stop_ids),
        pad_token_id=lm.chat.end_of_turn[0],
        use_cache=True,
        **(settings or {"num_beams": count, "do_sample": False}),
    )
    with voice.acting(), _plain_attention(lm.model):
        found = lm.model.generate(ids, attention_mask=mask, generation_config=config)
    texts = [text.strip() for text in lm.chat.decode([_cut(one, lm) for one in found[:, width:].tolist()])]
    return [texts[start : start + count] for start in range(0, len(texts), count)]


def contest(voice: Voice, dialogues: Sequence[Dialogue], how: How) -> dict[str, Callable[[], int]]:
    """Return jobs that make ``how.count`` candidates for each context in one batch, and return how many they made.

    ``ours`` begins with dialogues and draws again what repeats; ``raw``, transformers' ``generate``, begins with
    tokens.
    """
    prompts = voice.ids(dialogues, how.max_tokens)
    sampled = {"do_sample": True, "temperature": how.temperature, "top_k": 0}
    settings = sampled if how.by == "sample" else {"num_beams": how.count, "do_sample": False}

    def raw() -> int:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return sum(map(len, beams(voice, prompts, how.count, how.max_tokens, **settings)))

    return {"ours": lambda: sum(map(len, candidates(voice, dialogues, [""] * len(dialogues), how))), "raw": raw}


def speed(voice: Voice, dialogues: Sequence[Dialogue], how: How) -> dict[str, float]:
    """Return candidates per second of each of ``contest``, and their ratio: CPU time, medians of two, by turns."""
    rates = {name: rate.cpu for name, rate in alternate(contest(voice, dialogues, how), 2).items()}
    return {**rates, "ratio": rates["ours"] / rates["raw"]}


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Inside, the model attends as transformers does, which ``generate`` needs for its caches."""
    ours = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(ours)


def _cut(tokens: list[int], lm: Any) -> list[int]:
    return tokens[: next((place for place, token in enumerate(tokens) if token in lm.chat.stop_ids), len(tokens))]


def _fresh(texts: Sequence[str], taken: str) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text != taken]


def _numbered(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return each row with how often it came before.

    >>> _numbered([0, 0, 2])
    [(0, 0), (1, 0), (0, 2)]
    """
    seen: dict[int, int] = {}
    found = []
    for row in rows:
        found.append((seen.get(row, 0), row))
        seen[row] = seen.get(row, 0) + 1
    return found


def _seed(dialogue: Dialogue, number: int, again: int) -> int:
    return dialogue.draws("study", number, again).bits() >> 1
