"""Steer a frozen language model by TD3, and compare it with what others earn on the same dialogues.

python examples/steer.py --quick                     # about a minute; without --quick some five
python examples/steer.py --env dialog_gym/RedTeamPrefix-v0 --out runs/steer-red-team
"""

import argparse
from collections.abc import Sequence

from rich.console import Console

from dialog_gym.agents.td3 import Args, train
from dialog_gym.baselines import Trial, evaluate, on_scale
from dialog_gym.commands import score_row, show_rows
from dialog_gym.rollout import Evaluation

BASELINES = ("lm", "random", "constant", "oracle")  # the model left alone, any vectors, the best one vector, the bound


def main(argv: Sequence[str] | None = None) -> dict[str, Evaluation]:
    """Train, evaluate, print a table and a dialogue; return the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="dialog_gym/BargainPrefix-v0")
    parser.add_argument("--out", default="runs/steer")
    parser.add_argument("--steps", type=int, default=0, help="of training; default 30000, with --quick 6000")
    parser.add_argument("--episodes", type=int, default=0, help="of each evaluation; default 512, with --quick 128")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(argv)
    steps = given.steps or (6_000 if given.quick else 30_000)
    episodes = given.episodes or (128 if given.quick else 512)

    # Training sees some items and seeds, the evaluation others.
    agent = train(Args(env=given.env, env_kwargs={"split": "train"}, out=given.out, steps=steps, eval_every=0))
    trial = Trial(given.env, {"split": "heldout"}, episodes=episodes, progress=True)

    names = [name for name in BASELINES if not (given.quick and name == "constant")]  # the search for it takes a while
    results = [evaluate(name, trial) for name in names] + [trial.score(agent.act, "td3")]
    found = {one.policy: one for one in on_scale(results)}  # lm is 0, oracle 1

    show_rows([score_row(result) for result in found.values()], False)
    best = max(found["td3"].episodes, key=lambda episode: episode.total)
    Console(highlight=False).print(f"\nThe best dialogue of td3, seed {best.seed}, earned {best.total:.2f}:")
    for turn in best.dialogue.turns:
        Console(highlight=False).print(f"  {turn.role}: {turn.text}", markup=False)
    return found


if __name__ == "__main__":
    main()
