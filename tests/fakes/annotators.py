"""People at work on a Label Studio, real or fake, by its plain REST interface."""

from pathlib import Path
from typing import Any

import httpx


def rectangle(x: float, y: float, width: float, height: float, label: str = "car", *, side: int = 32, **value: Any) -> dict[str, Any]:
    """A region as the labelling page makes it; numbers in percent, ``side`` of the picture in pixels."""
    numbers = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label], **value}
    region = {"id": "r1", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "image_rotation": 0}
    return {**region, "original_width": side, "original_height": side, "value": numbers}


class Annotators:
    def __init__(self, url: str, token: str, pictures: Path | None = None) -> None:
        self.url, self.token, self.pictures = url, token, pictures
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

    def storages(self, project: int) -> list[str]:
        return [each["path"] for each in self._send("GET", f"/api/storages/localfiles/?project={project}")]

    def file(self, address: str) -> bytes:
        """What the labelling page loads."""
        return self._http.get(address).raise_for_status().content

    def personal_token(self) -> str:
        return self._send("POST", "/api/token/", {})["token"]

    def close(self) -> None:
        self._http.close()
