"""Where a split's rows and images lie, and the image file that a row's name means."""

from __future__ import annotations

import os
import reprlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A file of rows, and the folders that its images must be in; ``part`` is train or test."""

    rows: Path
    roots: tuple[Path, ...]
    part: str

    @cached_property
    def folders(self) -> tuple[Path, ...]:
        """The folders that a name in a row may start from, best first."""
        subs = (f"images/{self.part}_images", "images", "", f"{self.part}_images")
        return tuple(root / sub for root in self.roots for sub in subs)


Listing = Callable[[Path], tuple[Mapping[str, str], Mapping[str, str]]]


def finder(place: Place) -> Callable[[str], Path | str]:
    """``find_image`` of this place, which remembers what it has found: rows share images and folders."""
    return cache(partial(find_image, place, cache(names_in)))


def find_image(place: Place, listing: Listing, name: str) -> Path | str:
    """The path of the image, or an error. No file outside ``place.roots`` is meant, through links or otherwise.

    Texts instead of paths: a data set has many names.
    """
    shown = f"image: {reprlib.repr(name)}"
    if Path(name).is_absolute():
        return f"{shown}: an absolute path; name it relative to the images folder"
    try:
        path = next((path for folder in place.folders if os.path.isfile(path := os.path.join(folder, name))), None)
        if path is None:
            near = next((found for folder in place.folders if (found := near_match(folder, name, listing))), None)
            return f"{shown}: no such file in {place.roots[0]}/images{f'; {near}' if near else ''}"
        path = os.path.realpath(path)
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with NUL, a loop of links
        return f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}"
    if not any(path.startswith(os.path.join(root, "")) for root in place.roots):
        return f"{shown}: lies outside {place.roots[0]}"
    return Path(path)


def near_match(folder: Path, name: str, listing: Listing) -> str | None:
    """The words that name a file like ``name`` in ``folder``: with other case, Unicode form or ending."""
    parts = [part for part in Path(name).parts if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    for part in parts[:-1]:
        folder /= part if (folder / part).is_dir() else listing(folder)[0].get(_folded(part), part)
    exact, stems = listing(folder)
    found = exact.get(_folded(parts[-1])) or stems.get(_folded(Path(parts[-1]).stem))
    if found is None:
        return None
    same = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", parts[-1])
    way = "the same name in another Unicode form; rename it, or normalise the names in the rows (NFC)"
    return f"there is {reprlib.repr(found)}, {way}" if same else f"did you mean {reprlib.repr(found)}?"


def names_in(folder: Path) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The names in a folder by their folded form, and by the folded form of their stem."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}, {}
    return {_folded(name): name for name in names}, {_folded(Path(name).stem): name for name in names}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
