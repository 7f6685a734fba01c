"""Rewards: functions from dialogues to numbers."""
