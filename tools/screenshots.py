"""``python -m tools.screenshots RUN [RUN ...] --into docs/view``: the pictures of docs/view.md, from real runs."""

from __future__ import annotations

import argparse
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image

from ekipl.run.viewing import write_view
from tools.browser import Tab, opened

MOST = 150_000  # bytes of a picture


class Shot(NamedTuple):
    """A picture: the part of the page, and the window in CSS pixels."""

    name: str
    state: str
    width: int = 1200
    height: int = 860
    dark: bool = False


OF_ONE = (
    Shot("overview", "tab=overview", height=1000),
    Shot("groups", "tab=groups&step=12&filter=external"),
    Shot("evaluation", "tab=answers&change=gained", height=1240),
    Shot("phone", "tab=groups&step=12", 360, 760, dark=True),
)
OF_MANY = (Shot("compare", "tab=compare"),)


def main() -> int:
    """Write the pictures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "docs" / "view")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        for runs, shots in ((given.runs[:1], OF_ONE), (given.runs, OF_MANY if given.runs[1:] else ())):
            with opened(write_view(runs, 10**7, page)) as tab:
                for shot in shots:
                    take(tab, shot, given.into / f"{shot.name}.png")
    return 0


def take(tab: Tab, shot: Shot, path: Path) -> None:
    """Write one picture, with as many colours as fit the size."""
    tab.size(shot.width, shot.height, shot.dark)
    tab.js(f"location.hash = {shot.state!r}")
    tab.js("scrollTo(0, 0)")
    tab.js("Promise.all([...document.images].filter((i) => i.loading !== 'lazy').map((i) => i.decode()))")
    image = Image.open(BytesIO(tab.screenshot())).convert("RGB")
    for colours in (None, 256, 128, 64):
        fast = Image.Quantize.FASTOCTREE  # keeps rare colours, which marks have
        picture = image if colours is None else image.quantize(colours, fast, dither=Image.Dither.NONE)
        content = BytesIO()
        picture.save(content, "PNG", optimize=True)
        if len(content.getvalue()) <= MOST:
            break
    path.write_bytes(content.getvalue())
    print(path, len(content.getvalue()), "bytes")


if __name__ == "__main__":
    sys.exit(main())
