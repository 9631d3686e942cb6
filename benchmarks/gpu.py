"""A Qwen2-VL-2B-shaped model with random weights in bfloat16 on one GPU: ``python -m benchmarks.gpu``.

First the shared prefix is checked against the plain computation. Then a training step is measured, beside TRL's where
TRL is installed (``pip install 'ekipl[bench]'``), each in a process of its own. The table goes to
``docs/results/gpu.json`` and ``docs/results/gpu.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.setting import QWEN2VL_2B, Measured, Setting, Where, build
from benchmarks.speed.side import call, run
from ekipl.report.scores import versions
from ekipl.report.tables import Table

SETTINGS = ("448,256,8", "448,256,16", "896,256,8")
VOCABULARY = 151936
# Dense bfloat16, from the makers' data sheets; the first that the device's name contains.
PEAK_TFLOPS = {"B200": 2250.0, "H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}
RESULTS = Path(__file__).parents[1] / "docs" / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", type=Path, help="a model folder; by default one of Qwen2-VL-2B's shape is built")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="image edge,new tokens,G")
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="of the device in bfloat16, where its name does not tell")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU: torch.cuda.is_available() is false (--device cpu tries the code with a small --model)")
    settings = [
        Setting(pixels, tokens, VOCABULARY, G, given.problems)
        for pixels, tokens, G in (map(int, text.split(",")) for text in given.settings)
    ]
    with tempfile.TemporaryDirectory() as directory:
        folder = given.model or Path(directory) / "model"
        if given.model is None:
            build(folder, VOCABULARY, QWEN2VL_2B, "bfloat16")
        results = measure(folder, settings, given.steps, Where(given.device, "bfloat16"))
    name = torch.cuda.get_device_name() if given.device == "cuda" else "not a GPU: the CPU, to try the code"
    peak = given.peak_tflops or next((p for key, p in PEAK_TFLOPS.items() if key in name), None)
    results |= {"device": name, "peak_tflops": peak, "date": date.today().isoformat(), "versions": versions()}
    page = markdown(results)
    print(page)
    if given.device == "cuda":
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "gpu.md").write_text(page)


def measure(folder: Path, settings: Sequence[Setting], steps: int, where: Where) -> dict[str, Any]:
    """The check, then every setting on both sides. Exits where the check fails."""
    small = Setting(settings[0].pixels, min(32, settings[0].tokens), VOCABULARY, G=2, problems=2)
    exactness = call("benchmarks.speed.exactness", order(folder, small, where))
    if not exactness["passed"]:
        sys.exit(f"the shared prefix is further from float32 than the plain computation: {exactness}")
    sides = ["ekipl", "TRL"] if find_spec("trl") else ["ekipl"]
    rows = [
        {"setting": asdict(setting), "side": side, **asdict(run(side, folder, setting, steps, where))}
        for setting in settings
        for side in sides
    ]
    return {"exactness": exactness, "rows": rows, "steps": steps}


def order(folder: Path, setting: Setting, where: Where) -> dict[str, Any]:
    return {"folder": str(folder), "setting": asdict(setting), "where": asdict(where)}


def markdown(results: dict[str, Any]) -> str:
    """The table, and what was checked before."""
    peak = results["peak_tflops"]
    rows = [line(row, peak) for row in results["rows"]]
    header = [
        "image / new tokens / G",
        "side",
        "s/step",
        "sampling",
        "reference",
        "update",
        "new tokens/s",
        "MiB",
        "MFU",
    ]
    exactness = results["exactness"]
    errors = "; ".join(
        f"{way}: log-probabilities {found['log_probability']:.1e}, gradient {found['gradient']:.1e}"
        for way, found in ((way, exactness[way]) for way in ("plain", "shared"))
    )
    notes = [
        f"Distance to the plain computation in float32: {errors}.",
        f"Attention under the shared prefix: {', '.join(exactness['kernels'])}.",
        "MFU: of the update, three forward passes in which every prompt is computed once.",
        f"Peak: {peak or 'not known'} TFLOP/s.",
    ]
    table = Table(f"One step on {results['device']}", header, rows, notes)
    used = ", ".join(f"{package} {number}" for package, number in results["versions"].items())
    return f"{table.markdown()}\n{results['date']}; {used}; medians of {results['steps']} steps.\n"


def line(row: dict[str, Any], peak_tflops: float | None) -> list[str]:
    setting = Setting(**row["setting"])
    measured = Measured(row["seconds"], row["peak"], row["loaded"], row["flops"])
    seconds = measured.seconds
    mfu = "-"
    if measured.flops and peak_tflops:
        mfu = f"{3 * measured.flops / seconds['update'] / peak_tflops / 1e12:.2f}"
    rate = setting.actions * setting.tokens / seconds["total"]
    times = [f"{seconds[phase]:.2f}" for phase in ("total", "sampling", "reference", "update")]
    name = f"{setting.pixels} px / {setting.tokens} tokens / G={setting.G}"
    return [name, row["side"], *times, f"{rate:.0f}", f"{measured.peak:.0f}", mfu]


if __name__ == "__main__":
    main()
