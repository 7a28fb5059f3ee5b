"""Tilehawk as a machine learning backend of Label Studio: suggestions for its tasks, and look-alikes of the box that somebody drew."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException, Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from app.routes.webhooks import PullRequests
from app.signing import ML_BACKEND_USER
from connectors.label_studio import backend
from connectors.label_studio.tasks import config_differences, read_boxes
from engine.annotation_server import ACCEPTED, MOST_TASKS_AT_ONCE
from engine.catalog import ledger, remote
from engine.catalog.annotations import label_set
from engine.catalog.models import current_detector, models
from engine.catalog.schema import RemoteProject
from engine.catalog.tiles import TileRecord, tiles
from engine.errors import BadInput, TilehawkError, WorkspaceBusy

if TYPE_CHECKING:
    from app.jobs import Jobs
    from app.suggester import Suggester
    from engine.catalog.workspace import Workspace
    from engine.label_set import LabelSet

__all__ = ["PREFIX", "router"]

PREFIX = "/label-studio"
LOG = logging.getLogger(__name__)
Result = TypeVar("Result")
NOT_NOW = "Tilehawk cannot answer this now; its log says why"


def router(workspace: Workspace, jobs: Jobs, suggester: Suggester, secret: str) -> APIRouter:
    """``/label-studio/health|setup|versions|predict|webhook``, each for Label Studio alone, which proves itself by Basic authentication."""
    routes = APIRouter(prefix=PREFIX, dependencies=[Depends(_proof(secret))])
    pulls = PullRequests(jobs)

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "Tilehawk"}

    @routes.post("/setup")
    async def setup(request: Request) -> dict[str, str]:
        schema = _read(backend.schema_of, await request.body())
        return {"model_version": await _answered(run_in_threadpool(_setup, workspace, schema))}

    @routes.get("/versions")
    def versions() -> dict[str, list[str]]:
        with workspace.session(write=False) as session:
            return {"versions": [row.name for row in reversed(models(session, stage="finetune"))]}

    @routes.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        question = await run_in_threadpool(_read, backend.read_question, await request.body())
        return await _answered(_predict(workspace, suggester, question))

    @routes.post("/webhook")
    async def webhook(request: Request, background: BackgroundTasks) -> dict[str, str]:
        body = await request.body()
        if not backend.wants_training(body):
            background.add_task(pulls.ask)
        elif await run_in_threadpool(_is_ours, workspace, backend.training_project(body)):
            background.add_task(_train, jobs)
        else:
            raise HTTPException(403, "this project is not one of the workspace's")
        return {"status": "accepted"}

    return routes


def _proof(secret: str) -> Any:
    """What refuses a request without the right user and secret, before anything of it is read."""
    wanted = f"{ML_BACKEND_USER}:{secret}".encode()

    async def prove(request: Request) -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            found = base64.b64decode(given, validate=True) if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            found = b""
        if not hmac.compare_digest(found, wanted):
            raise HTTPException(401, "see: tilehawk connect label-studio", headers={"WWW-Authenticate": 'Basic realm="Tilehawk"'})

    return prove


def _read(reader: Callable[[bytes], Result], body: bytes) -> Result:
    try:
        return reader(body)
    except BadInput as bad:
        raise HTTPException(400, bad.found) from bad


async def _answered(answer: Awaitable[Result]) -> Result:
    """The answer, or a refusal that tells nothing of this machine."""
    try:
        return await answer
    except WorkspaceBusy as busy:
        raise HTTPException(503, "too many questions at once; ask again") from busy
    except TilehawkError as fault:
        LOG.warning("Label Studio could not be answered: %s", fault)
        raise HTTPException(503, NOT_NOW) from fault


def _setup(workspace: Workspace, schema: str) -> str:
    """The version of the current model, if the project's label configuration has exactly the workspace's classes."""
    with workspace.session(write=False) as session:
        classes, row = label_set(session), current_detector(session)
    if differences := config_differences(classes, schema):
        raise HTTPException(409, f"the label configuration does not fit the workspace: {'; '.join(differences)}")
    return row.name if row is not None else ACCEPTED


async def _predict(workspace: Workspace, suggester: Suggester, question: backend.Question) -> dict[str, Any]:
    if len(question.keys) > MOST_TASKS_AT_ONCE:
        raise HTTPException(413, f"{len(question.keys)} tasks at once; choose {MOST_TASKS_AT_ONCE} at most")
    known, classes, version = await run_in_threadpool(_known, workspace, question.keys)
    if question.drawn is None:
        shown = await suggester.on_tiles([tile.id for tile in known.values()])
        results = [_suggested(known.get(key), shown, classes, key) for key in question.keys]
    else:
        results = [await _look_alikes(suggester, known.get(key), question.drawn, classes, key) for key in question.keys[:1]]
    return backend.answer(results, version)


def _known(workspace: Workspace, keys: tuple[str, ...]) -> tuple[dict[str, TileRecord], LabelSet, str]:
    """The tiles of those tasks that are of this workspace, by their keys; its classes; the version of its current model."""
    with workspace.session(write=False) as session:
        identity = ledger.events(session, remote.IDENTITY)
        ours = str(identity[0].details["workspace"]) if identity else None
        wanted = {key: tile for key in keys if ours is not None and (tile := remote.tile_of_key(ours, key)) is not None}
        records = {tile.id: tile for tile in tiles(session, ids=list(wanted.values()))}
        row = current_detector(session)
        known = {key: records[tile] for key, tile in wanted.items() if tile in records}
        return known, label_set(session), row.name if row is not None else ACCEPTED


def _suggested(tile: TileRecord | None, shown: dict[int, Any], classes: LabelSet, key: str) -> dict[str, Any] | None:
    if tile is None or tile.id not in shown:
        return None
    return backend.suggestion_result(shown[tile.id], tile.window.width, tile.window.height, classes, key=key)


async def _look_alikes(
    suggester: Suggester, tile: TileRecord | None, drawn: tuple[Any, ...], classes: LabelSet, key: str
) -> dict[str, Any] | None:
    if tile is None:
        return None
    width, height = tile.window.width, tile.window.height
    boxes = read_boxes(drawn, width, height, classes).boxes_tile
    found = await suggester.look_alikes(tile.id, boxes) if len(boxes) else None
    return None if found is None else backend.look_alike_result(boxes, found, width, height, classes, key=key)


def _is_ours(workspace: Workspace, project: int | None) -> bool:
    with workspace.session(write=False) as session:
        return session.scalar(select(RemoteProject.id).where(RemoteProject.remote_id == str(project)).limit(1)) is not None


def _train(jobs: Jobs) -> None:
    """Queue a retraining, unless one waits."""
    try:
        jobs.enqueue("retrain", {}, once=True)
    except TilehawkError as refused:
        LOG.warning("a training that Label Studio asked for was not queued: %s", refused)
