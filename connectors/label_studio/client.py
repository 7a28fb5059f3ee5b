"""A Label Studio server as an annotation server: its projects, tasks, pictures and answers.

Documentation of the interface: https://api.labelstud.io. Written against Label Studio 1.23 and label-studio-sdk 2.1.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from connectors.label_studio import tasks as forms
from connectors.label_studio.connection import ANSWER_SECONDS, LabelStudioConnection
from engine.annotation_server import MOST_TASKS_AT_ONCE, Answer, AnswerPage, Cursor, KnownTask, ServerProject, TaskAnswers, TileTask
from engine.errors import BadInput, LabelSetMismatch, TilehawkError
from engine.label_set import LabelSet

if TYPE_CHECKING:
    import httpx

__all__ = ["LabelStudioServer"]

PAGE = 1000


class LabelStudioServer:
    """The annotation server of :mod:`engine.annotation_server` that is a Label Studio.

    Args:
        url: its address.
        token: a legacy token, or a personal access token.
        transport: carries the requests; None for the network.
        pause: waits so many seconds between two tries.
        answer_seconds: of silence after which an answer is given up; all of it may take three times as long.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.connection = LabelStudioConnection(url, token, transport=transport, pause=pause, answer_seconds=answer_seconds)

    def __repr__(self) -> str:
        return f"LabelStudioServer({self.url!r})"

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return self.connection.url

    @property
    def address(self) -> str:
        """Origin of the server's address."""
        return self.connection.address

    def who(self) -> str:
        """Email or name of the user whose token this is: the test of the credentials.

        Raises:
            BadInput: a wrong token, or no Label Studio at that address.
            TilehawkError: nothing answers there.
        """
        found = self.connection.ask(self.connection.sdk.users.whoami)
        if not isinstance(found.id, int) or not isinstance(found.email, str):
            raise self.connection.another_server()
        return found.email or str(found.id)

    def make_project(self, title: str, marker: str, label_set: LabelSet, *, annotators: int = 1) -> ServerProject:
        """Make a project for boxes of these classes; ``marker`` stands in its description."""
        config = forms.label_config(label_set)
        make = partial(
            self.connection.sdk.projects.create, title=title[:50], description=marker, label_config=config, maximum_annotations=annotators
        )
        return self._described(self.connection.ask(make, repeat=False))

    def find_project(self, marker: str) -> ServerProject | None:
        """The project whose description is ``marker``."""
        page = 1
        while True:
            found = self.connection.ask(partial(self.connection.sdk.projects.list, page=page, page_size=100))
            for each in found.items or []:
                if (each.description or "").strip() == marker:
                    return self._described(each)
            if len(found.items or []) < 100:
                return None
            page += 1

    def project(self, project_id: int) -> ServerProject:
        """The project as it is now.

        Raises:
            Missing: it is gone.
        """
        found = self.connection.ask(lambda: self.connection.sdk.projects.get(project_id), gone=f"project {project_id}")
        return self._described(found)

    def _described(self, found: Any) -> ServerProject:
        if not isinstance(found.id, int) or not isinstance(found.label_config, str):
            raise self.connection.another_server()
        annotators = getattr(found, "maximum_annotations", None) or 1
        return ServerProject(found.id, found.title or "", getattr(found, "task_number", None) or 0, found.label_config, annotators)

    def require_classes(self, project: ServerProject, label_set: LabelSet) -> None:
        """Refuse a project whose label configuration was changed into something else.

        Raises:
            LabelSetMismatch: naming the difference.
        """
        differences = forms.config_differences(label_set, project.label_config)
        if differences:
            raise LabelSetMismatch(
                f"the labelling interface of project {project.id} on {self.address} was changed: {'; '.join(differences)}",
                expected=f"rectangles with the classes {list(label_set.names)}",
                remedy="Undo the change there (Settings, Labeling Interface), or push to a new project: --set new_project=true",
            )

    def serve_pictures(self, project_id: int, folder: str) -> None:
        """Make ``folder`` a local storage of the project, which is what lets its annotators load files below it.

        Raises:
            BadInput: Label Studio does not serve local files, or not that folder.
        """
        storages = self.connection.sdk.import_storage.local
        there = self.connection.ask(partial(storages.list, project=project_id), gone=f"project {project_id}")
        if any((each.path or "").rstrip("/") == folder.rstrip("/") for each in there):
            return
        make = partial(storages.create, project=project_id, path=folder, title="Tilehawk tiles", synchronizable=False)
        try:
            self.connection.ask(make, repeat=False)
        except TilehawkError as refusal:
            if isinstance(refusal, BadInput) or "answered 400" not in refusal.found:
                raise
            raise BadInput(
                f"{refusal.found}: it does not serve {folder}",
                expected="LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, and a document root that this folder lies below",
                remedy="Start Label Studio so; where it sees the folder under another path, name that: --set local_root_there=PATH",
            ) from None

    def pictures(self, project_id: int) -> dict[str, str]:
        """The addresses of pictures that this account uploaded to the project, by the names that were given to them."""
        call = partial(self.connection.sdk.files.list, project_id, all_=True)
        return forms.addresses_of(each.file for each in self.connection.ask(call, gone=f"project {project_id}"))

    def upload_pictures(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Upload PNG pictures in one request, which is not repeated and makes no tasks; returns their addresses by name.

        Raises:
            TilehawkError: the answer does not name them all; what was uploaded is found again by its name.
        """
        sent = self.connection.ask(partial(self._send_files, project_id, pictures), repeat=False, gone=f"project {project_id}")
        ids = sent.get("file_upload_ids") if isinstance(sent, dict) else None
        call = partial(self.connection.sdk.files.list, project_id, ids=json.dumps(ids or []))
        found = forms.addresses_of(each.file for each in self.connection.ask(call, gone=f"project {project_id}"))
        if set(found) != set(pictures):
            raise TilehawkError(
                f"Label Studio took {len(pictures)} pictures and named {len(found)}", remedy="Push again: what is there is found again"
            )
        return found

    def _send_files(self, project_id: int, pictures: Mapping[str, bytes]) -> Any:
        from label_studio_sdk.core.api_error import ApiError

        files: dict[str, Any] = {str(number): (name, content, "image/png") for number, (name, content) in enumerate(pictures.items())}
        # the SDK has no call that sends a file
        answer = self.connection.sdk._client_wrapper.httpx_client.request(
            f"api/projects/{project_id}/import", method="POST", params={"commit_to_project": "false"}, files=files
        )
        if answer.status_code >= 300:
            raise ApiError(status_code=answer.status_code, body=answer.text)
        return answer.json()

    def tasks(self, project_id: int, *, after: int = 0) -> Iterator[KnownTask]:
        """The tasks with an id above ``after``, by id."""
        include = "id,data,total_annotations,cancelled_annotations,drafts"
        while True:
            wanted = _query("tasks:id", {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after})
            call = partial(
                self.connection.sdk.tasks.list, project=project_id, fields="task_only", include=include, page_size=PAGE, query=wanted
            )
            page = self.connection.ask(call, gone=f"project {project_id}")
            found = page.items or []
            for each in found:
                data: Mapping[str, Any] = each.data if isinstance(each.data, dict) else {}
                answered = bool(each.total_annotations or each.cancelled_annotations or each.drafts)
                yield KnownTask(int(each.id), str(data.get("tilehawk", "")), str(data.get("content", "")), answered)
            if not found or page.response.total <= len(found):
                return
            after = int(found[-1].id)

    def add_tasks(self, project_id: int, tasks: Sequence[TileTask], label_set: LabelSet) -> list[int]:
        """Import tasks in one request, which is not repeated; returns their ids in the same order.

        Raises:
            TilehawkError: the answer does not say so many ids; what was imported is found again by its key.
        """
        assert len(tasks) <= MOST_TASKS_AT_ONCE
        # Where it is given a deque, the SDK leaves the JSON to pydantic-core; a list it walks through in Python, as long again
        documents: deque[Any] = deque(forms.as_task(task, label_set) for task in tasks)
        call = partial(self.connection.sdk.projects.import_tasks, id=project_id, request=documents, return_task_ids=True)
        ids = getattr(self.connection.ask(call, repeat=False, gone=f"project {project_id}"), "task_ids", None) or []
        if len(ids) != len(tasks):
            raise TilehawkError(
                f"Label Studio imported {len(tasks)} tasks and named {len(ids)}", remedy="Push again: what is there is found again"
            )
        return [int(each) for each in ids]

    def replace_task(self, task_id: int, task: TileTask, label_set: LabelSet) -> None:
        """Show the new suggestion, take our old one away, then write the new data: at each step a repeat ends in the same."""
        gone = f"task {task_id}"
        wanted = forms.as_prediction(task, label_set)
        prefix = forms.region_prefix(task.content_hash)
        there = self.connection.ask(lambda: self.connection.sdk.predictions.list(task=task_id), gone=gone)
        ours = [(each.id, each.result or []) for each in there if forms.is_ours({"result": each.result})]
        current = [number for number, result in ours if wanted is not None and str(result[0]["id"]).startswith(prefix)]
        if wanted is not None and not current:
            self.connection.ask(partial(self.connection.sdk.predictions.create, task=task_id, **wanted), repeat=False, gone=gone)
        for number, _ in ours:
            if number not in current[:1]:
                self.connection.ask(partial(self.connection.sdk.predictions.delete, number), missing_is_fine=True)
        self.connection.ask(partial(self.connection.sdk.tasks.update, str(task_id), data=forms.task_data(task)), gone=gone)

    def delete_task(self, task_id: int) -> None:
        """Delete a task; one that is gone already is no error."""
        self.connection.ask(partial(self.connection.sdk.tasks.delete, str(task_id)), missing_is_fine=True)

    def answers(self, project_id: int, after: Cursor, limit: int) -> AnswerPage:
        """Tasks that changed after the cursor, by the server's time of the change.

        Pages are asked for by that time and never by number: a task that changes meanwhile moves to the end, and no other one is passed
        over. Tasks of one and the same time, as an action on many at once leaves them, come by their ids.
        """
        if after.id and (tied := self._tied(project_id, after, limit)):
            return AnswerPage(tied, complete=False)
        since = [] if not after.at else [_changed("greater" if after.id else "greater_or_equal", after.at)]
        found, total = self._listed(project_id, "tasks:updated_at", since, limit)
        found.sort(key=lambda each: each.position)
        if total <= len(found):
            return AnswerPage(found, complete=True)
        last = found[-1].position.at
        whole = [each for each in found if each.position.at != last]
        chosen = whole or self._first_tied(project_id, found, limit)
        if not chosen:
            raise TilehawkError(
                f"the tasks of project {project_id} changed while they were asked for", remedy="Pull again: it goes on there"
            )
        return AnswerPage(chosen, complete=False)

    def _first_tied(self, project_id: int, found: list[TaskAnswers], limit: int) -> list[TaskAnswers]:
        """The first by id of the tasks that all changed when those ``found`` did; most often it is those."""
        at = found[-1].position.at
        wanted = _query("tasks:id", _changed("greater_or_equal", at), _changed("less_or_equal", at))
        call = partial(
            self.connection.sdk.tasks.list, project=project_id, fields="task_only", include="id", page_size=len(found), query=wanted
        )
        first = [each.id for each in self.connection.ask(call, gone=f"project {project_id}").items or []]
        return found if first == [each.task_id for each in found] else self._tied(project_id, Cursor(at), limit)

    def _tied(self, project_id: int, after: Cursor, limit: int) -> list[TaskAnswers]:
        """The next tasks by id that changed at the very time of the cursor."""
        at = [_changed("greater_or_equal", after.at), _changed("less_or_equal", after.at)]
        later = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after.id}
        return self._listed(project_id, "tasks:id", [*at, later], limit)[0]

    def _listed(self, project_id: int, order: str, filters: Sequence[Mapping[str, Any]], limit: int) -> tuple[list[TaskAnswers], int]:
        """Tasks with their answers, at most ``limit``, and how many there are."""
        include = "id,data,updated_at,total_annotations,annotations,result,was_cancelled,lead_time,completed_by"
        wanted = _query(order, *filters)
        call = partial(self.connection.sdk.tasks.list, project=project_id, fields="all", include=include, page_size=limit, query=wanted)
        page = self.connection.ask(call, gone=f"project {project_id}")
        return [self._answers(each) for each in page.items or []], page.response.total

    def _answers(self, task: Any) -> TaskAnswers:
        annotations = [each for each in task.annotations or [] if isinstance(each, dict)]
        if task.total_annotations and not annotations:
            raise TilehawkError(
                f"Label Studio says that task {task.id} has {task.total_annotations} annotations, and gives none of them",
                remedy="See that the account of the token may read annotations; nothing was changed",
            )
        annotations.sort(key=lambda each: (_moment(each.get("updated_at")), int(each.get("id") or 0)))
        data: Mapping[str, Any] = task.data if isinstance(task.data, dict) else {}
        return TaskAnswers(
            task_id=int(task.id),
            key=str(data.get("tilehawk", "")),
            position=Cursor(_moment(task.updated_at), int(task.id)),
            answers=[self._answer(each) for each in annotations],
        )

    def _answer(self, said: Mapping[str, Any]) -> Answer:
        kind: Any = "skipped" if said.get("was_cancelled") else "submitted"
        seconds = said.get("lead_time")
        return Answer(
            id=int(said.get("id") or 0),
            kind=kind,
            at=_moment(said.get("updated_at")),
            digest=forms.digest_of(kind, said),
            annotator=self._name(said.get("completed_by")),
            seconds=float(seconds) if isinstance(seconds, (int, float)) and 0 <= seconds < float("inf") else None,
            read=partial(forms.read_boxes, said.get("result") or []),
        )

    def _name(self, user: Any) -> str | None:
        """Email of the user, or the id where there is none."""
        number = user.get("id") if isinstance(user, dict) else user
        if number is None:
            return None
        return self._emails.get(number) or f"user {number}"

    @cached_property
    def _emails(self) -> dict[Any, str]:
        return {each.id: each.email for each in self.connection.ask(self.connection.sdk.users.list) if each.email}


def _query(ordering: str, *filters: Mapping[str, Any]) -> str:
    return json.dumps({"filters": {"conjunction": "and", "items": list(filters)}, "ordering": [ordering]})


def _changed(operator: str, at: str) -> dict[str, Any]:
    """The filter for tasks by the time of their change."""
    return {"filter": "filter:tasks:updated_at", "operator": operator, "type": "Datetime", "value": at.replace("+00:00", "Z")}


def _moment(value: Any) -> str:
    """A time of the server in UTC, written so that text order is time order; empty for none."""
    if not value:
        return ""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="microseconds")
