"""The agent ``tf_all`` by its name; it is written in ``dialog_gym.agents.tf``."""

from dialog_gym.agent import main
from dialog_gym.agents.tf import AllArgs as Args
from dialog_gym.agents.tf import TFAll
from dialog_gym.agents.tf import train_all as train

__all__ = ["Args", "TFAll", "train"]

if __name__ == "__main__":
    main("tf_all")
