"""The agent ``tf_top`` by its name; it is written in ``dialog_gym.agents.tf``."""

from dialog_gym.agent import main
from dialog_gym.agents.tf import TFTop
from dialog_gym.agents.tf import TopArgs as Args
from dialog_gym.agents.tf import train_top as train

__all__ = ["Args", "TFTop", "train"]

if __name__ == "__main__":
    main("tf_top")
