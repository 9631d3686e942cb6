"""The settings of the policy: which model, and how it is sampled (``model=``, ``rollout=``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from ekipl.algorithm.ranges import Count, Name, Positive, Whole
from ekipl.algorithm.seams import Decoding
from ekipl.importing import Named

KINDS = ("hf", "vllm")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters: ``weight + alpha / rank * B A``, with B = 0 at first.

    Attributes:
        rank: of B A; 0: no adapters, whole weights are trained.
        alpha: scale.
        targets: last parts of the names of the linear layers that get one; layers of frozen parts get none.
    """

    rank: Whole
    alpha: Positive
    targets: Annotated[tuple[Name, ...], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The policy's model.

    Attributes:
        name: for reports.
        path: ``tiny`` (the checkpoint in the package), a folder written by ``save_pretrained``, or ORGANISATION/NAME on
            the hub; in ``eval``, ``external``: the external models.
        dtype: ``float32`` or ``bfloat16``.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2`` (where flash-attn is installed).
        min_pixels: of an image as the model sees it; smaller ones are enlarged.
        max_pixels: of an image as the model sees it; larger ones are shrunk.
        freeze_vision: true excludes the vision tower from training.
        freeze_projector: true excludes the projector between it and the language model from training.
        lora: adapters that are trained in place of whole weights.
        trust_remote_code: whether Python code that comes with the checkpoint may run.
    """

    name: Name
    path: Name
    dtype: Literal["float32", "bfloat16"]
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    min_pixels: Count
    max_pixels: Count
    freeze_vision: bool
    freeze_projector: bool
    lora: Lora
    trust_remote_code: bool


@dataclass(frozen=True, kw_only=True)
class Sampling(Decoding):
    """How the policy samples the actions it learns from.

    Attributes:
        batch_size: actions decoded at once, on each rank.
        importance_cap: the policy's own tokens are weighted by pi_old / (the probability they were sampled with), at
            most this much, because a sampler with other kernels is not exactly the policy; null: not weighted.
    """

    batch_size: Count
    importance_cap: Positive | None


@dataclass(frozen=True, kw_only=True)
class Rollout(Sampling):
    """transformers, in the training process.

    Attributes:
        kind: ``hf``.
    """

    kind: Literal["hf"]


@dataclass(frozen=True, kw_only=True)
class VLLMRollout(Sampling):
    """vLLM, in the training process; pip install 'ekipl[vllm]'.

    Attributes:
        kind: ``vllm``.
        cache_gib: memory for keys and values on each rank, GiB, beside a copy of the weights.
    """

    kind: Literal["vllm"]
    cache_gib: Positive


@dataclass(frozen=True, kw_only=True)
class OwnRollout(Sampling):
    """A sampler of your own (docs/extending.md). The evaluation of ``train`` keeps the built-in one.

    Attributes:
        kind: the import path of a function ``(vlm, decoding, **args) -> Sampler``.
        args: further keyword arguments of that function.
    """

    kind: Annotated[str, Named(KINDS)]
    args: Mapping[str, Any] = field(default_factory=dict)
