"""The guard before every route."""

from __future__ import annotations

import asyncio

import pytest

from app.security import LoopbackOnly


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(kind="http", client=("127.0.0.1", 5), hosts=(b"127.0.0.1:7860",)):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request", "body": b""}

    headers = [(b"host", host) for host in hosts]
    scope = {"type": kind, "client": client, "headers": headers, "method": "GET", "path": "/"}
    asyncio.run(LoopbackOnly(application)(scope, receive, send))
    return sent


@pytest.mark.parametrize("host", [b"127.0.0.1", b"127.0.0.1:7860", b"localhost", b"localhost:1", b"[::1]:7860", b"[::1]"])
@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_under_its_own_name_is_let_in(host, client):
    start, body = ask(client=(client, 5), hosts=(host,))
    assert start["status"] == 200
    assert (b"x-content-type-options", b"nosniff") in start["headers"]
    assert body["body"] == b"inside"


@pytest.mark.parametrize(
    ("client", "hosts"),
    [
        (("127.0.0.1", 5), (b"evil.example",)),
        (("127.0.0.1", 5), (b"127.0.0.1.evil.example:7860",)),
        (("127.0.0.1", 5), (b"localhost@evil.example",)),
        (("127.0.0.1", 5), (b"0.0.0.0:7860",)),
        (("127.0.0.1", 5), (b"",)),
        (("127.0.0.1", 5), ()),
        (("127.0.0.1", 5), (b"localhost", b"evil.example")),
        (("192.168.1.7", 5), (b"localhost",)),
        (("testclient", 5), (b"localhost",)),
        (None, (b"localhost",)),
    ],
)
def test_any_other_is_refused_before_the_application(client, hosts):
    sent = ask(client=client, hosts=hosts)
    assert sent[0]["status"] == 403
    assert all(b"inside" not in message.get("body", b"") for message in sent)
    assert ask(kind="websocket", client=client, hosts=hosts) == [{"type": "websocket.close", "code": 1008}]
