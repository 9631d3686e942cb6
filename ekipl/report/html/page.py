"""The page: data of runs in, one self-contained HTML file out.

Everything that comes from a run is data: JSON in a script element that no browser runs, put on the page as text. The
Content-Security-Policy lets the page's own script and style run, by their digests, and nothing else, and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ekipl.report.html import compare, encode, numbers
from ekipl.report.html.parts import Run
from ekipl.report.html.why import rule_in_words

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = tuple(
    f"{name}.js"
    for name in ("base", "charts", "texts", "overview", "scores", "groups", "candidates", "answers", "runs", "main")
)
MB = 10**6
RESERVE = 4_000  # bytes for what holds the parts together
ANSWERS = 0.3  # of the room, at most for the answers of evaluations


def data_of(runs: Sequence[Run], max_bytes: int, title: str, is_sweep: bool = False) -> dict[str, Any]:
    """What the page shows, as JSON values of at most ``max_bytes`` with the page around them.

    Args:
        runs: at least one.
        max_bytes: of the page.
        title: its title.
        is_sweep: whether these are the runs of a sweep, of which the numbers alone are shown.
    """
    plain = [_numbers(run) for run in runs]
    told: dict[str, Any] = {"title": title, "runs": plain, "left_out": [], "sweep": None, "comparison": None}
    if len(runs) > 1:
        told["comparison"] = {"settings": compare.differing(runs), "differences": compare.differences(runs)}
    if is_sweep:
        told["sweep"] = compare.sweep_rows(runs)
        return told
    room = max(0, max_bytes - RESERVE - len(page(told))) // len(runs)
    for run, into in zip(runs, plain, strict=True):
        found = encode.answers(run.points, round(room * (ANSWERS if run.steps else 1)), run.image)
        left = room - encode.size_of(found)
        rule, drops = (
            str(run.settings.get("selection.rule", "")),
            run.settings.get("objective.below_baseline") == "drop",
        )
        chosen = encode.groups(run.steps, left, run.image, rule, drops)
        into |= {"answers": found, "groups": chosen, "rule": rule_in_words(rule) if run.steps else ""}
        told["left_out"] += [f"{run.name}: {what}" for part in (chosen, found) for what in encode.parts_of(part)]
    return told


def _numbers(run: Run) -> dict[str, Any]:
    best = numbers.best_step(run.rows)
    return {
        "name": run.name,
        "command": run.command,
        "folder": run.folder,
        "written": run.written,
        "wanted": run.wanted,
        "step": run.rows[-1]["step"] if run.rows else None,
        "settings": [[key, str(value)] for key, value in run.settings.items()],
        "sentence": numbers.sentence(run),
        "results": numbers.results(run),
        "best": best["step"] if best else None,
        "curves": numbers.curves(run.rows),
        "metrics": numbers.columns(run.rows),
        "spending": [list(model) for model in run.spending],
        "splits": list(run.splits),
        "differences": list(run.differences),
        "passk": {split: list(curves) for split, curves in run.passk.items()},
        "breakdown": [row for name, read in _told(run) for row in numbers.breakdown(name, read())],
    }


def _told(run: Run) -> list[tuple[str, Any]]:
    """The points of which the accuracy by family is told: the first and the last of a training, else all."""
    points = list(run.points.items())
    return [points[0], points[-1]] if run.command == "train" and len(points) > 2 else points


def page(data: Mapping[str, Any], live: bool = False) -> str:
    """The HTML of these data; ``live`` lets the page ask the server that it came from for newer data."""
    style, script = _assets()
    text = (ASSETS / "page.html").read_text(encoding="utf-8")
    parts = {
        "{{policy}}": policy(live),
        "{{style}}": style,
        "{{data}}": encode.in_script({**data, "live": live}),
        "{{script}}": script,
    }
    before, *pieces = _split(text, list(parts))
    return before + "".join(value + piece for value, piece in zip(parts.values(), pieces, strict=True))


def _split(text: str, marks: Sequence[str]) -> list[str]:
    """The text between the marks, which come in this order; what is put in is never searched for marks."""
    pieces = []
    for mark in marks:
        piece, _, text = text.partition(mark)
        pieces.append(piece)
    return [*pieces, text]


def policy(live: bool = False) -> str:
    """The Content-Security-Policy of the page."""
    style, script = (_digest(text) for text in _assets())
    connect = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; img-src data:; style-src {style}; script-src {script}; {connect}"
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _assets() -> tuple[str, str]:
    """The style and the script of the page."""
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    body = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return style, f'"use strict";\n(() => {{\n{body}\n}})();\n'


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
