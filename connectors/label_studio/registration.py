"""Tilehawk entered in a Label Studio project as its machine learning backend, so that nobody has to type an address or a password."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import BadInput

if TYPE_CHECKING:
    from connectors.label_studio.client import LabelStudioServer

__all__ = ["TITLE", "backend_answers", "register_backend"]

TITLE = "Tilehawk"
"""The backend's name over there, and what a project calls the predictions that it shows."""
NUDGES = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
CONNECTED = "CO"
"""What Label Studio calls the state of a backend that answered."""
RESERVED = "reserved network address"

Result = TypeVar("Result")


def register_backend(server: LabelStudioServer, project_id: int, address: str, user: str, password: str) -> bool:
    """Make the backend at ``address`` that of a project, interactive, and its suggestions those that annotators see.

    Label Studio tries it before it keeps it. It also makes a webhook for it, which carries no proof: it is given one, and told to send
    nothing of what was drawn. Other backends of the project stay; the same call again changes nothing.

    Args:
        server: the connection.
        project_id: the project's number.
        address: without a slash at its end; Label Studio itself must reach it.
        user: for Basic authentication.
        password: for Basic authentication.

    Returns:
        Whether it is new there.

    Raises:
        BadInput: Label Studio must not ask this address, or the project is gone.
        TilehawkError: Label Studio does not reach the backend, or is not reached.
    """
    sdk, gone = server.connection.sdk, f"project {project_id}"
    about: dict[str, Any] = {"project": project_id, "url": address, "title": TITLE, "is_interactive": True}
    about |= {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
    there = [
        each
        for each in server.connection.ask(partial(sdk.ml.list, project=project_id), gone=gone)
        if (each.url or "").rstrip("/") == address
    ]
    entered = _allowed(partial(sdk.ml.update, there[0].id, **about) if there else partial(sdk.ml.create, **about), address)
    server.connection.ask(entered, repeat=bool(there), gone=gone)
    proof = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    for webhook in server.connection.ask(partial(sdk.webhooks.list, project=str(project_id)), gone=gone):
        if webhook.url == f"{address}/webhook" and webhook.id is not None:
            told: dict[str, Any] = {"headers": {"Authorization": proof}, "send_payload": False, "actions": NUDGES}
            change = partial(sdk.webhooks.update, webhook.id, url=webhook.url, is_active=True, send_for_all_actions=False, **told)
            server.connection.ask(change, gone=gone)
    server.connection.ask(partial(sdk.projects.update, project_id, model_version=TITLE, show_collab_predictions=True), gone=gone)
    return not there


def backend_answers(server: LabelStudioServer, project_id: int, address: str) -> bool | None:
    """Whether Label Studio reached the backend at ``address`` when it last tried; None where the project asks none there.

    Raises:
        BadInput: the project is gone.
        TilehawkError: Label Studio is not reached.
    """
    known = server.connection.ask(partial(server.connection.sdk.ml.list, project=project_id), gone=f"project {project_id}")
    states = [str(each.state) for each in known if (each.url or "").rstrip("/") == address]
    return CONNECTED in states if states else None


def _allowed(call: Callable[[], Result], address: str) -> Callable[[], Result]:
    """``call``, with the refusal of an address of this machine or a private network said as what it is: not one of the token."""

    def asked() -> Result:
        from label_studio_sdk.core.api_error import ApiError

        try:
            return call()
        except ApiError as error:
            if RESERVED not in str(error.body):
                raise
            raise BadInput(
                f"Label Studio must not ask {address}: it is on a private network",
                expected="a public address, or a Label Studio that may ask this network",
                remedy="Start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false and, in USER_ADDITIONAL_BANNED_SUBNETS, the networks that "
                "stay forbidden (docs/ml-backend.md)",
            ) from None

    return asked
