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
            studio = stack.enter_context(fake("label_studio_server").serving())
            url, studio.pictures = studio.url, tmp_path_factory.mktemp("pictures")
            pictures = studio.pictures
        else:
            real = fake("real_label_studio")
            try:
                found = stack.enter_context(real.serving(tmp_path_factory.mktemp("label-studio")))
            except real.Unavailable as reason:
                pytest.skip(str(reason))
            url, token, pictures = found.url, found.token, found.pictures
        made = fake("annotators").Annotators(url, token, pictures)
        stack.callback(made.close)
        yield made


@pytest.fixture(scope="session")
def personal_token(people: Any) -> str:
    return str(people.personal_token())


@pytest.fixture(params=["legacy", "personal"])
def server(request: pytest.FixtureRequest, people: Any, personal_token: str) -> LabelStudioServer:
    token = people.token if request.param == "legacy" else personal_token
    return LabelStudioServer(people.url, token, pause=lambda _: None)
