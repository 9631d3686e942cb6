from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ekipl.algorithm.types import AnswerKind, Reward
from ekipl.files import read_jsonl
from ekipl.report.evaluate import Evaluation, GradedAction, summarize
from ekipl.report.scores import write_scores


def score(problem: str, accuracy: float | None, kind: AnswerKind = "number", family: str | None = None) -> GradedAction:
    reward = None if accuracy is None else Reward(1.0, accuracy, {"partial": 0.5})
    return GradedAction(
        problem, "id", kind, family, 0, "three", "stop", 7, reward, "too | slow" if reward is None else None
    )


def evaluation(*accuracies: float | None) -> Evaluation:
    return summarize(score(f"p{i}", accuracy) for i, accuracy in enumerate(accuracies))


def test_the_three_files(tmp_path: Path) -> None:
    models = {"base": evaluation(0.0, 1.0, 1.0, None), "trained": evaluation(1.0, 1.0, 1.0, 0.0)}
    shown = write_scores(tmp_path, "counting: accuracy", models, {"seed": 3})
    scores = json.loads((tmp_path / "scores.json").read_text())
    base, trained = scores["splits"]
    assert (base["model"], base["split"], base["problems"], base["errors"], base["samples"]) == ("base", "id", 3, 1, 4)
    assert base["error_reasons"] == {"too | slow": 1}
    assert base["detail"]["partial"]["mean"] == 0.5
    assert trained["accuracy"]["mean"] == 0.75
    assert scores["meta"] == {"seed": 3}
    (difference,) = scores["differences"]
    assert (difference["model"], difference["against"]) == ("trained", "base")
    assert difference["detail"]["partial"]["mean"] == 0
    assert round(difference["accuracy"]["mean"], 6) == round(1 / 3, 6)  # p0..p2 are shared: (1 + 0 + 0) / 3

    rows = read_jsonl(tmp_path / "scores.jsonl")
    assert [row["model"] for row in rows] == ["base"] * 4 + ["trained"] * 4
    assert (rows[3]["accuracy"], rows[3]["error"]) == (None, "too | slow")

    page = (tmp_path / "table.md").read_text()
    assert page == "\n".join(table.markdown() for table in shown)
    assert "| base    | id    |        3 | 66.7 (20.8 to 93.9) |" in page
    assert "* base, id: 1 of 4 completions could not be graded and are in no mean (1 x too | slow)" in page
    assert "+33.3 (+0.0 to +100.0)" in page


def test_what_another_grader_could_not_grade_is_told(tmp_path: Path) -> None:
    rows = [
        replace(score("a", 1.0), also={"reason_rft": 0.0}),
        replace(score("b", 1.0), ungraded={"reason_rft": "slow"}),
    ]
    (table,) = write_scores(tmp_path, "t", {"m": summarize(rows)}, {}, notes=["ood: no file"])
    assert list(table.header)[3:6] == ["accuracy %", "partial %", "reason_rft %"]
    assert [cell.split(" ")[0] for cell in table.rows[0]][3:6] == ["100.0", "50.0", "0.0"]
    assert list(table.notes) == [
        "m, id: further graders could not grade all, and leave these out (1 x reason_rft: slow)",
        "ood: no file",
    ]
    (split,) = json.loads((tmp_path / "scores.json").read_text())["splits"]
    assert (split["errors"], split["ungraded"]) == (0, {"reason_rft: slow": 1})


def test_breakdowns_are_written_and_only_the_short_one_is_shown(tmp_path: Path) -> None:
    rows = [score("a", 1.0, "choice", "angles"), score("b", 0.0, "expression", "circles")]
    shown = write_scores(tmp_path, "t", {"m": summarize(rows)}, {})
    page = (tmp_path / "table.md").read_text()
    assert [table.title for table in shown] == ["t (95 % interval)", "By kind of answer"]
    assert page.index("| choice") < page.index("| open") < page.index("By family") < page.index("| angles")


def test_nothing_graded_is_null_in_json(tmp_path: Path) -> None:
    write_scores(tmp_path, "t", {"m": evaluation(None)}, {})
    (split,) = json.loads((tmp_path / "scores.json").read_text())["splits"]
    assert split["accuracy"] == {"mean": None, "low": None, "high": None}
    assert split["errors"] == 1
