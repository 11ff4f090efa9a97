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
    head, *urls = text.split("://")
    return "://".join([head, *(_without_user_part(url) for url in urls)])


def _without_user_part(url: str) -> str:
    """What follows `://`: the authority ends at the first of these (RFC 3986, 3.2), or at a comma,
    where another URL may begin."""
    end = min((url.find(mark) for mark in "/?#, " if mark in url), default=len(url))
    user, at, host = url[:end].rpartition("@")
    return f"{REDACTED}@{host}{url[end:]}" if at else user + host + url[end:]
