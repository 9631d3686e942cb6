"""``rollout=vllm`` with vLLM's CPU build: ``make test-vllm``."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ekipl.algorithm.seams import Decoding
from ekipl.algorithm.types import Action, Problem
from ekipl.data.synthetic.source import SyntheticData
from ekipl.errors import UsageError
from ekipl.policy.hf import HFSampler
from ekipl.policy.model import TINY, VLM, load_model
from ekipl.policy.vllm import VLLMSampler, start
from ekipl.tasks.counting import Counting
from ekipl.tasks.spatial import Spatial
from ekipl.tasks.structure import Structure
from tests.families import qwen25_vl, save
from tests.float64 import ROUNDING
from tests.test_prefix import PROBLEMS

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here; make test-vllm")

GREEDY = Decoding(temperature=0, max_tokens=64)


def drawn() -> list[Problem]:
    """Problems of all tasks: one image or two, short prompts and long ones."""
    data = SyntheticData(seed=3, image_size=112, train_size=100, test_size=100)
    return [problem for task in (Counting(), Structure(), Spatial()) for problem in data.problems(task, "train", 5)]


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("tiny", device="cpu")


@pytest.fixture(scope="module")
def llm(vlm: VLM) -> Any:
    return start(vlm, dtype="float32", batch_size=64, cache_gib=0.25, processes=1)


class Sharded:
    """An engine whose tensors are valid only until the next, like those of ZeRO-3."""

    def __init__(self, vlm: VLM) -> None:
        self.model = vlm.model

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.model.named_parameters():
            whole = parameter.detach().clone()
            yield name, whole
            whole.fill_(math.nan)


def gap(ours: list[list[Action]], theirs: list[list[Action]]) -> float:
    """The largest difference of log-probabilities, up to the first token that differs."""
    differences = [0.0]
    for (one,), (other,) in zip(ours, theirs, strict=True):
        assert one.tokens is not None
        assert other.tokens is not None
        assert one.logprobs is not None
        assert other.logprobs is not None
        for a, b, p, q in zip(one.tokens, other.tokens, one.logprobs, other.logprobs, strict=False):
            if a != b:
                break
            differences.append(abs(p - q))
    return max(differences)


def test_greedy_actions_and_their_probabilities_are_those_of_transformers(vlm: VLM, llm: Any) -> None:
    problems = [*PROBLEMS, *drawn()]
    ours = HFSampler(vlm, GREEDY).sample(problems, 1, seed=0)
    theirs = VLLMSampler(vlm, llm, GREEDY).sample(problems, 1, seed=0)
    assert [a.text for (a,) in theirs] == [a.text for (a,) in ours]
    assert [(a.tokens, a.finish, a.source, a.index) for (a,) in theirs] == [
        (a.tokens, a.finish, a.source, a.index) for (a,) in ours
    ]
    assert gap(ours, theirs) < ROUNDING


def test_samples_use_the_new_weights(vlm: VLM, llm: Any) -> None:
    """Three times, because a cache of prompts, images or packed weights might survive one step."""
    changed = replace(vlm, model=load_model("tiny", device="cpu").model)
    sampler, problems = VLLMSampler(vlm, llm, GREEDY), [*PROBLEMS, *drawn()]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        before = sampler.sample(problems, 1, seed=0)
        with torch.no_grad():
            for parameter in changed.model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        now = HFSampler(changed, GREEDY).sample(problems, 1, seed=0)
        assert gap(now, before) > 0.05  # the old weights would be seen
        sampler.load_weights(Sharded(changed))  # type: ignore[arg-type] # only the method that is called
        assert gap(now, sampler.sample(problems, 1, seed=0)) < ROUNDING
    sampler.load_weights(Sharded(vlm))  # type: ignore[arg-type] # for the other tests


def test_each_weight_is_copied(vlm: VLM, llm: Any) -> None:
    """One tensor at a time: noise on all of them could hide one that is not copied."""
    changed = replace(vlm, model=load_model("tiny", device="cpu").model)
    sampler, problems = VLLMSampler(vlm, llm, GREEDY), PROBLEMS
    for name, parameter in changed.model.named_parameters():
        if ".layers." in name and ".layers.0." not in name or ".blocks." in name and ".blocks.0." not in name:
            continue
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        sampler.load_weights(Sharded(changed))  # type: ignore[arg-type]
        now = HFSampler(changed, GREEDY).sample(problems, 1, seed=0)
        assert gap(now, sampler.sample(problems, 1, seed=0)) < ROUNDING, name
        parameter.data.copy_(kept)
    sampler.load_weights(Sharded(vlm))  # type: ignore[arg-type]


def test_samples_repeat_with_their_seed_and_differ_otherwise(vlm: VLM, llm: Any) -> None:
    sampler = VLLMSampler(vlm, llm, Decoding(temperature=2.0, max_tokens=24))
    one, again, other = (sampler.sample(PROBLEMS, 6, seed) for seed in (1, 1, 2))
    assert [[a.tokens for a in row] for row in one] == [[a.tokens for a in row] for row in again]
    assert [[a.index for a in row] for row in one] == [list(range(6))] * len(PROBLEMS)
    assert all(len({a.tokens for a in (*x, *y)}) == 12 for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("decoding", [Decoding(2.0, max_tokens=1), Decoding(2.0, 0.9, 12, 1)], ids=["whole", "cut"])
def test_samples_follow_the_distribution_of_our_sampler(decoding: Decoding, vlm: VLM, llm: Any) -> None:
    n, problem = 4000, drawn()[3]
    ours, theirs = (
        Counter(action.tokens for action in sampler.sample([problem], n, seed=5)[0])
        for sampler in (HFSampler(vlm, decoding), VLLMSampler(vlm, llm, decoding))
    )
    common = [tokens for tokens in ours if ours[tokens] + theirs[tokens] >= 40]
    assert len(common) >= 4
    pairs = [(ours[tokens], theirs[tokens]) for tokens in common]
    rare = n - sum(a for a, _ in pairs), n - sum(b for _, b in pairs)
    pairs += [rare] if sum(rare) >= 40 else []
    # Two samples of one size: sum (a - b)^2 / (a + b) follows chi squared.
    statistic = torch.tensor(sum((a - b) ** 2 / (a + b) for a, b in pairs))
    assert torch.special.gammaincc(torch.tensor((len(pairs) - 1) / 2), statistic / 2) > 1e-4


def test_no_image_placeholder_is_ever_sampled(vlm: VLM, llm: Any) -> None:
    """With embeddings of 0 all tokens are alike: of 1,040, five are placeholders."""
    even = replace(vlm, model=load_model("tiny", device="cpu").model)
    even.model.get_input_embeddings().weight.data.zero_()
    sampler = VLLMSampler(vlm, llm, Decoding(max_tokens=60))
    sampler.load_weights(Sharded(even))  # type: ignore[arg-type]
    actions = [action for row in sampler.sample(PROBLEMS, 40, seed=0) for action in row]
    tokens = [token for action in actions for token in action.tokens or ()]
    assert len(tokens) > 5000
    assert len(set(tokens)) > 1000
    assert not set(tokens) & set(vlm.suppressed)
    sampler.load_weights(Sharded(vlm))  # type: ignore[arg-type]


def test_images_that_vllm_resizes_differently_are_rejected(vlm: VLM, llm: Any) -> None:
    small = load_model("tiny", max_pixels=64 * 64, min_pixels=1024, weights=False)
    with pytest.raises(UsageError, match=r"reads the prompt of .* tokens, and the policy learns from"):
        VLLMSampler(small, llm, GREEDY).sample(drawn()[:1], 1, seed=0)


def test_qwen25_vl_is_sampled_and_updated_too(tmp_path: Path, llm: Any) -> None:
    """By the second vLLM of one process, like eval with several models; it shuts ``llm`` down."""
    other = load_model(str(save(qwen25_vl(), tmp_path)), device="cpu")
    problems = [*PROBLEMS, *drawn()]
    sampler = VLLMSampler(other, start(other, dtype="float32", batch_size=32, cache_gib=0.25, processes=1), GREEDY)
    assert gap(HFSampler(other, GREEDY).sample(problems, 1, seed=0), sampler.sample(problems, 1, seed=0)) < ROUNDING
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    sampler.load_weights(Sharded(other))  # type: ignore[arg-type]
    assert gap(HFSampler(other, GREEDY).sample(problems, 1, seed=0), sampler.sample(problems, 1, seed=0)) < ROUNDING


def test_a_model_that_vllm_rejects_is_reported_in_one_line(vlm: VLM, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rollout.kind: vllm: .*; change that, or set rollout=hf$"):
        start(replace(vlm, path=str(tmp_path)), dtype="float32", batch_size=4, cache_gib=0.1, processes=1)


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(TINY, folder))


def ekipl(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "ekipl", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("engine", "limit"),
    [
        (("engine.num_processes=1",), ROUNDING),
        (("engine=zero3", "engine.num_processes=2"), ROUNDING),
        (("model.lora.rank=4",), ROUNDING),
        (("model.dtype=bfloat16",), 0.02),
    ],
    ids=["zero0", "zero3 x 2", "lora", "bfloat16"],
)
def test_training_samples_from_the_weights_it_learns(engine: tuple[str, ...], limit: float, tmp_path: Path) -> None:
    """After every step the sampler's log-probabilities are those of training."""
    plan = ["B=3", "problems_per_step=4", "mu=2", "engine.learning_rate=3e-4", "evaluation.limit=4"]
    ekipl("train", "rollout=vllm", "rollout.cache_gib=0.25", *plan, *engine, f"hydra.run.dir={tmp_path}")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss/sampler_gap"] < limit for row in rows if "loss/sampler_gap" in row] == [True] * 3
    assert "eval/id/accuracy" in rows[-1]


def test_a_resumed_run_samples_from_the_weights_of_its_checkpoint(tmp_path: Path) -> None:
    words = ["rollout=vllm", "rollout.cache_gib=0.25", "problems_per_step=4", "B=4", "engine.learning_rate=3e-4"]
    words += ["evaluation.every=0", "checkpoint.every=2", "checkpoint.keep=5"]
    ekipl("train", *words, f"hydra.run.dir={tmp_path / 'whole'}")
    ekipl("train", *words, f"hydra.run.dir={tmp_path / 'parted'}")
    run = tmp_path / "parted"
    for path in (run / "checkpoints").iterdir():
        if path.name.endswith("4"):
            subprocess.run(["rm", "-r", str(path)], check=True)
    subprocess.run(["rm", "-r", str(run / "model")], check=True)
    ekipl("train", *words, f"hydra.run.dir={run}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss/sampler_gap"] < ROUNDING
    assert rows[-1]["loss/total"] == pytest.approx(whole[-1]["loss/total"], abs=1e-4)


def test_the_other_commands_sample_with_it(tmp_path: Path) -> None:
    quick = ["rollout=vllm", "rollout.cache_gib=0.25", "limit=3", "splits=[id]"]
    ekipl("rollout", *quick, "samples=2", f"hydra.run.dir={tmp_path / 'rollout'}")
    assert len((tmp_path / "rollout" / "actions.jsonl").read_text().splitlines()) == 6
    ekipl("eval", *quick, f"models=[{copied(tmp_path / 'copy')}]", f"hydra.run.dir={tmp_path / 'eval'}")
    ekipl("passk", *quick, "--k", "1,2", "passk.samples=4", f"hydra.run.dir={tmp_path / 'passk'}")
