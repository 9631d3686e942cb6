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
        name: stands in reports.
        path: ``tiny`` (the checkpoint in the package), a folder written by ``save_pretrained``, or ORGANISATION/NAME on
            the hub; in ``eval``, ``external``: the external models.
        dtype: ``float32`` or ``bfloat16``.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2`` (where flash-attn is installed).
        min_pixels: of an image as the model sees it; smaller ones are enlarged.
        max_pixels: of an image as the model sees it; larger ones are shrunk.
        freeze_vision: whether the vision tower is left as it is.
        freeze_projector: whether the projector between it and the language model is left as it is.
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
class Rollout(Decoding):
    """How the policy samples the actions it learns from.

    Attributes:
        kind: ``hf``: transformers, in the training process.
        batch_size: actions decoded at once, on each rank.
        importance_cap: the policy's own tokens are weighted by pi_old / (the probability they were sampled with), at
            most this much; null: not weighted.
    """

    kind: Literal["hf"]
    batch_size: Count
    importance_cap: Positive | None


@dataclass(frozen=True, kw_only=True)
class VLLMRollout(Decoding):
    """The same with vLLM.

    Attributes:
        kind: ``vllm``: vLLM, in the training process; pip install 'ekipl[vllm]'.
        batch_size: actions decoded at once, on each rank.
        importance_cap: as for ``hf``; a sampler with other kernels is not exactly the policy.
        cache_gib: memory for keys and values on each rank, GiB, beside a copy of the weights.
    """

    kind: Literal["vllm"]
    batch_size: Count
    importance_cap: Positive | None
    cache_gib: Positive


@dataclass(frozen=True, kw_only=True)
class OwnRollout(Decoding):
    """A sampler of your own (docs/extending.md).

    Attributes:
        kind: the import path of a function ``(vlm, decoding, **args) -> Sampler``.
        batch_size: actions decoded at once, on each rank, by the sampler of the evaluation.
        importance_cap: as for ``hf``.
        args: further keyword arguments of that function.
    """

    kind: Annotated[str, Named(KINDS)]
    batch_size: Count
    importance_cap: Positive | None
    args: Mapping[str, Any] = field(default_factory=dict)


AnyRollout = Rollout | VLLMRollout | OwnRollout
