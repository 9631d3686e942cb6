"""What only a GPU can answer, on a model of Qwen2-VL-2B's shape with random weights in bfloat16.

``python -m benchmarks.gpu --all`` measures, in the order of ``PARTS``: what the device reaches, whether the shared
prefix is exact, steps, where their time goes, the memory of updates against the formula of ``--dry-run``, and TRL's
steps where TRL is installed (``pip install 'ekipl[bench]'``). Every measurement is a process of its own, and
``gpu.json`` and ``gpu.md`` are written after each row, so an error or the end of the time loses nothing before it.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import limits
from benchmarks.gpu.page import markdown
from benchmarks.gpu.report import NO_TIME, Report
from benchmarks.speed.setting import QWEN2VL_2B, Setting, Where, build
from benchmarks.speed.side import SideFailed, call, results, run
from ekipl.policy.model import outline
from ekipl.report.scores import versions

SETTINGS = ("448,256,8", "896,256,8", "448,256,16")
VOCABULARY = 151936
# Dense bfloat16, from the makers' data sheets; the first that the device's name contains.
PEAK_TFLOPS = {"B200": 2250.0, "H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}
RESULTS = Path(__file__).parents[2] / "docs" / "results"
LEAST = 25.0  # seconds: a process that has fewer is not started
MOST = 150.0  # seconds of one process in a short call, after which something hangs


@dataclass(frozen=True)
class Bench:
    """What every part measures: the model, the settings, where, and how many steps after one that warms up."""

    folder: Path
    settings: tuple[Setting, ...]
    where: Where
    steps: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=("limits", "exactness", "steps", "trl"))
    parser.add_argument("--minutes", type=float, default=60.0, help="what no longer fits is not measured")
    parser.add_argument("--out", type=Path, help="folder of gpu.json and gpu.md; by default docs/results on a GPU")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", type=Path, help="a model folder; by default one of Qwen2-VL-2B's shape is built")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="image edge,new tokens,G")
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="of the device in bfloat16, where its name does not tell")
    given = parser.parse_args(arguments)
    on_gpu = given.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        parser.error("no GPU: torch.cuda.is_available() is false (--device cpu tries the code with a small --model)")
    name = torch.cuda.get_device_name() if on_gpu else "not a GPU: the CPU, to try the code"
    peak = given.peak_tflops or next((p for key, p in PEAK_TFLOPS.items() if key in name), None)
    about = {"device": name, "peak_tflops": peak, "date": date.today().isoformat(), "versions": versions() | further()}
    about |= {"steps": given.steps, "problems": given.problems}
    report = Report(about, 60 * given.minutes, markdown, given.out or (RESULTS if on_gpu else None))
    settings = tuple(
        Setting(pixels, tokens, VOCABULARY, G, given.problems)
        for pixels, tokens, G in (map(int, text.split(",")) for text in given.settings)
    )
    with tempfile.TemporaryDirectory() as directory:
        folder = given.model or Path(directory) / "model"
        with report.part("model"):
            if given.model is None:
                build(folder, VOCABULARY, QWEN2VL_2B, "bfloat16", given.device)
            report.add("model", sizes(folder))
        bench = Bench(folder, settings, Where(given.device, "bfloat16"), given.steps)
        measure(report, bench, tuple(PARTS) if given.all else given.parts)
    print(markdown(report.results))
    if any(row.get("passed") is False for row in report.parts.get("exactness", {"rows": []})["rows"]):
        raise SystemExit("the shared prefix is further from float32 than the plain computation")


def further() -> dict[str, str]:
    """Versions of what the steps also depend on."""
    return {name: version(name) for name in ("deepspeed", "peft", "trl") if find_spec(name)}


def measure(report: Report, bench: Bench, names: Sequence[str]) -> None:
    """The parts, one after another."""
    for name in names:
        if bench.where.device != "cpu":
            gc.collect()
            torch.cuda.empty_cache()  # the other processes need what this one has used
        with report.part(name):
            PARTS[name](report, bench)


def sizes(folder: Path) -> dict[str, int]:
    """Parameters of the model, and those that it reads for every token that it generates."""
    empty = outline(str(folder))
    named = {name: parameter.numel() for name, parameter in empty.named_parameters()}  # a tied head counts once
    read = sum(count for name, count in named.items() if ".visual." not in name)
    if not empty.config.tie_word_embeddings:
        read -= sum(count for name, count in named.items() if name.endswith("embed_tokens.weight"))
    return {"parameters": sum(named.values()), "read_for_a_token": read}


def measure_limits(report: Report, bench: Bench) -> None:
    for row in limits.measure(bench.where.device, 1 if bench.where.device == "cuda" else 64):
        report.add("limits", row)


def measure_exactness(report: Report, bench: Bench) -> None:
    first = bench.settings[0]
    small = replace(first, tokens=min(32, first.tokens), G=2, problems=2)
    if seconds := time_for(report, "exactness", "the check"):
        report.add("exactness", call("benchmarks.speed.exactness", order(bench, small), seconds))


def measure_steps(report: Report, bench: Bench) -> None:
    """With gradient checkpointing too at the first setting, and where a step does not fit without."""
    for setting in bench.settings:
        fits = step(report, bench, "steps", "ekipl", setting, bench.where)
        if not fits or setting == bench.settings[0]:
            step(report, bench, "steps", "ekipl", setting, replace(bench.where, checkpointing=True))


def measure_trl(report: Report, bench: Bench) -> None:
    """With gradient checkpointing, its default; and the first setting without, as ekipl's side is."""
    if find_spec("trl") is None:
        return report.note("trl", "not measured: TRL is not installed (pip install 'ekipl[bench]')")
    for setting in bench.settings:
        step(report, bench, "trl", "TRL", setting, replace(bench.where, checkpointing=True))
    step(report, bench, "trl", "TRL", bench.settings[0], bench.where)


def step(report: Report, bench: Bench, part: str, side: str, setting: Setting, where: Where) -> bool:
    """A row of one side, or the reason why there is none; whether it was measured."""
    row: dict[str, Any] = {"setting": asdict(setting), "side": side, "checkpointing": where.checkpointing}
    if seconds := time_for(report, part, f"{side} at {asdict(setting)}"):
        try:
            row |= asdict(run(side, bench.folder, setting, bench.steps, where, seconds))
        except SideFailed as failure:
            row["error"] = str(failure)
        report.add(part, row)
    return "seconds" in row


def measure_profile(report: Report, bench: Bench) -> None:
    rows_of(report, "profile", "benchmarks.gpu.profiled", order(bench, bench.settings[0]))


def measure_memory(report: Report, bench: Bench) -> None:
    rows_of(report, "memory", "benchmarks.gpu.memory", order(bench, bench.settings[0]))


def rows_of(report: Report, part: str, module: str, ordered: dict[str, Any]) -> None:
    """The rows that a process prints, also when it does not come to its end."""
    if seconds := time_for(report, part, "all of it"):
        found, error = results(module, ordered, seconds)
        for row in found:
            report.add(part, row)
        if error:
            report.note(part, f"ended early: {error}")


def measure_vllm(report: Report, _: Bench) -> None:
    if find_spec("vllm") is None:
        return report.note("vllm", "not measured: vllm is not installed here")
    report.note("vllm", "not measured: this benchmark does not run vllm; `make test-vllm` does")


def order(bench: Bench, setting: Setting) -> dict[str, Any]:
    return {"folder": str(bench.folder), "setting": asdict(setting), "where": asdict(bench.where)}


def time_for(report: Report, part: str, what: str) -> float | None:
    """Seconds that a process may take; None, with a note, where too few are left."""
    if report.left < LEAST:
        report.note(part, f"{what}: {NO_TIME}")
        return None
    return min(report.left, max(MOST, report.seconds / 4))


PARTS: dict[str, Callable[[Report, Bench], None]] = {
    "limits": measure_limits,
    "exactness": measure_exactness,
    "steps": measure_steps,
    "profile": measure_profile,
    "memory": measure_memory,
    "trl": measure_trl,
    "vllm": measure_vllm,
}


if __name__ == "__main__":
    main()
