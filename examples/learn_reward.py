"""Learn a reward per utterance from one score per conversation, and train a policy on it.

In Chat-v0 a partner fills in a survey when the conversation is over, and nothing is rewarded before. GELI splits that
score into rewards of utterances, with the partner's visible affect as a local signal. PPO then learns from the
rewards. Who judges it is the survey, which PPO has not seen.

python examples/learn_reward.py --quick     # about a minute: the road, not a result; without --quick some ten
"""

import argparse
from collections.abc import Sequence

from dialog_gym.agents import ppo
from dialog_gym.baselines import Trial, evaluate, on_scale
from dialog_gym.commands import score_row, show_rows
from dialog_gym.data.collect import collect
from dialog_gym.rewards.decomposition.training import Args, fit_reward
from dialog_gym.rollout import Evaluation

ENV, LM = "dialog_gym/Chat-v0", "tiny-chat"


def main(argv: Sequence[str] | None = None) -> dict[str, Evaluation]:
    """Collect, learn a reward, learn a policy, evaluate; return the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/learn-reward", help="folder of everything")
    parser.add_argument("--talks", type=int, default=0, help="conversations with a score; default 1000, quick 160")
    parser.add_argument("--updates", type=int, default=0, help="of the reward; default 1000, quick 200")
    parser.add_argument("--dialogues", type=int, default=0, help="of PPO; default 3200, quick 256")
    parser.add_argument("--episodes", type=int, default=0, help="of each evaluation; default 512, quick 64")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(argv)
    talks = given.talks or (160 if given.quick else 1000)
    updates = given.updates or (200 if given.quick else 1000)
    dialogues = given.dialogues or (256 if given.quick else 3200)
    episodes = given.episodes or (64 if given.quick else 512)

    # 1. Conversations of the model as it is, each with one score at its end.
    recorded = f"{given.out}/talks"
    collect(ENV, "lm-sampled", episodes=talks, out=recorded, env_kwargs={"split": "train"}, lm=LM)

    # 2. A reward per utterance: its sum explains the score, and it follows the affect that was seen.
    reward = f"{given.out}/reward"
    fit_reward(
        Args(
            episodes=recorded, out=reward, method="geli", score="return", local="column:affect", link="fitted",
            encoder=LM, notation=ENV, utterances=2, answer=True, steps=updates, track="none",
        )
    )  # fmt: skip

    # 3. A policy in words that learns from these rewards alone.
    settings = ppo.Args(
        env=ENV, env_kwargs={"split": "train"}, lm=LM, lora=8, lr=1e-3, reward=reward, out=f"{given.out}/policy",
        steps=dialogues, episodes=min(64, dialogues), batch=min(16, dialogues), eval_every=0,
    )  # fmt: skip
    policy = ppo.train(settings)

    # 4. What the survey says, on held-out news and seeds.
    trial = Trial(ENV, {"split": "heldout"}, episodes=episodes, lm=LM, progress=True)
    results = [evaluate(name, trial) for name in ("lm", "lm-sampled", "infers", "oracle")]
    results.append(trial.score(policy.act, "ppo on GELI's reward"))
    found = {one.policy: one for one in on_scale(results)}
    show_rows([score_row(result) for result in found.values()], False)
    return found


if __name__ == "__main__":
    main()
