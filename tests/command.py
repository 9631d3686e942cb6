"""``ekipl`` in the test's own process, which has imported the large libraries: a new process needs seconds to do so."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from ekipl.cli import main
from ekipl.errors import UsageError

SMOKE = ["train", "experiment=smoke"]
WHOLE = [*SMOKE, "B=2", "I=2", "mu=2", "evaluation.limit=1"]  # the run of the fixture ``finished``


@dataclass(frozen=True)
class Done:
    """A command that has ended, with the names of ``subprocess.CompletedProcess``."""

    returncode: int
    stdout: str
    stderr: str


def ekipl(*arguments: str, cwd: Path | None = None, **environment: str) -> Done:
    """Run ``ekipl`` with these arguments; an exception gives status 1 and its traceback, as Python itself does."""
    status: object = 0
    with _isolated(cwd, environment), redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        sys.argv = ["ekipl", *arguments]
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        except Exception:
            traceback.print_exc()
            status = 1
    assert isinstance(status, int)
    return Done(status, out.getvalue(), err.getvalue())


def _train(config: Path, processes: int, nodes: int = 1) -> int:
    """Stands in for ``launch``: a single training process is this one."""
    from omegaconf import DictConfig, OmegaConf

    from ekipl.run.training import run_training

    assert processes * nodes == 1, "several processes need the real command"
    cfg = OmegaConf.load(config)
    assert isinstance(cfg, DictConfig)
    try:
        run_training(cfg, config.parent)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@contextmanager
def _isolated(cwd: Path | None, environment: dict[str, str]) -> Iterator[None]:
    """Restore what Hydra and the command change: arguments, environment, folder, logging and Hydra's global state."""
    folder, handlers, level = Path.cwd(), logging.root.handlers[:], logging.root.level
    os.chdir(cwd or folder)
    try:
        with (
            mock.patch.object(sys, "argv", sys.argv),
            mock.patch.dict(os.environ, environment),
            mock.patch("ekipl.run.launch.launch", _train),
        ):
            yield
    finally:
        os.chdir(folder)
        logging.root.handlers[:], logging.root.level = handlers, level
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
