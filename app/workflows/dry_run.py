"""What a push would do, asked at once and not as a job: it changes nothing."""

from __future__ import annotations

from app.workflows.verbs import VERBS
from engine.catalog.workspace import Workspace
from engine.progress import Progress, silent
from engine.stages.push import PushConfig, PushPlan, plan_push

__all__ = ["what_would_be_pushed"]


def what_would_be_pushed(workspace: Workspace, config: PushConfig, *, progress: Progress = silent) -> PushPlan:
    """The difference between a round and the annotation server that the workspace is connected to.

    Raises:
        BadInput: it is connected to none, or as :func:`engine.stages.push.plan_push`.
        TilehawkError: the server cannot be reached.
    """
    server, image_url = VERBS["push"].given(workspace, {})
    return plan_push(workspace, server, image_url, config, progress=progress)
