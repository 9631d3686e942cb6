"""Where a split's rows and images lie, and the image file that a row's name means."""

from __future__ import annotations

import os
import reprlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

REMEMBERED = 65_536  # names
PUBLISHED = ("images/{0}_images", "images", "", "{0}_images")  # of train or test


@dataclass(frozen=True)
class Place:
    """A file of rows, and the folders that its images must be in.

    Attributes:
        rows: the file.
        roots: no image lies outside these.
        subs: the folders in a root that a name in a row may start from, best first.
        home: the one of them that messages name.
    """

    rows: Path
    roots: tuple[Path, ...]
    subs: tuple[str, ...] = ("", "images")
    home: str = ""

    @cached_property
    def folders(self) -> tuple[Path, ...]:
        """The folders that a name in a row may start from, best first."""
        return tuple(root / sub for root in self.roots for sub in self.subs)


def published(rows: Path, roots: tuple[Path, ...], part: str) -> Place:
    """The place of the published files, or of others in their layout; ``part`` is train or test."""
    return Place(rows, roots, tuple(sub.format(part) for sub in PUBLISHED), "images")


Listing = Callable[[Path], tuple[Mapping[str, str], Mapping[str, str]]]


def finder(place: Place) -> Callable[[str], Path | str]:
    """``find_image`` of this place, which remembers what it has found of late: rows share images and folders."""
    return lru_cache(maxsize=REMEMBERED)(partial(find_image, place, lru_cache(maxsize=16)(names_in)))


def find_image(place: Place, listing: Listing, name: str) -> Path | str:
    """The path of the image, or an error. No file outside ``place.roots`` is meant, through links or otherwise.

    Texts instead of paths: a data set has many names.
    """
    shown = f"image: {reprlib.repr(name)}"
    try:
        if os.path.isabs(name) and not _is_inside(os.path.realpath(name), place):
            return f"{shown}: an absolute path outside {place.roots[0]}; name it relative to the images folder"
        path = next((path for folder in place.folders if os.path.isfile(path := os.path.join(folder, name))), None)
        if path is None:
            near = next((found for folder in place.folders if (found := near_match(folder, name, listing))), None)
            return f"{shown}: no such file in {place.roots[0] / place.home}{f'; {near}' if near else ''}"
        path = os.path.realpath(path)
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with NUL, a loop of links
        return f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return Path(path) if _is_inside(path, place) else f"{shown}: lies outside {place.roots[0]}"


def _is_inside(path: str, place: Place) -> bool:
    return any(path.startswith(os.path.join(root, "")) for root in place.roots)


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
