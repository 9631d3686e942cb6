"""Evaluation of models that ekipl does not train: any image-text model, by its own processor and ``generate``.

Models of the trained families are sampled by ``hf.py``, which encodes a prompt once for all its samples and returns
log-probabilities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor

from ekipl.algorithm.seams import Decoding, Engine
from ekipl.algorithm.types import POLICY, Action, Problem
from ekipl.errors import UsageError
from ekipl.policy.family import family_of
from ekipl.policy.streaming import Text, Told


def evaluated_only(path: str, trust_remote_code: bool = False) -> bool:
    """Whether the model is of a family that ekipl does not train; False where its config cannot be read."""
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception:  # transformers raises many classes; ``load_model`` reports the reason
        return False
    return family_of(config) is None


class GenerateSampler:
    """Samples from a model by its own ``generate``.

    A batch of problems draws from one random stream, seeded by (seed, first problem's id). The same settings give the
    same samples; another batch size gives others.
    """

    def __init__(
        self,
        path: str,
        decoding: Decoding,
        batch_size: int = 32,
        *,
        dtype: str = "bfloat16",
        attention: str = "sdpa",
        trust_remote_code: bool = False,
    ) -> None:
        """Load the model, onto a GPU if there is one. Raises UsageError when it cannot be loaded."""
        options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        try:
            self.processor: Any = AutoProcessor.from_pretrained(path, **options)
            model: Any = AutoModelForMultimodalLM.from_pretrained(
                path, dtype=getattr(torch, dtype), attn_implementation=attention, use_safetensors=True, **options
            )
        except ImportError as error:  # some processors need libraries that ekipl does not
            raise UsageError(f"model.path: {path}: {str(error).strip().partition('. ')[0]}; install it") from error
        except Exception as error:  # transformers raises many classes for damaged files
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UsageError(f"model.path: {path}: cannot be loaded: {reason}") from error
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token_id is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self.decoding, self.batch_size = decoding, batch_size

    def sample(self, problems: Sequence[Problem], n: int, seed: int) -> list[list[Action]]:
        """n actions a problem, in the order of the problems."""
        size = max(1, self.batch_size // n)
        parts = [problems[start : start + size] for start in range(0, len(problems), size)]
        return [actions for part in parts for actions in self._batch(part, n, seed)]

    def stream(self, problem: Problem, seed: int, told: Told) -> Action:
        """Sample 0 of the problem; ``told`` gets its text as its tokens are sampled."""
        text = Text(self._text, self._ends(), told)
        [[action]] = self._batch([problem], 1, seed, _Streamer(text))
        text.finish(action.text)
        return action

    def encode(self, action: Action) -> Action | str:
        """Always ``not_trained``."""
        return "not_trained"

    def load_weights(self, engine: Engine) -> None:
        """Not implemented: no engine trains this model."""
        raise NotImplementedError("models of this family are evaluated, not trained")

    @torch.no_grad()
    def _batch(
        self, problems: Sequence[Problem], n: int, seed: int, streamer: _Streamer | None = None
    ) -> list[list[Action]]:
        inputs = self.inputs(problems)
        torch.manual_seed(_seed(seed, problems[0]))
        decoding, tokenizer = self.decoding, self.processor.tokenizer
        sampled = decoding.temperature > 0
        chosen = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k}
        ids = self.model.generate(
            **inputs,
            max_new_tokens=decoding.max_tokens,
            do_sample=sampled,
            num_return_sequences=n,
            pad_token_id=tokenizer.pad_token_id,
            streamer=streamer,
            **(chosen if sampled else {}),
        )[:, inputs["input_ids"].shape[1] :]  # (P n, T)
        ends = self._ends()
        actions = [self._action(problems[row // n].id, row % n, line, ends) for row, line in enumerate(ids.tolist())]
        return [actions[start : start + n] for start in range(0, len(actions), n)]

    def inputs(self, problems: Sequence[Problem]) -> Any:
        """The model's inputs for these problems: in its own chat format."""
        texts = []
        for problem in problems:
            content = [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in problem.parts
            ]
            turn = [{"role": "user", "content": content}]
            texts.append(self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
        images = [list(problem.images) for problem in problems]
        made = self.processor(
            text=texts, images=images if any(images) else None, return_tensors="pt", padding=True,
            add_special_tokens=not str(texts[0]).startswith(str(self.processor.tokenizer.bos_token)),
        )  # fmt: skip
        return made.to(self.model.device, self.model.dtype)

    def _text(self, ids: list[int]) -> str:
        text: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _ends(self) -> set[int]:
        configured = self.model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return {i for i in (*listed, self.processor.tokenizer.eos_token_id) if i is not None}

    def _action(self, problem_id: str, index: int, ids: list[int], ends: set[int]) -> Action:
        length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        text = self._text(ids[:length])
        finished = length < len(ids)
        return Action(
            problem_id, POLICY, index, text, "stop" if finished else "length", tuple(ids[: length + finished])
        )


class _Streamer:
    """What ``generate`` gives the prompt, and then each token."""

    def __init__(self, text: Text) -> None:
        self._text, self._has_prompt = text, False

    def put(self, ids: torch.Tensor) -> None:
        """The ids of the prompt at the first call, of one token at each later one."""
        for token in ids.flatten().tolist() if self._has_prompt else ():
            self._text.add(token)
        self._has_prompt = True

    def end(self) -> None:
        """All tokens are there."""


def _seed(seed: int, problem: Problem) -> int:
    name = f"{seed}\x00{problem.split}\x00{problem.id}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:7], "big")
