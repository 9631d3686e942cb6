"""The card of a trained model, ``model/README.md``: what it is made of, how, and how good it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ekipl.report.page import accuracy_table
from ekipl.report.scores import versions
from ekipl.report.tables import Table, plain

FILE = "README.md"
HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # the form of ORGANISATION/NAME


def model_card(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The card as Markdown, with the head that Hugging Face reads.

    Args:
        settings: of the run, as in its ``config.yaml``; paths of this machine are cut to their last part.
        rows: of ``metrics.jsonl``.
        name: of the run.
    """
    base = str(settings["model"]["path"])
    steps = max((row["step"] for row in rows), default=0)
    head = ["library_name: transformers", "pipeline_tag: image-text-to-text", "tags: [ekipl, grpo]"]
    if _is_on_hub(base):
        head.append(f"base_model: {json.dumps(base)}")
    facts = [("base model", shown_path(base)), *_how(settings), ("steps", f"{steps}"), ("seed", str(settings["seed"]))]
    facts.append(("training problems seen", f"{steps * settings['problems_per_step']:,}"))
    facts += [("versions", ", ".join(f"{package} {version}" for package, version in versions().items()))]
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    tables = [Table("Training", ["what", "value"], facts).markdown()]
    if evaluated:
        measured = accuracy_table(evaluated, settings["checkpoint"]["best"])
        note = f"by the reward {_rewards(settings)}, in the periodic evaluation"
        tables.append(replace(measured, notes=[*measured.notes, note]).markdown())
    return "\n".join(["---", *head, "---", "", f"# {plain(name)}", "", _license(base), "", *tables])


def shown_path(path: str) -> str:
    """A model or data set as strangers may read it: a hub's name as it is, of a local path its last part."""
    return path if _is_on_hub(path) else Path(path).name or path


def _is_on_hub(path: str) -> bool:
    return HUB.fullmatch(path) is not None and not Path(path).expanduser().exists()


def _license(base: str) -> str:
    return (
        f"A vision-language model that `ekipl` trained from `{_code(shown_path(base))}` (arXiv 2506.06856). "
        "**License: unknown.** That of the base model, and those of the data and of the external models, apply; the "
        "training has not looked them up. State one before you publish this folder."
    )


def _how(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows on task, data, method, reward and external models."""
    data, external, lora = settings["data"], settings["external"], settings["model"]["lora"]
    origin = next((str(data[key]) for key in ("hub", "root", "path") if data.get(key)), "")
    models = [str(model["name"]) for model in external.get("models", ())][: settings["M"]]
    found = [
        ("task", str(settings["task"]["_target_"]).rpartition(".")[2]),
        ("data", " ".join(filter(None, [shown_path(str(data["kind"])), origin and shown_path(origin)]))),
        ("method", f"{settings['method']['name']} (N {settings['N']}, M {settings['M']}, G {settings['G']})"),
        ("reward", _rewards(settings)),
        ("external models", ", ".join(models) or "none"),
    ]
    return [*found, ("LoRA", f"rank {lora['rank']}, alpha {lora['alpha']}, merged")] if lora["rank"] else found


def _rewards(settings: Mapping[str, Any]) -> str:
    rewards = [settings["reward"]] if isinstance(settings["reward"], str) else settings["reward"]
    weights = settings["reward_weights"] or [1] * len(rewards)
    names = [Path(reward).name for reward in rewards]
    return " + ".join(f"{w:g} x {n}" if w != 1 else n for w, n in zip(weights, names, strict=True))


def _code(text: str) -> str:
    return plain(text).replace("`", "'")
