"""What a newcomer waits for: importing us must stay light, in packages as in time."""

import json
import subprocess
import sys
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = ["torch", "transformers", "tokenizers", "matplotlib", "stable_baselines3", "scipy", "rich", "tyro", "wandb"]
HEAVY += ["aiohttp", "openai", "vllm", "peft"]


def heavy_after(code: str) -> list[str]:
    """Return which heavy packages a fresh interpreter has loaded after running ``code``."""
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded: list[str] = json.loads(run.stdout.splitlines()[-1])
    return loaded


def test_import_loads_nothing_heavy():
    assert heavy_after("import dialog_gym; dialog_gym.Dialogue; dialog_gym.DialogueVectorEnv") == []


@pytest.mark.parametrize(
    ("before", "env_id"),
    [("import dialog_gym", "dialog_gym/Bargain-v0"), ("", "dialog_gym:dialog_gym/Bargain-v0")],
    ids=["imported", "not imported"],
)
def test_making_and_playing_a_text_environment_loads_nothing_heavy(before, env_id):
    code = f"""
{before}
import gymnasium as gym
env = gym.make({env_id!r})
env.reset(seed=0)
env.step("I offer half of that.")
envs = gym.make_vec({env_id!r}, num_envs=2)
envs.reset(seed=0)
envs.step(["Hello.", "Hello."])
"""
    assert heavy_after(code) == []


def test_the_command_answers_help_without_torch():
    code = """
import contextlib
from dialog_gym.cli import main
with contextlib.suppress(SystemExit):
    main(["--help"])
"""
    assert not {"torch", "transformers", "matplotlib"} & set(heavy_after(code))


def test_base_install_is_six_packages():
    needed, queue = set(), ["dialog-gym"]
    while queue:
        name = canonicalize_name(queue.pop())
        if name not in needed:
            needed.add(name)
            wanted = [Requirement(text) for text in requires(name) or []]
            queue += [need.name for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert needed == {"dialog-gym", "gymnasium", "numpy", "cloudpickle", "farama-notifications", "typing-extensions"}


def test_the_base_install_plays_and_shows_a_dialogue():
    code = f"""
import sys
sys.modules.update(dict.fromkeys({HEAVY!r}))  # not installed, as far as import can tell
import dialog_gym, gymnasium as gym
env = gym.make("dialog_gym/Bargain-v0", render_mode="human")
env.reset(seed=0)
env.step("I offer $40, please.")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "I offer $40, please." in run.stdout


def test_the_command_without_its_packages_says_what_to_install():
    code = "import sys\nsys.modules['rich'] = None\nfrom dialog_gym.cli import main\nmain(['envs'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr == "dialog-gym: this needs the package 'rich': pip install 'dialog-gym[cli]'\n"
