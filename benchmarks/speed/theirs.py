"""TRL's side: its GRPOTrainer on the same folder, images, prompts and lengths."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from trl import GRPOConfig, GRPOTrainer

from benchmarks.speed.setting import (
    BETA,
    EPS,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    Measured,
    Meter,
    Setting,
    Where,
    never,
    problems,
)
from ekipl.policy.model import load_model


class Processor(Qwen2VLProcessor):
    """Qwen2-VL's without its video part, which needs torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token = "<|video_pad|>"
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        super(Qwen2VLProcessor, self).__init__(image_processor, tokenizer, chat_template=chat_template)


class MeteredTrainer(GRPOTrainer):
    """TRL's trainer, unchanged; the methods that make up a phase are timed."""

    meter: Meter

    def _generate(self, *arguments: Any, **named: Any) -> Any:
        with self.meter.phase("sampling"):
            return super()._generate(*arguments, **named)

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **named: Any) -> Any:
        if model is not self.ref_model:
            return super()._get_per_token_logps_and_entropies(model, *arguments, **named)
        with self.meter.phase("reference"):
            return super()._get_per_token_logps_and_entropies(model, *arguments, **named)

    def compute_loss(self, *arguments: Any, **named: Any) -> Any:
        self.meter.rest_of_step("update")  # forward, backward, optimizer
        return super().compute_loss(*arguments, **named)


class EndOfStep(TrainerCallback):
    """Tells the meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.meter.end_step()


def alternating(completions: Sequence[Any], **_: Any) -> list[float]:
    """Every other action is right, as on ekipl's side."""
    return [1.0 + index % 2 for index in range(len(completions))]


def make_trainer(folder: Path, setting: Setting, steps: int, output: str, where: Where, **changes: Any) -> Any:
    """The trainer, one batch a step. Gradient checkpointing, its default, is off unless asked for: it costs time."""
    vlm = load_model(str(folder), device="cpu")
    processor = Processor(vlm.image_processor, vlm.tokenizer, chat_template=vlm.tokenizer.chat_template)
    rows = [
        {"prompt": [{"role": "user", "content": problem.prompt}], "images": list(problem.images)}
        for problem in problems(setting)
    ]
    options = {
        "output_dir": output,
        "model_init_kwargs": {"dtype": getattr(torch, where.dtype)},
        "use_cpu": where.device == "cpu",
        "bf16": where.dtype == "bfloat16",
        "gradient_checkpointing": where.checkpointing,
        "per_device_train_batch_size": setting.actions,
        "num_generations": setting.G,
        "max_completion_length": setting.tokens,
        "generation_kwargs": {"suppress_tokens": never(vlm)},
        "beta": BETA,
        "epsilon": EPS,
        "use_bias_correction_kl": False,  # the k3 estimate as in GRPO; TRL's default multiplies it by the ratio
        "loss_type": "grpo",
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": MAX_GRAD_NORM,
        "lr_scheduler_type": "constant",
        "max_steps": steps,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return MeteredTrainer(
        model=str(folder),
        reward_funcs=alternating,
        args=GRPOConfig(**{**options, **changes}),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
    )


def measure(folder: Path, setting: Setting, steps: int, where: Where) -> Measured:
    """Medians of ``steps`` after one that warms up."""
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(folder, setting, 1 + steps, output, where)
        trainer.meter = meter = Meter(where.device)
        trainer.add_callback(EndOfStep(meter))
        trainer.train()
    return meter.result()
