"""A new environment, a reward of one's own around it, and a small benchmark of policies with intervals.

python examples/own_world.py --quick                 # seconds; no language model is needed
"""

import sys
from collections.abc import Sequence

from dialog_gym import Dialogue, Draws, Reply, Reward, Scenario, Task
from dialog_gym.checks import check_task
from dialog_gym.commands import score_row, show_rows
from dialog_gym.registration import register
from dialog_gym.rewards import reward
from dialog_gym.rollout import Evaluation, evaluate, make_rows
from dialog_gym.wrappers import VectorRewardWrapper

DISHES = {"soup": "hot", "salad": "cold", "curry": "hot", "sushi": "cold", "stew": "hot", "melon": "cold"}


class Menu(Task):
    """A guest wants one dish and tells whether it is hot or cold. It leaves after three wrong ones."""

    roles, max_turns = ("waiter", "guest"), 6
    reward = Reward.of(lambda dialogue: float(dialogue.success), "served", 0, 1)

    def scenario(self, draws: Draws) -> Scenario:
        """Draw what is wanted."""
        wanted = draws.choice(sorted(DISHES))
        goals = {"waiter": "Bring what the guest wants.", "guest": f"You want {wanted}. Do not name it."}
        return Scenario(f"On the menu: {', '.join(sorted(DISHES))}.", goals, {"wanted": wanted})

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest turn of each dialogue."""
        return [self._answer(dialogue) for dialogue in dialogues]

    def _answer(self, dialogue: Dialogue) -> Reply:
        wanted, wrong = dialogue.scenario.hidden["wanted"], (dialogue.state or {}).get("wrong", 0) + 1
        if wanted in dialogue.turns[-1].text:
            return Reply("Thank you!", stop_reason="served", success=True)
        if wrong == 3:
            return Reply("I will go elsewhere.", {"wrong": wrong}, "left")
        return Reply(f"No. Something {DISHES[wanted]}, please.", {"wrong": wrong})


register("my/Menu-v0", f"{__name__}:Menu")


@reward(-0.2, 0)
def slow(dialogue: Dialogue) -> float:
    """A tenth less for each turn after the first, up to a fifth; added to what the task earns, by the wrapper."""
    return -min(0.1 * (dialogue.turn - 1), 0.2) if dialogue.success else 0.0


def listens(text: str) -> str:
    """Bring a dish of the kind that was asked for, and never the same again."""
    kinds = [kind for kind in ("hot", "cold") if f"Something {kind}" in text] or ["hot", "cold"]
    left = [dish for dish in DISHES if DISHES[dish] in kinds and f"Your {dish}" not in text]
    return f"Your {(left or list(DISHES))[0]}."


POLICIES = {
    "in order": lambda text: f"Your {sorted(DISHES)[text.count('waiter:') % 6]}.",
    "listens": listens,
}


def main(episodes: int) -> dict[str, Evaluation]:
    """Check the task, play ``episodes`` dialogues with each policy, and return the evaluations by name."""
    check_task(Menu())  # every contract, or one sentence that says what is wrong
    found = {}
    for name, say in POLICIES.items():
        rows = VectorRewardWrapper(make_rows("my/Menu-v0", 32), slow, add=True)
        found[name] = evaluate(lambda texts, infos, say=say: [*map(say, texts)], rows, episodes=episodes, name=name)
    show_rows([score_row(result) for result in found.values()], False)
    return found


if __name__ == "__main__":
    main(256 if "--quick" in sys.argv else 2048)
