"""Rewards: parsing completions and grading their answers."""
