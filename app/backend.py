"""Where Label Studio asks Tilehawk for suggestions, and Tilehawk entered there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.connections import Connections
from app.routes.ml_backend import PREFIX
from app.signing import ML_BACKEND_USER, ml_backend_secret
from engine.catalog import remote
from engine.errors import BadInput, NothingToDo

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["WHERE", "Registered", "backend_address", "register"]

WHERE = "Settings, Model, Connect Model of the project in Label Studio; or: tilehawk connect backend"
"""Where the backend is entered by hand, and by what command."""


@dataclass(frozen=True)
class Registered:
    """The backend as it was entered: its address and user, the project over there, and whether it is new there."""

    backend: str
    user: str
    server: str
    project: int
    new: bool


def backend_address(public_url: str) -> str:
    """The address that is entered in Label Studio, for an app that is reached as ``public_url``."""
    return f"{public_url}{PREFIX}"


def register(workspace: Workspace) -> Registered:
    """Enter the backend in the newest project of this workspace on the connected Label Studio; the same again changes nothing.

    Raises:
        BadInput: no Label Studio is connected, it must not ask the app's address, or the project is gone.
        NothingToDo: nothing was pushed yet, so there is no project.
        TilehawkError: the app does not run at its address, or Label Studio is not reached.
    """
    from app.wiring import annotation_server
    from connectors.label_studio.registration import register_backend

    server, connection = annotation_server(workspace), Connections.load(workspace).label_studio
    if connection is None:
        raise BadInput("no Label Studio is connected", remedy="Connect it: tilehawk connect label-studio URL --token-stdin")
    with workspace.session(write=False) as session:
        projects = remote.projects(session, server.address)
    if not projects:
        raise NothingToDo(f"there is no project of this workspace on {server.address}", remedy="Send a round first: tilehawk push")
    project, address = int(projects[-1].remote_id), backend_address(connection.public_url)
    new = register_backend(server, project, address, ML_BACKEND_USER, ml_backend_secret(workspace))
    return Registered(address, ML_BACKEND_USER, server.address, project, new)
