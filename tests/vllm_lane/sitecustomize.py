"""On the path of the tests of vLLM alone: lets torchvision load beside a CPU build of torch.

PyPI's torchvision for x86-64 is linked against CUDA. Without its library, importing it fails on two operators that
are never called here. Declared beforehand, they do no harm; vLLM's own subprocesses need that as well.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

DECLARED = []  # for as long as the process lives


class Declare:
    """Stands in front of torchvision's import, once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                DECLARED.append(library)
        return None


if importlib.util.find_spec("torch") is not None:
    sys.meta_path.insert(0, Declare())
