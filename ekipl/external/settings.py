"""The settings of the external models, one class for each kind of pool (``external=``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ekipl.algorithm.ranges import Count, Name, NotNegative, Positive, TopP, Whole
from ekipl.external.budget import Price
from ekipl.external.simulated import PREFIX, Expert
from ekipl.importing import Named

KINDS = ("none", "litellm", "recorded", "demonstrations")


@dataclass(frozen=True, kw_only=True)
class Each:
    """The settings of an external model that its entry need not repeat.

    Attributes:
        samples: actions a problem; null: N.
        api_base: address of an OpenAI-compatible server; null: the provider's own.
        api_key_env: NAME of the environment variable that holds the key; keys themselves never stand in settings.
            Null: the provider's usual variable, or no key at all where ``api_base`` is given, so that a key never goes
            to a server it was not meant for.
        temperature: null: that of the section, as for the next two.
        top_p: above 0, at most 1.
        max_tokens: of an answer.
        concurrency: calls in flight at once.
        choices: answers asked for in one call (the API's ``n``); 1 where the provider does not honour it.
        image_tokens: the most tokens that one image can count, for budgets; null: as the provider documents it.
        on_refused: a parameter that the provider rejects ends the run (``stop``), or is left out from then on and
            noted in the ledger (``drop``).
        price: dollars for a million tokens, ``{input: 2.5, output: 10}``; null: by LiteLLM's list.
        requests_per_minute: over all ranks; null: no limit.
        tokens_per_minute: of prompts and answers over all ranks, each call at its upper bound; null: no limit.
        params: further arguments of the LiteLLM call, passed on as they are; a null leaves out even ``temperature``,
            ``top_p`` or ``max_tokens``.
    """

    samples: Count | None = None
    api_base: Name | None = None
    api_key_env: Name | None = None
    temperature: NotNegative | None = None
    top_p: TopP | None = None
    max_tokens: Count | None = None
    concurrency: Count = 16
    choices: Count = 1
    image_tokens: Count | None = None
    on_refused: Literal["stop", "drop"] = "stop"
    price: Price | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExternalModel(Each):
    """One external model. A key that its entry leaves out is that of ``external.each``.

    Attributes:
        name: the source of its actions, in records and figures; not ``policy``.
        model: LiteLLM's name of it: ``openai/gpt-4o-2024-11-20``, ``gemini/gemini-2.5-pro``; ``simulated/NAME`` is an
            expert of ``external.experts``.
    """

    name: Name
    model: Name

    @property
    def is_simulated(self) -> bool:
        return self.model.startswith(PREFIX)


@dataclass(frozen=True, kw_only=True)
class LiteLLM:
    """Models behind APIs, or simulated experts, which take the same call path.

    Attributes:
        kind: ``litellm``.
        models: the external models; M takes the first of them.
        each: what an entry of ``models`` does not say.
        experts: the simulated models behind ``simulated/NAME``.
        temperature: 0 is greedy.
        top_p: 1 is off.
        max_tokens: of a completion.
        timeout_s: of one call, seconds.
        max_body_mb: of one answer as it arrives and unpacked, millions of bytes; a larger one is given up and counted.
        cache: file that keeps the answers of real models for all runs; null: they are not kept.
        budget_usd: dollars that a run may spend, calls in flight and earlier starts included; null: no limit.
        on_exhausted: when the budget does not allow a call: ``stop``, or ``policy_only``, which uses the cache alone.
        prefetch: steps of ``train`` whose external actions are requested ahead; 0: none.
    """

    kind: Literal["litellm"]
    models: tuple[ExternalModel, ...]
    each: Each
    experts: tuple[Expert, ...]
    temperature: NotNegative
    top_p: TopP
    max_tokens: Count
    timeout_s: Positive
    max_body_mb: Positive
    cache: Name | None
    budget_usd: NotNegative | None
    on_exhausted: Literal["stop", "policy_only"]
    prefetch: Whole


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of a recording.

    Attributes:
        name: its name in the recording.
        samples: actions a problem; null: N.
    """

    name: Name
    samples: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Replays the actions that ``ekipl external-sample`` wrote.

    Attributes:
        kind: ``recorded``.
        path: the actions.jsonl, or the run folder that holds it.
        models: the sources to replay; M takes the first of them.
    """

    kind: Literal["recorded"]
    path: Name | None
    models: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class Demonstrated:
    """The data's own answers, one demonstration a problem.

    Attributes:
        kind: ``demonstrations``.
        models: one source, whose name its actions carry.
    """

    kind: Literal["demonstrations"]
    models: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class Nobody:
    """No external models: plain GRPO.

    Attributes:
        kind: ``none``.
    """

    kind: Literal["none"]


@dataclass(frozen=True, kw_only=True)
class OwnPool:
    """A pool of your own (docs/extending.md).

    Attributes:
        kind: the import path of a class that implements ``ExternalPool``.
        args: keyword arguments of that class.
    """

    kind: Annotated[str, Named(KINDS)]
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(Each):
    """The model that ``reward=judge`` asks (docs/rewards.md).

    Attributes:
        model: LiteLLM's name of it.
        template: a text file with ``{completion}`` in it, and ``{question}`` and ``{answer}`` where they are wanted;
            null: the built-in one.
        scale: points of a fully right answer, of which the accuracy is the part; null: the verdict is right or wrong.
        longest: characters of a completion that the judge sees; the middle of a longer one is left out.
        samples: judgements of a completion; its accuracy is their mean.
        temperature: 0 is greedy.
        top_p: 1 is off.
        max_tokens: of a reply.
        timeout_s: of one call, seconds.
        max_body_mb: of one reply as it arrives and unpacked, millions of bytes.
        cache: file that keeps the replies for all runs, not that of ``external.cache``; null: they are not kept.
        budget_usd: dollars that judging may cost a run, earlier starts included; beyond, completions are ungraded;
            null: no limit.
    """

    model: Name
    template: Name | None
    scale: Count | None
    longest: Count
    samples: Count
    temperature: NotNegative
    top_p: TopP
    max_tokens: Count
    timeout_s: Positive
    max_body_mb: Positive
    cache: Name | None
    budget_usd: NotNegative | None


External = Nobody | LiteLLM | Recorded | Demonstrated | OwnPool
