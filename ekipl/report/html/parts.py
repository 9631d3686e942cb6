"""What a page shows: runs, and the problems in them with all answers. Files are read only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ekipl.algorithm.types import Action
from ekipl.report.spending import Spent
from ekipl.report.statement import Statement


@dataclass(frozen=True)
class Shown:
    """A problem with answers to it.

    Attributes:
        id: the problem's, unique within its split.
        split: the problem's.
        statement: None where the file is of a version that did not keep it.
        actions: the answers, graded or not.
        kept: whether each was kept; None where there was no selection.
        advantages: of the kept ones.
        refused: candidates that could not take part, counted by reason.
    """

    id: str
    split: str
    statement: Statement | None
    actions: tuple[Action, ...]
    kept: tuple[bool | None, ...]
    advantages: tuple[float | None, ...]
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it the same problem in another run: data of another seed have the same ids.

        Of images the file names count: a copy is called by its pixels, and data may have been moved.
        """
        if (said := self.statement) is None:
            return (self.split, self.id)
        return (self.split, self.id, said.question, said.answer, *(name.rpartition("/")[2] for name in said.images))

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of its graded answers; None without any."""
        graded = [action.reward.accuracy for action in self.actions if action.reward is not None]
        return sum(graded) / len(graded) if graded else None


Read = Callable[[], Iterable[Shown]]  # reads a file


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        name: what the page calls it.
        command: ``train``, ``eval``, ``passk``, ``rollout`` or ``external_sample``.
        folder: its path, as it is shown.
        settings: by dotted key, without secrets.
        rows: of ``metrics.jsonl``.
        steps: the groups of each training step.
        points: the answers of each evaluation: by ``step N`` in a training, else by model.
        splits: of ``scores.json``.
        differences: of ``scores.json``.
        passk: the curves of ``passk.json`` by split.
        spending: sums of the external models' ledger.
        image: the bytes of a file that a statement names, as WebP; None where it cannot be had.
        swept: the settings by which a sweep tells its runs apart.
        written: when the run last wrote, as ISO date and time.
        wanted: steps in all; None where it is not known.
    """

    name: str
    command: str
    folder: str
    settings: Mapping[str, Any]
    image: Callable[[str], bytes | None]
    rows: Sequence[Mapping[str, Any]] = ()
    steps: Mapping[int, Read] = field(default_factory=dict)
    points: Mapping[str, Read] = field(default_factory=dict)
    splits: Sequence[Mapping[str, Any]] = ()
    differences: Sequence[Mapping[str, Any]] = ()
    passk: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    spending: Sequence[Spent] = ()
    swept: Mapping[str, str] = field(default_factory=dict)
    written: str = ""
    wanted: int | None = None
