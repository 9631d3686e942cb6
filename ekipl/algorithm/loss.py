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
    external_weight: Tensor  # () sum over external tokens of the factor of A grad log p
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
    clipped_ratio = _clipped(objective, ratio)  # (A, T)
    surrogate = torch.minimum(ratio * advantage, clipped_ratio * advantage)  # (A, T)
    is_clipped = clipped_ratio * advantage < ratio * advantage  # (A, T)
    effective = ratio.detach() * ~is_clipped  # (A, T)
    if objective.external_weight != "ratio":
        weight = _external_weight(objective)
        unclipped = weight(logp, old, objective) * advantage  # (A, T)
        surrogate = torch.where(external[:, None], unclipped, surrogate)
        is_clipped = is_clipped & ~external[:, None]
        effective = effective_weight(weight, logp, old, objective)
    mismatch = torch.zeros_like(old) if sampled is None else torch.nan_to_num(old - sampled)  # (A, T)
    if objective.importance_cap is not None:
        importance = mismatch.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()  # (A, T)
        surrogate = surrogate * importance.clamp(max=objective.importance_cap)

    policy = -(surrogate * weights).sum()
    divergence = _k3(logp, ref) if ref is not None else torch.zeros_like(logp)  # (A, T)
    if objective.kl_on == "own":
        divergence = divergence * ~external[:, None]
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
            external_weight=(effective * (mask - own)).sum(),
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


def _clipped(objective: Objective, ratio: Tensor) -> Tensor:
    """The ratio within 1 - eps and 1 + eps_high. (A, T) -> (A, T)."""
    low, high = objective.eps, objective.eps_high
    return ratio if low is None else ratio.clamp(1 - low, 1 + (low if high is None else high))


# (A, T) log p and log p_old of each token -> (A, T) what multiplies the advantage. Its derivative by log p is the
# weight of A grad log p; docs/algorithm.md has the numbers.
Weight = Callable[[Tensor, Tensor, Objective], Tensor]


def unit(logp: Tensor, old: Tensor, objective: Objective) -> Tensor:
    """1, with the gradient of log p. (A, T) -> (A, T)."""
    return (logp - logp.detach()).exp()


def shaped(logp: Tensor, old: Tensor, objective: Objective) -> Tensor:
    """p / (p + gamma), as LUFFY shapes it. (A, T) -> (A, T)."""
    p = logp.exp()  # (A, T)
    return p / (p + objective.shaped_gamma)


def trust_region(logp: Tensor, old: Tensor, objective: Objective) -> Tensor:
    """p / max(p, alpha), the denominator without gradient: TrSFT of TRAPO. (A, T) -> (A, T)."""
    p = logp.exp()  # (A, T)
    return p / p.detach().clamp(min=objective.trust_alpha)


def rl_plus(logp: Tensor, old: Tensor, objective: Objective) -> Tensor:
    """2 p sqrt(1 - p) / (p_old + (p_old + 1) / 2), the root without gradient: RL-PLUS. (A, T) -> (A, T)."""
    p, before = logp.exp(), old.exp()  # (A, T)
    return 2 * p / (1.5 * before + 0.5) * (1 - p.detach()).clamp(min=0).sqrt()


def chord_phi(logp: Tensor, old: Tensor, objective: Objective) -> Tensor:
    """p (1 - p) without gradient, times the gradient of log p: phi of CHORD. (A, T) -> (A, T)."""
    p = logp.detach().exp()  # (A, T)
    return p * (1 - p) * unit(logp, old, objective)


WEIGHTS: dict[str, Weight] = {
    "unit": unit,
    "shaped": shaped,
    "trust_region": trust_region,
    "rl_plus": rl_plus,
    "chord_phi": chord_phi,
}


def effective_weight(weight: Weight, logp: Tensor, old: Tensor, objective: Objective) -> Tensor:
    """The factor of A grad log p: the derivative of ``weight`` by log p, of each token alone. (A, T) -> (A, T)."""
    with torch.enable_grad():
        alone = logp.detach().requires_grad_()  # (A, T)
        total = weight(alone, old, objective).sum()  # ()
        return torch.autograd.grad(total, alone)[0] if total.requires_grad else torch.zeros_like(alone)


def _external_weight(objective: Objective) -> Weight:
    return WEIGHTS.get(objective.external_weight) or imported("objective.external_weight", objective.external_weight)


def _k3(logp: Tensor, ref: Tensor) -> Tensor:
    """Per-token estimate exp(d) - d - 1 >= 0 of KL(pi_theta || pi_ref), with d = log pi_ref - log pi_theta. (A, T)."""
    difference = (ref - logp).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return difference.exp() - difference - 1
