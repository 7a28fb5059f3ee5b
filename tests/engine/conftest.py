"""What the tests of training and of trained models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def squares(fake: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    """The fake ``squares``, with torch on one thread as long as it is used."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield fake("squares")
    torch.set_num_threads(before)
