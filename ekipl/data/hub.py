"""The published files on the Hugging Face hub, or in a local copy of it, with the images in zip files."""

from __future__ import annotations

from pathlib import Path

from ekipl.data.places import Place
from ekipl.errors import UsageError


def from_hub(hub: str, part: str, pattern: str) -> Place:
    """Download the rows and the zip files of images into the cache of ``datasets``; ``hub`` may be a local copy."""
    import fsspec  # type: ignore[import-untyped]
    from datasets import DownloadManager

    try:
        fs, base = fsspec.core.url_to_fs(hub if Path(hub).is_dir() else f"hf://datasets/{hub}")
        rows = sorted(fs.glob(f"{base}/{part}_jsons/{pattern}")) or sorted(fs.glob(f"{base}/{pattern}"))
        zips = sorted(fs.glob(f"{base}/**/{part}_images*.zip"))
        if len(rows) == 1 and zips:
            manager = DownloadManager()
            file = manager.download(fs.unstrip_protocol(rows[0]).removeprefix("file://"))
            folders = [manager.download_and_extract(fs.unstrip_protocol(zip).removeprefix("file://")) for zip in zips]
            return Place(Path(file), tuple(Path(folder).resolve() for folder in folders), part)
    except Exception as error:  # network and hub raise many classes
        raise UsageError(
            f"data.hub: {hub}: {error}; check the name and the network, or set data.root=FOLDER"
        ) from error
    raise UsageError(
        f"data.hub: {hub}: {len(rows)} files match {pattern} (one is needed) and {len(zips)} match {part}_images*.zip; "
        "download the data set and set data.root=FOLDER"
    )
