"""The guard before every route: this machine only, under its own name."""

from __future__ import annotations

import ipaddress

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LoopbackOnly"]

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


class LoopbackOnly:
    """ASGI middleware that refuses every request not made from this machine to this machine's own name.

    The client's address guards against the network; the ``Host`` header against a page elsewhere that has its own name
    resolved to 127.0.0.1 (DNS rebinding). Answers carry ``X-Content-Type-Options: nosniff``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if not (_from_loopback(scope) and _host(scope) in HOSTS):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await PlainTextResponse("Tilehawk answers on this machine only, at 127.0.0.1 or localhost.\n", status_code=403)(
                scope, receive, send
            )
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self.app(scope, receive, send_guarded)


def _from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _host(scope: Scope) -> str:
    """The name in the only ``Host`` header, without its port; empty where there is none, or more than one."""
    values: list[str] = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(values) != 1:
        return ""
    name, _, port = values[0].rpartition(":")
    return name if name and port.isdigit() else values[0]
