"""The rewards of the settings: built-in graders, functions of the user's own, the judge, and sums of several."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ekipl.algorithm.seams import Grader, Task
from ekipl.data.reason_rft import reported_by
from ekipl.errors import UsageError
from ekipl.external.settings import Each, ExternalModel
from ekipl.importing import imported
from ekipl.masking import masked
from ekipl.reward.graders import JUDGE, check_grader, grader
from ekipl.reward.own import OwnReward, Tell, print_told
from ekipl.reward.several import Graded, Several, Valued
from ekipl.run.build import at_share_of_rates, litellm_pool
from ekipl.run.sampling import Graders
from ekipl.tasks.templates import template_in

if TYPE_CHECKING:
    from ekipl.config import Settings

UNGRADED = "ungraded.log"  # in the run directory: the first trace of each kind of failure of a reward


def build_grader(settings: Settings, task: Task, directory: Path | None = None) -> Grader:
    """The reward of the setting ``reward``; ``directory`` gets its ledger and the traces of its failures.

    Raises:
        UsageError: it does not fit the task, cannot be imported, or its judge cannot be called as configured.
    """
    return build_graders(settings, task, directory)[0]


def build_graders(settings: Settings, task: Task, directory: Path | None = None) -> tuple[Grader, Graders]:
    """The reward, and the graders of ``also_grade_with`` by name, without that of ``reward``. Raises UsageError."""
    tell = print_told if directory is None else partial(_tell, directory / UNGRADED)
    made: dict[str, Valued | Grader] = {}

    def one(key: str, name: str) -> Valued | Grader:
        if name not in made:
            made[name] = _make(key, name, settings, task, directory, tell)
        return made[name]

    rewards = settings.rewards
    keys = ["reward"] if isinstance(settings.reward, str) else [f"reward.{n}" for n in range(len(rewards))]
    parts = [one(key, name) for key, name in zip(keys, rewards, strict=True)]
    weights = settings.reward_weights or [1.0] * len(parts)
    wanted = reported_by(task.name) if settings.also_grade_with is None else settings.also_grade_with
    also = [(f"also_grade_with.{n}", name) for n, name in enumerate(wanted)]
    further = {name: _alone(key, name, one(key, name)) for key, name in also if name != settings.reward}
    if len(parts) == 1 and settings.reward_weights is None:
        return _alone("reward", rewards[0], parts[0]), further
    names = short_names(rewards)
    return Several("reward", dict(zip(names, map(_valued, parts), strict=True)), weights), further


def short_names(rewards: Sequence[str]) -> list[str]:
    """The rewards' names in metrics: of an import path the function, with its file where two would be the same."""
    bare = [reward.rpartition(":")[2] for reward in rewards]
    full = [f"{Path(reward.rpartition(':')[0]).stem}:{name}" for reward, name in zip(rewards, bare, strict=True)]
    return [name if bare.count(name) == 1 else long for name, long in zip(bare, full, strict=True)]


def _make(key: str, name: str, settings: Settings, task: Task, directory: Path | None, tell: Tell) -> Valued | Grader:
    if ":" in name:
        return OwnReward(key, name.rpartition(":")[2], imported(key, name), tell)
    if name == JUDGE:
        return build_judge(settings, directory, tell)
    try:
        return grader(check_grader(name, task.name, task.kinds))
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error


def _alone(key: str, name: str, one: Valued | Grader) -> Grader:
    return Several(key, {short_names([name])[0]: one}, [1.0]) if isinstance(one, OwnReward) else one  # type: ignore[return-value]


def _valued(one: Valued | Grader) -> Valued:
    return one if isinstance(one, OwnReward) else Graded(one)  # type: ignore[arg-type]


def build_judge(settings: Settings, directory: Path | None, tell: Tell = print_told) -> Grader:
    """The judge of the section ``judge``, whose calls, cache, prices and budget are those of any external model.

    Its ledger is in ``directory``; None keeps that in memory. Raises UsageError when it cannot be asked as configured.
    """
    from ekipl.external.ledger import JUDGED
    from ekipl.reward.judge import TEMPLATE, Judge, check_template

    judge = settings.judge
    template = TEMPLATE if judge.template is None else template_in("judge.template", judge.template, "completion")
    model = ExternalModel(JUDGE, judge.model, **{field.name: getattr(judge, field.name) for field in fields(Each)})
    asked = [at_share_of_rates(model, settings)]
    pool = litellm_pool(judge, asked, settings, directory and directory / JUDGED, "policy_only", JUDGE)
    made = Judge(pool, check_template(template), judge.scale, judge.samples, judge.longest, tell)
    atexit.register(made.close)  # of connections; what is paid for is stored as it comes
    return made


def _tell(path: Path, text: str) -> None:
    """Print a warning, and add it to a file of the run."""
    print_told(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(masked(text) + "\n")
