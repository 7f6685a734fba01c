"""Contract checks for what you write yourself: a reward, a task, an embedded world, a registered environment.

Put one line into a test: ``check_task(MyTask())``. What breaks the contract is told in one sentence, with what to do.
``dialog-gym check my_module:my/Name-v0`` prints every check with "ok" or that sentence.
"""

from __future__ import annotations

from dialog_gym.checks.base import ContractError, Finding
from dialog_gym.checks.env_id import check_env_id, env_findings
from dialog_gym.checks.reward import check_reward, reward_findings
from dialog_gym.checks.task import check_task, task_findings

__all__ = [
    "ContractError",
    "Finding",
    "check_env_id",
    "check_reward",
    "check_task",
    "env_findings",
    "reward_findings",
    "task_findings",
]
