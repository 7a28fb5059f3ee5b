"""The fake in every run, a real Label Studio in the nightly one, under the same tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest

from connectors.label_studio.client import LabelStudioServer

Fake = Callable[[str], ModuleType]


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.nightly)])
def people(request: pytest.FixtureRequest, fake: Fake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as stack:
        if request.param == "fake":
            token = fake("label_studio_server").TOKEN
            url = stack.enter_context(fake("label_studio_server").serving()).url
        else:
            real = fake("real_label_studio")
            try:
                found = stack.enter_context(real.serving(tmp_path_factory.mktemp("label-studio")))
            except real.Unavailable as reason:
                pytest.skip(str(reason))
            url, token = found.url, found.token
        made = fake("annotators").Annotators(url, token)
        stack.callback(made.close)
        yield made


@pytest.fixture
def server(people: Any) -> LabelStudioServer:
    return LabelStudioServer(people.url, people.token, pause=lambda _: None)
