"""Results that are on disk after every row, and the time that is left."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NO_TIME = "not measured: no time left"


@dataclass
class Report:
    """Rows by part.

    Attributes:
        facts: device, versions, settings.
        seconds: for the whole call, from ``started`` on.
        page: the results as Markdown.
        out: folder of ``gpu.json`` and ``gpu.md``; None writes nothing.
        parts: by name: ``rows`` (JSON objects), ``notes`` (sentences) and ``seconds``.
    """

    facts: dict[str, Any]
    seconds: float
    page: Callable[[dict[str, Any]], str]
    out: Path | None = None
    started: float = field(default_factory=time.monotonic)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that may still be used."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def results(self) -> dict[str, Any]:
        """Everything, as in ``gpu.json``."""
        return {**self.facts, "seconds": time.monotonic() - self.started, "parts": self.parts}

    def add(self, part: str, row: dict[str, Any]) -> None:
        """Keep a row."""
        self._part(part)["rows"].append(row)
        self._write()

    def note(self, part: str, sentence: str) -> None:
        """Keep a sentence, such as the reason why something is missing."""
        print(f"{part}: {sentence}", file=sys.stderr, flush=True)
        self._part(part)["notes"].append(sentence)
        self._write()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part; an error inside becomes a note, so that the other parts are still measured."""
        begun, found = time.monotonic(), self._part(name)
        print(f"{name}: {self.left:.0f} s left...", file=sys.stderr, flush=True)
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.note(name, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        finally:
            found["seconds"] = time.monotonic() - begun
            self._write()

    def _part(self, name: str) -> dict[str, Any]:
        return self.parts.setdefault(name, {"rows": [], "notes": [], "seconds": 0.0})

    def _write(self) -> None:
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "gpu.json").write_text(json.dumps(self.results, indent=1) + "\n")
            (self.out / "gpu.md").write_text(self.page(self.results))
