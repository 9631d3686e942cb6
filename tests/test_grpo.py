"""The objective by hand and by its properties."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from ekipl.algorithm.loss import Loss, loss, token_weights
from ekipl.algorithm.objective import Objective


def compute(
    objective: Objective,
    logp: list[list[float]],
    old: list[list[float]] | None = None,
    ref: list[list[float]] | None = None,
    advantages: list[float] | None = None,
    external: list[bool] | None = None,
    mask: list[list[float]] | None = None,
    sampled: list[list[float]] | None = None,
) -> tuple[Loss, torch.Tensor]:
    """The loss of one whole batch and its gradient with respect to logp."""
    p = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    m = torch.ones_like(p) if mask is None else torch.tensor(mask, dtype=torch.float64)
    result = loss(
        objective,
        p,
        p.detach() if old is None else torch.tensor(old, dtype=torch.float64),
        None if ref is None else torch.tensor(ref, dtype=torch.float64),
        torch.tensor(advantages or [1.0] * len(logp), dtype=torch.float64),
        torch.tensor(external or [False] * len(logp)),
        m,
        token_weights(objective, m, len(logp), float(m.sum())),
        None if sampled is None else torch.tensor(sampled, dtype=torch.float64),
    )
    result.value.backward()
    assert p.grad is not None
    return result, p.grad


def test_first_update_is_policy_gradient() -> None:
    # ratio 1 everywhere: value = -mean A = -(1 - 2) / 2 = 0.5; d/dlogp = -A x weight, weight = 1/2 tokens x 1/2 actions
    result, gradient = compute(Objective(beta=0), [[-1.0, -2.0], [-3.0, -0.5]], advantages=[1.0, -2.0])
    assert result.value.item() == pytest.approx(0.5)
    assert gradient.tolist() == [[-0.25, -0.25], [0.5, 0.5]]
    assert result.clipped.item() == 0


def test_clip_by_hand() -> None:
    # ratios 1.5, 0.5, 1.5, 0.5 with A = 1, 1, -1, -1 and eps 0.2:
    # min(1.5, 1.2) = 1.2 (clipped); min(0.5, 0.8) = 0.5; min(-1.5, -1.2) = -1.5; min(-0.5, -0.8) = -0.8 (clipped)
    logp = [[log(1.5)], [log(0.5)], [log(1.5)], [log(0.5)]]
    result, gradient = compute(Objective(beta=0), logp, old=[[0.0]] * 4, advantages=[1, 1, -1, -1])
    assert result.value.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)
    assert result.clipped.item() == 2
    # a clipped token has no gradient; the others -A x ratio / 4
    assert gradient[:, 0].tolist() == pytest.approx([0, -0.125, 0.375, 0])


def test_k3_by_hand_and_never_negative() -> None:
    # d = log ref - log p = 0.5: exp(0.5) - 0.5 - 1 = 0.148721; d = -0.5: exp(-0.5) + 0.5 - 1 = 0.106531
    result, _ = compute(Objective(beta=1.0), [[-1.0, -1.0]], ref=[[-0.5, -1.5]], advantages=[0.0])
    assert result.kl.item() == pytest.approx(0.148721 + 0.106531, abs=1e-6)
    assert result.value.item() == pytest.approx((0.148721 + 0.106531) / 2, abs=1e-6)  # mean over two tokens
    result, gradient = compute(Objective(beta=1.0), [[-1.0]], ref=[[-1.0]], advantages=[0.0])
    assert result.value.item() == 0
    assert gradient.item() == 0


def test_zero_advantage_and_no_kl_give_no_gradient() -> None:
    result, gradient = compute(Objective(beta=0), [[-1.0, -2.0]], advantages=[0.0])
    assert result.value.item() == 0
    assert gradient.abs().sum().item() == 0


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        # lengths 1 and 3, A = 1 and 1, gradient of the short action's token
        ("action_mean", -1 / 1 / 2),
        ("token_mean", -1 / 4),
        ("constant", -1 / (2 * 8)),
    ],
)
def test_aggregation_by_hand(aggregation: str, expected: float) -> None:
    objective = Objective(beta=0, aggregation=aggregation, max_tokens=8)  # type: ignore[arg-type]
    _, gradient = compute(objective, [[-1.0, 0, 0], [-1.0, -1.0, -1.0]], mask=[[1, 0, 0], [1, 1, 1]])
    assert gradient[0, 0].item() == pytest.approx(expected)
    assert gradient[0, 1:].abs().sum().item() == 0  # padding


@pytest.mark.parametrize("aggregation", ["action_mean", "token_mean", "constant"])
@pytest.mark.parametrize("ratio", ["token", "sequence", "sequence_product"])
def test_micro_batches_sum_to_the_batch(aggregation: str, ratio: str) -> None:
    torch.manual_seed(0)
    objective = Objective(beta=0.1, aggregation=aggregation, ratio=ratio, max_tokens=9)  # type: ignore[arg-type]
    logp, old, ref = (-torch.rand(5, 7, dtype=torch.float64) for _ in range(3))
    advantages, external = torch.randn(5, dtype=torch.float64), torch.tensor([True, False, True, False, False])
    lengths = torch.tensor([7, 3, 1, 5, 2])
    mask = (torch.arange(7)[None] < lengths[:, None]).double()
    weights = token_weights(objective, mask, 5, float(mask.sum()))

    def part(rows: slice) -> float:
        columns = (logp, old, ref, advantages, external, mask, weights)
        return loss(objective, *(c[rows] for c in columns)).value.item()

    assert part(slice(0, 2)) + part(slice(2, 5)) == pytest.approx(part(slice(0, 5)))


def test_sequence_ratio_is_the_geometric_mean() -> None:
    # log ratios 0.3 and -0.1: mean 0.1 -> exp(0.1), sum 0.2 -> exp(0.2)
    logp, old = [[-0.7, -1.1]], [[-1.0, -1.0]]
    by_mean, _ = compute(Objective(beta=0, eps=0.9, ratio="sequence"), logp, old=old)
    by_sum, _ = compute(Objective(beta=0, eps=0.9, ratio="sequence_product"), logp, old=old)
    assert by_mean.value.item() == pytest.approx(-exp(0.1))
    assert by_sum.value.item() == pytest.approx(-exp(0.2))


def test_external_ratio_by_hand() -> None:
    logp = [[log(0.1)], [log(0.1)]]
    external = [True, False]
    # shaped: p / (p + 0.1) = 0.5; gradient 0.1 x p / (p + 0.1)^2 = 0.25 of the token's log-probability; 1/2 an action
    result, gradient = compute(Objective(beta=0, external_weight="shaped"), logp, external=external)
    assert result.value.item() == pytest.approx(-(0.5 + 1) / 2)
    assert gradient[:, 0].tolist() == pytest.approx([-0.25 / 2, -0.5])
    # unit: the value is A, the gradient A grad log p, however far the policy has moved; the clip never binds
    result, gradient = compute(
        Objective(beta=0, external_weight="unit"), logp, old=[[log(0.01)]] * 2, external=external
    )
    assert gradient[0, 0].item() == pytest.approx(-0.5)
    assert gradient[1, 0].item() == 0  # the policy's own action: ratio 10, clipped
    assert result.clipped.item() == 1


def test_finite_under_extreme_ratios() -> None:
    result, gradient = compute(Objective(beta=0.1), [[-1.0]], old=[[-500.0]], ref=[[-800.0]], advantages=[-1.0])
    assert result.value.isfinite()
    assert gradient.isfinite().all()


def test_gradient_matches_finite_differences() -> None:
    torch.manual_seed(1)
    objective = Objective(beta=0.3, external_weight="shaped", ratio="token")
    old, ref = -torch.rand(3, 4, dtype=torch.float64), -torch.rand(3, 4, dtype=torch.float64)
    advantages = torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64)
    external, mask = torch.tensor([True, False, False]), torch.ones(3, 4, dtype=torch.float64)
    weights = token_weights(objective, mask, 3, 12)

    def value(logp: torch.Tensor) -> torch.Tensor:
        return loss(objective, logp, old, ref, advantages, external, mask, weights).value

    start = (old + 0.05 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(value, (start,))


def test_what_the_sampler_reports_weighs_the_policy_s_own_tokens_up_to_the_cap() -> None:
    # pi_old / sampler: exp(-1 - -1.5) = 1.648721; exp(-1 - 0) = 0.367879; exp(-1 - -4) = 20.1, at most 2; unknown: 1
    nan = float("nan")
    own, sampled = [[-1.0, -1.0], [-1.0, -1.0]], [[-1.5, 0.0], [-4.0, nan]]
    result, gradient = compute(Objective(beta=0, importance_cap=2.0), own, sampled=sampled)
    assert gradient.flatten().tolist() == pytest.approx([-x / 4 for x in (1.648721, 0.367879, 2.0, 1.0)], abs=1e-6)
    assert result.sampler_mismatch.item() == pytest.approx(0.5 + 1 + 3)
    # without a cap nothing is weighted, and the gap is told all the same
    plain, gradient = compute(Objective(beta=0), own, sampled=sampled)
    assert gradient.flatten().tolist() == pytest.approx([-0.25] * 4)
    assert plain.sampler_mismatch.item() == pytest.approx(0.5 + 1 + 3)


def test_kl_is_not_weighted_by_what_the_sampler_reports() -> None:
    values = [
        compute(Objective(beta=1.0, importance_cap=cap), [[-1.0]], ref=[[-0.5]], advantages=[0.0], sampled=[[-2.0]])[0]
        for cap in (None, 2.0)
    ]
    assert values[0].value.item() == pytest.approx(values[1].value.item())


def test_padding_and_external_tokens_have_no_gap() -> None:
    nan = float("nan")
    result, _ = compute(
        Objective(beta=0, importance_cap=2.0),
        [[-1.0, -9.0], [-1.0, -1.0]],
        external=[False, True],
        mask=[[1.0, 0.0], [1.0, 1.0]],
        sampled=[[-1.25, nan], [nan, nan]],
    )
    assert result.sampler_mismatch.item() == pytest.approx(0.25)


# w(p), the factor of A grad log p, at p = 0.001, 0.01, 0.1, 0.5, 0.9, 0.99. The arithmetic at p = 0.1:
# shaped 0.1 x 0.1 / 0.2^2 = 0.25; trust_region 0.1 / max(0.1, 0.1) = 1; chord_phi 0.1 x 0.9 = 0.09;
# rl_plus 2 x 0.1 x sqrt(0.9) / (1.5 x 0.1 + 0.5) = 0.189737 / 0.65 = 0.291903
W = {
    "ratio": (1, 1, 1, 1, 1, 1),
    "unit": (1, 1, 1, 1, 1, 1),
    "shaped": (0.010, 0.083, 0.25, 0.14, 0.09, 0.083),
    "trust_region": (0.010, 0.10, 1, 1, 1, 1),
    "rl_plus": (0.004, 0.039, 0.29, 0.57, 0.31, 0.10),
    "chord_phi": (0.001, 0.010, 0.09, 0.25, 0.09, 0.010),
}


@pytest.mark.parametrize("kind", W)
def test_the_weight_of_external_tokens_is_that_of_the_table(kind: str) -> None:
    logp = [[log(p)] for p in (0.001, 0.01, 0.1, 0.5, 0.9, 0.99)]
    advantages = [1.0, -2.0, 1.0, 1.0, 0.5, 1.0]
    result, gradient = compute(Objective(beta=0, external_weight=kind), logp, None, None, advantages, [True] * 6)
    seen = [-g * 6 / a for g, a in zip(gradient[:, 0].tolist(), advantages, strict=True)]  # 6 actions of a token each
    assert seen == pytest.approx(W[kind], rel=0.05)
    assert result.external_weight.item() == pytest.approx(sum(seen))


def test_rl_plus_after_the_policy_has_moved() -> None:
    # p = 0.2, p_old = 0.1: 2 x 0.2 x sqrt(0.8) / (0.15 + 0.5) = 0.357771 / 0.65 = 0.550417
    result, gradient = compute(
        Objective(beta=0, external_weight="rl_plus"), [[log(0.2)]], old=[[log(0.1)]], external=[True]
    )
    assert -gradient.item() == result.external_weight.item() == pytest.approx(0.550417, abs=1e-6)


def test_at_the_first_update_unit_and_the_paper_s_ratio_have_the_same_gradient_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    logp = (-5 * torch.rand(4, 9, generator=generator)).tolist()
    advantages, external = [1.3, -0.7, 0.2, -0.8], [True, True, False, False]
    a, b = (
        compute(Objective(beta=0, external_weight=kind), logp, None, None, advantages, external)[1]
        for kind in ("ratio", "unit")
    )
    assert torch.equal(a, b)
    # later they differ: the ratio is 1.35 and clipped at 1.2 where A > 0
    old = [[p - 0.3 for p in row] for row in logp]
    a, b = (
        compute(Objective(beta=0, external_weight=kind), logp, old, None, advantages, external)[1]
        for kind in ("ratio", "unit")
    )
    assert not torch.equal(a, b)


def test_no_clip_and_a_wider_upper_end_by_hand() -> None:
    # ratios 1.25 and 0.5 with A = 1 and -1: eps 0.2 clips both, to 1.2 and 0.8; an upper end of 1.28 only the second
    logp, advantages = [[log(1.25)], [log(0.5)]], [1.0, -1.0]
    for objective, value, clipped in [
        (Objective(beta=0), 1.2 - 0.8, 2),
        (Objective(beta=0, eps_high=0.28), 1.25 - 0.8, 1),
        (Objective(beta=0, eps=None), 1.25 - 0.5, 0),
    ]:
        result, _ = compute(objective, logp, [[0.0], [0.0]], None, advantages)
        assert result.value.item() == pytest.approx(-value / 2)
        assert result.clipped.item() == clipped


def test_kl_on_own_tokens_alone() -> None:
    # d = 0.5: exp(0.5) - 0.5 - 1 = 0.148721 on each token; of two actions only the own counts
    objective = Objective(beta=1.0, kl_on="own")
    result, gradient = compute(objective, [[-1.0]] * 2, None, [[-0.5]] * 2, [0.0, 0.0], [True, False])
    assert result.kl.item() == pytest.approx(0.148721, abs=1e-6)
    assert result.value.item() == pytest.approx(0.148721 / 2, abs=1e-6)
    assert gradient[0].item() == 0 != gradient[1].item()
