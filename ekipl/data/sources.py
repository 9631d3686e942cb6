"""Where the bytes of a picture are: in a file, in a member of a zip file, or in the row itself."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ekipl.data.pictures import MOST_BYTES, BadPicture

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of compression; both are read in bounded memory


@dataclass(frozen=True)
class Member:
    """A file in a zip file."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"


@dataclass(frozen=True)
class Held:
    """The bytes themselves; ``name`` says which picture of the row they are."""

    name: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


Source = Path | Member | Held


def content_of(source: Source) -> bytes:
    """The bytes of the picture, at most ``MOST_BYTES``. Raises BadPicture."""
    if isinstance(source, Held):
        return _bounded(source.content)
    try:
        if isinstance(source, Member):
            return _inflated(source)
        if (size := source.stat().st_size) > MOST_BYTES:
            raise BadPicture(f"{size:,} bytes; at most {MOST_BYTES:,} are read")
        return source.read_bytes()
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror or error}") from error


def opened(source: Source) -> BinaryIO:
    """The picture as a stream: a file is not read before its bytes are wanted. Raises BadPicture, OSError."""
    return source.open("rb") if isinstance(source, Path) else BytesIO(content_of(source))


def members(file: Path) -> frozenset[str]:
    """The names of the files in a zip file. Raises BadPicture."""
    return _archive(file, file.stat().st_mtime_ns)[1]


def _inflated(member: Member) -> bytes:
    """Whatever a zip file says of a member's size, no more than ``MOST_BYTES`` of it are unpacked."""
    archive, _ = _archive(member.file, member.file.stat().st_mtime_ns)
    try:
        info = archive.getinfo(member.name)
        if info.flag_bits & 1:
            raise BadPicture("cannot be read: it is encrypted; unpack the zip file")
        if info.compress_type not in METHODS:
            raise BadPicture("cannot be read: compressed in an unusual way; unpack the zip file")
        with archive.open(info) as file:
            return _bounded(file.read(MOST_BYTES + 1))
    except KeyError as error:
        raise BadPicture("cannot be read: no such file in the zip file") from error
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise BadPicture(f"cannot be read: {error}") from error
    except Exception as error:  # zlib.error and others of a damaged member
        raise error if isinstance(error, BadPicture | OSError) else BadPicture(f"cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _archive(file: Path, changed: int) -> tuple[zipfile.ZipFile, frozenset[str]]:
    """The open zip file, which several threads may read, and the names in it."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise BadPicture(f"no zip file, or a damaged one ({error})") from error
    return archive, frozenset(info.filename for info in archive.infolist() if not info.is_dir())


def _bounded(content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise BadPicture(f"more than the {MOST_BYTES:,} bytes that are read")
    return content
