"""What the workspace is connected to: addresses and tokens, in a file that its owner alone can read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import atomic_file

__all__ = ["CONNECTIONS_FILE", "DEFAULT_PUBLIC_URL", "Connected", "Connections", "LabelStudioConnection", "connect_label_studio"]

CONNECTIONS_FILE = "connections.json"
DEFAULT_PUBLIC_URL = "http://127.0.0.1:7860"


@dataclass(frozen=True)
class Connected:
    """What was connected: the server's address, whose token it is, and from where annotators load pictures.

    ``backend`` and ``backend_user`` are for the server's own questions (docs/ml-backend.md); ``backend_entered`` says where.
    """

    server: str
    user: str
    public_url: str
    backend: str
    backend_user: str
    backend_entered: str


class LabelStudioConnection(BaseModel):
    """A Label Studio, the token for it, and the address at which the annotators' browsers reach this app for pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    token: SecretStr
    public_url: str = DEFAULT_PUBLIC_URL


class Connections(BaseModel):
    """Everything that the workspace is connected to."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    label_studio: LabelStudioConnection | None = None

    @classmethod
    def load(cls, workspace: Workspace) -> Self:
        """The connections of ``workspace``; none where nothing was connected yet.

        Raises:
            BadInput: the file is damaged; the message does not show what is in it.
        """
        path = workspace.root / CONNECTIONS_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValidationError:
            raise BadInput(
                f"{path} cannot be read", expected="what `tilehawk connect` writes", remedy="Remove it and connect again"
            ) from None

    def save(self, workspace: Workspace) -> None:
        """Write the file anew, readable by its owner alone from the first byte."""
        document = self.model_dump(mode="json")
        if self.label_studio is not None:
            document["label_studio"]["token"] = self.label_studio.token.get_secret_value()
        with atomic_file(workspace.root / CONNECTIONS_FILE) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(document, stream, indent=2)


def connect_label_studio(workspace: Workspace, url: str, token: str, *, public_url: str | None = None) -> Connected:
    """Connect ``workspace`` to the Label Studio at ``url``; the token is tried first, and stored where its owner alone can read it.

    Args:
        workspace: what is connected.
        url: the address at which Label Studio opens in a browser.
        token: a legacy token or a personal access token.
        public_url: the address at which annotators' browsers reach this app; None for the setting, else this machine's loopback.

    Raises:
        BadInput: a wrong address or token, or no Label Studio there; the message never shows the token.
        TilehawkError: nothing answers there.
        UsageError: ``public_url`` is no such address.
    """
    from app.backend import WHERE, backend_address
    from app.settings import Settings
    from app.signing import ML_BACKEND_USER
    from app.wiring import label_studio

    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise BadInput("what was given is no token", expected="one word", remedy="Copy one from Account & Settings in Label Studio")
    pictures = Settings.from_environment(public_url=public_url).public_url or DEFAULT_PUBLIC_URL
    server = label_studio(url, token)
    user = server.who()
    connection = LabelStudioConnection(url=server.url, token=SecretStr(token), public_url=pictures)
    Connections.load(workspace).model_copy(update={"label_studio": connection}).save(workspace)
    return Connected(server.url, user, pictures, backend_address(pictures), ML_BACKEND_USER, WHERE)
