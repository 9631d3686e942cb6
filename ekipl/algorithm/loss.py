"""The GRPO objective on tensors: ratio, clip, KL, aggregation (Eqs. 2 and 3). Pure: no model, no config.

Shapes: A actions, T tokens of the longest; rows are padded on the right and ``mask`` is 1 on an action's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ekipl.algorithm.objective import Objective
from ekipl.importing import imported

LOG_RATIO_LIMIT = 20.0  # exp(20) is far outside any clip range and still finite in float32


def token_weights(objective: Objective, mask: Tensor, actions: float, tokens: float) -> Tensor:
    """Weight of each token so that the sum over all micro-batches is the aggregate over the batch.

    Args:
        objective: its ``aggregation``.
        mask: (A, T).
        actions: number of actions in the whole batch (all ranks, all micro-batches).
        tokens: number of completion tokens in the whole batch.

    Returns:
        (A, T), zero on padding.
    """
    if objective.aggregation == "token_mean":
        return mask / tokens  # (A, T)
    if objective.aggregation == "constant":
        return mask / (actions * objective.max_tokens)  # (A, T)
    return mask / mask.sum(-1, keepdim=True).clamp(min=1) / actions  # (A, T)


class Loss(NamedTuple):
    """The scalar to minimise and sums over tokens for the metrics (divide by ``tokens`` of the same kind of source)."""

    value: Tensor  # ()
    policy: Tensor  # () policy part of value
    kl: Tensor  # () sum over tokens of the k3 estimate
    clipped: Tensor  # () tokens where the clip is active
    neg_logp: Tensor  # () sum over the policy's own tokens of -log p: a Monte Carlo estimate of its entropy
    external_probability: Tensor  # () sum over external tokens of p
    sampler_mismatch: Tensor  # () sum over sampled tokens of |log pi_old - the sampler's log-probability|


def loss(
    objective: Objective,
    logp: Tensor,
    old: Tensor,
    ref: Tensor | None,
    advantages: Tensor,
    external: Tensor,
    mask: Tensor,
    weights: Tensor,
    sampled: Tensor | None = None,
) -> Loss:
    """Minus the objective of Eqs. 2 and 3 on (part of) a batch.

    Args:
        objective: the settings.
        logp: (A, T) log pi_theta of each token, with gradient.
        old: (A, T) log pi_old.
        ref: (A, T) log pi_ref, or None when beta is 0.
        advantages: (A,).
        external: (A,) True where the action came from an external model.
        mask: (A, T) float.
        weights: (A, T) from ``token_weights``.
        sampled: (A, T) log-probability that the sampler reported, NaN where there is none; None: nowhere.
    """
    log_ratio = _log_ratio(objective.ratio, logp, old, mask)  # (A, T)
    ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()  # (A, T)
    advantage = advantages[:, None]  # (A, 1)
    clipped_ratio = ratio.clamp(1 - objective.eps, 1 + objective.eps)  # (A, T)
    surrogate = torch.minimum(ratio * advantage, clipped_ratio * advantage)  # (A, T)
    is_clipped = clipped_ratio * advantage < ratio * advantage  # (A, T)
    if objective.external_weight != "ratio":
        unclipped = _external_weight(objective)(logp, objective) * advantage  # (A, T)
        surrogate = torch.where(external[:, None], unclipped, surrogate)
        is_clipped = is_clipped & ~external[:, None]
    mismatch = torch.zeros_like(old) if sampled is None else torch.nan_to_num(old - sampled)  # (A, T)
    if objective.importance_cap is not None:
        importance = mismatch.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()  # (A, T)
        surrogate = surrogate * importance.clamp(max=objective.importance_cap)

    policy = -(surrogate * weights).sum()
    divergence = _k3(logp, ref) if ref is not None else torch.zeros_like(logp)  # (A, T)
    value = policy + objective.beta * (divergence * weights).sum()
    with torch.no_grad():
        own = mask * ~external[:, None]  # (A, T)
        return Loss(
            value=value,
            policy=policy.detach(),
            kl=(divergence * mask).sum(),
            clipped=(is_clipped * mask).sum(),
            neg_logp=-(logp * own).sum(),
            external_probability=(logp.exp() * (mask - own)).sum(),
            sampler_mismatch=(mismatch.abs() * mask).sum(),
        )


def _log_ratio(kind: str, logp: Tensor, old: Tensor, mask: Tensor) -> Tensor:
    """log pi_theta / pi_old, per token (A, T), or one value per action spread over its tokens."""
    difference = (logp - old) * mask  # (A, T)
    if kind == "token":
        return difference
    whole = difference.sum(-1, keepdim=True)  # (A, 1)
    if kind == "sequence":
        whole = whole / mask.sum(-1, keepdim=True).clamp(min=1)
    return whole.expand_as(logp)


Weight = Callable[[Tensor, Objective], Tensor]  # (A, T) log p of each token -> (A, T) what multiplies the advantage


def shaped(logp: Tensor, objective: Objective) -> Tensor:
    """p / (p + gamma), as LUFFY shapes it. (A, T) -> (A, T)."""
    p = logp.exp()  # (A, T)
    return p / (p + objective.shaped_gamma)


def unit(logp: Tensor, objective: Objective) -> Tensor:
    """1, with the gradient of log p. (A, T) -> (A, T)."""
    return (logp - logp.detach()).exp()


WEIGHTS: dict[str, Weight] = {"shaped": shaped, "unit": unit}


def _external_weight(objective: Objective) -> Weight:
    return WEIGHTS.get(objective.external_weight) or imported("objective.external_weight", objective.external_weight)


def _k3(logp: Tensor, ref: Tensor) -> Tensor:
    """Per-token estimate exp(d) - d - 1 >= 0 of KL(pi_theta || pi_ref), with d = log pi_ref - log pi_theta. (A, T)."""
    difference = (ref - logp).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return difference.exp() - difference - 1
