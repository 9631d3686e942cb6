"""``--dry-run``: steps, samples and tokens of a training run, and the memory of each GPU, by formula.

Memory is a sum of parts. Sources: the shares of weights, gradients and optimizer state under ZeRO, arXiv 1910.02054,
section 3. The activations of a layer are the tensors that its modules in transformers save for the backward pass (the
constants below). ``tests/test_dry_run.py`` compares the sum with the peak of a real update on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from ekipl.report.tables import Table

GIB = 2**30

# Bytes that a layer keeps for each token, by the bytes of a number: for each unit of its width, and of its MLP's width.
# Of the width: two norms (the input in float32, normalised, the output), queries, the output of attention twice.
# Of the MLP: gate, activated gate, up, and their product. Keys and values are a part of their own.
LAYER = {4: (36, 16), 2: (22, 8)}
VISION_LAYER = {4: 84, 2: 46}  # for each unit of the width; here with keys and values, and three tensors of 4 widths


@dataclass(frozen=True)
class Work:
    """One stage of a training run.

    Attributes:
        name: of the method.
        iterations: I; ``steps`` in all of them together.
        steps: I x B.
        mu: updates a step.
        problems_per_step: in the batch of all ranks.
        own: actions of the policy for each problem.
        others: actions of external models, or demonstrations, for each problem.
        demonstrated: whether the others are demonstrations.
        kept: actions that are trained on for each problem, at most.
        prompt: tokens of a prompt, images included.
        answer: tokens of an action, at most.
    """

    name: str
    iterations: int
    steps: int
    mu: int
    problems_per_step: int
    own: int
    others: int
    demonstrated: bool
    kept: int
    prompt: int
    answer: int


def work_table(work: Work) -> Table:
    """Steps, samples and tokens."""
    problems, own, others = work.steps * work.problems_per_step, work.own, work.others
    trained = problems * work.kept * work.mu
    each = f"I {work.iterations} x B {work.steps // work.iterations}, {work.mu} updates each"
    rows = [
        ("steps", work.steps, each),
        ("problems", problems, f"{work.problems_per_step} a step, repeats counted"),
        ("policy samples", problems * own, f"{own} a problem"),
        ("demonstrations" if work.demonstrated else "external samples", problems * others, f"{others} a problem"),
        ("actions trained on", trained, f"at most {work.kept} a problem, {work.mu} times"),
        ("prompt tokens", problems * work.prompt, f"about {work.prompt} a problem, encoded once for all its actions"),
        ("tokens sampled", problems * own * work.answer, f"at most: rollout.max_tokens={work.answer}"),
        ("tokens trained on", trained * work.answer, "at most"),
    ]
    lines = [(name, f"{number:,}", note) for name, number, note in rows]
    return Table(f"{work.name}: what is done", ["", "number", "of which"], lines)


@dataclass(frozen=True)
class Model:
    """Sizes of a model as it is trained.

    Attributes:
        parameters: all of them, without adapters.
        trained: parameters that are trained; with LoRA those of the adapters alone.
        layers: of the language model.
        width: of the language model.
        mlp: width of the MLPs of the language model.
        queries: width of the queries of all heads.
        keys: width of the keys of all key-value heads.
        vision: width and layers of the vision tower; None when it is frozen, which keeps no activations.
        vocabulary: number of tokens.
    """

    parameters: int
    trained: int
    layers: int
    width: int
    mlp: int
    queries: int
    keys: int
    vision: tuple[int, int] | None
    vocabulary: int


@dataclass(frozen=True)
class Engine:
    """Settings of a run that decide about memory.

    Attributes:
        number_bytes: of a weight, a gradient or an activation: 2 or 4.
        state_bytes: of the optimizer for each trained parameter.
        zero_stage: in use.
        ranks: world size.
        reference: whether a second model is the reference.
        sampler_copy: whether another whole copy of the weights samples.
        offload_optimizer: gradients and optimizer state are on the CPU.
        offload_parameters: weights are on the CPU.
        recompute: gradient checkpointing.
        gathered: parameters that ZeRO-3 gathers at once.
        bucket: gradients that are summed over the ranks at once.
        cache_gib: of vLLM; None = transformers samples.
    """

    number_bytes: int
    state_bytes: int
    zero_stage: int
    ranks: int
    reference: bool
    sampler_copy: bool
    offload_optimizer: bool
    offload_parameters: bool
    recompute: bool
    gathered: int
    bucket: int
    cache_gib: float | None = None


@dataclass(frozen=True)
class LargestMicroBatch:
    """The largest micro-batch, with every prompt and every action at full length.

    Attributes:
        prompts: number of prompts.
        actions: number of actions.
        prompt: tokens of a prompt, images included.
        answer: tokens of an action.
        patches: image patches of a prompt.
        logits: elements in one chunk of logits.
        kept_chunks: chunks of logits that are kept for the backward pass.
    """

    prompts: int
    actions: int
    prompt: int
    answer: int
    patches: int
    logits: int
    kept_chunks: int


@dataclass(frozen=True)
class Part:
    """A part of the memory: bytes on each GPU and, where it is offloaded, on the CPU for each rank."""

    name: str
    gpu: float
    formula: str
    cpu: float = 0.0


def memory_table(title: str, parts: list[Part], notes: list[str]) -> Table:
    """GiB on each GPU by part, with its formula."""
    rows = [(part.name, f"{part.gpu / GIB:.2f}", f"{part.cpu / GIB:.2f}", part.formula) for part in parts]
    gpu, cpu = sum(part.gpu for part in parts), sum(part.cpu for part in parts)
    rows += [("sum", f"{gpu / GIB:.2f}", f"{cpu / GIB:.2f}", "")] if parts else []
    return Table(f"{title}: memory a GPU, by formula", ["part", "GiB", "GiB on the CPU", "formula"], rows, notes)


def state_parts(model: Model, engine: Engine) -> list[Part]:
    """The memory that stays from step to step: weights and their copies, gradients, optimizer state."""
    stage, ranks, width = engine.zero_stage, engine.ranks, engine.number_bytes

    def part(name: str, count: int, each: int, sharded: bool, offloaded: bool = False) -> Part:
        total = count * each / (ranks if sharded else 1)
        formula = f"{count / 1e9:.3g} B x {each} B" + (f" / {ranks}" if sharded and ranks > 1 else "")
        return Part(name, 0.0, f"{formula}, on the CPU", total) if offloaded else Part(name, total, formula)

    whole, trained = model.parameters, model.trained
    parts = [
        part("weights", whole, width, stage == 3, engine.offload_parameters),
        part("gradients", trained, width, stage >= 2, engine.offload_optimizer),
        part("AdamW, float32", trained, engine.state_bytes, stage >= 1, engine.offload_optimizer),
    ]
    if engine.reference:
        parts.append(part("reference", whole, width, stage == 3, engine.offload_parameters))
    if engine.sampler_copy:
        parts.append(part("copy that samples", whole, width, False))
    if engine.cache_gib is not None:
        cache = engine.cache_gib
        parts.append(Part("keys and values of vLLM", cache * GIB, f"rollout.cache_gib={cache:g}"))
    if stage == 3:
        parts.append(part("gathered at once", min(whole, engine.gathered), width, False))
    if stage >= 1:
        parts.append(part("bucket of gradients", engine.bucket, width, False))
    return parts


def pass_parts(model: Model, engine: Engine, batch: LargestMicroBatch) -> list[Part]:
    """The memory of the forward and backward pass of a micro-batch."""
    width = engine.number_bytes

    def activations(name: str, count: int, units: int, layer: int, layers: int) -> Part:
        """``layer`` bytes inside a layer; a recomputed layer keeps its input, ``units`` wide."""
        each = layers * units * width + layer if engine.recompute else layers * layer
        what = f"({layers} x {units} x {width} + {layer}) B" if engine.recompute else f"{layers} x {layer} B"
        return Part(name, count * each, f"{count:,} tokens x {what}")

    of_width, of_mlp = LAYER[width]
    tokens = batch.prompts * batch.prompt + batch.actions * batch.answer
    parts = [activations("activations", tokens, model.width, of_width * model.width + of_mlp * model.mlp, model.layers)]
    if model.vision:
        hidden, layers = model.vision
        count = batch.prompts * batch.patches
        parts.append(activations("activations, tower", count, hidden, VISION_LAYER[width] * hidden, layers))
    parts.append(_keys_and_values(model, engine, batch))
    return [*parts, _logits(batch, batch.actions * batch.answer * model.vocabulary)]


def _keys_and_values(model: Model, engine: Engine, batch: LargestMicroBatch) -> Part:
    """Of prompts and actions: repeated for all heads in every layer, or in one layer if layers are recomputed."""
    length = batch.prompts * batch.prompt + batch.actions * (batch.prompt + batch.answer)
    units, what = model.queries * model.layers, f"{model.queries} x {model.layers}"
    if engine.recompute:
        units = model.keys * model.layers + model.queries
        what = f"({model.keys} x {model.layers} + {model.queries})"
    formula = f"{length:,} tokens x 2 x {what} x {engine.number_bytes} B"
    return Part("keys and values", length * 2 * units * engine.number_bytes, formula)


def _logits(batch: LargestMicroBatch, elements: int) -> Part:
    """Of all trained tokens, a chunk at a time: some chunks are kept, and one is in use with its gradient."""
    chunk = min(elements, batch.logits)
    chunks = min(batch.kept_chunks, -(-elements // chunk)) + 2
    return Part("logits, float32", chunks * chunk * 4, f"{chunks} x {chunk:,} x 4 B")
