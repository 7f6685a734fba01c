"""Many processes or machines under collecting, branching, evaluating and benchmarks, by Ray.

A thin layer, and no scheduler of its own: Ray places the workers, moves the data, restarts who was lost and runs the
lost call again. What is done is cut into parts (episodes with consecutive seeds) that do not depend on who does them,
so the same seeds give the same episodes with one worker, with many, and without Ray.

==============  ====================================================================================
``cluster``     where the workers are: started here on loopback, or joined; versions compared
``pool``        the workers: any function over any items, results as they finish; ``map_tasks``
``parts``       parts of seeds, results put in order, those that came early kept on the disk
``remote``      policies played by workers; new weights of one that still learns, without a restart
==============  ====================================================================================

Nothing here imports Ray before a cluster is used.
"""

from dialog_gym.distributed.cluster import Cluster, connected
from dialog_gym.distributed.pool import Done, Pool, map_tasks
from dialog_gym.distributed.remote import RemotePlay, RemoteTrial, remote_evaluation
from dialog_gym.errors import ClusterError

__all__ = [
    "Cluster",
    "ClusterError",
    "Done",
    "Pool",
    "RemotePlay",
    "RemoteTrial",
    "connected",
    "map_tasks",
    "remote_evaluation",
]
