"""The fake in every run, a real Label Studio in the nightly one, under the same tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import httpx
import pytest

from connectors.label_studio.client import LabelStudioServer

Fake = Callable[[str], ModuleType]


class Annotators:
    """People at work on the server, by its plain REST interface."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=60)

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def submit(self, task: int, result: list[Any], **more: Any) -> int:
        return self._send("POST", f"/api/tasks/{task}/annotations/", {"result": result, **more})["id"]

    def edit(self, annotation: int, result: list[Any], **more: Any) -> None:
        self._send("PATCH", f"/api/annotations/{annotation}/", {"result": result, **more})

    def skip(self, task: int) -> int:
        return self.submit(task, [], was_cancelled=True)

    def withdraw(self, annotation: int) -> None:
        self._send("DELETE", f"/api/annotations/{annotation}/")

    def change_config(self, project: int, config: str) -> None:
        self._send("PATCH", f"/api/projects/{project}/", {"label_config": config})

    def delete_project(self, project: int) -> None:
        self._send("DELETE", f"/api/projects/{project}/")

    def delete_task(self, task: int) -> None:
        self._send("DELETE", f"/api/tasks/{task}/")

    def add(self, project: int, tasks: list[Any]) -> None:
        self._send("POST", f"/api/projects/{project}/import", tasks)

    def predict(self, task: int, result: list[Any], model: str) -> None:
        self._send("POST", "/api/predictions/", {"task": task, "result": result, "model_version": model})

    def predictions(self, task: int) -> list[dict[str, Any]]:
        return self._send("GET", f"/api/predictions/?task={task}")

    def task(self, project: int, task: int) -> dict[str, Any]:
        found = self._send("GET", f"/api/tasks/?project={project}&page_size=1000&fields=all")["tasks"]
        return next(each for each in found if each["id"] == task)

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.nightly)])
def people(request: pytest.FixtureRequest, fake: Fake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Annotators]:
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
        made = Annotators(url, token)
        stack.callback(made.close)
        yield made


@pytest.fixture
def server(people: Annotators) -> LabelStudioServer:
    return LabelStudioServer(people.url, people.token, pause=lambda _: None)
