"""The guard before every route: who may ask what, by which name, from where."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Self
from urllib.parse import urlsplit

from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.roles import OPERATOR, may, needed_for, refusal
from engine.errors import UsageError

__all__ = ["LOCAL_USER", "SESSION_COOKIE", "USER", "Access", "Guard", "is_loopback", "require_accounts"]

SESSION_COOKIE = "tilehawk_session"
USER = "tilehawk.user"
"""Key of an ASGI scope: who asks."""
LOCAL_USER = "local"
"""Who asks where no login is needed."""

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
WITHOUT_LOGIN = re.compile(r"/(?:health|login)")
OWN_PROOF = re.compile(r"/signed/tiles/[0-9]+\.png|/webhooks/label-studio|/label-studio/(?:health|predict|setup|versions|webhook)")
STATE_CHANGING = re.compile(r"/webhooks/.*|/label-studio/webhook|/uploads(?:/.*)?|/gradio_api/upload")
READING = frozenset({"GET", "HEAD", "OPTIONS"})
GRADIO_SERVED = re.compile(
    r"/gradio_api/(?:app_id|cancel|component_server|custom_component/.+|file=/.+|heartbeat/[^/]+|info|login_check|queue/(?:data|join|status)"
    r"|reset|run/predict|startup-events|theme\.css|upload|upload_progress|user)/?"
)
"""What the pages need of Gradio's own routes. The rest (fetching addresses, proxying, editing code, recordings, …) is not there."""
GRADIO_ADMINISTRATION = re.compile(r"/(?:gradio_api|monitoring)(?:/.*)?")

CONTENT_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
NOT_ALLOWED = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Tilehawk</title>
<style>body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;color:#1f2937;background:#f8fafc}
main{max-width:34rem;padding:1rem}</style></head>
<body><main><h1>Not for this account</h1><p>$found.</p><p>$remedy.</p><p><a href="/">Overview</a> · <a href="/logout">Log out</a></p></main>
</body></html>
""")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": CONTENT_POLICY.encode(),
}


@dataclass(frozen=True)
class Access:
    """Who may reach the server: decided once, by where it listens and what it is called.

    Args:
        login: whether everybody must log in; else only this machine may ask at all.
        hosts: the names that the server answers to, without port.
        origins: the origin that pages may come from beside the very host that is asked.
    """

    login: bool
    hosts: frozenset[str] = LOOPBACK_NAMES
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, host: str, public_url: str | None) -> Self:
        """The rule for a server that listens on ``host`` and is reached as ``public_url``.

        No login is needed where it listens on loopback and is known by no other machine's name.
        """
        public = urlsplit(public_url).hostname if public_url else None
        names = {name for name in (host, public) if name and not _is_any(name)}
        login = not is_loopback(host) or (public is not None and not is_loopback(public))
        return cls(login, LOOPBACK_NAMES | names, frozenset({public_url} if public_url else ()))

    def answers_to(self, name: str) -> bool:
        """Whether a request may call the server ``name``.

        A page elsewhere can have its own name resolved to our address (DNS rebinding), so only names of ours count; where a login is
        needed numeric addresses do too, for they cannot be rebound.
        """
        return name in self.hosts or (self.login and _is_address(name))


def is_loopback(host: str) -> bool:
    """Whether ``host`` is a name or an address of this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """ASGI middleware that answers whatever is not allowed itself.

    In turn: the name by which the server is called, the page that asks, the machine that asks, whether the route is one of ours or one
    that the pages need, the session, the role, and, in a second app, whether the request would change something. Every answer carries the
    headers that keep a browser from doing more with it than a page needs.

    Args:
        app: what is guarded.
        access: who may ask.
        user_of: the user of a session cookie, None for none.
        role_of: what a user may do, None for nothing; not asked where no login is needed.
        read_only: why nothing may be changed here, None where this app is the one in charge.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        user_of: Callable[[str], str | None],
        role_of: Callable[[str], str | None],
        read_only: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.app, self._access, self._user_of, self._role_of, self._read_only = app, access, user_of, role_of, read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead, None to let pass; notes in ``scope`` who asks."""
        path, own_proof = scope["path"], bool(OWN_PROOF.fullmatch(scope["path"]))
        if not all(self._access.answers_to(name) for name in _hosts(scope)):
            return _text(403, "Tilehawk does not answer to this name. Use the address it was started with, or set TILEHAWK_PUBLIC_URL.")
        if not own_proof and not self._is_own_page(scope):
            return _text(403, "This request comes from another page than Tilehawk's own.")
        if not self._access.login and not _from_loopback(scope):
            return _text(403, "Tilehawk answers on this machine only, at 127.0.0.1 or localhost.")
        if not own_proof and (refused := self._unknown_user(scope) or self._not_allowed(scope)):
            return refused
        if GRADIO_ADMINISTRATION.fullmatch(path) and not GRADIO_SERVED.fullmatch(path):
            return _text(403, "This part of Gradio is not served here.")
        if _method(scope) not in READING and STATE_CHANGING.fullmatch(path) and (reason := self._read_only()):
            return _text(409, reason)
        return None

    def _is_own_page(self, scope: Scope) -> bool:
        """Whether no other site's page asks: browsers name the page's origin with whatever may change or read something."""
        origins = _values(scope, b"origin")
        if not origins:
            return _method(scope) in READING or _values(scope, b"sec-fetch-site") in ([], ["same-origin"], ["none"])
        hosts = _values(scope, b"host")
        return len(origins) == 1 and (
            origins[0] in self._access.origins or (bool(hosts) and origins[0] in {f"http://{hosts[0]}", f"https://{hosts[0]}"})
        )

    def _unknown_user(self, scope: Scope) -> Response | None:
        if not self._access.login:
            scope[USER] = LOCAL_USER
            return None
        scope[USER] = next((user for cookie in _session_cookies(scope) if (user := self._user_of(cookie))), None)
        if scope[USER] is not None or WITHOUT_LOGIN.fullmatch(scope["path"]):
            return None
        return RedirectResponse("/login", status_code=303) if _wants_a_page(scope) else _text(401, "Log in first: /login")

    def _not_allowed(self, scope: Scope) -> Response | None:
        """What to say to somebody whose role is too small for the path; one that no rule names is the operator's alone."""
        if not self._access.login or WITHOUT_LOGIN.fullmatch(scope["path"]):
            return None
        needs, role = needed_for(scope["path"]) or OPERATOR, self._role_of(scope[USER])
        if may(role, needs):
            return None
        found, remedy = refusal(scope["path"], needs, scope[USER], role)
        if _wants_a_page(scope):
            return HTMLResponse(NOT_ALLOWED.substitute(found=escape(found), remedy=escape(remedy)), status_code=403)
        return _text(403, f"{found}. {remedy}.")


def require_accounts(access: Access, names: Iterable[str], host: str) -> None:
    """Refuse a server that others can reach while nobody can log in.

    Raises:
        UsageError: there is no account and ``access`` asks for a login.
    """
    if access.login and not list(names):
        raise UsageError(
            f"{host} is reached from elsewhere and nobody can log in",
            expected="an account, or 127.0.0.1",
            remedy="Make one: tilehawk users add NAME",
        )


def _text(status: int, sentence: str) -> Response:
    return PlainTextResponse(f"{sentence}\n", status_code=status)


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            present = {name.lower() for name, _ in headers}
            message["headers"] = [*headers, *((name, value) for name, value in HEADERS.items() if name not in present)]
        await send(message)

    return guarded


def _wants_a_page(scope: Scope) -> bool:
    return _method(scope) == "GET" and any("text/html" in value for value in _values(scope, b"accept"))


def _method(scope: Scope) -> str:
    """The method; that of a websocket, which may do anything, counts as state-changing."""
    return str(scope.get("method", "WEBSOCKET"))


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _hosts(scope: Scope) -> list[str]:
    """The names by which the server is called, without port: the only ``Host`` and whatever a proxy says was asked for."""
    hosts = _values(scope, b"host")
    if len(hosts) != 1:
        return [""]
    forwarded = [part for value in _values(scope, b"x-forwarded-host") for part in value.split(",")]
    return [_without_port(value.strip()) for value in (*hosts, *forwarded)]


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    named = name if name and port.isdigit() else host
    return (named[1:-1] if named.startswith("[") and named.endswith("]") else named).lower()


def _session_cookies(scope: Scope) -> list[str]:
    jars = [cookie_parser(value) for value in _values(scope, b"cookie")]
    return [jar[SESSION_COOKIE] for jar in jars if SESSION_COOKIE in jar]


def _from_loopback(scope: Scope) -> bool:
    client = scope.get("client") or ("", 0)
    return _is_address(client[0]) and ipaddress.ip_address(client[0]).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_any(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_unspecified
