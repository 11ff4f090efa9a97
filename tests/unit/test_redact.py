"""No secret reaches a checkpoint."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.checkpoint.redact import REDACTED, redact
from tests.unit.samples import NETCONF
from tests.unit.strategies import json_objects, json_values

SENTINEL = "hunter2"
SECRET_KEYS = [
    "token", "Token", "apiToken", "accessToken", "token_file_content", "secret", "clientSecret",
    "client-secret", "SECRET", "password", "ipamPassword", "passwd", "passphrase", "credential",
    "credentials", "aws_credentials", "apiKey", "api-key", "api_key", "privateKey", "private.key",
    "Authorization", "pa\u017f\u017fword",
]  # fmt: skip


def holding(secret: Any) -> st.SearchStrategy[Any]:
    """JSON values with `secret` under a telling key somewhere within."""
    core = st.builds(
        lambda more, key: {**more, key: secret}, json_objects, st.sampled_from(SECRET_KEYS)
    )
    return st.recursive(
        core,
        lambda inner: (
            st.builds(lambda more, key, one: {**more, key: one}, json_objects, st.text(), inner)
            | st.builds(
                lambda before, one: [*before, one], st.lists(json_values, max_size=2), inner
            )
        ),
        max_leaves=1,
    )


@given(holding(SENTINEL) | holding([SENTINEL]) | holding({"value": {"x": SENTINEL}}))
def test_no_secret_survives_anywhere(value: Any) -> None:
    assert SENTINEL in json.dumps(value)
    assert SENTINEL not in json.dumps(redact(value))


@pytest.mark.parametrize("key", SECRET_KEYS, ids=ascii)
def test_telling_key_stays_and_its_value_goes(key: str) -> None:
    assert redact({key: SENTINEL, "n": 1}) == {key: REDACTED, "n": 1}


@pytest.mark.parametrize("key", ["type", "name", "master", "subnet", "keyring", "pass", "tok"])
def test_other_keys_keep_their_values(key: str) -> None:
    assert redact({key: "value"}) == {key: "value"}


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("https://user:hunter2@ipam/x", f"https://{REDACTED}@ipam/x"),
        ("https://hunter2@ipam", f"https://{REDACTED}@ipam"),
        ("https://user:hun@ter2@ipam/x@y", f"https://{REDACTED}@ipam/x@y"),
        ("etcd://u:hunter2@a:2379,b:2379/x", f"etcd://{REDACTED}@a:2379,b:2379/x"),
        (
            "http://u:hunter2@a:2379,http://u:hunter2@b:2379",
            f"http://{REDACTED}@a:2379,http://{REDACTED}@b:2379",
        ),
        ("https://ipam/x@y", "https://ipam/x@y"),
        ("https://ipam:8443/", "https://ipam:8443/"),
        ("user@host", "user@host"),
        ("", ""),
    ],
)
def test_url_loses_its_user(url: str, left: str) -> None:
    assert redact({"endpoints": [url]}) == {"endpoints": [left]}


@given(json_values)
def test_shape_stays_and_the_original_is_untouched(value: Any) -> None:
    before = copy.deepcopy(value)
    cleaned = redact(value)
    assert value == before
    assert type(cleaned) is type(value)
    assert redact(cleaned) == cleaned


def test_plain_configuration_stays_as_it_is() -> None:
    assert redact(NETCONF) == NETCONF
