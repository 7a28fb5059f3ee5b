"""What the annotation server tells us: that something happened. What it was is asked for by the worker."""

from __future__ import annotations

import hmac
import logging
import threading
from typing import TYPE_CHECKING

from fastapi import APIRouter, BackgroundTasks, HTTPException, Request

from engine.errors import TilehawkError

if TYPE_CHECKING:
    from app.jobs import Jobs

__all__ = ["SECRET_HEADER", "PullRequests", "router"]

SECRET_HEADER = "X-Tilehawk-Secret"  # noqa: S105 - its name, not it
LOG = logging.getLogger(__name__)


class PullRequests:
    """Turns any number of notifications into as few pulls as tell the same: one waiting, at most."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._asking = False
        self._again = False

    def ask(self) -> None:
        """Queue a pull, unless one waits; returns once that is done, or leaves it to the call that is at it."""
        with self._lock:
            self._again = True
            if self._asking:
                return
            self._asking = True
        while self._more():
            try:
                self._jobs.enqueue("pull", {}, once=True)
            except TilehawkError as refused:
                LOG.warning("a notification of the annotation server was not followed: %s", refused)
            except BaseException:
                with self._lock:
                    self._asking = False
                raise

    def _more(self) -> bool:
        with self._lock:
            self._asking, self._again = self._again, False
            return self._asking


def router(jobs: Jobs, secret: str) -> APIRouter:
    """``POST /webhooks/label-studio``: with the right secret a pull is queued; the payload is never read for data."""
    routes = APIRouter()
    pulls = PullRequests(jobs)

    @routes.post("/webhooks/label-studio", status_code=202)
    async def label_studio(request: Request, background: BackgroundTasks) -> dict[str, str]:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), secret.encode()):
            raise HTTPException(401, f"the header {SECRET_HEADER} is missing or wrong: see tilehawk connect")
        async for _ in request.stream():
            pass
        background.add_task(pulls.ask)
        return {"status": "accepted"}

    return routes
