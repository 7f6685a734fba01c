"""``python -m dialog_gym`` is the command ``dialog-gym``."""

from dialog_gym.cli import main

if __name__ == "__main__":
    main()
