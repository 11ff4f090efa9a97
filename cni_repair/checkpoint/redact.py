"""Keeping secrets off the disk and out of the log."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REDACTED = "[redacted]"
_SECRET_WORDS = (
    "token", "secret", "password", "passwd", "passphrase", "credential", "apikey", "privatekey",
    "authorization",
)  # fmt: skip


def redact(value: Any) -> Any:
    """The same JSON value without its secrets.

    A key that speaks of one loses its value, whatever its shape; a URL loses its user part.
    """
    if isinstance(value, dict):
        return {
            key: REDACTED if _speaks_of_a_secret(key) else redact(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redact(inner) for inner in value]
    if isinstance(value, str):
        return _without_user(value)
    return value


def _speaks_of_a_secret(key: str) -> bool:
    plain = key.casefold().replace("-", "").replace("_", "").replace(".", "")
    return any(word in plain for word in _SECRET_WORDS)


def _without_user(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or "@" not in authority:
        return text
    return f"{scheme}://{REDACTED}@{authority.rpartition('@')[2]}{slash}{path}"
