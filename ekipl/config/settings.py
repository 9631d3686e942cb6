"""The settings as types. Defaults, meanings and units stand in ``conf/`` alone (and in docs/configuration.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Command = Literal["train", "rollout", "external_sample", "eval", "passk"]

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Temperature = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
TopP = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(min_length=1)]

ABSENT: Any = None  # in place of a key that the command does not have; where it has the key, null is refused


class Section(BaseModel):
    """A part of the settings: read-only, without unknown keys, without conversions between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(Section):
    """Where the problems come from."""

    kind: Literal["synthetic", "reason_rft"]
    root: Name | None
    hub: Name | None
    seed: Whole
    image_size: Annotated[int, Field(ge=16)] | None
    train_size: Count | None
    test_size: Count | None
    train_split: Name
    train_start: Whole
    train_limit: Count | None
    test_limit: Count | None


class LoraSettings(Section):
    """Adapters in place of whole weights; ``rank`` 0: none."""

    rank: Whole
    alpha: Annotated[float, Field(gt=0)]
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]


class ModelSettings(Section):
    """The policy."""

    name: Name
    path: Name
    dtype: Literal["float32", "bfloat16"]
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    min_pixels: Count
    max_pixels: Count
    freeze_vision: bool
    freeze_projector: bool
    lora: LoraSettings
    trust_remote_code: bool


class PromptSettings(Section):
    """How the tasks ask, and what supervised training writes as an answer. Templates of ``{question}``."""

    strategy: Literal["cot", "answer", "zero_shot"]
    version: Count
    file: Name | None
    choice_file: Name | None
    counting: Name
    structure_choice: Name
    structure_open: Name
    spatial: Name


class PriceSettings(Section):
    """US dollars for a million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class ExternalModelSettings(Section):
    """One external model; null means: as the external section says (``samples``: N)."""

    name: Name
    model: Name | None
    samples: Count | None
    api_base: Name | None
    api_key_env: Name | None
    temperature: Temperature | None
    top_p: TopP | None
    max_tokens: Count | None
    concurrency: Count
    requests_per_minute: Annotated[float, Field(gt=0)] | None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None
    choices: Count
    image_tokens: Count | None
    on_refused: Literal["stop", "drop"]
    price: PriceSettings | None
    params: dict[str, Any]


class ExpertSettings(Section):
    """A simulated model of stated quality."""

    name: Name
    accuracy: Share
    format_rate: Share
    style: Literal["concise", "verbose"]


class ExternalSettings(Section):
    """The pool of external models."""

    kind: Literal["none", "litellm", "recorded", "demonstrations"]
    models: tuple[ExternalModelSettings, ...]
    experts: tuple[ExpertSettings, ...]
    temperature: Temperature
    top_p: TopP
    max_tokens: Count
    timeout_s: Annotated[float, Field(gt=0)]
    cache: Name | None
    budget_usd: Annotated[float, Field(ge=0)] | None
    on_exhausted: Literal["stop", "policy_only"]
    prefetch: Whole
    path: Name | None


class RolloutSettings(Section):
    """How the policy samples the actions it learns from."""

    kind: Literal["hf", "vllm"]
    temperature: Temperature
    top_p: TopP
    top_k: Whole
    max_tokens: Count
    batch_size: Count
    cache_gib: Annotated[float, Field(gt=0)]
    importance_cap: Annotated[float, Field(gt=0)] | None


class EngineSettings(Section):
    """How the policy learns."""

    kind: Literal["deepspeed"]
    zero_stage: Literal[0, 2, 3]
    num_nodes: Count
    num_processes: Count
    learning_rate: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Whole
    max_grad_norm: Annotated[float, Field(gt=0)]
    micro_batch: Count
    micro_batch_tokens: Count | None
    accumulation: Count
    gradient_checkpointing: bool
    offload_optimizer: bool
    offload_parameters: bool

    @property
    def processes(self) -> int:
        """On all machines."""
        return self.num_nodes * self.num_processes


class SelectionSettings(Section):
    """Which G of the candidates are kept."""

    rule: Literal["top_g", "contrast", "random_g", "policy_only", "external_only"]
    contrast: Count
    ties: Literal["random", "policy_first", "external_first"]


class ObjectiveSettings(Section):
    """Eqs. 1 to 3 where the paper leaves a choice."""

    std: Literal["sample", "population"]
    baseline: Literal["selected", "pool", "none"]
    below_baseline: Literal["keep", "drop"]
    ratio: Literal["token", "sequence", "sequence_product"]
    external_ratio: Literal["policy", "shaped", "unit"]
    shaped_gamma: Annotated[float, Field(gt=0)]
    aggregation: Literal["action_mean", "token_mean", "constant"]


class MethodSettings(Section):
    """The name of the recipe; what it sets stands under the keys it sets."""

    name: Name


class EvaluationSettings(Section):
    """The periodic evaluation of ``train``."""

    every: Whole
    splits: tuple[Name, ...] | None
    limit: Count | None
    samples: Count
    temperature: Temperature
    top_p: TopP
    top_k: Whole
    max_tokens: Count


class CheckpointSettings(Section):
    """When resumable checkpoints are written and how many stay."""

    every: Whole
    keep: Count


class LoggerSettings(Section):
    """Weights & Biases beside metrics.jsonl."""

    wandb: bool
    project: Name
    mode: Literal["offline", "online"]
    name: Name | None


class DecodingSettings(Section):
    """How ``eval`` and ``passk`` sample."""

    temperature: Temperature
    top_p: TopP
    top_k: Whole
    max_tokens: Count


class PasskSettings(Section):
    """Which points of the curve, from how many actions."""

    k: Annotated[tuple[Count, ...], Field(min_length=1)]
    samples: Count | None


class Settings(Section):
    """Everything a command is told. The keys of the last block belong to some commands; the others do not read them."""

    command: Command
    N: Count
    policy_samples: Whole | None
    M: Whole
    G: Count
    I: Count  # noqa: E741 - the paper's symbol
    B: Count
    mu: Count
    eps: Annotated[float, Field(gt=0, le=1)]
    beta: Annotated[float, Field(ge=0)]
    seed: Whole
    problems_per_step: Count
    reward: Name
    first_stage: dict[str, Any] | None
    task: dict[str, Any]
    prompt: PromptSettings
    data: DataSettings
    model: ModelSettings
    external: ExternalSettings
    rollout: RolloutSettings
    engine: EngineSettings
    selection: SelectionSettings
    objective: ObjectiveSettings
    method: MethodSettings
    evaluation: EvaluationSettings
    checkpoint: CheckpointSettings
    logger: LoggerSettings

    splits: tuple[Name, ...] | None = None
    limit: Count | None = None
    missing_split: Literal["error", "skip"] = ABSENT
    also_grade_with: tuple[Name, ...] = ABSENT
    predictions: Name | None = None
    decoding: DecodingSettings = ABSENT
    samples: Count = ABSENT
    records: tuple[Name, ...] = ABSENT
    models: tuple[Name, ...] = ABSENT
    passk: PasskSettings = ABSENT
    dry_run: bool = False


# The keys of that last block, by command.
OWN_KEYS: dict[str, frozenset[str]] = {
    "train": frozenset({"dry_run"}),
    "rollout": frozenset({"splits", "limit", "samples"}),
    "external_sample": frozenset({"splits", "limit", "samples", "dry_run"}),
    "eval": frozenset(
        {
            "decoding",
            "splits",
            "missing_split",
            "limit",
            "samples",
            "also_grade_with",
            "predictions",
            "records",
            "models",
        }
    ),
    "passk": frozenset({"decoding", "splits", "limit", "records", "models", "passk"}),
}
