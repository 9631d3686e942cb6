"""A training step of ekipl beside one of TRL's GRPOTrainer: ``make bench``.

Writes ``docs/results/speed.json`` (every number) and ``docs/results/speed.md`` (the tables of docs/performance.md).
Each side runs in a process of its own with one thread; times are CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.speed.setting import Measured, Setting, Where, build
from benchmarks.speed.side import call, run
from ekipl.report.tables import Table

TARGETS = {  # at least so many times faster than TRL
    Setting(448, 64, 8192): 6.0,
    Setting(224, 64, 8192): 4.0,
    Setting(112, 128, 8192): 2.5,
    Setting(112, 64, 65536): 3.0,
}
DOUBLED = Setting(448, 64, 8192, G=16)
LARGE = Setting(112, 64, 65536)
MEMORY_TARGET, DOUBLING_TARGET, AGREEMENT_TARGET = 0.5, 1.5, 1e-4
AGREEMENT = Setting(112, 16, 8192)
PHASES = ("sampling", "reference", "update", "other")
VERSIONS = ("ekipl", "trl", "torch", "transformers", "deepspeed", "accelerate")
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--steps", type=int, default=3, help="measured steps after one that warms up")
    parser.add_argument("--machine", default="not stated", help="what it ran on, as the table shall say")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if find_spec("trl") is None:
        parser.error("TRL is not installed: pip install 'ekipl[bench]'")
    results = {
        "machine": given.machine,
        "date": date.today().isoformat(),
        "steps": given.steps,
        "versions": {name: _version(name) for name in VERSIONS},
        **measure_all(given.steps),
    }
    page = markdown(results)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (given.out / "speed.md").write_text(page)
    print(page)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def measure_all(steps: int) -> dict[str, Any]:
    """Every row, both sides, one after another."""
    rows: list[dict[str, Any]] = []

    def row(setting: Setting, sides: Sequence[str] = ("ekipl", "TRL"), where: Where | None = None) -> None:
        for side in sides:
            print(f"{name(setting)}: {side}...", file=sys.stderr, flush=True)
            measured = run(side, folders[setting.vocabulary], setting, steps, where or Where())
            rows.append(
                {
                    "side": side,
                    "setting": asdict(setting),
                    "checkpointing": bool(where and where.checkpointing),
                    **asdict(measured),
                }
            )

    with tempfile.TemporaryDirectory() as directory:
        folders = {v: Path(directory) / str(v) for v in {setting.vocabulary for setting in TARGETS}}
        for vocabulary, folder in folders.items():
            build(folder, vocabulary)
        for setting in TARGETS:
            row(setting)
        row(DOUBLED)
        row(LARGE, ["TRL"], Where(checkpointing=True))
        order = {"folder": str(folders[AGREEMENT.vocabulary]), "setting": asdict(AGREEMENT)}
        agreement = call("benchmarks.speed.agreement", order)
    return {"rows": rows, "agreement": agreement}


def markdown(results: dict[str, Any]) -> str:
    """The tables, and what they were measured with."""
    plain = [row for row in results["rows"] if not row["checkpointing"]]
    of = {(Setting(**row["setting"]), row["side"]): _measured(row) for row in plain}
    tables = [times(of), phases(of), memory(of, results["rows"]), doubling(of), agreement(results["agreement"])]
    versions = ", ".join(f"{package} {number}" for package, number in results["versions"].items())
    foot = f"{results['date']}, {results['machine']}; {versions}; medians of {results['steps']} steps.\n"
    return "\n".join([*(table.markdown() for table in tables), foot])


def _measured(row: dict[str, Any]) -> Measured:
    return Measured(**{key: row[key] for key in ("seconds", "peak", "loaded", "flops")})


def name(setting: Setting) -> str:
    size = f"{setting.vocabulary // 1024}k"
    doubled = "" if setting.G == 8 else f" / G={setting.G}"
    return f"{setting.pixels} px / {setting.tokens} / {size}{doubled}"


def verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def times(of: dict[tuple[Setting, str], Measured]) -> Table:
    rows = []
    for setting, target in TARGETS.items():
        ours, trl = (of[setting, side].seconds["total"] for side in ("ekipl", "TRL"))
        ratio = trl / ours
        rows.append(
            [name(setting), f"{trl:.2f}", f"{ours:.2f}", f"{ratio:.1f}", f"{target:g}", verdict(ratio >= target)]
        )
    header = ["image / new tokens / vocabulary", "TRL, s", "ekipl, s", "times faster", "target", ""]
    return Table("CPU seconds of a whole step", header, rows)


def phases(of: dict[tuple[Setting, str], Measured]) -> Table:
    rows = []
    for (setting, side), measured in of.items():
        seconds = measured.seconds
        rows.append([name(setting), side, *(f"{seconds.get(phase, 0.0):.2f}" for phase in PHASES)])
    header = ["image / new tokens / vocabulary", "side", "sampling", "reference log-probs", "update", "other"]
    return Table("CPU seconds by phase", header, rows)


def memory(of: dict[tuple[Setting, str], Measured], rows: Sequence[dict[str, Any]]) -> Table:
    def line(measured: Measured) -> list[str]:
        return [f"{measured.peak:.0f}", f"{measured.peak - measured.loaded:.0f}"]

    lines = [[name(setting), side, *line(measured)] for (setting, side), measured in of.items()]
    for row in rows:
        if row["checkpointing"]:
            lines.append([name(Setting(**row["setting"])), "TRL, gradient checkpointing", *line(_measured(row))])
    share = of[LARGE, "ekipl"].peak / of[LARGE, "TRL"].peak
    reached = verdict(share <= MEMORY_TARGET)
    note = f"At {name(LARGE)}: {share:.2f} of TRL's peak; target at most {MEMORY_TARGET:g}: {reached}."
    header = ["image / new tokens / vocabulary", "side", "peak of the process, MiB", "of that, after loading"]
    return Table("Peak memory", header, lines, [note])


def doubling(of: dict[tuple[Setting, str], Measured]) -> Table:
    rows = []
    for side in ("ekipl", "TRL"):
        once, twice = (of[replace(DOUBLED, G=G), side].seconds["total"] for G in (8, 16))
        factor = twice / once
        target, reached = (f"{DOUBLING_TARGET:g}", verdict(factor <= DOUBLING_TARGET)) if side == "ekipl" else ("", "")
        rows.append([side, f"{once:.2f}", f"{twice:.2f}", f"{factor:.2f}", target, reached])
    return Table("G from 8 to 16 at 448 px", ["side", "G=8, s", "G=16, s", "factor", "target", ""], rows)


def agreement(differences: dict[str, dict[str, float]]) -> Table:
    rows = []
    for loss_type, found in differences.items():
        reached = verdict(max(found["loss"], found["gradient"]) <= AGREEMENT_TARGET)
        rows.append([loss_type, *(f"{found[key]:.1e}" for key in ("log_probability", "loss", "gradient")), reached])
    header = ["TRL's loss_type", "log-probability, largest", "loss, relative", "gradient, relative", ""]
    note = f"Same actions of unequal length, KL on, clip active; target {AGREEMENT_TARGET:g} of loss and gradient."
    return Table("Agreement with TRL in float32", header, rows, [note])


if __name__ == "__main__":
    main()
