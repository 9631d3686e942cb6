from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ekipl.algorithm.seams import Grader, Task
from ekipl.data.gold import gold_as_it_stands, gold_of
from ekipl.errors import UsageError
from ekipl.report.predictions import summary
from ekipl.reward.graders import PUBLISHED, grader
from ekipl.run.predictions import grade_predictions
from ekipl.tasks.counting import Counting
from ekipl.tasks.spatial import Spatial
from ekipl.tasks.structure import Structure

ROOT = Path(__file__).resolve().parent.parent


def tagged(answer: str) -> str:
    return f"<think>so</think>\n<answer>{answer}</answer>"


def score(
    folder: Path, task: Task, rows: list[Any], reward: str = "strict", grade: Grader | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    file = folder / "predictions.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    gold = partial(gold_as_it_stands if reward in PUBLISHED else gold_of, task=task)
    total, graded = grade_predictions(file, task.name, gold, grade or grader(reward), folder / "out")
    means = {"rows": total, "errors": total - len(graded), **summary(graded)}
    return means, [json.loads(line) for line in (folder / "out" / "scores.jsonl").read_text().splitlines()]


def row(identity: Any, answer: Any, completion: Any, **more: Any) -> dict[str, Any]:
    return {"id": identity, "answer": answer, "completion": completion, **more}


def test_rows_are_scored_in_order(tmp_path: Path) -> None:
    summary, scores = score(
        tmp_path,
        Structure(),
        [
            row("a", "B", tagged("(B)")),
            row("b", "12", tagged("13")),
            row("a", "B", "The answer is B."),
            row("c", r"5\sqrt{2}", tagged(r"\sqrt{50}")),
            row(4, "E", tagged("E"), kind="choice"),
            row("d", "E", tagged("E. 5"), problem="Which? Choices: A. 1 E. 5"),
        ],
    )
    assert scores == [
        {"id": "a", "format": 1.0, "accuracy": 1.0, "error": None},
        {"id": "b", "format": 1.0, "accuracy": 0.0, "error": None},
        {"id": "a", "format": 0.0, "accuracy": 1.0, "error": None},
        {"id": "c", "format": 1.0, "accuracy": 1.0, "error": None},
        {"id": 4, "format": 1.0, "accuracy": 1.0, "error": None},
        {"id": "d", "format": 1.0, "accuracy": 1.0, "error": None},
    ]
    assert summary == {
        "rows": 6,
        "errors": 0,
        "format": pytest.approx(5 / 6),
        "accuracy": pytest.approx(5 / 6),
        "kinds": {
            "choice": {"rows": 4, "accuracy": 1.0},
            "expression": {"rows": 1, "accuracy": 1.0},
            "number": {"rows": 1, "accuracy": 0.0},
        },
    }


def test_what_cannot_be_graded_is_no_zero(tmp_path: Path) -> None:
    summary, scores = score(
        tmp_path,
        Counting(),
        [
            row("bomb", "3", tagged("9^{9^{9}}")),
            row("good", "3", tagged("3")),
            row("gold", "plenty", tagged("3")),
            row("float", 3.5, tagged("3")),
        ],
    )
    assert [(line["accuracy"], line["format"]) for line in scores] == [(None, None), (1, 1), (None, None), (None, None)]
    assert scores[0]["error"] == "no answer within 1.8 s"
    assert scores[2]["error"] == "answer: 'plenty': expression; counting needs number"
    assert scores[3]["error"] == "answer: 3.5: not a text; quote it"
    assert (summary["rows"], summary["errors"], summary["accuracy"]) == (4, 3, 1.0)


def test_nothing_gradable(tmp_path: Path) -> None:
    summary, _ = score(tmp_path, Counting(), [row("a", "B", tagged("B"))])
    assert summary == {"rows": 1, "errors": 1, "format": None, "accuracy": None, "kinds": {}}


def test_partial_credit_of_functions_is_in_the_summary(tmp_path: Path) -> None:
    gold = "change_color(3, cyan), change_size(1, large)"
    rows = [row("a", gold, tagged(gold)), row("b", gold, tagged("change_color(3, cyan)"))]
    summary, _ = score(tmp_path, Spatial(), rows)
    assert (summary["accuracy"], summary["exact"], summary["partial"]) == (0.5, 0.5, 0.75)


def test_published_graders_take_the_gold_as_it_stands(tmp_path: Path) -> None:
    rows = [
        row("a", "B ", tagged("B")),
        row("b", "three", tagged("three")),
        {"id": "c", "solution": "3", "completion": "3"},
    ]
    assert [line["accuracy"] for line in score(tmp_path, Counting(), rows, "reason_rft")[1]] == [0, 1, 1]
    assert [line["accuracy"] for line in score(tmp_path, Counting(), rows, "reason_rft_reward")[1]] == [1, 1, 1]
    nothing = [row("a", "no change", tagged("change_color(3, cyan)"))]
    assert [line["accuracy"] for line in score(tmp_path, Spatial(), nothing, "reason_rft")[1]] == [0]


def test_tokens_that_end_a_turn_are_taken_off_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = ["<|im_end|>", "<|endoftext|>\n", "\n</s>", "<|im_end|><|endoftext|>", "<|eot_id|>", "<end_of_turn>"]
    rows = [row("a", "5", tagged("5") + end) for end in [*ends, ""]] + [row("a", "5", "The answer is 5.</s>")]
    for reward in ("strict", "reason_rft"):
        summary, scores = score(tmp_path, Counting(), rows, reward)
        assert [line["format"] for line in scores] == [1] * 7 + [0]
        assert summary["accuracy"] == 1
        said = capsys.readouterr().err
        assert said.count("warning") == 1
        assert "7 of 8 completions end in tokens such as <|im_end|>" in said
    scores = score(tmp_path, Counting(), [row("a", "5", tagged("5") + "<|im_end|> or so")])[1]
    assert scores[0]["format"] == 0  # in the text, it is part of the text


def test_gold_answers_that_only_their_spelling_meets_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golds = ["5", "12 cm", "x+y=5", "(1,2)", "3 pizzas", "B", "isosceles", "about 5", "5 ± 1", "isosceles"]
    score(tmp_path, Structure(), [row("a", gold, tagged(gold)) for gold in golds])
    said = capsys.readouterr().err
    assert "gold answers (3)" in said
    assert said.rstrip().endswith("only the same spelling is right: '5 ± 1', 'about 5', 'isosceles'")


def test_a_row_may_bring_its_scene(tmp_path: Path) -> None:
    looks = {"id": 0, "shape": "cube", "size": "small", "material": "metal", "position": [0, 0]}
    scene = {
        "objects": [{**looks, "color": "red"}],
        "final": [{**looks, "color": "blue"}],
        "grid": {"x": [0, 1], "y": [0, 1], "step": 1},
    }
    detour = tagged("change_color(0, cyan), change_color(0, blue)")
    rows = [row("a", "change_color(0, blue)", detour, scene=scene), row("b", "change_color(0, blue)", detour)]
    _, scores = score(tmp_path, Spatial(), rows)
    assert [(line["accuracy"], line["exact"], line["partial"]) for line in scores] == [(1, 0, 0.5), (0, 0, 0.5)]


def test_all_faulty_lines_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    lines = [row("a", "3", "3"), "{", "[1]", "", {"id": "b"}, row("c", "3", 5), row(None, "3", "3"), '{"id": NaN}']
    with pytest.raises(UsageError) as error:
        score(tmp_path, Counting(), lines)
    message = str(error.value)
    for expected in (
        "6 faults",
        "line 2: not JSON",
        "line 3: not a JSON object",
        "line 5: answer: missing; completion: missing",
        "line 6: completion: not a text",
        "line 7: id: missing",
        "line 8: NaN",
    ):
        assert expected in message
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.jsonl: No such file"):
        grade_predictions(
            tmp_path / "nowhere.jsonl", "counting", partial(gold_of, task=Counting()), grader("strict"), tmp_path
        )
    with pytest.raises(UsageError, match="empty"):
        score(tmp_path, Counting(), [""])


def test_hostile_text_comes_through(tmp_path: Path) -> None:
    texts = [
        "\ud800\x00\u2028",
        "9" * 100_000,
        "(" * 100_000,
        "<answer>" * 10_000,
        "<think>" * 10_000,
        "1" + "0" * 5000,
    ]
    _, scores = score(tmp_path, Counting(), [row(text[:3], "3", tagged(text)) for text in texts])
    assert [line["accuracy"] for line in scores] == [0] * len(texts)
    assert scores[0]["id"] == texts[0]


def test_old_scores_stay_until_new_ones_are_complete(tmp_path: Path) -> None:
    def broken(problem: Any, text: str) -> Any:
        raise RuntimeError("a bug is not a grader error")

    score(tmp_path, Counting(), [row("a", "3", tagged("3"))])
    before = (tmp_path / "out" / "scores.jsonl").read_bytes()
    with pytest.raises(RuntimeError):
        score(tmp_path, Counting(), [row("a", "3", tagged("3"))], grade=broken)
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == before
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["scores.jsonl"]


def test_no_model_library_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(row("a", "3", tagged("3"))))
    code = (
        "import sys; from pathlib import Path; from ekipl.run.predictions import grade_predictions\n"
        "from ekipl.reward.graders import grader\nfrom ekipl.data.gold import Gold\n"
        f"grade_predictions(Path({str(tmp_path / 'p.jsonl')!r}), 'counting', lambda row, question: Gold('3', 'number'),"
        f"grader('strict'), Path({str(tmp_path)!r}))\n"
        "sys.exit(' '.join({'torch', 'transformers', 'datasets', 'sympy', 'litellm'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)  # must not raise


@pytest.mark.skipif("EKIPL_REAL_OUTPUTS" not in os.environ, reason="EKIPL_REAL_OUTPUTS names no folder of completions")
@pytest.mark.parametrize("reward", ["strict", "reason_rft", "reason_rft_reward", "reason_rft_tolerance"])
def test_real_completions(reward: str, tmp_path: Path) -> None:
    for file in sorted(Path(os.environ["EKIPL_REAL_OUTPUTS"]).glob("*.jsonl")):
        rows = [{"id": str(i), **json.loads(line)} for i, line in enumerate(file.read_text().splitlines())]
        summary, scores = score(tmp_path, Structure(), rows, reward)
        assert summary["errors"] == 0
        judged = [(line["accuracy"] > 0, r["correct_by_peer"]) for line, r in zip(scores, rows, strict=True)]
        known = [(ours, theirs) for ours, theirs in judged if theirs is not None]
        agreed = sum(ours == theirs for ours, theirs in known)
        print(file.name, reward, f"{summary['accuracy']:.3f}; agrees with the peer in {agreed} of {len(known)}")
        if known and reward in ("strict", "reason_rft"):
            assert agreed >= 0.95 * len(known)
