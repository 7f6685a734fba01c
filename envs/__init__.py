"""The built-in environments, one file each; installed as ``dialog_gym.envs``."""

if __name__ != "dialog_gym.envs":
    raise ImportError(f"import this folder as dialog_gym.envs, not as {__name__!r}")
