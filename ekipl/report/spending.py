"""Tables of the external models' cost: the money spent, and an estimate of the money still needed."""

from __future__ import annotations

from collections.abc import Sequence

from ekipl.report.tables import Table

Spent = tuple[str, int, int, int, int, int, int, float | None]
Remaining = tuple[str, int, int, int, int, int | None, float | None, float | None, bool]


def spending_table(
    models: Sequence[Spent],
    failed: Sequence[tuple[str, str, int]],
    dropped: Sequence[tuple[str, str]],
    faults: Sequence[tuple[str, str, str]] = (),
) -> Table:
    """Requests, tokens and US dollars by model.

    Args:
        models: name, requests, retries, answers, prompt tokens, completion tokens, answers from the cache, US dollars
            (None = unknown).
        failed: model, reason of a failure, number of samples.
        dropped: model, parameter that the provider rejects and that is no longer sent.
        faults: model, problem, why it has no answer.
    """
    header = ["model", "requests", "retries", "answers", "prompt tokens", "completion tokens", "from cache", "USD"]
    rows = [[name, *map(str, counts), _usd(usd)] for name, *counts, usd in models]
    notes = [f"{name}: {count} x {reason}" for name, reason, count in failed]
    notes += [f"{name}: {parameter} was left out, for the provider refuses it" for name, parameter in dropped]
    notes += [f"{name}: {problem}: {reason}" for name, problem, reason in faults]
    return Table("External models", header, rows, notes)


def remaining_table(models: Sequence[Remaining], image_tokens: int) -> Table:
    """Requests, tokens and US dollars that a run still takes.

    Args:
        models: name, samples, those in the cache, requests, prompt tokens, completion tokens (None = without limit),
            US dollars, their upper bound (None = unknown), whether it is simulated.
        image_tokens: that the estimate assumes for an image.
    """
    header = ["model", "samples", "in the cache", "requests"]
    header += ["prompt tokens", "completion tokens", "USD", "USD at most"]
    rows = [
        [name, *map(str, counts), "unlimited" if completion is None else str(completion), _usd(usd), _usd(most)]
        for name, *counts, completion, usd, most, _ in models
    ]
    notes = [
        "tokens and USD are estimates: from answers in the cache, else 4 characters a token, "
        f"{image_tokens} tokens an image and answers of full length; what fails and is asked again costs more",
        *(f"{name}: simulated, free" for name, *_, is_simulated in models if is_simulated),
    ]
    return Table("Still to be spent", header, rows, notes)


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
