"""What a training process runs: ``python -m ekipl.worker RUN/config.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

from ekipl.errors import UsageError


def main() -> int:
    """Train as the config says. A usage error is one message and exit status 2."""
    from omegaconf import OmegaConf

    from ekipl.training import run_training

    path = Path(sys.argv[1])
    try:
        run_training(OmegaConf.load(path), path.parent)  # type: ignore[arg-type]
    except UsageError as error:
        print(f"ekipl train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
