"""Logging in and out."""

from __future__ import annotations

import html
import math
import string
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.accounts import SESSION_SECONDS, Accounts, Attempts, Sessions
from app.security import SESSION_COOKIE, Access

__all__ = ["router"]

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Tilehawk</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;color:#1f2937;background:#f8fafc}
form{display:grid;gap:.8rem;width:18rem}input,button{font:inherit;padding:.5rem}[role=alert]{color:#b91c1c;margin:0}
</style></head><body>$form</body></html>
""")
LOGIN_FORM = string.Template("""<form method="post" action="/login"><h1>Tilehawk</h1>$problem
<label>Name<br><input name="name" autocomplete="username" required autofocus></label>
<label>Password<br><input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form>""")
LOGOUT_FORM = '<form method="post" action="/logout"><h1>Tilehawk</h1><button>Log out</button></form>'
ATTEMPTS_BY_ADDRESS, ATTEMPTS_BY_NAME = 10, 100


def router(accounts: Accounts, sessions: Sessions, access: Access, *, secure: bool, attempts: Attempts | None = None) -> APIRouter:
    """``GET`` and ``POST`` of ``/login`` and ``/logout``.

    Args:
        accounts: who may log in.
        sessions: how it is remembered.
        access: whether a login is needed at all.
        secure: the cookie is for encrypted connections alone.
        attempts: the bound on failures from one address.
    """
    routes = APIRouter()
    by_address = attempts or Attempts(ATTEMPTS_BY_ADDRESS)
    by_name = Attempts(ATTEMPTS_BY_NAME)

    @routes.get("/login")
    def form() -> Response:
        return _login_page() if access.login else RedirectResponse("/", status_code=303)

    @routes.post("/login")
    def login(request: Request, name: Annotated[str, Form()] = "", password: Annotated[str, Form()] = "") -> Response:
        address = request.client.host if request.client else ""
        wait = max(by_address.wait_seconds(address), by_name.wait_seconds(name[:64]))
        if wait:
            return _login_page(429, f"Too many attempts. Wait {math.ceil(wait)} seconds.", {"Retry-After": str(math.ceil(wait))})
        if not accounts.check(name, password):
            by_address.failed(address)
            by_name.failed(name[:64])
            return _login_page(401, "That name and password do not go together.")
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            SESSION_COOKIE, sessions.begin(name), max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure, path="/"
        )
        return answer

    @routes.get("/logout")
    def ask() -> Response:
        return HTMLResponse(PAGE.substitute(form=LOGOUT_FORM))

    @routes.post("/logout")
    def logout() -> Response:
        answer = RedirectResponse("/login", status_code=303)
        answer.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict", secure=secure)
        return answer

    return routes


def _login_page(status: int = 200, problem: str = "", headers: dict[str, str] | None = None) -> Response:
    said = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    page = PAGE.substitute(form=LOGIN_FORM.substitute(problem=said))
    return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store", **(headers or {})})
