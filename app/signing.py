"""The workspace's secret, and what is signed with it: tile addresses for annotators, sessions, the webhook."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path
from typing import Self

from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import atomic_file

__all__ = ["ML_BACKEND_USER", "SECRET_FILE", "Signer", "ml_backend_secret", "webhook_secret"]

SECRET_FILE = "secret.key"  # noqa: S105 - its name, not it
SECRET_BYTES = 32
ML_BACKEND_USER = "tilehawk"
"""As whom Label Studio asks the machine learning backend."""
NINETY_DAYS = 90 * 86400.0
SECONDS_TO_WAIT = 30.0
LATEST = 10**12


class Signer:
    """Keys made from one secret, a different one for each purpose (HMAC-SHA256, RFC 2104).

    Args:
        secret: random bytes that stay in the workspace.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, workspace: Workspace) -> Self:
        """The signer of ``workspace``; its secret is made on the first call, readable by its owner alone.

        Raises:
            BadInput: the secret's file is damaged.
        """
        path = workspace.root / SECRET_FILE
        if not path.exists():
            with workspace.exclusive("secret", "making the secret", wait_seconds=SECONDS_TO_WAIT):
                if not path.exists():
                    _write_secret(path)
        secret = path.read_bytes()
        if len(secret) != SECRET_BYTES:
            raise BadInput(
                f"{path} has {len(secret)} bytes",
                expected=f"{SECRET_BYTES}",
                remedy="Put a backup back, or remove it: every session ends then, and tiles that annotators wait for must be pushed again",
            )
        return cls(secret)

    def key(self, purpose: str) -> bytes:
        """The key for one purpose; nobody can tell one from another."""
        return hmac.digest(self._secret, f"tilehawk {purpose}".encode(), hashlib.sha256)

    def tile_url(self, public_url: str, tile_id: int, *, valid_seconds: float = NINETY_DAYS, now: float | None = None) -> str:
        """An address of the tile's picture that works without login until it expires, and for that tile alone.

        Args:
            public_url: where the app is reached, as ``https://tiles.example.org``.
            tile_id: the tile.
            valid_seconds: how long the address works.
            now: UTC seconds; None for the clock.
        """
        expires = int((time.time() if now is None else now) + valid_seconds)
        return f"{public_url.rstrip('/')}/signed/tiles/{tile_id}.png?expires={expires}&signature={self._tile_signature(tile_id, expires)}"

    def verify(self, tile_id: int, expires: str, signature: str, *, now: float | None = None) -> bool:
        """Whether ``expires`` and ``signature`` are those of an address of this tile that still works; compared in constant time."""
        if not (expires.isascii() and expires.isdigit() and len(expires) < len(str(LATEST))):
            return False
        genuine = hmac.compare_digest(self._tile_signature(tile_id, int(expires)).encode(), signature.encode("utf-8", "replace"))
        return genuine and (time.time() if now is None else now) < int(expires)

    def _tile_signature(self, tile_id: int, expires: int) -> str:
        return hmac.new(self.key("tile"), f"{tile_id}:{expires}".encode(), hashlib.sha256).hexdigest()


def webhook_secret(workspace: Workspace) -> str:
    """What the annotation server sends in the header ``X-Tilehawk-Secret`` to prove that a notification is its own."""
    return Signer.of(workspace).key("webhook").hex()


def ml_backend_secret(workspace: Workspace) -> str:
    """The password with which the annotation server asks the machine learning backend, as the user :data:`ML_BACKEND_USER`."""
    return Signer.of(workspace).key("ml-backend").hex()


def _write_secret(path: Path) -> None:
    with atomic_file(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(SECRET_BYTES))
