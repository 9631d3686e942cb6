"""From the folders of finished commands to the small file of a cell, and the hashes that a second run must repeat."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.paper.cells import RATES, Cell
from ekipl.external.ledger import read_spending
from ekipl.files import read_jsonl, write_text
from ekipl.report.scores import versions

# Dollars for a million tokens of prompt and of answer. Notional: the simulated experts count tokens and cost nothing.
PRICE = (2.5, 10.0)
WIDTH = 5  # steps that a point of a curve averages over

Row = dict[str, Any]


def write_cell(path: Path, cell: Mapping[str, Any]) -> None:
    """One line for each key of the file, so that a change can be read."""
    lines = [f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in cell.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def provenance(machine: str) -> dict[str, Any]:
    """Versions, machine and date."""
    found = {**versions(), "python": platform.python_version()}
    return {"versions": found, "machine": machine, "date": date.today().isoformat()}


def measured(folder: Path) -> dict[str, Any]:
    """What ``ekipl eval`` and ``ekipl passk`` found, by split and problem, as columns."""
    scores = tallies(read_jsonl(folder / "eval" / "scores.jsonl"))
    passk = tallies({**row, **(row["reward"] or {})} for row in read_jsonl(folder / "passk" / "actions.jsonl"))
    kept = ("id", "samples", "right")
    return {
        "problems": scores,
        "passk": {split: {key: columns[key] for key in kept} for split, columns in passk.items()},
    }


def tallies(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """By split, columns over its problems: id, family, graded samples, and of these right, well-formed, able to use the
    skill, and using it. A sample that could not be graded is in no count.
    """
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        problems = found.setdefault(row["split"], {})
        empty = {"samples": 0, "right": 0, "formed": 0, "skill_of": 0, "skill": 0}
        one = problems.setdefault(row["problem"], {"id": row["problem"], "family": row.get("family"), **empty})
        if row.get("accuracy") is None:
            continue
        skill = (row["detail"] or {}).get("skill")
        one["samples"] += 1
        one["right"] += row["accuracy"] == 1
        one["formed"] += row["format"] == 1
        one["skill_of"] += skill is not None
        one["skill"] += skill == 1
    return {split: _columns(list(problems.values())) for split, problems in found.items()}


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """A list for each key; ``family`` holds places in ``families``, which keeps the file small."""
    families = list(dict.fromkeys(row["family"] for row in rows))
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {**columns, "families": families, "family": [families.index(row["family"]) for row in rows]}


def stages(train: Path) -> list[Path]:
    """The run folders of a training, the first stage first."""
    return [folder for folder in (train / "first_stage", train) if (folder / "metrics.jsonl").exists()]


def metric_rows(train: Path) -> list[Row]:
    """The rows of all stages as one training: steps and problems go on, and the candidates so far are added.

    A second stage begins at the model of the first, so its step 0 is left out.
    """
    rows: list[Row] = []
    own = external = 0.0
    for folder in stages(train):
        step0, problems0 = (rows[-1]["step"], rows[-1]["progress/problems"]) if rows else (0, 0.0)
        before = 0.0
        for row in read_jsonl(folder / "metrics.jsonl"):
            if row["step"] == 0 and rows:
                continue
            candidates = (row["progress/problems"] - before) * row.get("group/offered", 0.0)
            before = row["progress/problems"]
            share = row.get("share/offered/policy", 0.0)
            own, external = own + candidates * share, external + candidates * (1 - share)
            so_far = {"policy": round(own), "external": round(external)}
            rows.append({**row, "step": step0 + row["step"], "progress/problems": problems0 + before, **so_far})
    return rows


def curves(rows: Sequence[Row]) -> dict[str, Any]:
    """The training in means of ``WIDTH`` steps, and its evaluations. A value that does not apply is None."""
    steps = [row for row in rows if row["step"] > 0]
    blocks = [steps[start : start + WIDTH] for start in range(0, len(steps), WIDTH)]
    keys = {
        "accuracy": "reward/accuracy/policy",
        "skill": "reward/detail/skill/policy",
        "dead": "group/frac_zero_variance",
    }
    training: dict[str, list[Any]] = {"step": [block[-1]["step"] for block in blocks]}
    training |= {name: [_mean(row.get(key) for row in block) for block in blocks] for name, key in keys.items()}
    for what in ("offered", "kept"):
        training[f"external_{what}"] = [
            _mean(1 - row.get(f"share/{what}/policy", 0.0) for row in block) for block in blocks
        ]
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    splits = [key.split("/")[1] for key in (evaluated or [{}])[0] if key.endswith("/accuracy") and key[:5] == "eval/"]
    evaluations = {
        "steps": [row["step"] for row in evaluated],
        "samples": [row["policy"] + row["external"] for row in evaluated],
        **{split: [_rounded(row[f"eval/{split}/accuracy"]) for row in evaluated] for split in splits},
    }
    return {"training": training, "evaluations": evaluations}


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return _rounded(fmean(numbers)) if numbers else None


def _rounded(value: float) -> float:
    return round(value, 4)


def trained(train: Path, recording: Path | None) -> dict[str, Any]:
    """Curves, samples, requests, notional dollars, seconds and hashes of a training."""
    rows = metric_rows(train)
    asked = requests(train, recording)
    prices = {} if recording is None else answer_prices(recording)
    return {
        **curves(rows),
        "samples": {"policy": rows[-1]["policy"], "external": rows[-1]["external"]},
        "requests": sum(asked.values()),
        "notional_usd": round(sum(count * prices[source] for source, count in asked.items()), 4),
        "seconds": round(sum(row.get("time/step", 0.0) for row in rows), 1),
    }


def requests(train: Path, recording: Path | None) -> dict[str, int]:
    """Answers of each expert that the training was offered; one that it was offered twice is asked for once."""
    if recording is None:
        return {}
    sources = {model.source for model in read_spending(recording).models}
    seen = {
        (row["source"], row["problem"], row["index"])
        for folder in stages(train)
        for path in sorted((folder / "actions").glob("step-*.jsonl"))
        for row in read_jsonl(path)
        if row["source"] in sources
    }
    return {source: sum(one[0] == source for one in seen) for source in sorted(sources)}


def answer_prices(recording: Path) -> dict[str, float]:
    """Notional dollars of a mean answer of each expert, by the tokens in the recording's ledger."""
    into, out = PRICE
    return {
        model.source: (into * model.prompt_tokens + out * model.completion_tokens) / 1e6 / max(1, model.answers)
        for model in read_spending(recording).models
    }


def hashes(folder: Path, recording: Path | None) -> dict[str, str]:
    """SHA-256 of what the cell depends on and of what it made, but for the clock."""
    found = {}
    if recording is not None:
        answers = read_jsonl(recording / "actions.jsonl")
        found["recording"] = _sha([row[key] for key in ("problem", "source", "index", "text")] for row in answers)
    if (folder / "train").exists():
        rows = (row for stage in stages(folder / "train") for row in read_jsonl(stage / "metrics.jsonl"))
        found["metrics"] = _sha({k: v for k, v in row.items() if not k.startswith("time/")} for row in rows)
        found["model"] = hashlib.sha256((folder / "train/model/model.safetensors").read_bytes()).hexdigest()
    graded = ("split", "problem", "sample", "text", "accuracy", "format")
    found["eval"] = _sha([row[key] for key in graded] for row in read_jsonl(folder / "eval" / "scores.jsonl"))
    drawn = ("split", "problem", "index", "text")
    found["passk"] = _sha([row[key] for key in drawn] for row in read_jsonl(folder / "passk" / "actions.jsonl"))
    return found


def _sha(rows: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def choice(cell: Cell, folder: Path) -> dict[str, Any]:
    """The accuracy with each learning rate, and the better one; of equal ones the smaller."""
    accuracies = {}
    for rate in RATES:
        columns = tallies(read_jsonl(folder / f"eval-{rate}" / "scores.jsonl"))["id"]
        accuracies[rate] = _rounded(fmean(_shares(columns["right"], columns["samples"])))
    return {"accuracies": accuracies, "chosen": max(accuracies, key=lambda rate: (accuracies[rate], -float(rate)))}


def _shares(counts: Sequence[int], of: Sequence[int]) -> Iterator[float]:
    return (count / n for count, n in zip(counts, of, strict=True) if n)
