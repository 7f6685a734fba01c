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
    "camrest",
    _HERE + "camrest:read",
    "CamRest676 (Wen et al. 2017, arXiv:1604.04562): finding a restaurant in Cambridge",
    roles=("system", "user"),
    files='JSON [{"dialogue_id", "data_split", "goal", "finished", "turns": [{"speaker", "utterance"}]}]',
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
register_corpus(
    "multiwoz21",
    _HERE + "multiwoz21:read",
    "MultiWOZ 2.0 and 2.1 (Budzianowski et al. 2018, arXiv:1810.00278): tourists at an information desk, with goals",
    roles=("clerk", "tourist"),
    files='JSON {id: {"goal": {domain: {"info"}}, "log": [{"text", "metadata"}]}}, or a list of these',
)
register_corpus(
    "multiwoz22",
    _HERE + "schema_guided:read",
    "MultiWOZ 2.2 (Zang et al. 2020, arXiv:2007.12720): booking in Cambridge, with states",
    roles=("system", "user"),
    files='JSON [{"dialogue_id", "services", "turns": [{"speaker": "USER" or "SYSTEM", "utterance", "frames"}]}]',
    hub="pfb30/multi_woz_v22",
)
register_corpus(
    "sgd",
    _HERE + "schema_guided:read",
    "Schema-Guided Dialogue (Rastogi et al. 2020, arXiv:1909.05855): services described by a schema, with states",
    roles=("system", "user"),
    files='JSON [{"dialogue_id", "services", "turns": [{"speaker": "USER" or "SYSTEM", "utterance", "frames"}]}]',
    hub="google-research-datasets/schema_guided_dstc8",
)
register_corpus(
    "taskmaster",
    _HERE + "taskmaster:read_dialogues",
    "Taskmaster-3 and -4 (arXiv:2012.12458, arXiv:2403.10704): cinema tickets and coffee, with calls of services",
    roles=("assistant", "user"),
    files='JSON [{"conversation_id", "vertical", "scenario", "instructions", "utterances": [{"speaker", "text"}]}]',
    hub="google-research-datasets/taskmaster3",
)
register_corpus(
    "taskmaster_rewards",
    _HERE + "taskmaster:read_rewards",
    "People's judgements of single turns of Taskmaster-3 and -4 (arXiv:2403.10704), as episodes or as labels",
    roles=("assistant", "user"),
    files='JSON [{"conversation_id", "context": JSON text, "generation": JSON text, "reward": 0 or 1}]',
)
register_corpus(
    "taskmaster_contexts",
    _HERE + "taskmaster:read_contexts",
    "Context and next turn of Taskmaster-3 (arXiv:2012.12458), as its baselines were trained on",
    roles=("assistant", "user"),
    files="rows of context, target and dialogue id, with tabs between; turns begin with <U>, <A>, <PN>, <PR>",
)
register_corpus(
    "hh_rlhf",
    _HERE + "hh_rlhf:read",
    "HH-RLHF (Bai et al. 2022, arXiv:2204.05862): the better of two answers, helpful or harmless",
    roles=("assistant", "user"),
    files='JSON lines of {"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", "rejected": ...}',
    hub="Anthropic/hh-rlhf",
)
register_corpus(
    "safe_rlhf",
    _HERE + "safe_rlhf:read",
    "PKU-SafeRLHF (Dai et al. 2023, arXiv:2310.12773): two answers, labels of help and of safety",
    roles=("assistant", "user"),
    files='records of "prompt", "response_0", "response_1", "better_response_id" and "safer_response_id": 0 or 1, '
    '"is_response_0_safe", "is_response_1_safe"',
    hub="PKU-Alignment/PKU-SafeRLHF-30K",
)
register_corpus(
    "empathetic_dialogues",
    _HERE + "empathetic_dialogues:read",
    "EmpatheticDialogues (Rashkin et al. 2019, arXiv:1811.00207): listening to what happened to somebody",
    roles=("listener", "speaker"),
    files="CSV with conv_id, utterance_idx, prompt, utterance[, context or label]",
    hub="facebook/empathetic_dialogues",
)
register_corpus(
    "craigslist",
    _HERE + "craigslist:read",
    "CraigslistBargain (He et al. 2018, arXiv:1808.09637): haggling about real listings",
    roles=("buyer", "seller"),
    files='JSON [{"uuid", "scenario": {"category", "kbs": [{"personal", "item"}, ...]}, "outcome", "events"}]',
)
register_corpus(
    "chats",
    _HERE + "chats:read",
    "Your own chats; options name the columns (conversation, role, text, messages, agent, context, reward, score)",
    roles=("assistant", "user"),
    files="CSV, TSV, JSON, JSON lines or Parquet with a row per message, or a record per conversation",
)
register_corpus(
    "candor",
    _HERE + "candor:read",
    "CANDOR (Reece et al. 2023, doi:10.1126/sciadv.adf3197): talks of strangers, with surveys and faces",
    roles=("agent", "listener"),
    files="folders with survey.csv, audio_video_features.csv and transcription/transcript_cliffhanger.csv",
)
register_corpus(
    "sotopia",
    _HERE + "sotopia:read",
    "Sotopia's episodes (Zhou et al. 2023, arXiv:2310.11667): characters with goals, and a judge's seven scores",
    roles=("first", "second"),
    files='JSON lines of {"episode_id", "raw_messages", "rewards", "scenario", "agents_background", "social_goals"}',
)
