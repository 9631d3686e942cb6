"""The published rows of the benchmark, among which a measured one is set.

Source: the tables of Reason-RFT (arXiv 2503.20752): its README of October 2025, and that of April 2025 for Super-CLEVR
as a whole. Percent, split by split: averages are left out, since the published ones follow several formulas.
"""

from __future__ import annotations

from collections.abc import Mapping

from ekipl.report.evaluate import Evaluation
from ekipl.report.tables import Table, percent_interval

SPLITS = {"counting": ("id", "ood"), "structure": ("id", "ood"), "spatial": ("id", "ood_left", "ood_right")}

# counting id, ood; structure id, ood; spatial id, ood_left, ood_right
ROWS: dict[str, tuple[float, ...]] = {
    "GPT-4o-2024-08-06": (68.10, 34.31, 50.18, 43.49, 42.55, 28.67, 29.76),
    "Gemini-1.5-Pro": (61.80, 37.50, 50.12, 48.38, 26.22, 18.76, 19.88),
    "Qwen2.5-VL-3B": (75.90, 39.30, 36.75, 37.44, 8.57, 8.26, 8.31),
    "Phi-3.5-Vision-4B": (21.40, 15.20, 36.83, 50.25, 7.42, 2.45, 4.02),
    "Llava-OneVision-7B": (69.70, 29.10, 77.63, 43.66, 10.00, 8.33, 8.74),
    "Qwen2.5-VL-7B": (74.60, 35.20, 44.00, 45.61, 19.63, 13.12, 13.42),
    "InternVL-2.5-8B": (93.50, 35.30, 63.00, 47.32, 7.19, 6.62, 6.63),
    "Llama-3.2-11B-Vision": (10.30, 9.50, 13.75, 20.85, 8.22, 8.40, 9.03),
    "Pixtral-12B": (42.60, 22.90, 30.38, 36.09, 7.35, 5.03, 5.22),
    "Qwen2-VL-2B zero-shot": (82.40, 32.00, 25.86, 20.63, 3.78, 4.60, 4.67),
    "Qwen2-VL-2B ANS-SFT": (96.20, 39.20, 51.34, 22.50, 77.39, 49.24, 50.33),
    "Qwen2-VL-2B CoT-SFT": (85.50, 46.50, 43.05, 25.25, 64.37, 43.19, 42.86),
    "Qwen2-VL-2B Reason-RFT-Zero": (98.40, 44.80, 47.68, 32.50, 42.13, 34.07, 33.41),
    "Qwen2-VL-2B Reason-RFT": (96.80, 51.20, 49.03, 33.13, 74.61, 64.05, 64.08),
    "Qwen2-VL-7B zero-shot": (98.60, 42.10, 43.30, 43.88, 13.53, 12.72, 12.78),
    "Qwen2-VL-7B ANS-SFT": (95.00, 33.90, 51.34, 25.38, 82.19, 54.29, 54.83),
    "Qwen2-VL-7B CoT-SFT": (87.30, 42.40, 50.49, 33.00, 81.31, 47.90, 47.80),
    "Qwen2-VL-7B Reason-RFT-Zero": (99.40, 53.00, 55.00, 54.75, 67.67, 57.20, 56.15),
    "Qwen2-VL-7B Reason-RFT": (95.60, 51.00, 59.27, 49.25, 79.97, 59.36, 58.61),
}
COLUMNS = {"counting": slice(0, 2), "structure": slice(2, 4), "spatial": slice(4, 7)}

NOTES = {
    "counting": (
        "ood is Super-CLEVR as a whole, as first published; later tables split it into two parts",
        "compare by reason_rft; closed models' failed answers were dropped, not counted as wrong",
    ),
    "structure": (
        "the columns of the open models above Qwen2-VL look swapped: their id shares fit 800 problems and their ood "
        "shares 820, the other way round than the splits (Phi-3.5 fits as it stands)",
        "closed models were given credit for an answer that merely contains the gold text",
        "compare by reason_rft; users of the original could not reproduce 2B Reason-RFT-Zero (its issue 20)",
    ),
    "spatial": (
        "published accuracies are partial credit, not exact matches: compare by reason_rft",
        "most predate a change of how answers over several lines are read",
    ),
}


def published_tables(task: str, evaluations: Mapping[str, Evaluation], reward: str) -> list[Table]:
    """The published rows of the task with the measured ones below, split by split; nothing for a task of one's own.

    ``reward`` names the grader of the evaluations' accuracies.
    """
    if task not in SPLITS:
        return []
    splits = SPLITS[task]
    rows = [[name, "published", *(f"{value:.2f}" for value in row[COLUMNS[task]])] for name, row in ROWS.items()]
    for model, evaluation in evaluations.items():
        found = {summary.split: summary.total for summary in evaluation.splits}
        details = dict.fromkeys(name for part in found.values() for name in part.detail)
        for name in (reward, *details):
            scores = {s: part.accuracy if name == reward else part.detail.get(name) for s, part in found.items()}
            cells = (percent_interval(score) if (score := scores.get(split)) else "-" for split in splits)
            rows.append([model, f"measured, {name}", *cells])
    notes = ("averages over splits are not set here: the published ones follow several formulas", *NOTES[task])
    return [Table(f"{task}: among the published results (percent)", ["model", "", *splits], rows, notes)]
