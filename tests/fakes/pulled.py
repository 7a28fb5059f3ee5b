"""What a workspace says of the answers that came in."""

from __future__ import annotations

from sqlalchemy import select

from connectors.label_studio.client import LabelStudioServer
from engine.catalog.reviews import tile_state
from engine.catalog.rounds import get_round
from engine.catalog.schema import RemoteTask, Review
from engine.catalog.workspace import Workspace
from engine.stages.pull import PullConfig, pull

TILES = 6
"""Tiles of the workspace ``pushed``."""


def tile_of(workspace: Workspace, task: int) -> int:
    with workspace.session(write=False) as session:
        return session.scalars(select(RemoteTask.tile_id).where(RemoteTask.remote_id == str(task))).one()


def boxes_of(workspace: Workspace, task: int) -> list[list[float]]:
    with workspace.session(write=False) as session:
        state = tile_state(session, tile_of(workspace, task))
        return [[*map(float, box.round(4)), int(label)] for box, label in zip(state.boxes_tile.xyxy, state.boxes_tile.labels, strict=True)]


def reviewed(workspace: Workspace) -> dict[int, str]:
    """By task, who reviewed its tile."""
    with workspace.session(write=False) as session:
        found = select(RemoteTask.remote_id, Review.by).join(Review, Review.tile_id == RemoteTask.tile_id)
        return {int(task): by for task, by in session.execute(found)}


def boxes_after(workspace: Workspace, server: LabelStudioServer, config: PullConfig) -> list[list[float]]:
    pull(workspace, server, config)
    return boxes_of(workspace, 1)


def state_of_round(workspace: Workspace) -> str:
    with workspace.session(write=False) as session:
        return get_round(session).state
