"""``gpu.md``: the tables of ``gpu.json``, with what was not measured and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from benchmarks.speed.setting import Measured, Setting
from ekipl.report.tables import Table

GIB = 2**30
PASSES = {"sampling": 1, "reference": 1, "update": 3}  # forward passes' worth of products that a phase needs
SHOWN = 6  # operations of each profile


def markdown(results: Mapping[str, Any]) -> str:
    """The page, of whatever is there so far."""
    parts = results["parts"]
    made = [
        *limits(parts),
        *exactness(parts),
        *steps(results),
        *profile(parts),
        *memory(parts),
        *([Table("vLLM", ["", ""], [], parts["vllm"]["notes"])] if "vllm" in parts else []),
    ]
    used = ", ".join(f"{package} {number}" for package, number in results["versions"].items())
    took = ", ".join(f"{name} {part['seconds']:.0f}" for name, part in parts.items())
    model = next(iter(rows(parts, "model")), {})
    foot = [
        f"{model.get('parameters', 0) / 1e9:.2f} B parameters, random weights, bfloat16;",
        f"{results['problems']} images and prompts a step; medians of {results['steps']} steps after a first one.",
        f"{results['date']}; {used}.",
        f"Seconds of each part, start of its processes included: {took}; {results['seconds']:.0f} in all.\n",
    ]
    failed = [f"The model: {note}" for note in parts.get("model", {}).get("notes", ())]
    tables = [table.markdown() if table.rows else bare(table) for table in made]
    return "\n".join([f"# On {results['device']}\n", *failed, *tables, "\n".join(foot)])


def bare(table: Table) -> str:
    """A heading and its notes, where there is no row."""
    return "\n".join([f"### {table.title}", "", *(f"* {note}" for note in table.notes), ""])


def rows(parts: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parts.get(name, {}).get("rows", [])
    return found


def limits(parts: Mapping[str, Any]) -> list[Table]:
    if "limits" not in parts:
        return []
    lines = [
        [row["what"], f"{row['tflops']:.0f} TFLOP/s" if "tflops" in row else f"{row['gb_s']:.0f} GB/s"]
        for row in rows(parts, "limits")
    ]
    return [Table("What the device reaches", ["in bfloat16", "measured"], lines, parts["limits"]["notes"])]


def exactness(parts: Mapping[str, Any]) -> list[Table]:
    if "exactness" not in parts:
        return []
    lines, notes = [], list(parts["exactness"]["notes"])
    for row in rows(parts, "exactness"):
        for way in ("plain", "shared"):
            lines.append([way, f"{row[way]['log_probability']:.1e}", f"{row[way]['gradient']:.1e}"])
        notes += [
            f"The shared prefix may be twice as far as the plain one: {'passed' if row['passed'] else 'FAILED'}.",
            f"Attention under the shared prefix: {', '.join(row['kernels'])}.",
        ]
    header = ["computation in bfloat16", "log-probabilities, root mean square", "gradient, relative"]
    return [Table("Distance to the plain computation in float32", header, lines, notes)]


def measured(row: Mapping[str, Any]) -> Measured | None:
    """None where the row has an error in place of its numbers."""
    names = [field.name for field in fields(Measured)]
    return Measured(**{name: row[name] for name in names}) if "seconds" in row else None


def title(row: Mapping[str, Any]) -> str:
    setting = Setting(**row["setting"])
    return f"{setting.pixels} px / {setting.tokens} tokens / G={setting.G}"


def who(row: Mapping[str, Any]) -> str:
    return f"{row['side']}, gradient checkpointing" if row["checkpointing"] else row["side"]


def steps(results: Mapping[str, Any]) -> list[Table]:
    """Times, and the share of what the device reaches."""
    parts, peak = results["parts"], results["peak_tflops"]
    if not {"steps", "trl"} & parts.keys():
        return []
    both = sorted([*rows(parts, "steps"), *rows(parts, "trl")], key=lambda row: (title(row), row["side"] != "ekipl"))
    ours: dict[str, Measured] = {}
    for row in rows(parts, "steps"):
        if found := measured(row):
            ours.setdefault(title(row), found)
    times, shares = [], []
    for row in both:
        found, own = measured(row), ours.get(title(row))
        if found is None:
            times.append([title(row), who(row), short(row["error"]), *[""] * 7])
            continue
        setting, seconds = Setting(**row["setting"]), found.seconds
        flops = own.flops if own else None
        rate = setting.actions * setting.tokens / seconds["total"]
        faster = f"{seconds['total'] / own.seconds['total']:.1f}" if own and row["side"] != "ekipl" else ""
        mfu = f"{100 * 3 * flops / seconds['update'] / peak / 1e12:.1f}" if flops and peak else "-"
        phases = [f"{seconds.get(phase, 0.0):.2f}" for phase in ("total", *PASSES)]
        times.append([title(row), who(row), *phases, f"{rate:.0f}", f"{found.peak / 1024:.1f}", mfu, faster])
        shares.append([title(row), who(row), *share(results, setting, seconds, flops)])
    header = [
        "image / new tokens / G",
        "side",
        "s/step",
        *PASSES,
        "new tokens/s",
        "peak GiB",
        "MFU %",
        "times ekipl's",
    ]
    notes = [
        f"MFU: of the update, three forward passes in which every prompt is computed once, of {peak or '?'} TFLOP/s.",
        "Times ekipl's: seconds of the step by those of ekipl's first row that fits, without checkpointing if it does.",
        *parts.get("steps", {}).get("notes", ()),
        *parts.get("trl", {}).get("notes", ()),
    ]
    of = ["image / new tokens / G", "side", *(f"{phase} %" for phase in PASSES), "step %", "weights read %"]
    why = [
        "Products that a phase needs, every prompt computed once, by its seconds, of the measured rate of products.",
        "Weights read: in sampling, those of the language model once for each token, of the measured rate of copies.",
    ]
    return [Table("A step", header, times, notes), Table("Share of what the device reaches", of, shares, why)]


def share(results: Mapping[str, Any], setting: Setting, seconds: Mapping[str, float], flops: float | None) -> list[str]:
    """Percent by phase, of the whole step, and of the memory's rate in sampling."""
    found = {row["what"]: row for row in rows(results["parts"], "limits")}
    fastest = max((row["tflops"] for row in found.values() if "tflops" in row), default=None)
    copies = next((row["gb_s"] for row in found.values() if "gb_s" in row), None)
    cells = ["-"] * (len(PASSES) + 1)
    if flops and fastest:
        needed = {**PASSES, "total": sum(PASSES.values())}
        spent = {phase: seconds.get(phase, 0.0) for phase in needed}
        cells = [
            f"{100 * times * flops / spent[phase] / fastest / 1e12:.1f}" if spent[phase] else "-"
            for phase, times in needed.items()
        ]
    model = next(iter(rows(results["parts"], "model")), None)
    if model and copies:
        read = 2 * model["read_for_a_token"] * setting.tokens
        return [*cells, f"{100 * read / seconds['sampling'] / copies / 1e9:.1f}"]
    return [*cells, "-"]


def short(error: str) -> str:
    return "out of memory" if "out of memory" in error else f"failed: {error[:120]}"


def memory(parts: Mapping[str, Any]) -> list[Table]:
    if "memory" not in parts:
        return []
    lines = []
    for row in rows(parts, "memory"):
        if "error" in row:
            lines.append([row["case"], "", short(row["error"]), "", "", ""])
            continue
        total = row["sum"]
        reserved = f"{row['reserved'] / GIB:.1f}" if row["reserved"] else "-"
        ratio = f"{total / row['peak']:.2f}" if row["peak"] else "-"
        sizes = [f"{value / GIB:.1f}" for value in (total, row["peak"])]
        lines.append([row["case"], *sizes, ratio, reserved, f"{row['starting'] / GIB:.1f}"])
    header = ["update", "formula, GiB", "peak of tensors, GiB", "formula / peak", "reserved by torch", "peak at start"]
    setting = next((title(row) for row in rows(parts, "memory")), "")
    notes = [f"At {setting}; gpu.json has the parts of the formula.", *parts["memory"]["notes"]]
    return [Table("Memory of an update against the formula of --dry-run", header, lines, notes)]


def profile(parts: Mapping[str, Any]) -> list[Table]:
    if "profile" not in parts:
        return []
    timed = [row for row in rows(parts, "profile") if "what" in row]
    batches = [row for row in rows(parts, "profile") if "rows" in row]
    lines = [
        [
            row["what"],
            f"{1e3 * row['wall']:.1f}",
            f"{1e3 * row['busy']:.1f}",
            f"{100 * row['busy'] / row['wall']:.0f}" if row["wall"] > 0 else "-",
            f"{row['kernels']:.0f}",
        ]
        for row in timed
    ]
    notes = [
        "Busy: the sum of the kernels' times under the profiler; the rest of the time the GPU waits for the CPU.",
        *parts["profile"]["notes"],
    ]
    made = [Table("Where the time goes", ["work", "ms", "GPU busy, ms", "busy %", "kernels"], lines, notes)]
    made += [
        Table(f"Operations: {row['what']}", ["operation", "calls", "ms", "%"], top(row)) for row in timed if row["top"]
    ]
    if batches:
        header = ["rows", "ms for the prompts and one token", "ms for each further token", "new tokens/s"]
        cells = [_batch(row) for row in batches]
        made.append(Table("Sampling by the number of rows", header, cells))
    return made


def _batch(row: Mapping[str, Any]) -> list[str]:
    rate = f"{row['rows'] / row['a_token']:.0f}" if row["a_token"] > 0 else "-"
    return [str(row["rows"]), f"{1e3 * row['prompts']:.0f}", f"{1e3 * row['a_token']:.1f}", rate]


def top(row: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    whole = row["busy"] or 1.0
    return [
        [
            event["name"][:60],
            str(event["calls"]),
            f"{1e3 * event['seconds']:.1f}",
            f"{100 * event['seconds'] / whole:.0f}",
        ]
        for event in row["top"][:SHOWN]
    ]
