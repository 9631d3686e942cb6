"""The settings of all commands as one dataclass. The sections are the dataclasses of the parts that read them.

A setting has two homes: its dataclass (type, range, meaning) and its value under ``conf/``. docs/configuration.md is
generated from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, MinLen
from pydantic import ConfigDict, Discriminator, Tag, TypeAdapter

from ekipl.algorithm.loop import Hyperparameters
from ekipl.algorithm.ranges import Count, Name, NotNegative, Positive, TopP, Whole
from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.selection import Selection
from ekipl.config.sections import (
    CheckpointSettings,
    EvaluationSettings,
    Label,
    LoggerSettings,
    PasskSettings,
    PromptSettings,
    ReportSettings,
    StopSettings,
)
from ekipl.data.own import OwnData
from ekipl.data.reason_rft import ReasonRFTData
from ekipl.data.synthetic.source import SyntheticData
from ekipl.data.table.source import TableData
from ekipl.engine.settings import EngineSettings
from ekipl.external.settings import Demonstrated, JudgeSettings, LiteLLM, Nobody, OwnPool, Recorded
from ekipl.importing import Named
from ekipl.policy.settings import ModelSettings, OwnRollout, Rollout, VLLMRollout
from ekipl.reward.graders import REWARDS
from ekipl.reward.own import misfit

Command = Literal["train", "rollout", "external_sample", "eval", "passk", "show", "ask"]

ABSENT: Any = None  # default of keys that a command does not define; a command that defines the key rejects null


def one_of(key: str, *known: str) -> Discriminator:
    """Which class of a section's union: the value at ``key`` if it is ``known``, else ``own``."""

    def tag(section: Any) -> str:
        value = section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)
        return value if value in known else "own"

    return Discriminator(tag)


RewardName = Annotated[str, Named(REWARDS, misfit)]
AnyReward = Annotated[
    Annotated[RewardName, Tag("one")] | Annotated[tuple[RewardName, ...], MinLen(1), Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list | tuple) else "one"),
]
AnyData = Annotated[
    Annotated[SyntheticData, Tag("synthetic")]
    | Annotated[ReasonRFTData, Tag("reason_rft")]
    | Annotated[TableData, Tag("table")]
    | Annotated[OwnData, Tag("own")],
    one_of("kind", "synthetic", "reason_rft", "table"),
]
AnyExternal = Annotated[
    Annotated[Nobody, Tag("none")]
    | Annotated[LiteLLM, Tag("litellm")]
    | Annotated[Recorded, Tag("recorded")]
    | Annotated[Demonstrated, Tag("demonstrations")]
    | Annotated[OwnPool, Tag("own")],
    one_of("kind", "none", "litellm", "recorded", "demonstrations"),
]
AnyRollout = Annotated[
    Annotated[Rollout, Tag("hf")] | Annotated[VLLMRollout, Tag("vllm")] | Annotated[OwnRollout, Tag("own")],
    one_of("kind", "hf", "vllm"),
]


@dataclass(frozen=True, kw_only=True)
class Settings(Hyperparameters):
    """Everything that a command reads. The keys of the last block belong to some commands; see ``OWN_KEYS``.

    Attributes:
        command: the command.
        M: external models: the first M of ``external.models``; 0 is plain GRPO. An ``external=`` option brings its own.
        eps: clip range of the ratio: 1 - eps to 1 + eps; null: no clip.
        beta: weight of the KL term; at 0 no reference model is loaded.
        epochs: passes over the training problems, in place of B; may be a fraction.
        reward: what counts as right: ``strict``, a published grader (docs/tasks.md), ``judge``, an import path, or a
            list of these, whose weighted sum is trained on (docs/rewards.md).
        reward_weights: one for each of several rewards; null: all 1.
        judge: the model behind ``reward=judge``.
        first_stage: settings that differ in a stage that is trained before, in ``first_stage/`` of the run directory;
            its model is the initial policy of the run.
        task: ``_target_`` is the import path of the task's class; the other keys are its arguments.
        prompt: how the task asks.
        data: where the problems come from.
        model: the policy.
        external: the external models.
        rollout: how the policy samples the actions it learns from.
        engine: how the policy learns.
        method: the method.
        recipe: lengths, rates and data that belong together: ``tiny`` or ``paper``; a model brings its own.
        evaluation: the periodic evaluation of ``train``.
        checkpoint: resumable checkpoints.
        stop: when a run ends early.
        logger: where metrics go.
        splits: list of splits; null: every evaluation split of the task.
        limit: problems of each split; null: all.
        missing_split: a split without a file: ``error``, or ``skip``, with a note below the table.
        also_grade_with: further rewards whose accuracy is reported beside that of ``reward``, of the same completions
            (not of a file of ``predictions``); null: ``[strict, reason_rft]`` for Reason-RFT's tasks, none for others.
        predictions: a file of completions that is graded instead of sampling.
        decoding: how ``eval``, ``passk`` and ``ask`` sample from a policy.
        samples: actions a problem.
        n: problems of each split that are shown.
        records: files or run folders whose actions are used instead of sampling.
        models: further model folders, compared with ``model.path``.
        passk: the pass@k curve.
        inspect: whether ``eval`` and ``passk`` also write logs for ``inspect view``, which need ``inspect_ai``.
        question: as it is typed: the word of ``ekipl ask`` that is no image and no setting.
        images: files of pictures, in the order in which the question speaks of them.
        export: a run, one of its checkpoints or an adapter: ``train`` writes its model, prints the folder and ends.
        gpu_gib: GiB of a GPU, from 2: ``--dry-run`` says whether the run fits and, if not, what would make it fit.
        report: the page of the run.
        dry_run: ``--dry-run``: print steps, samples, tokens, memory a GPU and remaining API cost, and end.
    """

    # No unknown keys and no conversions between types; the dataclasses of the sections inherit this.
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    command: Command
    M: Whole
    eps: TopP | None
    beta: NotNegative
    epochs: Positive | None
    reward: AnyReward
    reward_weights: tuple[float, ...] | None
    judge: JudgeSettings
    first_stage: dict[str, Any] | None
    task: dict[str, Any]
    prompt: PromptSettings
    data: AnyData
    model: ModelSettings
    external: AnyExternal
    rollout: AnyRollout
    engine: EngineSettings
    selection: Selection
    method: Label
    recipe: Label
    evaluation: EvaluationSettings
    checkpoint: CheckpointSettings
    stop: StopSettings
    logger: LoggerSettings

    splits: tuple[Name, ...] | None = None
    limit: Count | None = None
    missing_split: Literal["error", "skip"] = ABSENT
    also_grade_with: tuple[RewardName, ...] | None = None
    predictions: Name | None = None
    decoding: Decoding = ABSENT
    samples: Count = ABSENT
    n: Count = ABSENT
    records: tuple[Name, ...] = ABSENT
    models: tuple[Name, ...] = ABSENT
    passk: PasskSettings = ABSENT
    inspect: bool = False
    question: Name | None = None
    images: tuple[Name, ...] = ABSENT
    export: Name | None = None
    gpu_gib: Annotated[float, Ge(2)] | None = None
    report: ReportSettings = ABSENT
    dry_run: bool = False

    @property
    def rewards(self) -> tuple[str, ...]:
        """Those of ``reward``, also where it is one."""
        return (self.reward,) if isinstance(self.reward, str) else self.reward

    @property
    def candidates(self) -> tuple[int, int]:
        """Actions that a problem is offered at most: the policy's own, and those of others."""
        own, external = self.N if self.policy_samples is None else self.policy_samples, self.external
        if isinstance(external, Nobody):
            return own, 0
        if isinstance(external, Demonstrated):
            return own, 1
        if isinstance(external, OwnPool):
            return own, self.N * self.M
        return own, sum(model.samples or self.N for model in external.models[: self.M])


ADAPTER: TypeAdapter[Settings] = TypeAdapter(Settings)


def as_dict(settings: Settings) -> dict[str, Any]:
    """The settings as plain JSON values."""
    values: dict[str, Any] = ADAPTER.dump_python(settings, mode="json")
    return values


def setting_names() -> frozenset[str]:
    """What the key of an override begins with: a setting, or one of Hydra's own groups."""
    return frozenset({"hydra", "experiment", *(field.name for field in fields(Settings))})


# The keys of the last block, by command.
OWN_KEYS: dict[str, frozenset[str]] = {
    "train": frozenset({"dry_run", "export", "gpu_gib", "report"}),
    "rollout": frozenset({"splits", "limit", "samples"}),
    "external_sample": frozenset({"splits", "limit", "samples", "dry_run"}),
    "eval": frozenset({"decoding", "splits", "missing_split", "limit", "samples", "also_grade_with"})
    | {"predictions", "records", "models", "inspect"},
    "show": frozenset({"splits", "n"}),
    "passk": frozenset({"decoding", "splits", "limit", "records", "models", "passk"}) | {"inspect"},
    "ask": frozenset({"question", "images", "decoding"}),
}
