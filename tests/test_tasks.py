from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekipl.algorithm.seams import Task
from ekipl.algorithm.types import Example
from ekipl.data.problems import problem_from
from ekipl.data.synthetic.source import GENERATORS, SyntheticData
from ekipl.errors import UsageError
from ekipl.reward.graders import GRADERS, grader
from ekipl.tasks.counting import Counting
from ekipl.tasks.spatial import Spatial
from ekipl.tasks.structure import Structure

ROOT = Path(__file__).resolve().parent.parent
TASKS = (Counting, Structure, Spatial)
SPLITS = [(task(), split) for task in TASKS for split in ("train", *task.splits)]
STRICT = grader("strict")
SPLIT_IDS = [f"{task.name}-{split}" for task, split in SPLITS]


def tagged(answer: str) -> str:
    return f"<think>so</think>\n<answer>{answer}</answer>"


def test_prompts_word_for_word() -> None:
    def prompt(task: Task, kind: str) -> str:
        return task.prompt(Example("1", (), "How {many}?", "B", kind))  # type: ignore[arg-type]

    assert prompt(Counting(), "number") == (
        "How {many}? Output the thinking process in <think> </think> and final answer (number) "
        "in <answer> </answer> tags."
    )
    assert prompt(Structure(), "choice") == (
        "How {many}? Please select the correct answer by writing the letter (A, B, C or D) that precedes your choice.\n"
        "Output the thinking process in <think> </think> and final answer (chosen letter) in <answer> </answer> tags."
    )
    for kind in ("number", "expression"):
        assert prompt(Structure(), kind) == (
            "How {many}? Output the thinking process in <think> </think> and final answer (float number or int number) "
            "in <answer> </answer> tags."
        )
    spatial = prompt(Spatial(), "functions")
    assert spatial.startswith(
        "Find the transformation that turns the first image (initial state) into the second image"
    )
    assert spatial.endswith(
        "A position is relative to the initial place of the object. How {many}? Output the thinking process in "
        "<think> </think> and final answer in <answer> </answer> tags."
    )


def test_a_problem_is_the_row_in_the_words_of_the_task() -> None:
    row = Example("7", (), "How many?", "3", "number", {"cot": "one, two, three"})
    problem = problem_from(Counting(), row, "ood")
    assert (problem.id, problem.task, problem.split, problem.question) == ("7", "counting", "ood", "How many?")
    assert (problem.answer, problem.kind, problem.metadata) == ("3", "number", {"cot": "one, two, three"})
    assert problem.prompt == Counting().prompt(row)


@pytest.mark.parametrize(("task", "split"), SPLITS, ids=SPLIT_IDS)
@given(index=st.integers(0, 10_000), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_synthetic_gold_is_right_and_of_the_kinds_of_the_task(task: Task, split: str, index: int, seed: int) -> None:
    row = GENERATORS[task.name](split, index, seed, 64)
    problem = problem_from(task, row, split)
    assert row.kind in task.kinds
    assert STRICT(problem, tagged(row.answer)).total == 2
    assert STRICT(problem, f"<think>{row.metadata['cot']}</think>\n<answer>{row.answer}</answer>").total == 2


@pytest.mark.parametrize(("task", "split"), SPLITS, ids=SPLIT_IDS)
def test_answers_of_other_problems_are_mostly_wrong(task: Task, split: str) -> None:
    problems = SyntheticData(seed=1, image_size=64, train_size=60, test_size=60).problems(task, split)
    pairs = [(a, b) for a, b in zip(problems, [*problems[1:], problems[0]], strict=True) if a.kind == b.kind]
    right = [STRICT(a, tagged(b.answer)).accuracy for a, b in pairs]
    assert len(right) > 15
    assert right == [float(a.answer == b.answer) for a, b in pairs]  # no two spellings of one answer here
    assert sum(right) < 0.5 * len(right)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("reward", GRADERS)
def test_gold_is_right_by_every_grader_of_the_kinds_of_the_task(task: type[Task], reward: str) -> None:
    asked = task()
    if not set(asked.kinds) <= set(GRADERS[reward]):
        return
    for index in range(20):
        row = GENERATORS[asked.name]("id", index, 0, 64)
        if reward == "reason_rft_tolerance" and row.answer == "0":
            continue  # as published
        assert grader(reward)(problem_from(asked, row, "id"), tagged(row.answer)).total == 2


def test_synthetic_data_names_the_way_out_for_a_task_without_a_generator() -> None:
    task = Counting()
    task.name = "shades"
    with pytest.raises(UsageError, match="data.kind: synthetic: the task shades has no built-in generator; set data="):
        SyntheticData().problems(task, "id")


def test_the_documentation_names_every_grader_and_task() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text()
    for name in (*GRADERS, *(task.name for task in TASKS), *(split for task in TASKS for split in task.splits)):
        assert f"`{name}`" in text
