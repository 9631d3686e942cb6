"""The command line: one word picks a command, Hydra does the rest."""

from __future__ import annotations


def main() -> None:
    """Run the ``ekipl`` command."""
