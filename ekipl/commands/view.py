"""``ekipl view``: a run, several runs or a sweep as one HTML page, or served while a run goes on."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ekipl.errors import UsageError

EPILOG = """\
RUN is the folder of a run of train, eval, passk, rollout or external-sample. Several are compared with the first;
a folder of runs, such as that of --multirun, becomes a table. The page is one file that loads nothing: docs/view.md."""


class Parser(argparse.ArgumentParser):
    """One whose errors are usage errors of ekipl."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"ekipl view: {message}; ekipl view --help")


def run(arguments: Sequence[str]) -> None:
    """Write the page and print its address, or serve it until Ctrl-C. Raises UsageError."""
    given = parsed(arguments)
    paths = [Path(path).expanduser() for path in given.runs]
    max_bytes = round(given.max_mb * 10**6)
    if given.live:
        from ekipl.run.serving import serve

        serve(paths, max_bytes, given.port, lambda address: _tell(address, given.open))
        return
    from ekipl.run.viewing import write_view

    page = write_view(paths, max_bytes, None if given.out is None else Path(given.out).expanduser())
    print(page)
    _open(page.resolve().as_uri(), given.open)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command. Raises UsageError."""
    shape = argparse.RawDescriptionHelpFormatter
    what = "A run, several runs or a sweep as one HTML page."
    parser = Parser("ekipl view", description=what, epilog=EPILOG, allow_abbrev=False, formatter_class=shape)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of several")
    parser.add_argument("--live", action="store_true", help="serve the page on 127.0.0.1 and follow a run in progress")
    parser.add_argument("--port", type=_port, default=0, help="of --live; default: any that is free")
    parser.add_argument("--max-mb", type=_megabytes, default=10.0, help="size of the page at most; default: 10")
    parser.add_argument("--out", metavar="FILE", help="the page; default: report.html in the first RUN")
    parser.add_argument("--open", action="store_true", help="open it in a browser, if this is a terminal")
    return parser.parse_args(list(arguments))


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text}: not a port; give 0 to 65535")
    return int(text)


def _megabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text}: not a size; give 1 to 1000")
    return value


def _tell(address: str, wanted: bool) -> None:
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    _open(address, wanted)


def _open(address: str, wanted: bool) -> None:
    if wanted and sys.stdout.isatty():
        webbrowser.open(address)
