"""The settings of Eqs. 1 to 3, where the paper leaves a choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ekipl.algorithm.ranges import Count, NotNegative, Positive, TopP
from ekipl.algorithm.schedule import Schedule
from ekipl.importing import Named

BASELINES = ("selected", "pool", "policy", "demonstrations", "none")
WEIGHTS = ("ratio", "unit", "shaped", "trust_region", "rl_plus", "chord_phi")


@dataclass(frozen=True)
class Objective:
    """The objective of Eqs. 1 to 3. Four fields take their value from another setting, the ``home`` in their metadata.

    Attributes:
        eps: clip range of the ratio: 1 - eps to 1 + eps; null: no clip.
        eps_high: of the upper end, 1 + eps_high (DAPO); null: eps.
        beta: weight of KL(pi_theta || pi_ref); 0 loads no reference model.
        baseline: Eq. 1 takes mean and standard deviation over the ``selected`` actions (the paper), or over the whole
            ``pool`` of candidates, which keeps a gradient when the selected are all correct; over the kept actions of
            the ``policy`` alone, for all; ``demonstrations`` is that for the own actions, and 1 for every external one;
            ``none`` gives every kept action the advantage 1, which with ``external_weight=unit`` is supervised
            learning; or an import path.
        std: ``sample`` divides by n - 1 (Reason-RFT, TRL), ``population`` by n; ``none`` leaves R - mean (Dr. GRPO).
        below_baseline: external actions with a negative advantage: ``keep`` (the paper) or ``drop``.
        ratio: pi_theta / pi_old per ``token``; per ``sequence`` (geometric mean over the action's tokens, GSPO); or
            ``sequence_product``, the ratio of the whole action's probabilities as Eq. 2 prints it.
        external_weight: factor of an external token's advantage: ``ratio`` = pi_theta / pi_old, both the policy's
            (the paper). The others are not clipped: ``unit`` = the gradient of the token's log-likelihood; ``shaped`` =
            p / (p + gamma) (LUFFY); ``trust_region`` = p / max(p, alpha) (TRAPO); ``rl_plus`` (RL-PLUS); ``chord_phi``
            = p (1 - p) (CHORD); or an import path.
        shaped_gamma: gamma of ``shaped``.
        trust_alpha: alpha of ``trust_region``.
        external_mix: m of (1 - m) L_own + m L_external in each group, each a mean over its kind of action, which
            multiplies their advantages (CHORD); null: one mean over all actions.
        kl_on: tokens of the KL term: ``all`` (the paper), or the policy's ``own``.
        aggregation: ``action_mean`` = mean over an action's tokens, then over actions (GRPO); ``token_mean`` = over all
            tokens of the batch (BNPO); ``constant`` = sum over tokens / (actions x max_tokens) (Dr. GRPO).
        max_tokens: completion limit in tokens, the divisor of ``constant``.
        importance_cap: the policy's own tokens are weighted by pi_old / (the probability they were sampled with), at
            most this much (truncated importance sampling), because a sampler with other kernels or precision is not
            exactly pi_old; null: not weighted.
    """

    eps: TopP | None = field(default=0.2, metadata={"home": "eps"})
    eps_high: Positive | None = None
    beta: NotNegative = field(default=0.04, metadata={"home": "beta"})
    baseline: Annotated[str, Named(BASELINES)] = "selected"
    std: Literal["sample", "population", "none"] = "sample"
    below_baseline: Literal["keep", "drop"] = "keep"
    ratio: Literal["token", "sequence", "sequence_product"] = "token"
    external_weight: Annotated[str, Named(WEIGHTS)] = "ratio"
    shaped_gamma: Positive = 0.1
    trust_alpha: TopP = 0.1
    external_mix: Schedule | None = None
    kl_on: Literal["all", "own"] = "all"
    aggregation: Literal["action_mean", "token_mean", "constant"] = "action_mean"
    max_tokens: Count = field(default=256, metadata={"home": "rollout.max_tokens"})
    importance_cap: Positive | None = field(default=None, metadata={"home": "rollout.importance_cap"})
