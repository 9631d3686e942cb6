"""The command line: the first word picks a command, Hydra does the rest."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from ekipl import __version__
from ekipl.engine.rank import launched_rank
from ekipl.errors import UsageError
from ekipl.files import explain_full_disk
from ekipl.importing import is_import_path
from ekipl.masking import masked

if TYPE_CHECKING:
    from omegaconf import DictConfig

COMMANDS = {
    "rollout": "sample actions from the policy",
    "external-sample": "sample actions from the external models",
    "show": "print what the policy will read, before anything is trained",
    "train": "Algorithm 1 of Vision-EKIPL, or one of the baselines",
    "eval": "accuracy on the in-distribution and out-of-distribution splits",
    "passk": "pass@k curves with intervals",
    "ask": "the answer of a model to one question about images",
}
PLAIN = {  # these take no settings
    "view": "a run as one HTML page: its curves, its groups with their images, its evaluations",
}
# Spellings of overrides, where a bare override reads badly. They end up in .hydra/overrides.yaml like any other.
DRY_RUN = {"--dry-run": "dry_run=true"}
FLAGS = {"passk": {"--k": "passk.k=[{}]"}, "train": DRY_RUN, "external-sample": DRY_RUN}
LEAVE_NOTHING = ("show", "ask")  # commands without a run directory

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit statuses after a signal, as shells count them

HELP = """\
usage: ekipl COMMAND [group=option ...] [key=value ...] [--multirun]

{commands}

ekipl view RUN [RUN ...] [--live]
ekipl COMMAND --help          what it does and which groups it has
ekipl COMMAND --cfg job       every setting with its value, without running
ekipl train --dry-run         steps, tokens, memory and dollars, without running (external-sample: dollars)
ekipl --paper                 the command of each cell of the paper's tables
ekipl --version
eval "$(ekipl -sc install=bash)"   completion in bash"""


class JobFailed(Exception):
    """A job of a sweep failed and has printed its error; the argument is the exit status."""


def main() -> None:
    """Run the ``ekipl`` command; exit with 2 on a UsageError."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["-sc"]:
        _complete(arguments)
    elif not arguments or arguments[0] in ("--help", "-h", "help"):
        print(HELP.format(commands="\n".join(f"  {name:16} {what}" for name, what in (COMMANDS | PLAIN).items())))
    elif arguments[0] == "--paper":
        for cell in paper_cells():
            print("ekipl", "eval" if "prompt=zero_shot" in cell else "train", *cell)
    elif arguments[0] == "--version":
        print(f"ekipl {__version__}")
    elif arguments[0] in PLAIN:
        _run_plain(*arguments)
    elif arguments[0] not in COMMANDS:
        _refuse(f"ekipl: {arguments[0]}: no such command; the commands are {', '.join(COMMANDS | PLAIN)}")
    elif (rank := launched_rank()) is not None:
        _refuse(
            f"RANK: {rank}: a launcher started this, and every rank would make its own run directory; "
            f"start ekipl {arguments[0]} once, without launcher: it starts engine.num_processes ranks itself"
        )
    else:
        try:
            words = ordered(spelled_out(arguments[0], arguments[1:]))
        except UsageError as error:
            _refuse(str(error))
        _refuse_misplaced(arguments[0], words)
        with _folder_of(arguments[0], words) as placed:
            _compose_and_run(arguments[0], placed)


def _run_plain(name: str, *arguments: str) -> None:
    """Run a command that takes no settings, without Hydra."""
    try:
        importlib.import_module(f"ekipl.commands.{name}").run(arguments)
    except UsageError as error:
        _refuse(str(error))


def _refuse_misplaced(command: str, words: list[str]) -> None:
    """A sweep has folders of its own, and a single run has none of a sweep."""
    is_sweep = bool({"-m", "--multirun"} & set(words))
    other, mine = ("hydra.run.dir", "hydra.sweep.dir") if is_sweep else ("hydra.sweep.dir", "hydra.run.dir")
    for word in words:
        if word.startswith(f"{other}="):
            what = "a sweep writes its jobs" if is_sweep else "a single run (without --multirun) writes"
            value = word.partition("=")[2]
            _refuse(f"ekipl {command}: {word}: {what} to {mine}; set {mine}={value} instead")


@contextmanager
def _folder_of(command: str, words: list[str]) -> Iterator[list[str]]:
    """The words, with a folder that is removed afterwards for a command that leaves nothing behind."""
    leaves = command not in LEAVE_NOTHING and "dry_run=true" not in words
    if leaves and not any(word.startswith("export=") for word in words):
        yield words
        return
    places = ("hydra.run.dir=", "hydra.sweep.dir=")
    with TemporaryDirectory(prefix="ekipl-") as folder:
        yield [word for word in words if not word.startswith(places)] + [f"{place}{folder}" for place in places]


def paper_cells() -> list[tuple[str, ...]]:
    """The overrides of each cell of the paper's tables: task, model, and method or prompt."""
    methods = ("ans_sft", "cot_sft", "reason_rft_zero", "reason_rft", "ekipl", "sft_ekipl")
    ways = ("prompt=zero_shot", *(f"method={method}" for method in methods))
    models = ("model=qwen2vl_2b", "model=qwen2vl_7b")
    tasks = ("task=counting", "task=structure", "task=spatial")
    return [*product(tasks, models, ways)]


def conf_dir() -> Path:
    """The config tree: inside the installed package, else at the top of the checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "conf"


def spelled_out(command: str, arguments: list[str]) -> list[str]:
    """The arguments with the command's own flags as overrides: ``--k 1,8`` becomes ``passk.k=[1,8]``.

    A flag takes a value when its override contains ``{}``. Raises UsageError for words that ``ask`` cannot tell apart.
    """
    if command == "ask":
        from ekipl.commands.ask import as_settings

        arguments = as_settings(arguments)
    parser = argparse.ArgumentParser(f"ekipl {command}", add_help=False, allow_abbrev=False)
    flags = FLAGS.get(command, {})
    for flag, override in flags.items():
        if "{}" in override:
            parser.add_argument(flag, dest=flag, metavar="VALUE")
        else:
            parser.add_argument(flag, dest=flag, action="store_const", const=True)
    known, rest = parser.parse_known_args(arguments)
    rest = [spelled for word in rest for spelled in _override(word)]
    set_here = {word.partition("=")[0] for word in rest}
    for key, other in (("B", "epochs"), ("epochs", "B")):  # whichever is set sets the length
        if command == "train" and key in set_here and other not in set_here:
            rest.append(f"{other}=null")
    return rest + [flags[flag].format(value) for flag, value in vars(known).items() if value is not None]


# The key of each group that takes an import path in place of a name.
OWN = {"task": "_target_", "data": "kind", "external": "kind", "rollout": "kind", "selection": "rule"}


def _override(word: str) -> list[str]:
    """The override as Hydra needs it.

    ``selection=my_rules:half``, an import path where an option's name could stand, is ``selection=custom`` and its
    key. An entry of ``external.models`` lists only what differs from ``external.each``, so its other keys are new.
    """
    key, equals, value = word.partition("=")
    if equals and key in OWN and is_import_path(value):
        return [f"{key}=custom", f'{key}.{OWN[key]}="{value}"']
    if equals and re.match(r"external\.models\.\d+\.", key):
        return [f"++{word}"]
    return [word]


def ordered(arguments: list[str]) -> list[str]:
    """Flags first, then overrides, each in their order: Hydra 1.3 takes no flag between two overrides (hydra#3053)."""
    return sorted(arguments, key=lambda word: word.startswith("~") or ("=" in word and not word.startswith("-")))


def _compose_and_run(command: str, arguments: list[str]) -> None:
    """Run the command under Hydra. Hydra's own errors become one message and exit status 2; a job's error is raised."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    name = command.replace("-", "_")

    def job(cfg: DictConfig) -> None:
        _run(name, cfg)

    sys.argv = [sys.argv[0], *arguments]
    wants_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, instead of exiting with 1
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(job)()
    except JobFailed as failed:
        sys.exit(failed.args[0])
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        if wants_trace or _is_of_job(error):
            raise
        _refuse(f"ekipl {command}: {_reason(error, command)}")


def _run(name: str, cfg: DictConfig) -> None:
    """Run one job and exit with its status. In a sweep a failed job raises JobFailed, unless a signal ended it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    try:
        with explain_full_disk(Path(HydraConfig.get().runtime.output_dir)):
            importlib.import_module(f"ekipl.commands.{name}").run(cfg)
        return
    except UsageError as error:
        print(masked(str(error)), file=sys.stderr)
        code: int | str | None = 2
    except SystemExit as end:  # the training processes have printed their error
        code = end.code
    except KeyboardInterrupt:
        print(f"ekipl {name.replace('_', '-')}: interrupted", file=sys.stderr)
        code = STOPPED[0]
    if code and code not in STOPPED and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise JobFailed(code)
    sys.exit(code)


def _is_of_job(error: BaseException) -> bool:
    """Whether a job raised the error: Hydra re-raises it where the job's result is read."""
    return any(frame.name == "return_value" for frame in traceback.extract_tb(error.__traceback__))


def _reason(error: BaseException, command: str) -> str:
    """Hydra's error in one line: key, value, reason, way out."""
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import ConfigAttributeError, ConfigIndexError, ConfigKeyError

    from ekipl.config import no_such_setting

    message = " ".join(str(error).partition("Config search path")[0].replace("\\'", "'").split())
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={option}: no such option; known are {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not to be read as key=value; {_quoted(str(error.override))}"
    if isinstance(error.__cause__, (ConfigAttributeError, ConfigKeyError)):
        return no_such_setting(str(error.__cause__.full_key))
    if isinstance(error.__cause__, ConfigIndexError):
        return f"{message.removeprefix('Error merging override ').lstrip('+')}: no such entry in the list; count from 0"
    if refused := re.match(r"Could not override '(\S+)'\. No match in the defaults list", message):
        return f"{refused[1]}: not a group of {command}; leave it out"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; hydra.run.dir=FOLDER writes elsewhere"
    return message


def _quoted(override: str) -> str:
    """How to write an override that Hydra cannot parse: Hydra's quotes around the value, the shell's around all."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"write {key}=VALUE"
    if value[:1] in ("[", "{"):
        return "close the brackets, and quote what has special characters in it"
    return "write " + shlex.quote(f'{key}="{value}"')


def _refuse(text: str) -> NoReturn:
    print(masked(text), file=sys.stderr)
    sys.exit(2)


def _complete(arguments: list[str]) -> None:
    """Complete the command here; then let Hydra, which completes one application, complete the line without it."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if "COMP_LINE" in os.environ and len(words) <= 2:
        print(" ".join(COMMANDS | PLAIN))
        return
    command = words[1] if len(words) > 2 else "train"  # installing completion works with any command
    if command in COMMANDS:
        os.environ["COMP_LINE"] = " ".join(words[:1] + words[2:])
        _compose_and_run(command, arguments)
