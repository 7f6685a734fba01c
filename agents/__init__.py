"""The agents: one file per algorithm, and one line here for each."""

if __name__ != "dialog_gym.agents":
    raise ImportError(f"import this folder as dialog_gym.agents, not as {__name__!r}")

from dialog_gym.agent import register

register("td3", "dialog_gym.agents.td3:TD3", "TD3 and TD3+BC: a planner that steers a language model by vectors")
register("sb3", "dialog_gym.agents.sb3:SB3Agent", "Stable-Baselines3's PPO, SAC and TD3 on the same vectors")
register("dt", "dialog_gym.agents.dt:DT", "decision transformer: a language model told what return is wanted")
register("ilql", "dialog_gym.agents.ilql:ILQL", "implicit language Q-learning: say what is likely and worth most")
register("ppo", "dialog_gym.agents.ppo:PPO", "PPO, RLOO and GRPO: a language model that learns from what it says")
register("tf", "dialog_gym.agents.tf:TF", "teacher forcing: a language model that imitates recorded dialogues")
register("tf_all", "dialog_gym.agents.tf_all:TFAll", "the same, on the agent's own words alone")
register("tf_top", "dialog_gym.agents.tf_top:TFTop", "the same, on the dialogues that earned most")
register("dpo", "dialog_gym.agents.dpo:DPO", "preferences between answers, kept near a reference, by TRL")
register("kto", "dialog_gym.agents.kto:KTO", "answers that are desirable or not, kept near a reference, by TRL")
register(
    "sacpo", "dialog_gym.agents.sacpo:SACPO", "stages of DPO and KTO, one metric after another: helpful, then safe"
)
register(
    "stable_alignment",
    "dialog_gym.agents.stable_alignment:StableAlignment",
    "Stable Alignment: imitate the best rated answer, and keep worse ones a margin away",
)
register("rollouts", "dialog_gym.agents.rollouts:Rollouts", "no training: play candidates out and say the best")
