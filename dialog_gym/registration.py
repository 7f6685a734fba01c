"""The ids: one line per environment makes ``gym.make`` and ``gym.make_vec`` know it.

``import dialog_gym`` registers them; ``gym.make("dialog_gym:dialog_gym/Bargain-v0")`` imports and makes in one,
and Gymnasium below 1.0 finds them by itself through the entry-point group ``gymnasium.envs``. Everything is
named by string: nothing is imported until an environment is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

TASKS = {
    "Bargain": "dialog_gym.envs.bargain:Bargain",
    "RedTeam": "dialog_gym.envs.red_team:red_team",
    "Advice": "dialog_gym.envs.advice:Advice",
    "Chat": "dialog_gym.envs.chat:Chat",
    "SocialGoal": "dialog_gym.envs.social_goal:SocialGoal",
    "DealOrNoDeal": "dialog_gym.envs.deal_or_no_deal:DealOrNoDeal",
    "CaSiNo": "dialog_gym.envs.casino:CaSiNo",
    "Response": "dialog_gym.envs.response:response",
    "Society": "dialog_gym.envs.society:Society",
}
"""Task class by environment name. ``Name`` gives ``dialog_gym/Name-v0`` and ``dialog_gym/NamePrefix-v0``."""


def register_envs() -> None:
    """Register every built-in environment; calling it again does nothing."""
    for name, task in TASKS.items():
        register(f"dialog_gym/{name}-v0", task)


def register(env_id: str, task: str, **settings: Any) -> None:
    """Register a task under ``env_id``, and its prefix-action form under the id with ``Prefix`` added.

    Args:
        env_id: ``"namespace/Name-vN"``. Raise N whenever a published result would change.
        task: ``"module:Class"`` of a ``dialog_gym.task.Task``.
        settings: Default arguments of the task, JSON values, so that ``gym.spec(env_id)`` serialises.
    """
    name, _, version = env_id.rpartition("-")
    if not name or not version.startswith("v"):
        raise ValueError(f"an environment id looks like 'namespace/Name-v0', got {env_id!r}")
    prefix = "dialog_gym.wrappers.steering:make_prefix_{}env"
    _register(env_id, "dialog_gym.env:make_{}env", {"task": task, **settings})
    _register(f"{name}Prefix-{version}", prefix, {"task": task, **settings})


def _register(env_id: str, entry_point: str, kwargs: dict[str, Any]) -> None:
    if env_id in gym.registry:
        return
    gym.register(
        env_id,
        entry_point=entry_point.format(""),
        vector_entry_point=entry_point.format("vector_"),
        kwargs=kwargs,
        disable_env_checker=False,
    )
