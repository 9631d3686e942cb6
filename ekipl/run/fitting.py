"""Whether a training run fits on a GPU and, if it does not, the cheapest settings under which it does.

The needs are those of ``ekipl/run/memory.py``. The formula counts tensors; ``CONTEXT`` is left for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

from ekipl.config import Settings
from ekipl.policy.prefix import CHUNK_ELEMENTS_GPU
from ekipl.policy.settings import ModelSettings
from ekipl.report.tables import Table
from ekipl.run.memory import GIB, Outline, Prompt, outline_of, parts_of, peak

CONTEXT = 1.0  # GiB of a GPU that CUDA and its kernels take; an estimate
RANK = 64  # of the adapters that are proposed


@dataclass(frozen=True)
class Change:
    """Settings that need less memory.

    Attributes:
        section: of the settings, ``engine`` or ``model``.
        values: the keys that are set in it.
        price: how dear it is beside the others: 1 to 4 give the same gradient and cost time, the rest changes what is
            trained, or costs much time.
        words: the same as overrides.
    """

    section: str
    values: dict[str, Any]
    price: int
    words: str

    def of(self, settings: Settings) -> Settings:
        """The settings with the change."""
        section = replace(getattr(settings, self.section), **self.values)
        return replace(settings, **{self.section: section})


def fit_of(settings: Settings, model: Outline, prompt: Prompt, gib: float) -> Table:
    """What a run needs of ``gib`` GiB a GPU: as it is set, with each change alone, and with the cheapest that fit."""

    @cache
    def outlined(one: ModelSettings) -> Outline:
        found = model if one == settings.model else outline_of(one)
        assert found is not None  # its size was known before the change
        return found

    def need(changes: tuple[Change, ...]) -> float:
        changed = settings
        for change in changes:
            changed = change.of(changed)
        return peak(parts_of(changed, outlined(changed.model), prompt, CHUNK_ELEMENTS_GPU)) / GIB

    title, header = f"{settings.method.name}: does it fit in {gib:g} GiB?", ["settings", "GiB a GPU", "fits"]
    room, as_set = gib - CONTEXT, need(())
    rows = [_row("as they are", as_set, room)]
    notes = [f"{CONTEXT:g} GiB is left for CUDA itself (an estimate)"]
    if as_set <= room:
        return Table(title, header, rows, notes)
    axes = [(None, *axis) for axis in _axes(settings, prompt.tokens(model.pixels_per_token))]
    rows += [_row(change.words, need((change,)), room) for axis in axes for change in axis if change is not None]
    options = [tuple(change for change in chosen if change is not None) for chosen in product(*axes)]
    needs = {number: need(option) for number, option in enumerate(options)}
    fitting = [number for number in needs if needs[number] <= room]
    if not fitting:
        least = min(needs, key=lambda number: needs[number])
        rows.append(_row(_words(options[least]), needs[least], room))
        notes.append("nothing of this fits: take a smaller model, shorter answers (rollout.max_tokens) or more GPUs")
        return Table(title, header, rows, notes)
    best = min(fitting, key=lambda number: (sum(change.price for change in options[number]), needs[number]))
    rows.append((f"**cheapest that fit:** {_words(options[best])}", *_row("", needs[best], room)[1:]))
    return Table(title, header, rows, notes)


def _axes(settings: Settings, length: int) -> Iterator[list[Change]]:
    """The changes by what they change: at most one of each list is taken."""
    engine, model = settings.engine, settings.model
    tokens = length + settings.rollout.max_tokens
    if engine.micro_batch > 1 or engine.micro_batch_tokens is None:
        one = {"micro_batch": 1}
        yield [
            Change("engine", one, 1, "engine.micro_batch=1"),
            Change(
                "engine",
                {**one, "micro_batch_tokens": tokens},
                2,
                f"engine.micro_batch=1 engine.micro_batch_tokens={tokens}",
            ),
        ]
    if not engine.gradient_checkpointing:
        yield [Change("engine", {"gradient_checkpointing": True}, 3, "engine.gradient_checkpointing=true")]
    yield list(_sharding(settings))
    if not model.freeze_vision:
        yield [Change("model", {"freeze_vision": True}, 5, "model.freeze_vision=true")]
    if not model.lora.rank:
        lora = replace(model.lora, rank=RANK)
        yield [Change("model", {"lora": lora}, 9, f"model.lora.rank={RANK}")]


def _sharding(settings: Settings) -> Iterator[Change]:
    """ZeRO stages above the present one, which need several ranks, and offloading."""
    engine = settings.engine
    for stage, price in ((2, 2), (3, 4)):
        if engine.world_size > 1 and stage > engine.zero_stage:
            yield Change("engine", {"zero_stage": stage}, price, f"engine.zero_stage={stage}")
    if not engine.offload_optimizer:
        stage = max(2, engine.zero_stage)
        values = {"zero_stage": stage, "offload_optimizer": True}
        yield Change("engine", values, 7, f"engine.zero_stage={stage} engine.offload_optimizer=true")
    if not engine.offload_parameters:
        values = {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True}
        words = "engine.zero_stage=3 engine.offload_optimizer=true engine.offload_parameters=true"
        yield Change("engine", values, 12, words)


def _words(changes: tuple[Change, ...]) -> str:
    return " ".join(change.words for change in changes)


def _row(name: str, need: float, room: float) -> tuple[str, str, str]:
    return name, f"{need:.2f}", "yes" if need <= room else "no"
