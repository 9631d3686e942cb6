"""Right and wrong answers that each grader gets right: python -m benchmarks.answers

The answers are those of ``tests/answers.py`` and ``tests/further_answers.py``. ``math-verify`` is
math-verify alone on the answer and the gold answer.
"""

from __future__ import annotations

from ekipl.data.gold import answer_kind
from ekipl.errors import GraderError
from ekipl.reward import equivalence
from ekipl.reward.graders import grade
from tests import answers, further_answers

TABLES = {
    "equations": answers.EQUATIONS,
    "sizes": answers.SIZES,
    "sentences": answers.SENTENCES,
    "units": answers.UNITS,
    "writing": answers.WRITING,
    "choices": answers.CHOICES,
    "further values": further_answers.VALUES,
    "further choices": further_answers.CHOICES,
}
GRADERS = ("strict", "reason_rft", "math-verify")


def is_paid(answer: str, gold: str, question: str, grader: str) -> bool:
    """Whether the grader gives the answer an accuracy of 1; a failure of the grader is no payment."""
    try:
        if grader == "math-verify":
            return equivalence.equal(answer, gold, latex=False)
        text = f"<think>so</think>\n<answer>{answer}</answer>"
        return grade(text, gold, answer_kind(gold, question), grader, question=question).accuracy == 1
    except GraderError:
        return False


def main() -> None:
    """Print a Markdown table: right answers that are paid, and wrong ones that are."""
    print("| kind | right | wrong |" + "".join(f" `{name}` right paid | wrong paid |" for name in GRADERS))
    print("|---|" + "---:|" * (2 + 2 * len(GRADERS)))
    for name, table in TABLES.items():
        question = answers.QUESTION if "choices" in name else ""
        right = [(answer, gold) for gold, (good, _) in table.items() for answer in good]
        wrong = [(answer, gold) for gold, (_, bad) in table.items() for answer in bad]
        cells = [len(right), len(wrong)]
        for grader in GRADERS:
            cells += [sum(is_paid(*case, question, grader) for case in cases) for cases in (right, wrong)]
        print(f"| {name} | " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
