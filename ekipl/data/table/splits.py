"""Which rows of which table are a split: by file, by a column, or held out of the training rows."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ekipl.errors import MissingSplit, UsageError

TRAIN = ("train", "training")
TEST = ("test", "testing", "validation", "val", "valid", "dev", "eval", "evaluation")


class Table(Protocol):
    """Rows that are read when they are asked for."""

    names: tuple[str, ...]

    def __len__(self) -> int: ...
    def row(self, number: int) -> Mapping[str, Any] | ValueError:
        """The cells by column, or why the row cannot be read."""
        ...

    def place(self, number: int) -> str:
        """How messages name the row."""
        ...

    def column(self, name: str) -> Iterable[Any]:
        """The cells of a column, in order; None where there is none."""
        ...


@dataclass(frozen=True)
class Part:
    """The rows of a split: a table, the numbers of its rows, and how they were chosen, for the line that is printed."""

    table: Table
    numbers: Sequence[int]
    note: str = ""


def spelled(split: str, there: Iterable[str], first: str) -> str | None:
    """The name under which the data have a split: its own, else a usual one of ``train`` or of ``first``."""
    names = {name.strip().casefold(): name for name in there}
    others = TRAIN if split == "train" else TEST if split == first else ()
    return next((names[name] for name in (split.casefold(), *others) if name in names), None)


def held_out(ids: Iterable[str], share: float) -> array[int]:
    """The numbers of the rows that are held out: those whose id has a hash below ``share``, at least one of several.

    Which these are does not depend on the other rows, so that rows that are added later change nothing.
    """
    shares = array("d", (_share(one) for one in ids))
    chosen = array("q", (number for number, place in enumerate(shares) if place < share))
    if not chosen and len(shares) > 1 and share > 0:
        chosen.append(min(range(len(shares)), key=shares.__getitem__))
    return chosen


def _share(identity: str) -> float:
    """A number in [0, 1) by the id alone."""
    digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def named(names: Sequence[str], split: str, first: str, holdout: float, where: str) -> tuple[str, str, bool]:
    """Which of the splits that the data name holds the rows, a note on it, and whether its rows are to be divided.

    ``train`` is divided where the first evaluation split has no rows of its own.

    Raises:
        MissingSplit: there is none.
    """
    own, training = spelled(split, names, first), spelled("train", names, first)
    if split == "train" and own is not None:
        return own, "" if own == split else f"{split} is its {own}", not spelled(first, names, first) and holdout > 0
    if own is not None:
        return own, "" if own == split else f"{split} is its {own}", False
    if split == first and training is not None and holdout > 0:
        return training, "", True
    raise missing(where, split, names, first)


def by_column(values: Iterable[Any]) -> dict[str, array[int]]:
    """The numbers of the rows of each split that a column names."""
    rows: dict[str, array[int]] = {}
    for number, value in enumerate(values):
        rows.setdefault(str(value), array("q")).append(number)
    return rows


def missing(where: str, split: str, there: Sequence[str], first: str) -> MissingSplit:
    """The error of a split that the data do not have."""
    named = "" if split == "train" else ", name only splits that are there (splits; of train: evaluation.splits)"
    held = ", or data.holdout=0.05 to hold training rows out" if split == first else ""
    return MissingSplit(
        f"data.path: {where}: no rows of the split {split}; it has {', '.join(there[:20])}; name a file for it "
        f"(data.path={{{split}: FILE, ...}}){named}{held}"
    )


def divided(ids: Sequence[str], numbers: Sequence[int], split: str, share: float, where: str) -> array[int]:
    """Of the training rows ``numbers`` with these ids, those that are held out, or for ``train`` the others.

    Raises:
        UsageError: none are left.
    """
    out = set(held_out(ids, share))
    chosen = array("q", (number for place, number in enumerate(numbers) if (place in out) == (split != "train")))
    if not chosen:
        what = "holds none out" if split != "train" else "leaves none to train on"
        raise UsageError(
            f"data.holdout: {share}: of the {len(ids)} rows of {where} it {what}; change it, or name a file for each "
            "split: data.path={train: FILE, id: FILE}"
        )
    return chosen
