"""Spatial transformation: two images of a scene, the functions that turn the first into the second (TRANCE)."""

from __future__ import annotations

from ekipl.algorithm.types import AnswerKind
from ekipl.reward.simulate import DIRECTIONS, VALUES
from ekipl.tasks.templates import TemplateTask

RULES = (
    "Find the transformation that turns the first image (initial state) into the second image (final state). "
    "Each object is given as (object_id, shape, size, color, material). "
    "Answer with 1 to 4 functions separated by commas: "
    + ", ".join(
        f"change_{what}(object_id, {'|'.join(values)})" for what, values in {**VALUES, "position": DIRECTIONS}.items()
    )
    + ". "
    "A position is relative to the initial place of the object."
)
PROMPTS = {
    "cot": f"{RULES} {{question}} Output the thinking process in <think> </think> "
    "and final answer in <answer> </answer> tags.",
    "answer": f"{RULES} {{question}}",
    "zero_shot": f"{RULES} {{question}} Answer with the functions and nothing else.",
}


class Spatial(TemplateTask):
    """What has changed? The answer is a set of functions; in the OOD splits the camera has moved, too."""

    name = "spatial"
    splits = ("id", "ood_left", "ood_right")
    kinds: tuple[AnswerKind, ...] = ("functions",)
    prompts = PROMPTS
