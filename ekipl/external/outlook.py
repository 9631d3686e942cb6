"""What is still to be spent, before anything is: the table of a dry run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from ekipl.algorithm.types import Problem
from ekipl.external.cache import Cache
from ekipl.external.caller import Asker
from ekipl.external.question import Question, Shape
from ekipl.report.tables import Table

IMAGE_TOKENS = 1000  # a guess, until a provider has told


@dataclass
class _Tally:
    """Of one model."""

    wanted: int = 0
    missing: list[Shape] = field(default_factory=list)  # one for each sample that is still to be asked for
    requests: list[Shape] = field(default_factory=list)  # one for each call that this takes
    prompts: list[float] = field(default_factory=list)  # tokens an answer, of those that are there
    completions: list[int] = field(default_factory=list)


def outlook(askers: Sequence[Asker], cache: Cache | None, problems: Iterable[Problem], n: int) -> Table:
    """Requests, tokens and dollars that these samples still take, retries left out."""
    tallies = [_Tally() for _ in askers]
    seen: set[str] = set()
    for question in map(Question, problems):
        for asker, tally in zip(askers, tallies, strict=True):
            if asker.model.is_simulated:  # free
                continue
            before = len(tally.missing)
            for sample in range(asker.samples(n)):
                key = asker.key(question, sample)
                if cache is not None and key in seen:
                    continue  # counted already
                seen.add(key)
                tally.wanted += 1
                known = cache.get(key) if cache is not None else None
                if known is None:
                    tally.missing.append(question.shape)
                    continue
                asker.learn(question, known)
                if known.prompt_tokens:
                    tally.prompts.append(known.prompt_tokens / known.shared)
                    tally.completions.append(known.completion_tokens)
            tally.requests += [question.shape] * ceil((len(tally.missing) - before) / asker.choices)
    rows = [_row(asker, tally) for asker, tally in zip(askers, tallies, strict=True)]
    header = [
        "model",
        "samples",
        "in the cache",
        "requests",
        "prompt tokens",
        "completion tokens",
        "USD",
        "USD at most",
    ]
    notes = [
        "tokens and USD are estimates: from answers in the cache, else 4 characters a token, "
        f"{IMAGE_TOKENS} tokens an image and answers of full length; what fails and is asked again costs more",
        *(f"{a.model.name}: simulated, free" for a in askers if a.model.is_simulated),
    ]
    return Table("Still to be spent", header, rows, notes)


def _row(asker: Asker, tally: _Tally) -> list[str]:
    count = len(tally.missing)
    if tally.prompts:
        prompt = round(count * sum(tally.prompts) / len(tally.prompts))
        completion: int | None = round(count * sum(tally.completions) / len(tally.completions))
    else:
        images = (shape.characters // 4 + IMAGE_TOKENS * len(shape.images) for shape in tally.requests)
        prompt, limit = sum(images), asker.meter.max_tokens
        completion = None if limit is None else count * limit
    price = asker.meter.price
    usd = None if price is None or completion is None else price.usd(prompt, completion)
    most = [asker.meter.most_usd(shape) for shape in tally.missing]
    bound = None if None in most else sum(cost for cost in most if cost is not None)
    tokens = [str(prompt), "unlimited" if completion is None else str(completion)]
    counts = tally.wanted, tally.wanted - count, len(tally.requests)
    return [asker.model.name, *map(str, counts), *tokens, _usd(usd), _usd(bound)]


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
