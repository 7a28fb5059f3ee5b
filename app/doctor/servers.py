"""Checks of the annotation server that the workspace is connected to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.doctor.check import Check, found_by

if TYPE_CHECKING:
    from app.connections import LabelStudioConnection
    from engine.catalog.workspace import Workspace

__all__ = ["label_studio"]

NAME = "label studio"


def label_studio(root: Path) -> Check:
    """Whether it answers, knows the token, still has our project as we made it, and reaches us where it asks us for suggestions."""
    from app.connections import Connections
    from engine.catalog.workspace import MARKER, Workspace

    if not (root / MARKER).is_file():
        return Check(NAME, "ok", "no workspace yet")

    def look() -> Check:
        with Workspace.open(root) as opened:
            connection = Connections.load(opened).label_studio
            return Check(NAME, "ok", "none is connected") if connection is None else _connected(opened, connection)

    return found_by(NAME, look)


def _connected(workspace: Workspace, connection: LabelStudioConnection) -> Check:
    from app.backend import backend_address
    from app.settings import Settings
    from app.wiring import annotation_server
    from connectors.label_studio.registration import backend_answers
    from engine.catalog import annotations, remote

    server = annotation_server(workspace)
    who = server.who()
    with workspace.session(write=False) as session:
        projects = remote.projects(session, server.address)
        classes = annotations.label_set(session) if projects else None
    found = f"{server.address} knows the token of {who}"
    if classes is not None:
        project = server.project(int(projects[-1].remote_id))
        server.require_classes(project, classes)
        found += f"; project {project.id} has {project.tasks} tasks and the classes of the workspace"
        answers = backend_answers(server, project.id, backend_address(connection.public_url))
        if answers is False:
            return Check(NAME, "warn", f"{found}; it does not reach {backend_address(connection.public_url)}", "Start the app there")
        found += "; it asks this app for suggestions" if answers else ""
    public = Settings.from_environment().public_url
    if public is not None and public != connection.public_url:
        do = "Connect again with the address that counts: tilehawk connect label-studio URL --public-url ADDRESS --token-stdin"
        return Check(NAME, "warn", f"{found}; pictures come by {connection.public_url}, TILEHAWK_PUBLIC_URL is {public}", do)
    return Check(NAME, "ok", found)
