"""``ekipl ask``: the answer of a policy or of external models to one question about some images."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from typing import TYPE_CHECKING

from ekipl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

PICTURE = re.compile(r"(?i)\S+\.(png|jpe?g|webp|bmp|gif)")  # a file that may be missing
SETTING = re.compile(r"[+~]{0,2}(\w+)([./@][^\s=]*)?(=.*)?", re.DOTALL)
VALUED = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
USAGE = 'ekipl ask [IMAGE ...] "QUESTION" [key=value ...]'


def run(cfg: DictConfig) -> None:
    """Print the answer on standard output: a policy's as it is sampled, an external model's when it is whole."""
    from ekipl.run import asking, build

    settings, _ = build.begin(cfg, "ask")
    problem = asking.problem_of(settings, build.build_task(settings))
    if settings.model.path != asking.EXTERNAL:
        action = asking.answer_of_policy(settings, problem, _write)
        _end(action.text)
        if action.finish == "length":
            limit = settings.decoding.max_tokens
            print(f"ekipl: cut off at decoding.max_tokens={limit}; a larger one lets it go on", file=sys.stderr)
        return
    actions = asking.answers_of_others(settings, problem)
    for action in actions:
        if len(actions) > 1:
            _write(f"{action.source}:\n")
        _write(action.text)
        _end(action.text)
        if action.finish == "length":
            print(f"ekipl: {action.source}: cut off at its limit of tokens; raise external.max_tokens", file=sys.stderr)


def as_settings(words: Sequence[str]) -> list[str]:
    """The words of the command line with its images and its question as settings: ``images=[...]``, ``question=...``.

    An image exists or ends like a picture's file. The question is the one other word that is no flag and sets nothing:
    ``x=3?`` is a question beside settings that exist, and beside a question a setting with an unknown name.

    Raises:
        UsageError: several words may be the question.
    """
    from ekipl.config import setting_names

    known = setting_names()
    spoken: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        found = SETTING.fullmatch(word)
        sets = found and found[1] in known and ("=" in word or word[0] == "~")
        is_flag = word.startswith("-") and len(word.split()) == 1
        if not (sets or is_flag or before in VALUED):
            spoken.append(word)
    images = [word for word in spoken if PICTURE.fullmatch(word) or os.path.exists(word)]
    others = [word for word in spoken if word not in images]
    if not others:  # B=5, what is A?
        others = [word for word in words if re.match(r"\w+=", word) and len(word.split()) > 1][:1]
    questions = [word for word in others if "=" not in word or not SETTING.fullmatch(word)] or others[:1]
    if len(questions) > 1:
        raise UsageError(
            f"ekipl ask: {', '.join(map(repr, questions[:5]))}: one question is asked; write it in quotes, and name "
            f"images that exist: {USAGE}"
        )
    rest = [word for word in words if word not in images and word not in questions]
    settings = [f"question={quoted(question)}" for question in questions]
    settings += [f"images=[{','.join(map(quoted, images))}]"] if images else []
    keys = {word.partition("=")[0] for word in rest}
    settings += ["prompt=cot"] if "task" in keys and "prompt" not in keys else []  # a task is asked in its form
    return [*settings, *rest]


def quoted(text: str) -> str:
    r"""The text as Hydra's grammar and OmegaConf write a value that means just this: ``"`` and ``${`` escaped."""
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'


def _write(text: str) -> None:
    """Write to standard output at once, with what could steer a terminal or cannot be encoded spelled out."""
    plain = "".join(char if char in "\n\t" or unicodedata.category(char) != "Cc" else repr(char)[1:-1] for char in text)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(plain.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _end(text: str) -> None:
    if not text.endswith("\n"):
        _write("\n")
