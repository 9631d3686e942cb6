"""What a problem says, without its pixels, for files and pages that are read without the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """The words of a problem, and where its images lie.

    Attributes:
        question: the question's own words.
        answer: the gold answer.
        family: of the problem, where the data names one.
        images: of each image its file: absolute where the data are files, else relative to the run directory.
    """

    question: str
    answer: str
    family: str | None = None
    images: tuple[str, ...] = ()
