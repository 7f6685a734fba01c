"""Data sets of dialogues: ``Episodes`` and ``Rankings`` on disk, made from any environment, read by any agent.

==============  ==========================================================================
``store``       the folder: shards, journal, lock, content hash; what no kill can harm
``episodes``    whole dialogues with rewards, costs, their terms, vectors
``rankings``    contexts with scored candidates
``collect``     episodes of any policy in any environment
``branch``      forks states, samples candidates, plays them out
``exchange``    JSON lines, and the preference formats that TRL reads
``minari``      Minari's files
==============  ==========================================================================
"""

from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.used import content_hash, load

__all__ = ["DatasetError", "Episodes", "Ranking", "Rankings", "Recorded", "content_hash", "load"]
