"""Tiles to choose from."""

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def choosable(fake: Callable[[str], ModuleType]) -> ModuleType:
    """Tiles to choose from, as the ranking gets them."""
    return fake("choosable")
