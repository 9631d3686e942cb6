"""Rewards: what a completion says, and whether it is right."""
