"""Problems as the policy reads them, in plain text: prompt, tokens, images, gold answer and its grades."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Grader, Task
from ekipl.algorithm.types import Problem
from ekipl.errors import GraderError, UsageError
from ekipl.external.offline import Demonstrations
from ekipl.external.settings import Demonstrated
from ekipl.external.simulated import mistake
from ekipl.policy.encoding import encode_prompt
from ekipl.policy.model import VLM
from ekipl.policy.tokens import with_tokens
from ekipl.reward.graders import JUDGE

if TYPE_CHECKING:
    from ekipl.config import Settings

INDENT = "    "


def grader_of(settings: Settings, task: Task) -> Grader | None:
    """The reward of the settings; None where a model judges, which costs money."""
    from ekipl.run.rewards import build_grader

    return None if JUDGE in settings.rewards else build_grader(settings, task)


def show(
    stages: Sequence[Settings], grade: Grader | None, problems: Mapping[str, Sequence[Problem]], vlm: VLM
) -> Iterator[str]:
    """The lines about these problems.

    Args:
        stages: of the training; the last one words the prompts and says how answers are graded.
        grade: of the last stage; None: a model judges, and is not asked.
        problems: by split.
        vlm: tokenizer and image processor.
    """
    settings = stages[-1]
    yield f"model {settings.model.path}, prompt={settings.prompt.strategy}, reward={settings.reward}"
    yield "special tokens stand in ⟦ ⟧; the same signs without these brackets are plain text"
    for split, some in problems.items():
        for number in range(len(some)):
            problem = some[number]
            yield ""
            yield f"{split}, problem {number + 1}: id {printable(repr(problem.id))}"
            yield from _prompt(vlm, problem)
            yield from _grades(settings, grade, problem)
            for stage in stages:
                yield from _trained(stage, vlm, problem)


def _prompt(vlm: VLM, problem: Problem) -> Iterator[str]:
    encoded = encode_prompt(vlm, problem)
    images = encoded.ids.count(vlm.image_token)
    yield f"  prompt: {len(encoded.ids):,} tokens, {len(encoded.ids) - images:,} of text and {images:,} of images"
    yield from _block(visible(vlm, encoded.ids))
    side, merged = vlm.image_processor.patch_size, vlm.image_processor.merge_size**2
    grids = [] if encoded.grid is None else encoded.grid.tolist()
    for place, (image, (_, height, width)) in enumerate(zip(problem.images, grids, strict=True), 1):
        yield (
            f"  image {place}: {image.width} x {image.height} pixels, read as {width * side} x {height * side}: "
            f"{width * height // merged:,} tokens"
        )
    if not problem.images:
        yield "  images: none"


def _grades(settings: Settings, grade: Grader | None, problem: Problem) -> Iterator[str]:
    accepted = problem.metadata.get("accepted") or (problem.answer,)
    yield f"  gold: {' or '.join(printable(repr(one)) for one in accepted)} ({problem.kind})"
    if grade is None:
        yield f"  {settings.reward}: a model grades, which is not asked here"
        return
    wrong = mistake(problem.answer, problem.kind, random.Random(problem.id))[0]
    answers = {"the gold answer": problem.answer, "another answer": wrong}
    texts = {name: f"<think>...</think>\n<answer>{text}</answer>" for name, text in answers.items()}
    texts |= {"the gold answer without tags": problem.answer}
    for name, text in texts.items():
        try:
            reward = grade(problem, text)
            said = f"format {reward.format:g}, accuracy {reward.accuracy:g}"
        except GraderError as error:
            said = f"cannot be graded: {error}"
        yield f"  {settings.reward} of {name}: {said}    {printable(repr(text))}"


def _trained(stage: Settings, vlm: VLM, problem: Problem) -> Iterator[str]:
    """What is trained on: a demonstration, or what is sampled."""
    label = f"  trained on ({stage.method.name}): "
    if not isinstance(stage.external, Demonstrated) or not stage.M:
        end = printable(vlm.tokenizer.decode([vlm.end_of_turn]))
        yield f"{label}the tokens of the kept actions and the ⟦{end}⟧ behind each; none of the prompt"
        return
    pool = Demonstrations(stage.external.models[0].name, with_reasoning=stage.prompt.strategy != "answer")
    try:
        (samples,) = pool.sample([problem], 1)
    except UsageError as error:
        yield f"{label}nothing: {error}"
        return
    action = with_tokens(vlm, samples.actions[0], stage.rollout.max_tokens)
    if isinstance(action, str):
        yield f"{label}nothing: the demonstration is {action} (rollout.max_tokens={stage.rollout.max_tokens})"
        return
    tokens = action.tokens or ()
    yield f"{label}{len(tokens):,} tokens, those of the demonstration; none of the prompt"
    yield from _block(visible(vlm, tokens))


def visible(vlm: VLM, ids: Sequence[int]) -> str:
    """The text of these tokens: special ones in brackets, with their number where one is repeated."""
    added = (token for token, one in vlm.tokenizer.added_tokens_decoder.items() if one.special)
    special = {*vlm.tokenizer.all_special_ids, *added, *vlm.suppressed, *vlm.eos}
    parts = []
    for token, group in groupby(ids, lambda one: one if one in special else None):
        run = list(group)
        text = printable(
            vlm.tokenizer.decode(run[:1] if token is not None else run, clean_up_tokenization_spaces=False)
        )
        parts.append(text if token is None else f"⟦{text}{f' x {len(run):,}' if len(run) > 1 else ''}⟧")
    return "".join(parts)


def printable(text: str) -> str:
    """The text with control characters spelled out, which could steer a terminal; line ends stay."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def _block(text: str) -> Iterator[str]:
    return (INDENT + line for line in text.rstrip("\n").split("\n"))
