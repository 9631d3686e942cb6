"""What is run: tasks, methods, seeds and sizes, and from them the commands of every cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ekipl
from ekipl.cli import conf_dir

SCHEMA = 2  # of the cell files; raise it when their content changes
GRPO, MATCHED = "reason_rft_zero", "compute_matched"
JUDGED = ("ekipl", "needed")  # the methods that the claims of the paper are judged for
RATES = ("1e-4", "3e-4")
CHOICE_SEED, CHOICE_DATA = 100, 1000  # neither is in a reported number
RUNS, OWN = "@RUNS@", "@CELL@"  # stand for folders in the commands, so that a hash of these does not depend on them

Commands = Mapping[str, Sequence[str]]  # a folder's name -> the command and its overrides


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Attributes:
        overrides: of ``ekipl train``; None: nothing is trained.
        recorded: whether it takes external actions, which all methods read from one recording.
        stages: 2: a first stage of ``Scale.first`` steps, and as many fewer in the second.
        split: whether the second stage leaves out the problems of the first.
        evaluated: further overrides of ``ekipl eval`` and ``ekipl passk``.
    """

    overrides: tuple[str, ...] | None
    recorded: bool = False
    stages: int = 1
    split: bool = False
    evaluated: tuple[str, ...] = ()

    @property
    def needs(self) -> Path | None:
        """The file that has to exist under ``conf/`` for this method; None for what is not trained."""
        if self.overrides is None:
            return None
        return conf_dir() / "method" / f"{self.overrides[0].removeprefix('method=')}.yaml"


METHODS: Mapping[str, Method] = {
    "base": Method(None),
    "reason_rft_zero": Method(("method=reason_rft_zero",)),
    "ekipl": Method(("method=ekipl",), recorded=True),
    "needed": Method(("method=needed",), recorded=True),
    "compute_matched": Method(("method=compute_matched",)),
    "sft_external_grpo": Method(("method=sft_external_grpo",), recorded=True, stages=2),
    "sft_external": Method(("method=sft_external",), recorded=True),
    "beyond": Method(("method=beyond",), recorded=True),
    "ans_sft": Method(("method=ans_sft",), evaluated=("prompt=answer",)),
    "cot_sft": Method(("method=cot_sft",)),
    "reason_rft": Method(("method=reason_rft",), stages=2, split=True),
    "sft_ekipl": Method(("method=sft_ekipl",), recorded=True, stages=2, split=True),
    "ampo": Method(("method=ampo",), recorded=True),
    "luffy": Method(("method=luffy",), recorded=True),
    "hpt": Method(("method=hpt",), recorded=True),
    "random_g": Method(("method=ekipl", "selection=random_g"), recorded=True),
    "policy_only": Method(("method=ekipl", "selection=policy_only"), recorded=True),
}
MAIN = (*("base", "reason_rft_zero", "ekipl", "needed", "compute_matched"), "sft_external_grpo", "sft_external")


class Part(NamedTuple):
    """The cells of one task."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """The sizes of all cells.

    Attributes:
        parts: by task.
        steps: of a training.
        first: of these, the steps of a first stage.
        batch: problems a step.
        train: further overrides of ``ekipl train``.
        problems: of each evaluation split.
        samples: completions of each of these problems, at the end of training.
        passk_problems: the first problems of each split, for pass@k.
        passk_samples: completions of each of these.
        recorded: samples of each expert and training problem.
    """

    name: str
    parts: Mapping[str, Part]
    steps: int = 70
    first: int = 20
    batch: int = 12
    train: tuple[str, ...] = ("evaluation.every=10", "evaluation.limit=100", "checkpoint.every=10", "checkpoint.keep=1")
    problems: int = 500
    samples: int = 1
    passk_problems: int = 24
    passk_samples: int = 128
    recorded: int = 8

    @property
    def trained(self) -> int:
        """Problems of the training split: each is used once."""
        return self.steps * self.batch


FULL = Scale(
    "paper",
    {
        "counting": Part(tuple(METHODS), (0, 1, 2, 3, 4)),
        "structure": Part(MAIN, (0, 1, 2)),
        "spatial": Part(MAIN, (0, 1, 2)),
    },
)
QUICK = Scale(
    "quick",
    {"counting": Part(("base", "reason_rft_zero", "ekipl"), (0, 1))},
    steps=3,
    first=1,
    batch=2,
    train=("evaluation.every=1", "checkpoint.every=1", "N=2", "G=4"),
    problems=6,
    samples=2,
    passk_problems=3,
    passk_samples=4,
    recorded=2,
)
SCALES = {scale.name: scale for scale in (FULL, QUICK)}


class Cell(NamedTuple):
    """One training with its evaluation; ``seed`` None is the choice of the learning rate."""

    task: str
    method: str
    seed: int | None

    @property
    def name(self) -> str:
        return f"{self.task}-{self.method}-{'lr' if self.seed is None else self.seed}"

    @property
    def is_trained(self) -> bool:
        return METHODS[self.method].overrides is not None


def parse(name: str) -> Cell:
    """The cell of this name. Raises ValueError."""
    task, method, seed = (*name.split("-"), "", "")[:3]
    if method not in METHODS or not (seed == "lr" or seed.isdigit()):
        raise ValueError(f"{name}: no cell; a name is TASK-METHOD-SEED, for example counting-beyond-0")
    return Cell(task, method, None if seed == "lr" else int(seed))


def known_methods(part: Part) -> list[str]:
    """The methods of the part that ``conf/method`` has."""
    return [m for m in part.methods if (path := METHODS[m].needs) is None or path.exists()]


def cells(scale: Scale, tasks: Sequence[str] | None = None) -> Iterator[Cell]:
    """All cells in the order in which they are run: rates first, then seed by seed, the first task first."""
    for task in tasks or scale.parts:
        part = scale.parts[task]
        methods = known_methods(part)
        yield from (cell for m in methods if (cell := Cell(task, m, None)).is_trained)
        yield from (Cell(task, m, seed) for seed in part.seeds for m in methods)


def commands(cell: Cell, rate: str | None, scale: Scale) -> dict[str, list[str]]:
    """The commands of a cell, by the folder that each writes; ``rate`` is None for what is not trained.

    Those of a choice are the trainings with each rate, and their evaluations on problems of another seed.
    """
    shared = [f"task={cell.task}", f"data.train_size={scale.trained}", f"data.test_size={scale.problems}"]
    if cell.seed is None:
        found = {}
        for each in RATES:
            train = [word for word in _training(cell, each, scale) if not word.startswith("evaluation.")]
            found[f"train-{each}"] = ["train", *train, *shared, "evaluation.every=0", f"seed={CHOICE_SEED}"]
            unseen = [f"seed={CHOICE_SEED}", f"data.seed={CHOICE_DATA}", "splits=[id]"]
            found[f"eval-{each}"] = _evaluation(cell, scale, f"{OWN}/train-{each}/model", [*shared, *unseen])
        return found
    shared.append(f"seed={cell.seed}")
    if not cell.is_trained:
        return _measures(cell, scale, "tiny", shared)
    train = ["train", *_training(cell, rate, scale), *shared]
    return {"train": train, **_measures(cell, scale, f"{OWN}/train/model", shared)}


def _measures(cell: Cell, scale: Scale, model: str, shared: Sequence[str]) -> dict[str, list[str]]:
    evaluated = METHODS[cell.method].evaluated
    size = [f"limit={scale.passk_problems}", f"passk.samples={scale.passk_samples}", "passk.k=[1]"]
    passk = ["passk", *evaluated, f"model.path={model}", *size, *shared]
    return {"eval": _evaluation(cell, scale, model, shared), "passk": passk}


def _evaluation(cell: Cell, scale: Scale, model: str, shared: Sequence[str]) -> list[str]:
    how = [f"model.path={model}", f"samples={scale.samples}", "decoding=published", "also_grade_with=[]"]
    return ["eval", *METHODS[cell.method].evaluated, *how, *shared]


def _training(cell: Cell, rate: str | None, scale: Scale) -> list[str]:
    method = METHODS[cell.method]
    found = ["experiment=demo", *(method.overrides or ()), f"engine.learning_rate={rate}", *scale.train]
    found.append(f"problems_per_step={scale.batch}")
    found.append(f"B={scale.steps if method.stages == 1 else scale.steps - scale.first}")
    if method.recorded:
        found += ["external=recorded", f"external.path={RUNS}/external/{cell.task}"]
    if method.stages == 2:
        found.append(f"+first_stage.B={scale.first}")
    if method.split:  # the demo has 840 problems where the paper has 35,000: it cannot give the first 1,600 away
        rows = scale.first * scale.batch
        found += [f"data.train_start={rows}", f"first_stage.data.train_limit={rows}"]
    return found


def recording(task: str, scale: Scale) -> list[str]:
    """The command that records the experts' actions of all training problems."""
    size = [f"data.train_size={scale.trained}", "limit=null", f"samples={scale.recorded}"]
    return ["external-sample", f"task={task}", "external=simulated", "seed=0", *size]


def settings_hash(cell: Cell, rate: str | None, scale: Scale) -> str:
    """SHA-256 of everything that the cell is told, the recording included."""
    told = {"schema": SCHEMA, "commands": commands(cell, rate, scale)}
    if METHODS[cell.method].recorded:
        told["recording"] = recording(cell.task, scale)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def base_hash() -> str:
    """SHA-256 of the weights behind ``model=tiny``."""
    weights = Path(ekipl.__file__).parent / "tiny" / "checkpoint" / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()
