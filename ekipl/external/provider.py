"""What a provider's error says: how long to wait, whether a quota is spent; and without the keys that it may repeat."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_SHOWN = 300  # characters of a provider's message in one of ours
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
_SECRET_SHAPE = re.compile(r"(?i)\b(?:sk-|AIza|Bearer\s+)[^\s\"',;]+")
_A_DAY = re.compile(r"(?i)per[ _-]?day|\b[RT]PD\b")  # Gemini's PerDay, OpenAI's "requests per day (RPD)"
_N = re.compile(r"['\"`]n['\"`]|\bn ?[=>]|(?i:candidate)")  # in words about n > 1


def is_spent(status: int, code: object, message: str) -> bool:
    """Whether waiting for seconds is of no use: the money or the day's share is used up."""
    return status == 402 or code == "insufficient_quota" or (status == 429 and _A_DAY.search(message) is not None)


def retry_after(headers: Mapping[str, str] | None, message: str) -> float:
    """Seconds to wait: the header's number or date, or Gemini's retryDelay in the body; 0 where none is told."""
    told = (headers or {}).get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", told):
        return float(told)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        delay = re.search(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"', message)
        return float(delay[1]) if delay else 0.0


def named_parameter(sent: Mapping[str, object], param: object, message: str) -> str | None:
    """Which of the parameters ``sent`` a refusal is about: as its field ``param`` says, else the first in its words."""
    if isinstance(param, str) and param in sent:
        return param
    patterns = {key: _N if key == "n" else re.compile(rf"\b{re.escape(key)}\b") for key in sent}
    return next((key for key, pattern in patterns.items() if pattern.search(message)), None)


def redact(message: str, api_key: str | None) -> str:
    """A provider's message in one short printable line without keys: not ours, not one from the environment."""
    secrets = {value.strip() for name, value in os.environ.items() if _SECRET_NAME.search(name)} | {api_key or ""}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 8:  # shorter ones are no keys, and would tear words apart
            message = message.replace(secret, "[key]")
    line = " ".join(_SECRET_SHAPE.sub("[key]", message).split())
    return "".join(c if c.isprintable() else " " for c in line)[:_SHOWN]
