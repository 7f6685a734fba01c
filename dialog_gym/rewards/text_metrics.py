"""Metrics of corpora, as functions of texts and as rewards: BLEU, chrF, METEOR, and the overlap of words.

Functions compare ``n`` texts with their references in one call; a text may have several references. Rewards compare
the newest agent turn with its references, which the environment keeps in ``dialogue.state["references"]``
(``Response-v0`` does), or which are given. Similarity of meaning is in ``bert_score`` and ``bleurt``.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.utterance import Memory, newest

Doubles = npt.NDArray[np.float64]
References = Sequence[str | Sequence[str]]
"""For each text its reference, or several of them."""


def listed(texts: Sequence[str], references: References) -> list[tuple[str, ...]]:
    """Return the references of each text as a tuple.

    Raises:
        ValueError: There are not as many references as texts, or a text has none.
    """
    found = [(given,) if isinstance(given, str) else tuple(given) for given in references]
    if len(found) != len(texts):
        raise ValueError(f"expected references for each of {len(texts)} texts, got {len(found)}")
    if not all(found):
        raise ValueError(f"text {found.index(())} has no reference; a metric compares it with at least one")
    return found


def bleu(texts: Sequence[str], references: References) -> Doubles:
    """Return the sentence BLEU of each text, shape ``(n,)``, in percent, as sacrebleu's ``sentence_bleu``.

    Papineni et al. 2002 (doi:10.3115/1073083.1073135), up to 4-grams, 13a tokens, exponential smoothing, effective
    order. An empty text has 0.

    >>> bleu(["a b c d", ""], ["a b c d", "a"]).round(3).tolist()
    [100.0, 0.0]
    """
    metric = _sacrebleu().BLEU(effective_order=True)
    return _each(metric, texts, references)


def corpus_bleu(texts: Sequence[str], references: References) -> float:
    """Return the BLEU of all texts together, in percent, as sacrebleu's ``corpus_bleu``: counts are added up first."""
    metric = _sacrebleu().BLEU(force=True)  # of tokenised text too, without a warning
    return _together(metric, texts, references)


def chrf(texts: Sequence[str], references: References) -> Doubles:
    """Return chrF2 of each text, shape ``(n,)``, in percent, as sacrebleu's ``sentence_chrf``.

    Popovic 2015 (doi:10.18653/v1/W15-3049): F of character 6-grams, recall counting twice, no words, no white space.
    """
    return _each(_sacrebleu().CHRF(), texts, references)


def corpus_chrf(texts: Sequence[str], references: References) -> float:
    """Return chrF2 of all texts together, in percent, as sacrebleu's ``corpus_chrf``."""
    return _together(_sacrebleu().CHRF(), texts, references)


def _each(metric: Any, texts: Sequence[str], references: References) -> Doubles:
    pairs = zip(texts, listed(texts, references), strict=True)
    return np.array([metric.sentence_score(text, list(those)).score for text, those in pairs], np.float64)


def _together(metric: Any, texts: Sequence[str], references: References) -> float:
    those = listed(texts, references)
    if not those:
        raise ValueError("expected at least one text, got none")
    most = max(map(len, those))
    # sacrebleu wants the first references of all texts, then the second ones; None where a text has fewer.
    streams = [[one[k] if k < len(one) else None for one in those] for k in range(most)]
    return float(metric.corpus_score(list(texts), streams).score)


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "BLEU and chrF need sacrebleu: pip install 'dialog-gym[metrics]'", name=error.name
        ) from error
    return metrics


# --- METEOR ------------------------------------------------------------------------------------


def meteor(texts: Sequence[str], references: References, *, synonyms: Any = None) -> Doubles:
    """Return METEOR of each text, shape ``(n,)``, in [0, 1], as nltk's ``meteor_score``: the best over references.

    Lavie and Agarwal 2007 (alpha .9, beta 3, gamma .5): an alignment of words that are the same, then of words of the
    same stem (Porter), then of synonyms. Tokens are those of nltk's ``wordpunct_tokenize``, lower case: unlike
    ``word_tokenize``, it needs no download. A text or reference without words has 0.

    Args:
        texts: What was said.
        references: What it is compared with.
        synonyms: None: no stage of synonyms, since WordNet is a download of its own (scores are then never higher).
            ``wordnet()``, or another ``WordNetCorpusReader`` of nltk: with that stage.

    Raises:
        ModuleNotFoundError: nltk is not installed.
    """
    stem, known = _stemmer(), _NoSynonyms() if synonyms is None else synonyms
    tokens, score = _nltk_meteor()
    found = [
        score([tokens(one) for one in those], tokens(text), stemmer=stem, wordnet=known)
        for text, those in zip(texts, listed(texts, references), strict=True)
    ]
    return np.array(found, np.float64)


def wordnet() -> Any:
    """Return WordNet as nltk finds it, for the synonyms of ``meteor``.

    Its data comes with no package of PyPI that we know of: ``nltk.download("wordnet")`` fetches it once, or its files
    (``data.noun``, ``lexnames``, ...) lie in ``corpora/wordnet`` of a folder that ``NLTK_DATA`` names.

    Raises:
        LookupError: It is not there.
        ModuleNotFoundError: nltk is not installed.
    """
    _nltk_meteor()
    from nltk.corpus import wordnet as installed

    try:
        installed.ensure_loaded()
    except LookupError as error:
        raise LookupError(
            "WordNet is not installed: nltk.download('wordnet') fetches it, or let NLTK_DATA name a folder with "
            "corpora/wordnet; meteor without synonyms does without"
        ) from error
    return installed


class _NoSynonyms:
    """Knows no synonyms."""

    def synsets(self, word: str) -> tuple[()]:
        return ()


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    class Remembering(PorterStemmer):  # type: ignore[misc]
        @lru_cache(maxsize=1 << 16)  # noqa: B019 -- the one stemmer lives as long as the program
        def stem(self, word: str, to_lowercase: bool = True) -> str:
            return cast(str, super().stem(word, to_lowercase))

    return Remembering()


def _nltk_meteor() -> tuple[Callable[[str], list[str]], Callable[..., float]]:
    try:
        from nltk.tokenize import wordpunct_tokenize
        from nltk.translate.meteor_score import meteor_score
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("METEOR needs nltk: pip install 'dialog-gym[metrics]'", name=error.name) from error
    return wordpunct_tokenize, meteor_score


# --- the overlap of words ----------------------------------------------------------------------

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


def word_overlap(texts: Sequence[str], references: References) -> Doubles:
    """Return F1 of the words (lower case) that each text shares with its best reference, shape ``(n,)``, in [0, 1].

    A lexical measure that needs no package and no weights. It knows nothing of meaning or order, and is used only
    where it is named.

    >>> word_overlap(["we refund it", ""], ["we will refund it", "x"]).round(3).tolist()
    [0.857, 0.0]
    """
    pairs = zip(texts, listed(texts, references), strict=True)
    return np.array(
        [max(_f1(_WORD.findall(text.lower()), _WORD.findall(one.lower())) for one in those) for text, those in pairs],
        np.float64,
    )


def _f1(said: Sequence[str], meant: Sequence[str]) -> float:
    shared = sum((Counter(said) & Counter(meant)).values())
    return 2 * shared / (len(said) + len(meant)) if shared else 0.0


# --- rewards -----------------------------------------------------------------------------------

Finder = Callable[[Dialogue], Sequence[str]]
"""Finds what the newest agent turn of a dialogue is compared with."""


def kept_references(dialogue: Dialogue) -> Sequence[str]:
    """Return the references that the environment keeps in ``dialogue.state["references"]``.

    Raises:
        ValueError: It keeps none.
    """
    found = dialogue.state.get("references")
    if not found:
        raise ValueError(
            "there is no reference in dialogue.state['references'] to compare the newest turn with; play Response-v0, "
            "which keeps them, or give references= to the reward (a text, or a function of the dialogue)"
        )
    return cast(Sequence[str], found)


class TextMetric(Reward):
    """A metric of the newest agent turn and its references. Subclasses write ``measured``.

    Where the agent has said nothing it is ``low``. Each pair of text and references is measured once.

    Attributes:
        memory: The scores known so far; ``memory.asked`` tells how many pairs were measured.
    """

    low, high = 0.0, 1.0

    def __init__(self, references: str | Finder = kept_references, *, name: str = "") -> None:
        """Compare with ``references``.

        Args:
            references: A function that finds them in a dialogue, by default those the environment keeps; or one text.
            name: Of this reward; default: its usual one.
        """
        fixed = (references,) if isinstance(references, str) else ()
        self._find: Finder = (lambda _: fixed) if isinstance(references, str) else references
        self.name = name or self.name
        self.memory: Memory[tuple[str, tuple[str, ...]], float] = Memory(self._pairs)

    @abstractmethod
    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return the score of each text, shape ``(n,)``, in [low, high]."""

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the score of each newest agent turn.

        Raises:
            ValueError: A dialogue has no references.
        """
        said = [newest(dialogue, "agent") for dialogue in dialogues]
        known = iter(
            self.memory(
                [(text, tuple(self._find(d))) for text, d in zip(said, dialogues, strict=True) if text is not None]
            )
        )
        return np.array([self.low if text is None else next(known) for text in said], np.float32)

    def _pairs(self, pairs: list[tuple[str, tuple[str, ...]]]) -> list[float]:
        scores = self.measured([text for text, _ in pairs], [those for _, those in pairs])
        return cast(list[float], np.clip(scores, self.low, self.high).tolist())


class Bleu(TextMetric):
    """Sentence BLEU, from 0 to 1 (see ``bleu``)."""

    name = "bleu"

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return BLEU as a share."""
        return bleu(texts, references) / 100


class Chrf(TextMetric):
    """Sentence chrF2, from 0 to 1 (see ``chrf``)."""

    name = "chrf"

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return chrF2 as a share."""
        return chrf(texts, references) / 100


class Meteor(TextMetric):
    """METEOR (see ``meteor``), without synonyms unless WordNet is given."""

    name = "meteor"

    def __init__(self, references: str | Finder = kept_references, *, synonyms: Any = None, name: str = "") -> None:
        """Compare with ``references``; ``synonyms`` may be ``wordnet()``."""
        super().__init__(references, name=name)
        self.synonyms = synonyms

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return METEOR."""
        return meteor(texts, references, synonyms=self.synonyms)


class WordOverlap(TextMetric):
    """F1 of the words that the newest turn shares with its best reference (see ``word_overlap``)."""

    name = "word overlap"

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return the overlap."""
        return word_overlap(texts, references)
