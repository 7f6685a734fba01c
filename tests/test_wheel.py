"""The built wheel alone, in a clean environment without network, plays every registered environment."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".hypothesis", ".*_cache", "__pycache__", "build", "dist", "runs", "wandb", "*.egg-info"
)

PROBE = """
import json, socket, sys

def refuse(self, address):
    raise AssertionError(f"the network was asked for {address!r}")

socket.socket.connect = refuse
import gymnasium as gym
import dialog_gym

played = []
for env_id in [name for name in gym.registry if name.startswith("dialog_gym/")]:
    env = gym.make(env_id)
    envs = gym.make_vec(env_id, num_envs=2)
    for world in (env, envs):
        world.action_space.seed(0)
        world.reset(seed=0)
        for _ in range(3):
            *_, terminated, truncated, _ = world.step(world.action_space.sample())
            if world is env and (terminated or truncated):
                world.reset()
        world.close()
    played.append(env_id)
print(json.dumps({"home": dialog_gym.__file__, "played": played}))
"""


def build(source: Path, kind: str, out: Path) -> Path:
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "would be ignored" not in run.stdout + run.stderr, "a folder of ours is missing from the wheel"
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources, so that nothing built before can slip in and nothing is left behind."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "tree", symlinks=True, ignore=LEFT_OUT)


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel as an installer would build it: from the source archive, which has no links."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory):
    """A new environment: our wheel, and the dependencies of this one (but not its ``dialog_gym``)."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    run = subprocess.run(install, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (packages,) = home.glob("lib/python*/site-packages")
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(borrowed)))
    return python


def test_wheel_holds_the_packages_the_marker_and_the_weights(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"dialog_gym/py.typed", "dialog_gym/envs/bargain.py", "dialog_gym/agents/__init__.py"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"dialog_gym"}
    weights = ROOT / "dialog_gym" / "lm" / "weights"
    kept = {path.relative_to(ROOT).as_posix() for path in weights.rglob("*") if path.is_file()}
    assert kept <= names


def test_source_archive_can_test_itself(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"Makefile", "constraints.txt", "pyproject.toml", "tests/conftest.py", "agents/__init__.py", "LICENSE"}
    assert needed <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")} <= names


def test_every_environment_plays_from_the_wheel(clean_python, tmp_path):
    run = subprocess.run([clean_python, "-I", "-c", PROBE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    assert Path(seen["home"]).is_relative_to(clean_python.parents[1])
    assert {"dialog_gym/Bargain-v0", "dialog_gym/BargainPrefix-v0"} <= set(seen["played"])
