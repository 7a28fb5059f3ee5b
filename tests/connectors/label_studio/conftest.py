"""A Label Studio that is made up, and a connection to it that keeps its pauses."""

from __future__ import annotations

import pytest

from connectors.label_studio.client import LabelStudioServer


@pytest.fixture
def studio(fake):
    with fake("label_studio_server").serving() as serving:
        yield serving


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def server(studio, fake, pauses) -> LabelStudioServer:
    return LabelStudioServer(studio.url, fake("label_studio_server").TOKEN, pause=pauses.append)
