"""What a step's groups say: metrics (docs/metrics.md) and plain words when training cannot work. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from ekipl.algorithm.types import POLICY, Action, Group

MOSTLY_DEAD = 0.5
MUCH_WAITING = 0.1


def step_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of one step that come from its actions, keys grouped by a prefix; the clock is not among them."""
    offered = [action for group in groups for action in group.offered]
    kept = [action for group in groups for action in group.actions]
    metrics = {
        "group/frac_zero_variance": _mean(group.no_gradient for group in groups),
        "group/size": _mean(len(group.kept) for group in groups),
        "group/offered": _mean(len(group.offered) for group in groups),
        "reward/offered": _mean(action.total for action in offered),
        "reward/kept": _mean(action.total for action in kept),
    }
    metrics |= {f"group/refused/{reason}": float(count) for reason, count in sorted(_refused(groups).items())}
    if gated := [group.waiting for group in groups if group.waiting is not None]:
        metrics["group/waiting"] = float(sum(gated))
    for source in sorted({action.source for action in offered}):
        metrics |= _of_source(source, offered, kept)
    return metrics


def _of_source(source: str, offered: Sequence[Action], kept: Sequence[Action]) -> dict[str, float]:
    own = [action for action in offered if action.source == source]
    rewards = [action.reward for action in own if action.reward is not None]
    return {
        f"reward/total/{source}": _mean(reward.total for reward in rewards),
        f"reward/format/{source}": _mean(reward.format for reward in rewards),
        f"reward/accuracy/{source}": _mean(reward.accuracy for reward in rewards),
        f"share/offered/{source}": len(own) / len(offered),
        f"share/kept/{source}": _mean(action.source == source for action in kept),
        f"length/tokens/{source}": _mean(len(action.tokens or ()) for action in own),
        f"length/truncated/{source}": _mean(action.finish == "length" for action in own),
        **{f"reward/detail/{name}/{source}": mean for name, mean in _means(reward.detail for reward in rewards)},
        **{f"reward/part/{name}/{source}": mean for name, mean in _means(reward.parts for reward in rewards)},
    }


def _means(scores: Iterable[Mapping[str, float]]) -> list[tuple[str, float]]:
    """Names, sorted, and the mean of each over those that have it."""
    found: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.items():
            found.setdefault(name, []).append(value)
    return [(name, fmean(found[name])) for name in sorted(found)]


def _refused(groups: Sequence[Group]) -> Counter[str]:
    return sum((Counter(group.refused) for group in groups), Counter())


def _mean(values: Iterable[float]) -> float:
    """Mean, 0 of nothing."""
    numbers = list(values)
    return fmean(numbers) if numbers else 0.0


def advice(dead: Sequence[float], groups: Sequence[Group], size: int) -> str | None:
    """What to change when most groups have no gradient, or None.

    Args:
        dead: ``group/frac_zero_variance`` of the last steps.
        groups: of the last step.
        size: G.
    """
    if not dead or fmean(dead) <= MOSTLY_DEAD:
        return None
    share = f"{fmean(dead):.0%} of the groups of the last {len(dead)} steps have no gradient"
    if not any(len({action.total for action in group.offered}) > 1 for group in groups):
        return (
            f"{share}: all candidates of a problem have the same reward, so the problems are too easy or too hard "
            "for the policy and the external models alike. Try other data, a higher rollout.temperature or a larger N."
        )
    return (
        f"{share}: the G = {size} best candidates of a problem all have the same reward, so their advantages are 0. "
        "Try a larger G, fewer external samples (external.models[i].samples=1), selection=contrast, "
        "or objective.baseline=pool."
    )


def too_few(groups: Sequence[Group], size: int) -> str | None:
    """Says so, and what was refused, when groups have fewer than G candidates, or None."""
    smallest = min((len(group.offered) for group in groups), default=size)
    if smallest >= size:
        return None
    refused = _refused(groups) + Counter(waiting=sum(group.waiting or 0 for group in groups))
    why = f" ({', '.join(f'{count} x {reason}' for reason, count in refused.most_common())})" if refused else ""
    return f"G = {size}, but some problems have only {smallest} candidates: all of them are kept{why}."


def waiting(steps: Sequence[tuple[float, float]]) -> str | None:
    """What to change when steps wait for external models, or None.

    Args:
        steps: of each its seconds of waiting and its seconds in all.
    """
    waited, took = (sum(seconds) for seconds in zip(*steps, strict=True)) if steps else (0.0, 0.0)
    if waited <= MUCH_WAITING * took:
        return None
    return (
        f"{waited / took:.0%} of the time of the last {len(steps)} steps went by waiting for external models. Raise "
        "external.prefetch (steps asked ahead) or external.models[i].concurrency (calls in flight), or fill the cache "
        "first with ekipl external-sample."
    )


def sources_of(metrics: Mapping[str, float]) -> list[str]:
    """Sources named in a metrics row, the policy first."""
    names = sorted(key.removeprefix("share/offered/") for key in metrics if key.startswith("share/offered/"))
    return sorted(names, key=lambda name: name != POLICY)
