"""Secrets in texts: whatever is written to a file or shown in a message passes through ``masked``.

A secret is the value of an environment variable with a telling name, a password or a key inside an address, a text in
the shape of an API key, or what the caller names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "[key]"
SHORTEST = 8  # characters; shorter values are no keys, and replacing them would cut words
NAME = re.compile(r"(?i)(key|token|secret|password|passwd|credentials?)$")  # of an environment variable with a secret
PASSWORD = re.compile(r"(?<=://)([^/\s:@?#]*):([^/\s@?#]+)(?=@)")  # of USER:PASSWORD@HOST
_QUERY = re.compile(r"(?i)(?<=[?&])((?:[\w-]*key|[\w-]*token|sig|signature|secret|password|code)=)[^&\s#\"']+")
_SHAPE = re.compile(r"(?i)\b(?:sk-|AIza|Bearer\s+)[^\s\"',;]+")


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with ``[key]`` in place of every secret."""
    known = {value.strip() for name, value in os.environ.items() if NAME.search(name)} | set(secrets)
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, MASK)
    text = PASSWORD.sub(rf"\1:{MASK}", text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    return _SHAPE.sub(MASK, text)


def masked_values(value: Any, secrets: Iterable[str] = ()) -> Any:
    """JSON values with every text in them masked."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, Mapping):
        return {key: masked_values(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(item, secrets) for item in value]
    return value


def without_password(address: str) -> str:
    """The address without user and password."""
    return PASSWORD.sub("", address).replace("://@", "://")
