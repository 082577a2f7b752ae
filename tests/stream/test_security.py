"""What Faust would do on its own with credentials, and that we see it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from stream import faust_patches
from stream.app import InsecureKafka, credentials
from stream.faust_patches import WrongVersion, check_versions
from stream.settings import Topics, WorkerSettings

PASSWORD = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "u", "sasl_plain_password": "hidden"}
TLS = {"ssl_context": ssl.create_default_context()}


def settings(**kafka: Any) -> WorkerSettings:
    topics = Topics("facts", "broadcast", "ledger", "dead-letter")
    return WorkerSettings({"bootstrap_servers": ["b:9092"], **kafka}, topics, 4, "group", "1", Path("state"))


def test_a_password_without_a_tls_context_is_refused() -> None:
    with pytest.raises(InsecureKafka, match="SASL_SSL, but Faust would use SASL_PLAINTEXT"):
        credentials(settings(security_protocol="SASL_SSL", **PASSWORD))


def test_tls_without_a_context_is_refused() -> None:
    with pytest.raises(InsecureKafka, match="SSL, but Faust would use PLAINTEXT"):
        credentials(settings(security_protocol="SSL"))


@pytest.mark.parametrize(
    ("protocol", "options"),
    [("SASL_SSL", PASSWORD | TLS), ("SSL", TLS), ("SASL_PLAINTEXT", PASSWORD), ("PLAINTEXT", {})],
)
def test_what_is_configured_is_what_faust_uses(protocol: str, options: dict[str, Any]) -> None:
    found = credentials(settings(security_protocol=protocol, **options))
    assert (found.protocol.value if found else "PLAINTEXT") == protocol


def test_the_password_is_not_in_the_settings_text() -> None:
    assert "hidden" not in repr(settings(security_protocol="SASL_PLAINTEXT", **PASSWORD))


def test_another_version_of_what_is_patched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_versions()
    monkeypatch.setitem(faust_patches.PINNED, "faust-streaming", "0.15.4")
    with pytest.raises(WrongVersion, match=r"faust-streaming is 0.15.3, but .* written for 0.15.4"):
        check_versions()
