"""As much of Label Studio's REST interface as our client uses, over loopback, with a clock of its own.

``Fake`` counts requests and can misbehave: ``fake.faults[n] = fault`` does ``fault`` to the n-th request from now on (1 is the next),
``fake.every = (k, fault)`` to every k-th. ``reset`` and ``502`` do not do what was asked; ``late`` does it and closes, ``cut``
closes it within the answer, ``torn`` ends the answer early as if that were all, ``slow`` lets it drip.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt

TOKEN = "0123456789abcdef0123456789abcdef01234567"
USERS = [{"id": 1, "email": "ada@example.com", "initials": "ad"}, {"id": 2, "email": "", "initials": "??"}]
MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"
"""The one form in which the real server reads a time in a filter."""
FAULTS = ("reset", "502", "late", "cut", "torn", "slow")
SECONDS_A_BYTE = 0.05


class Fake:
    """The state of the server; one request at a time changes it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.now = datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC)
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.predictions: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, dict[str, Any]] = {}
        self.numbers = {"upload": 0, "project": 0, "task": 0, "prediction": 0, "annotation": 0}
        self.tokens = {TOKEN: "Token"}
        self.refresh: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []
        self.faults: dict[int, str] = {}
        self.every: tuple[int, str] | None = None
        self.stopped = threading.Event()
        self.largest_page = 10_000
        self.busy = False
        """everything changes once more before it is asked for by a time that is over"""
        self.zone: tzinfo | None = None
        """in which it writes its times; None for UTC, as the real one does"""
        self.hides_annotations = False
        self.storages: list[dict[str, Any]] = []
        self.uploads: dict[int, dict[str, Any]] = {}
        self.backends: list[dict[str, Any]] = []
        self.pictures: Path | None = None
        """the folder that it serves local files from"""
        self.url = ""

    def stamp(self) -> str:
        self.now += timedelta(microseconds=137)
        return self.now.strftime(MOMENT) if self.zone is None else self.now.astimezone(self.zone).isoformat(timespec="microseconds")

    def number(self, kind: str) -> int:
        self.numbers[kind] += 1
        return self.numbers[kind]

    def touch(self, task_id: int) -> None:
        self.tasks[task_id]["updated_at"] = self.stamp()

    def of_task(self, kind: str, task_id: int) -> list[dict[str, Any]]:
        return [each for each in getattr(self, kind).values() if each["task"] == task_id]


class Refusal(Exception):
    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail


def whoami(fake: Fake, _query: dict[str, str], _body: Any) -> Any:
    return 200, USERS[0]


def list_backends(fake: Fake, _query: dict[str, str], _body: Any) -> Any:
    return 200, fake.backends


def users(fake: Fake, _query: dict[str, str], _body: Any) -> Any:
    return 200, USERS


def personal_token(fake: Fake, _query: dict[str, str], _body: Any) -> Any:
    lasting, access = signed("refresh", 9000), signed("access", 300)
    fake.refresh[lasting], fake.tokens[access] = access, "Bearer"
    return 201, {"token": lasting}


def signed(kind: str, seconds: float) -> str:
    """A token as the real server makes them, that runs out so many seconds from now."""
    return jwt.encode({"token_type": kind, "exp": int(time.time() + seconds), "user_id": 1}, "k" * 32, algorithm="HS256")


def make_project(fake: Fake, _query: dict[str, str], body: Any) -> Any:
    made = {"id": fake.number("project"), "title": body["title"], "description": body.get("description", "")}
    made["label_config"], made["maximum_annotations"] = body["label_config"], body.get("maximum_annotations", 1)
    fake.projects[made["id"]] = made
    return 201, made


def list_projects(fake: Fake, query: dict[str, str], _body: Any) -> Any:
    found = [project(fake, {}, None, number)[1] for number in sorted(fake.projects, reverse=True)]
    size = int(query.get("page_size", 30))
    start = (int(query.get("page", 1)) - 1) * size
    if start and start >= len(found):
        raise Refusal(404, "Invalid page.")
    return 200, {"count": len(found), "next": None, "previous": None, "results": found[start : start + size]}


def project(fake: Fake, _query: dict[str, str], _body: Any, number: int) -> Any:
    if number not in fake.projects:
        raise Refusal(404, "No Project matches the given query.")
    return 200, {**fake.projects[number], "task_number": sum(each["project"] == number for each in fake.tasks.values())}


def change_project(fake: Fake, _query: dict[str, str], body: Any, number: int) -> Any:
    fake.projects[number].update(body)
    return 200, fake.projects[number]


def delete_project(fake: Fake, _query: dict[str, str], _body: Any, number: int) -> Any:
    fake.projects.pop(number)
    return 204, None


def list_storages(fake: Fake, query: dict[str, str], _body: Any) -> Any:
    return 200, [each for each in fake.storages if each["project"] == int(query["project"])]


def add_storage(fake: Fake, _query: dict[str, str], body: Any) -> Any:
    path = Path(body["path"])
    if fake.pictures is None or fake.pictures not in path.parents or not path.is_dir():
        raise Refusal(400, f'Absolute local path "{path}" must be a subdirectory of LOCAL_FILES_DOCUMENT_ROOT')
    fake.storages.append({**body, "id": len(fake.storages) + 1, "type": "localfiles"})
    return 201, fake.storages[-1]


def import_tasks(fake: Fake, query: dict[str, str], body: Any, number: int) -> Any:
    if number not in fake.projects:
        return 404, "<!doctype html><title>Label Studio</title>"
    if isinstance(body, Files):
        assert query["commit_to_project"] == "false", "else each file is a task"
        ids = [upload(fake, number, name, content) for name, content in body.items()]
        return 201, {"task_count": len(ids), "annotation_count": 0, "prediction_count": 0, "file_upload_ids": ids}
    made = []
    for each in body:
        if "image" not in each["data"]:
            raise Refusal(400, "'image' key is expected in task data")
        task_id = fake.number("task")
        fake.tasks[task_id] = {"id": task_id, "project": number, "data": each["data"], "drafts": []}
        fake.touch(task_id)
        for prediction in each.get("predictions", ()):
            add_prediction(fake, {}, {**prediction, "task": task_id})
        made.append(task_id)
    ids = {"task_ids": made} if query.get("return_task_ids") == "true" else {}
    return 201, {"task_count": len(made), "annotation_count": 0, "prediction_count": len(made), **ids}


class Files(dict[str, bytes]):
    """The body of a request that sends files, by their names."""


def upload(fake: Fake, project_id: int, name: str, content: bytes) -> int:
    number = fake.number("upload")
    fake.uploads[number] = {"id": number, "project": project_id, "file": f"upload/{project_id}/{number:08x}-{name}", "content": content}
    return number


def list_uploads(fake: Fake, query: dict[str, str], _body: Any, number: int) -> Any:
    ids = set(fake.uploads) if query.get("all") == "true" else set(json.loads(query.get("ids", "[]")))
    found = [each for each in fake.uploads.values() if each["project"] == number and each["id"] in ids]
    return 200, [{"id": each["id"], "file": each["file"], "size": len(each["content"])} for each in found]


def uploaded(fake: Fake, _query: dict[str, str], _body: Any, project_id: int, name: str) -> Any:
    file = f"upload/{project_id}/{name}"
    return 200, next(each["content"] for each in fake.uploads.values() if each["file"] == file)


def list_tasks(fake: Fake, query: dict[str, str], _body: Any) -> Any:
    number = int(query["project"])
    project(fake, {}, None, number)
    wanted = json.loads(query.get("query", "{}"))
    if fake.busy and "less_or_equal" in query.get("query", ""):
        for number in fake.tasks:
            fake.touch(number)
    found = [document(fake, each) for each in fake.tasks.values() if each["project"] == number]
    for condition in wanted.get("filters", {}).get("items", ()):
        found = [each for each in found if holds(condition, each)]
    for order in wanted.get("ordering", ()):
        field = order.removeprefix("tasks:")
        found.sort(key=lambda each: datetime.fromisoformat(each[field]) if field == "updated_at" else each[field])
    size = min(int(query.get("page_size", 100)), fake.largest_page)
    start = (int(query.get("page", 1)) - 1) * size
    if start and start >= len(found):
        raise Refusal(404, "Invalid page.")
    page = found[start : start + size]
    if query.get("fields") != "all":
        page = [{**each, "annotations": None, "predictions": None} for each in page]
    include = query.get("include")
    return 200, {"total": len(found), "tasks": [trimmed(each, include.split(",")) for each in page] if include else page}


def document(fake: Fake, task: dict[str, Any]) -> dict[str, Any]:
    annotations = fake.of_task("annotations", task["id"])
    cancelled = sum(each["was_cancelled"] for each in annotations)
    counts = {"total_annotations": len(annotations) - cancelled, "cancelled_annotations": cancelled}
    annotations = [] if fake.hides_annotations else annotations
    return {**task, **counts, "annotations": annotations, "predictions": fake.of_task("predictions", task["id"])}


def trimmed(task: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The real server trims what lies within a task by the very same names."""
    kept = {name: value for name, value in task.items() if name in names and value is not None}
    if "annotations" in kept:
        kept["annotations"] = [{name: value for name, value in each.items() if name in names} for each in kept["annotations"]]
    return kept


def holds(condition: dict[str, Any], task: dict[str, Any]) -> bool:
    found, value = task[condition["filter"].removeprefix("filter:tasks:")], condition["value"]
    if condition["type"] == "Datetime":
        found, value = datetime.fromisoformat(found), datetime.strptime(value, MOMENT).replace(tzinfo=UTC)
    holding = {"greater": found > value, "greater_or_equal": found >= value, "less": found < value, "less_or_equal": found <= value}
    return holding[condition["operator"]]


def change_task(fake: Fake, _query: dict[str, str], body: Any, number: int) -> Any:
    known(fake.tasks, number)["data"] = body["data"]
    fake.touch(number)
    return 200, document(fake, fake.tasks[number])


def delete_task(fake: Fake, _query: dict[str, str], _body: Any, number: int) -> Any:
    known(fake.tasks, number)
    del fake.tasks[number]
    return 204, None


def list_predictions(fake: Fake, query: dict[str, str], _body: Any) -> Any:
    if int(query["task"]) not in fake.tasks:
        raise Refusal(400, "Select a valid choice. That choice is not one of the available choices.")
    return 200, fake.of_task("predictions", int(query["task"]))


def add_prediction(fake: Fake, _query: dict[str, str], body: Any) -> Any:
    known(fake.tasks, body["task"])
    made = {"score": None, "model_version": "", **body, "id": fake.number("prediction")}
    fake.predictions[made["id"]] = made
    return 201, made


def delete_prediction(fake: Fake, _query: dict[str, str], _body: Any, number: int) -> Any:
    known(fake.predictions, number)
    del fake.predictions[number]
    return 204, None


def annotate(fake: Fake, _query: dict[str, str], body: Any, number: int) -> Any:
    known(fake.tasks, number)
    made = {"lead_time": None, "was_cancelled": False, "completed_by": 1, **body, "id": fake.number("annotation"), "task": number}
    made["updated_at"] = fake.stamp()
    fake.annotations[made["id"]] = made
    fake.touch(number)
    return 201, made


def change_annotation(fake: Fake, _query: dict[str, str], body: Any, number: int) -> Any:
    found = known(fake.annotations, number)
    found.update(body, updated_at=fake.stamp())
    fake.touch(found["task"])
    return 200, found


def delete_annotation(fake: Fake, _query: dict[str, str], _body: Any, number: int) -> Any:
    fake.touch(known(fake.annotations, number)["task"])
    del fake.annotations[number]
    return 204, None


def known(table: dict[int, dict[str, Any]], number: int) -> dict[str, Any]:
    if number not in table:
        raise Refusal(404, "Not found.")
    return table[number]


ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/api/current-user/whoami", whoami),
    ("GET", "/api/users", users),
    ("GET", "/api/ml", list_backends),
    ("POST", "/api/token", personal_token),
    ("GET", "/api/projects", list_projects),
    ("POST", "/api/projects", make_project),
    ("GET", r"/api/projects/(\d+)", project),
    ("PATCH", r"/api/projects/(\d+)", change_project),
    ("DELETE", r"/api/projects/(\d+)", delete_project),
    ("POST", r"/api/projects/(\d+)/import", import_tasks),
    ("GET", r"/api/projects/(\d+)/file-uploads", list_uploads),
    ("GET", r"/data/upload/(\d+)/([^/]+)", uploaded),
    ("GET", "/api/storages/localfiles", list_storages),
    ("POST", "/api/storages/localfiles", add_storage),
    ("GET", "/api/tasks", list_tasks),
    ("PATCH", r"/api/tasks/(\d+)", change_task),
    ("DELETE", r"/api/tasks/(\d+)", delete_task),
    ("POST", r"/api/tasks/(\d+)/annotations", annotate),
    ("GET", "/api/predictions", list_predictions),
    ("POST", "/api/predictions", add_prediction),
    ("DELETE", r"/api/predictions/(\d+)", delete_prediction),
    ("PATCH", r"/api/annotations/(\d+)", change_annotation),
    ("DELETE", r"/api/annotations/(\d+)", delete_annotation),
]


class Handler(BaseHTTPRequestHandler):
    fake: Fake
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        return

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path.rstrip("/")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.body(length) if length else None
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self.fake.lock:
            self.fake.log.append((self.command, path))
            self.fake.faults = {left - 1: fault for left, fault in self.fake.faults.items()}
            fault = self.fake.faults.pop(0, None)
            if fault is None and self.fake.every and len(self.fake.log) % self.fake.every[0] == 0:
                fault = self.fake.every[1]
            if fault in {"reset", "502", "html"}:
                return self.misbehave(fault)
            status, document = self.answer(path, query, body)
        if fault == "late":
            return self.misbehave("reset")
        if fault == "slow":
            return self.drip(status, document)
        return self.reply(status, document, cut=fault == "cut", torn=fault == "torn")

    def body(self, length: int) -> Any:
        content, kind = self.rfile.read(length), self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/"):
            return json.loads(content)
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
        return Files({str(part.get_filename()): part.get_payload(decode=True) for part in message.iter_parts()})

    def answer(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        try:
            if path == "/api/token/refresh":
                if body.get("refresh") not in self.fake.refresh:
                    raise Refusal(401, "Token is invalid or expired")
                return 200, {"access": self.fake.refresh[body["refresh"]]}
            kind, _, token = self.headers.get("Authorization", "").partition(" ")
            if self.fake.tokens.get(token) != kind:
                raise Refusal(401, "Invalid token.")
            for method, pattern, function in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and method == self.command:
                    return function(self.fake, query, body, *(int(each) if each.isdigit() else each for each in found.groups()))
            raise Refusal(404, f"{self.command} {path} is not faked")
        except Refusal as refusal:
            return refusal.status, {"status_code": refusal.status, "detail": refusal.detail, "version": "1.23.2"}

    def misbehave(self, fault: str) -> None:
        self.close_connection = True
        if fault == "502":
            self.reply(502, "<html>Bad Gateway</html>")
        elif fault == "html":
            self.reply(200, "<!doctype html><title>Welcome</title>")

    def drip(self, status: int, document: Any) -> None:
        self.close_connection = True
        content = b"" if document is None else json.dumps(document).encode()
        head = f"HTTP/1.1 {status} Fine\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        for byte in head.encode() + content:
            if self.fake.stopped.wait(SECONDS_A_BYTE):
                return
            self.wfile.write(bytes([byte]))

    def reply(self, status: int, document: Any, *, cut: bool = False, torn: bool = False) -> None:
        page, file = isinstance(document, str), isinstance(document, bytes)
        content = document if file else document.encode() if page else b"" if document is None else json.dumps(document).encode()
        content = content[: len(content) // 2] if torn else content
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - so the base class finds them


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that die are what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Fake]:
    """A fake that listens on loopback for as long as the block runs."""
    fake = Fake()
    handler = type("FakeHandler", (Handler,), {"fake": fake})
    server = Server(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        fake.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()
