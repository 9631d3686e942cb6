"""Rules of the engine that need no tensors: the engine applies them, and ``--dry-run`` counts with them."""

from __future__ import annotations

# DeepSpeed's defaults: gradients that are summed over the ranks at once (reduce_bucket_size), and parameters that
# ZeRO-3 gathers at once (stage3_max_live_parameters).
BUCKET, GATHERED = 5 * 10**8, 10**9


def zero_stage(stage: int, half: bool) -> int:
    """The ZeRO stage in use.

    Stage 0 keeps no float32 copy of bfloat16 weights, so small updates would be rounded away. Stage 1 keeps one.
    """
    return max(stage, 1) if half else stage


def state_bytes(half: bool) -> int:
    """Bytes of AdamW's state for each trained parameter: two float32 moments, and float32 weights beside bfloat16."""
    return 12 if half else 8
