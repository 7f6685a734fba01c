"""Published corpora, read as they are published.

>>> from dialog_gym.data.corpora import corpus_names, read_corpus
>>> "abcd" in corpus_names()
True

``read_corpus("abcd", "abcd_v1.1.json.gz", split="train")`` yields a ``Recorded`` per dialogue, one at a time: memory
does not grow with the file. Corpora of preferences yield ``Ranking``. ``skip_bad=True`` counts what is damaged and
goes on.

A reader is one file here with a function ``read(source, **options)``, and a registration below:

    def read(source: Source) -> Iterator[Recorded]:
        for number, data in source.json_array():
            with source.record(number, data["id"]):
                yield recorded(ROLES, [(turn["who"], turn["text"]) for turn in data["turns"]], number)
"""

from dialog_gym.data.corpora.base import (
    Corpus,
    Reading,
    corpus,
    corpus_names,
    proper,
    read_corpus,
    recorded,
    register_corpus,
)
from dialog_gym.data.corpora.files import CorpusError, Source

__all__ = [
    "Corpus",
    "CorpusError",
    "Reading",
    "Source",
    "corpus",
    "corpus_names",
    "proper",
    "read_corpus",
    "recorded",
    "register_corpus",
]

_HERE = "dialog_gym.data.corpora."

register_corpus(
    "abcd",
    _HERE + "abcd:read",
    "ABCD (Chen et al. 2021, arXiv:2104.00783): customer service with actions and guidelines",
    roles=("agent", "customer"),
    files='JSON {"train": [{"convo_id", "scenario", "original": [[speaker, text], ...]}], "dev": ..., "test": ...}',
)
register_corpus(
    "casino",
    _HERE + "casino:read",
    "CaSiNo (Chawla et al. 2021, arXiv:2103.15721): campsite neighbours negotiate food, water and firewood",
    roles=("first", "second"),
    files='JSON [{"dialogue_id", "chat_logs": [{"text", "task_data", "id"}], "participant_info"}]',
    hub="kchawla123/casino",
)
register_corpus(
    "deal_or_no_deal",
    _HERE + "deal_or_no_deal:read",
    "Deal or No Deal (Lewis et al. 2017, arXiv:1706.05125): two people divide books, hats and balls",
    roles=("first", "second"),
    files="lines '<input> c v c v c v </input> <dialogue> .. </dialogue> <output> .. </output> <partner_input> ..'",
)
