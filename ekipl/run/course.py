"""The course of a run through its data, so that a resumed run goes on with the rows that it began with.

A checkpoint holds ``data.json``: the ids of all training rows in the order at the start of the run, a digest of the
content of each (null for a row that is gone), and how far the run has come in the stream of ``rows_from``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekipl.algorithm.loop import Hyperparameters, data_order, rows_from
from ekipl.algorithm.types import Problem
from ekipl.data.problems import Changed, Checked, Outline, say
from ekipl.errors import UsageError
from ekipl.files import write_json

if TYPE_CHECKING:
    from ekipl.config import Settings

FILE = "data.json"
SHOWN = 5  # ids named in a message


@dataclass(frozen=True)
class Course:
    """Which problem stands at which index of the run's order.

    Attributes:
        ids: of the rows that the run began with; empty where the source does not tell them.
        digests: of the content of each; None = gone.
        rows: for each of the rows that the run began with, its index among the present problems; None = gone.
        first_step: 0-based, that this course begins with.
        place: of its first problem in the stream of ``rows_from``.
    """

    ids: tuple[str, ...]
    digests: tuple[str | None, ...]
    rows: tuple[int | None, ...]
    first_step: int
    place: int

    @property
    def size(self) -> int:
        """The number of rows that the run began with."""
        return len(self.rows)

    @property
    def left(self) -> int:
        """How many of them are there."""
        return self.size - len(self._gone)

    @property
    def _gone(self) -> frozenset[int]:
        return frozenset(index for index, row in enumerate(self.rows) if row is None)

    def order(self, h: Hyperparameters) -> Iterator[list[int]]:
        """For each step, the indices of its problems among the present ones."""
        for indices in data_order(self.size, h, self.first_step, self.place, self._gone):
            yield [row for index in indices if (row := self.rows[index]) is not None]

    def place_after(self, steps: int, h: Hyperparameters) -> int:
        """The place in the stream after so many steps of the run."""
        wanted, gone = (steps - self.first_step) * h.problems_per_step, self._gone
        if not gone:
            return self.place + wanted
        stream = enumerate(rows_from(self.size, h.seed, self.place), self.place + 1)
        taken = (place for place, row in stream if row not in gone)
        return next(islice(taken, wanted - 1, None)) if wanted else self.place

    def save(self, folder: Path, steps: int, h: Hyperparameters) -> None:
        """Write ``data.json`` into a checkpoint after so many steps."""
        place = self.place_after(steps, h)
        write_json(folder / FILE, {"size": self.size, "place": place, "ids": self.ids, "digests": self.digests})


def course_of(problems: Sequence[Problem], checkpoint: Path | None, first_step: int, settings: Settings) -> Course:
    """The course of a run from ``checkpoint`` on, or from its beginning. Raises UsageError like ``resumed``."""
    if checkpoint is None:
        return beginning(problems)
    changed = settings.data.changed if isinstance(settings.data, Checked) else "refuse"  # drawn rows do not change
    return resumed(checkpoint, problems, first_step, settings, changed)


def beginning(problems: Sequence[Problem]) -> Course:
    """The course of a new run over all of its problems."""
    outlines = _outlines(problems)
    ids, digests = tuple(one.id for one in outlines), tuple(one.digest for one in outlines)
    return Course(ids, digests, tuple(range(len(problems))), 0, 0)


def resumed(
    checkpoint: Path, problems: Sequence[Problem], first_step: int, h: Hyperparameters, changed: Changed
) -> Course:
    """The course of a run that goes on from a checkpoint.

    Raises:
        UsageError: the rows have changed and ``changed`` is ``refuse``, or the source does not tell which have.
    """
    now = beginning(problems)
    try:
        state: dict[str, Any] = json.loads((checkpoint / FILE).read_text())
    except FileNotFoundError:  # a checkpoint of an earlier version
        return Course(now.ids, now.digests, now.rows, first_step, first_step * h.problems_per_step)
    if not state["ids"] or not now.ids:
        if state["size"] != now.size:
            raise UsageError(
                f"data: {now.size} training rows, and the run began with {state['size']}: which are missing is not "
                "known; restore them, or give another hydra.run.dir"
            )
        return Course((), (), now.rows, first_step, state["place"])
    present = {identity: row for row, identity in enumerate(now.ids)}
    rows = tuple(present.get(identity) for identity in state["ids"])
    digests = tuple(None if row is None else now.digests[row] for row in rows)
    differences = list(_differences(state, digests, now.ids))
    if differences and changed == "refuse":
        raise UsageError(
            f"data: the training rows are not those that the run began with: {'; '.join(differences)}; restore them, "
            "set data.changed=keep_order to go on in the old order less what is gone, or give another hydra.run.dir"
        )
    if differences:
        say(f"data: warning: {'; '.join(differences)}: going on in the old order (data.changed=keep_order)", ())
    return Course(tuple(state["ids"]), digests, rows, first_step, state["place"])


def _differences(state: dict[str, Any], digests: Sequence[str | None], ids: Sequence[str]) -> Iterator[str]:
    before = dict(zip(state["ids"], state["digests"], strict=True))
    after = dict(zip(state["ids"], digests, strict=True))
    gone = [one for one in before if after[one] is None and before[one] is not None]
    back = [one for one in before if after[one] is not None and before[one] is None]
    other = [one for one in before if not _same(before[one], after[one])]
    new = [one for one in ids if one not in before]
    for found, what in ((gone, "gone"), (new, "new"), (back, "back"), (other, "with other content")):
        if found:
            more = ", ..." if len(found) > SHOWN else ""
            yield f"{len(found):,} {what} ({', '.join(map(ascii, found[:SHOWN]))}{more})"


def _same(before: str | None, after: str | None) -> bool:
    """Whether two digests are of the same content, as far as both know its files."""
    if before is None or after is None:
        return True
    (old, old_files), (new, new_files) = before.partition(":")[::2], after.partition(":")[::2]
    return old == new and (old_files == new_files or not old_files or not new_files)


def _outlines(problems: Sequence[Problem]) -> list[Outline]:
    """The outlines of all problems, or of none where one is not known."""
    tell = getattr(problems, "outline", None)
    found = [] if tell is None or not problems or tell(0) is None else [tell(n) for n in range(len(problems))]
    return [outline for outline in found if outline is not None]
