"""Fixtures for all tests."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture
def unique() -> str:
    """A short random word, for names on servers that tests share."""
    return secrets.token_hex(4)
