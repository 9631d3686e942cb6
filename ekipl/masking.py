"""Secrets in texts: whatever is written to a file or shown in a message passes through ``masked``.

A secret is the value of an environment variable with a telling name, a password or a key inside an address, a text in
the shape of an API key, or what the caller names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MASK = "[key]"
SHORTEST = 8  # characters; shorter values are no keys, and replacing them would cut words
OWN = "EKIPL_SECRET"  # begins the names of variables that hold a part of a setting
NAME = re.compile(rf"(?i)^{OWN}|(key|token|secret|password|passwd|credentials?)$")  # of variables with a secret
# The secret parts of a text: of USER:PASSWORD@HOST, of an address's query, and keys by their shape.
_PARTS = re.compile(
    r"(?i)(?P<before>://[^/\s:@?#\"']*:)(?P<password>[^/\s@?#\"']+)(?=@)"
    r"|(?P<name>[?&](?:[\w-]*key|[\w-]*token|sig|signature|secret|password|code)=)(?P<value>[^&\s#\"'$]+)"
    r"|(?P<shape>\b(?:sk-|AIza|Bearer\s+)[^\s\"',;]+)"
)
_USER = re.compile(r"(?<=://)[^/\s@?#]*@")


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with ``[key]`` in place of every secret."""
    known = {value.strip() for name, value in os.environ.items() if NAME.search(name)} | set(secrets)
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, MASK)
    return replaced(text, lambda _: MASK)


def replaced(text: str, by: Callable[[str], str]) -> str:
    """The text with ``by(secret)`` in place of each secret part that its form gives away."""

    def put(found: re.Match[str]) -> str:
        secret = found["password"] or found["value"] or found["shape"]
        return (found["before"] or found["name"] or "") + (secret if secret.startswith("${") else by(secret))

    return _PARTS.sub(put, text)


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
    return _USER.sub("", address)
