"""The Hugging Face hub: whether it answers, and the published files there or in a local copy, images in zip files."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from ekipl.data.places import Place, published
from ekipl.errors import UsageError

DEADLINE_S = 5.0


def contact(path: str, what: str) -> str | None:
    """Why the hub has no such thing, or None.

    The libraries ask with retries: a hub that refuses or says nothing would keep them for minutes. This ends within
    ``DEADLINE_S``.

    Args:
        path: of the address on the hub that is asked for.
        what: stands there, such as ``model``; for the message.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "was not asked (HF_HUB_OFFLINE)"
    return _asked(f"{constants.ENDPOINT}/{path}", what)


@cache
def _asked(url: str, what: str) -> str | None:
    """The same of an address; once in a process."""
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(_answer(url, what)), daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return answers[0] if answers else f"says nothing within {DEADLINE_S:.0f} s"


def _answer(url: str, what: str) -> str | None:
    import httpx
    from huggingface_hub import get_token

    token = get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        status = httpx.head(url, headers=headers, timeout=DEADLINE_S, follow_redirects=True).status_code
    except httpx.TimeoutException:
        return f"says nothing within {DEADLINE_S:.0f} s"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"cannot be reached ({' '.join(str(error).split()) or type(error).__name__})"
    if status < 400:
        return None
    is_none = status in (401, 403, 404)
    return f"has no such {what}, or none for this login" if is_none else f"answers with status {status}"


def from_hub(hub: str, part: str, pattern: str) -> Place:
    """Download the rows and the zip files of images into the cache of ``datasets``; ``hub`` may be a local copy."""
    if not Path(hub).is_dir() and (fault := contact(f"api/datasets/{hub}", "data set")):
        raise UsageError(f"data.hub: {hub}: the hub {fault}; check the name and the network, or set data.root=FOLDER")
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
            return published(Path(file), tuple(Path(folder).resolve() for folder in folders), part)
    except Exception as error:  # network and hub raise many classes
        raise UsageError(
            f"data.hub: {hub}: {error}; check the name and the network, or set data.root=FOLDER"
        ) from error
    raise UsageError(
        f"data.hub: {hub}: {len(rows)} files match {pattern} (one is needed) and {len(zips)} match {part}_images*.zip; "
        "download the data set and set data.root=FOLDER"
    )
