"""The guard before every route."""

from __future__ import annotations

import asyncio

import pytest

from app.security import LOCAL_USER, USER, Access, Guard, is_loopback, require_accounts
from engine.errors import UsageError

HERE = Access.of("127.0.0.1", None)
PUBLIC = Access.of("0.0.0.0", "https://tiles.example.org:8443")


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"inside as {scope.get(USER)}".encode()})


def ask(
    access=HERE,
    *,
    kind="http",
    client=("127.0.0.1", 5),
    hosts=(b"127.0.0.1:7860",),
    method="GET",
    path="/",
    headers=(),
    read_only=None,
    role="engineer",
):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request", "body": b""}

    scope = {
        "type": kind,
        "client": client,
        "headers": [*((b"host", host) for host in hosts), *((name.encode(), value.encode()) for name, value in headers)],
        "method": method,
        "path": path,
    }
    if kind == "websocket":
        del scope["method"]
    people = {"genuine": "anna"}
    guard = Guard(application, access=access, user_of=people.get, role_of=lambda name: role, read_only=lambda: read_only)
    asyncio.run(guard(scope, receive, send))
    return sent


def status(*arguments, **named):
    return ask(*arguments, **named)[0]["status"]


@pytest.mark.parametrize("host", [b"127.0.0.1", b"127.0.0.1:7860", b"localhost", b"LocalHost:1", b"[::1]:7860", b"[::1]"])
@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_under_its_own_name_is_let_in(host, client):
    start, body = ask(client=(client, 5), hosts=(host,))
    assert start["status"] == 200
    assert body["body"].decode() == f"inside as {LOCAL_USER}"


@pytest.mark.parametrize(
    ("client", "hosts"),
    [
        (("127.0.0.1", 5), (b"evil.example",)),
        (("127.0.0.1", 5), (b"127.0.0.1.evil.example:7860",)),
        (("127.0.0.1", 5), (b"localhost@evil.example",)),
        (("127.0.0.1", 5), (b"0.0.0.0:7860",)),
        (("127.0.0.1", 5), (b"192.168.1.7:7860",)),
        (("127.0.0.1", 5), (b"",)),
        (("127.0.0.1", 5), ()),
        (("127.0.0.1", 5), (b"localhost", b"evil.example")),
        (("192.168.1.7", 5), (b"localhost",)),
        (("testclient", 5), (b"localhost",)),
        (None, (b"localhost",)),
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/login", "/signed/tiles/1.png", "/webhooks/label-studio"])
def test_any_other_is_refused_before_the_application(client, hosts, path):
    sent = ask(client=client, hosts=hosts, path=path)
    assert sent[0]["status"] == 403
    assert all(b"inside" not in message.get("body", b"") for message in sent)
    assert ask(kind="websocket", client=client, hosts=hosts, path=path) == [{"type": "websocket.close", "code": 1008}]


def test_name_that_a_proxy_passes_on_counts_too():
    assert status(headers=[("x-forwarded-host", "localhost")]) == 200
    assert status(headers=[("x-forwarded-host", "localhost, evil.example")]) == 403
    assert status(PUBLIC, path="/health", headers=[("x-forwarded-host", "evil.example")]) == 403


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://127.0.0.1:7860", True),
        ("https://127.0.0.1:7860", True),
        ("http://127.0.0.1:3000", False),
        ("http://localhost:7860", False),
        ("https://evil.example", False),
        ("http://127.0.0.1:7860.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_our_own_pages_ask(method, origin, let_in):
    assert status(method=method, headers=[("origin", origin)]) == (200 if let_in else 403)


def test_two_origins_are_none_of_ours():
    assert status(method="POST", headers=[("origin", "http://127.0.0.1:7860"), ("origin", "http://127.0.0.1:7860")]) == 403


def test_browser_that_says_the_request_is_another_site_s_is_believed():
    assert status(method="POST", headers=[("sec-fetch-site", "cross-site")]) == 403
    assert status(method="POST", headers=[("sec-fetch-site", "same-site")]) == 403
    assert status(method="POST", headers=[("sec-fetch-site", "same-origin")]) == 200
    assert status(method="GET", headers=[("sec-fetch-site", "cross-site")]) == 200, "a link from elsewhere"
    assert status(method="POST") == 200, "no browser"


def test_websocket_of_another_page_is_refused():
    assert ask(kind="websocket", headers=[("origin", "https://evil.example")]) == [{"type": "websocket.close", "code": 1008}]
    assert ask(kind="websocket", headers=[("origin", "http://127.0.0.1:7860")])[1]["body"].startswith(b"inside")


def test_annotation_server_s_pages_may_show_signed_tiles():
    assert status(PUBLIC, path="/signed/tiles/1.png", headers=[("origin", "https://labels.example.org")]) == 200


@pytest.mark.parametrize(
    ("host", "public_url", "login"),
    [
        ("127.0.0.1", None, False),
        ("localhost", None, False),
        ("::1", None, False),
        ("127.0.0.1", "http://127.0.0.1:7860", False),
        ("127.0.0.1", "https://tiles.example.org", True),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("192.168.1.7", None, True),
        ("0.0.0.0", "http://localhost:7860", True),
        ("tiles.example.org", None, True),
    ],
)
def test_login_is_needed_wherever_others_can_reach(host, public_url, login):
    access = Access.of(host, public_url)
    assert access.login is login
    if login:
        with pytest.raises(UsageError, match="tilehawk users add NAME"):
            require_accounts(access, [], host)
    else:
        require_accounts(access, [], host)
    require_accounts(access, ["anna"], host)


@pytest.mark.parametrize("host", [b"tiles.example.org:8443", b"Tiles.Example.org", b"192.168.1.7:7860", b"127.0.0.1", b"[fe80::1]:80"])
def test_public_server_answers_to_its_name_and_to_numbers(host):
    assert status(PUBLIC, hosts=(host,), client=("203.0.113.9", 5), path="/health") == 200


@pytest.mark.parametrize("host", [b"evil.example", b"tiles.example.org.evil.example", b"0x7f.1", b"2130706433x", b""])
def test_public_server_answers_to_no_other_name(host):
    assert status(PUBLIC, hosts=(host,), client=("203.0.113.9", 5), path="/health") == 403


def test_public_server_is_asked_by_its_own_page_behind_a_proxy():
    assert (
        status(PUBLIC, hosts=(b"127.0.0.1:7860",), method="POST", path="/login", headers=[("origin", "https://tiles.example.org:8443")])
        == 200
    )
    assert (
        status(PUBLIC, hosts=(b"127.0.0.1:7860",), method="POST", path="/login", headers=[("origin", "https://tiles.example.org")]) == 403
    )


@pytest.mark.parametrize(
    ("cookie", "user"),
    [
        ("tilehawk_session=genuine", "anna"),
        ("other=1; tilehawk_session=genuine", "anna"),
        ('broken="; tilehawk_session=genuine', "anna"),
        ("tilehawk_session=forged", None),
        ("tilehawk_session=", None),
        ("tilehawk_sessio=genuine", None),
        ("genuine", None),
    ],
)
def test_session_decides(cookie, user):
    sent = ask(PUBLIC, hosts=(b"tiles.example.org",), headers=[("cookie", cookie)])
    assert sent[0]["status"] == (200 if user else 401)
    assert sent[1]["body"] == (b"inside as anna" if user else b"Log in first: /login\n")


@pytest.mark.parametrize(
    "path", ["/", "/gradio_api/queue/join", "/healthx", "/health/", "/login/x", "/x/health", "/signed/tiles/x.png", "/signed/tiles/1.png/x"]
)
def test_without_a_session_a_browser_is_shown_the_login_and_all_else_is_refused(path):
    sent = ask(PUBLIC, hosts=(b"tiles.example.org",), path=path, headers=[("accept", "text/html,*/*")])
    assert sent[0]["status"] == 303
    assert (b"location", b"/login") in sent[0]["headers"]
    assert status(PUBLIC, hosts=(b"tiles.example.org",), path=path) == 401
    assert status(PUBLIC, hosts=(b"tiles.example.org",), path=path, method="POST", headers=[("accept", "text/html")]) == 401


@pytest.mark.parametrize("path", ["/health", "/login", "/signed/tiles/12.png", "/webhooks/label-studio"])
def test_the_open_ones_are_open(path):
    assert status(PUBLIC, hosts=(b"tiles.example.org",), path=path) == 200


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/gradio_api/queue/join", True),
        ("/gradio_api/upload", True),
        ("/gradio_api/run/predict", True),
        ("/gradio_api/run/other", False),
        ("/gradio_api/call/predict", False),
        ("/gradio_api/openapi.json", False),
        ("/gradio_api/file=/w/temporary/uploads/a.png", True),
        ("/gradio_api/heartbeat/abc", True),
        ("/gradio_api/file=http://169.254.169.254/", False),
        ("/gradio_api/file=tilehawk.json", False),
        ("/gradio_api/file/w/a.png", False),
        ("/gradio_api/proxy=http://127.0.0.1/", False),
        ("/gradio_api/vibe-edit", False),
        ("/gradio_api/process_recording", False),
        ("/gradio_api/dev/reload", False),
        ("/gradio_api/deep_link", False),
        ("/gradio_api/runs", False),
        ("/gradio_api/mcp/sse", False),
        ("/gradio_api/a-new-one", False),
        ("/gradio_api", False),
        ("/monitoring", False),
        ("/monitoring/summary", False),
    ],
)
def test_of_gradio_only_what_pages_need_is_served(path, served):
    assert status(path=path) == (200 if served else 403)


def test_second_app_changes_nothing():
    why = "process 7 is in charge of this workspace."
    for path in ("/webhooks/label-studio", "/gradio_api/upload"):
        sent = ask(method="POST", path=path, read_only=why)
        assert (sent[0]["status"], sent[1]["body"]) == (409, f"{why}\n".encode())
        assert status(method="POST", path=path) == 200
    assert status(path="/tiles/1.png", read_only=why) == 200
    assert status(method="POST", path="/gradio_api/queue/join", read_only=why) == 200, "the pages refuse for themselves"


@pytest.mark.parametrize("answered", [{}, {"hosts": (b"evil.example",)}])
def test_every_answer_tells_the_browser_to_be_careful(answered):
    headers = {name.decode(): value.decode() for name, value in ask(**answered)[0]["headers"]}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["connect-src"] == policy["form-action"] == policy["base-uri"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
    assert "http" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("x", False)]
)
def test_loopback_is_told(host, expected):
    assert is_loopback(host) is expected


COOKIE = ("cookie", "tilehawk_session=genuine")


@pytest.mark.parametrize(
    ("role", "path", "answered"),
    [
        ("annotator", "/review", 200),
        ("annotator", "/tiles/1.png", 200),
        ("annotator", "/budget", 403),
        ("annotator", "/downloads/labels/gpkg", 403),
        ("manager", "/budget", 200),
        ("manager", "/downloads/labels/gpkg", 200),
        ("manager", "/training", 403),
        ("manager", "/gradio_api/upload", 403),
        ("engineer", "/training", 200),
        ("engineer", "/no rule names this", 200),
        ("manager", "/no rule names this", 403),
        ("annotator", "/logout", 200),
        (None, "/review", 403),
        ("ADMIN", "/review", 403),
    ],
)
def test_role_decides_what_may_be_asked_for(role, path, answered):
    assert status(PUBLIC, hosts=(b"tiles.example.org",), path=path, headers=[COOKIE], role=role) == answered
    assert status(path=path, role=role) == 200, "at this machine nobody is asked who they are"


def test_refused_page_says_who_may_open_it():
    sent = ask(PUBLIC, hosts=(b"tiles.example.org",), path="/budget", headers=[COOKIE, ("accept", "text/html")], role="annotator")
    assert sent[0]["status"] == 403
    said = sent[1]["body"].decode()
    assert "/budget is for managers and engineers; the account anna is an annotator." in said
    assert "tilehawk users role anna manager" in said
