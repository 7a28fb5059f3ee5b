"""Who may do what: three roles, and the least of them that each page and route asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

__all__ = ["NEW_ACCOUNTS", "OPERATOR", "PAGES", "ROLES", "ROUTES", "Role", "may", "needed_for", "refusal", "whoever"]

Role = Literal["annotator", "manager", "engineer"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""
NEW_ACCOUNTS: Role = "engineer"
"""What an account is where nobody says: also those from before there were roles, which could do everything."""
OPERATOR: Role = "engineer"
"""Who may do everything: what nobody wrote a rule for, too, and somebody on this machine where no login is needed."""

PAGES: Mapping[str, Role] = {
    "": "annotator",
    "imagery": "annotator",
    "review": "annotator",
    "find": "annotator",
    "budget": "manager",
    "rounds": "manager",
    "results": "manager",
    "annotators": "manager",
    "export": "manager",
    "training": "engineer",
}
"""Path of a page → who may open it, and ask it for anything. What changes the workspace may need more: ``PageContext.answer``."""

ROUTES: Mapping[str, Role] = {
    r"/tiles/.*": "annotator",
    r"/scene": "annotator",
    r"/scenes?(/.*)?": "annotator",
    r"/web/.*": "annotator",
    r"/hits/.*": "annotator",
    r"/spending/.*": "manager",
    r"/curve\.png": "annotator",
    r"/evaluations/.*": "manager",
    r"/reports/.*": "manager",
    r"/simulations/.*": "manager",
    r"/downloads/.*": "manager",
    r"/training/.*": "engineer",
    r"/uploads(/.*)?": "engineer",
    r"/gradio_api/upload(_progress)?": "engineer",
    r"/gradio_api/.*": "annotator",
    r"/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon.*|svelte/.*|static/.*|assets/.*|web/.*|user)/?": "annotator",
    r"/openapi\.json": "engineer",
    r"/(health|login|logout)/?": "annotator",
}
"""Path of a route (a pattern of all of it; the first that fits counts) → who may ask for it."""

_PATTERNS = [(re.compile(pattern), role) for pattern, role in ROUTES.items()]


def may(role: str | None, needs: Role) -> bool:
    """Whether somebody of ``role`` may do what ``needs`` that role; nobody, and a role that is none, may nothing."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needs)


def needed_for(path: str) -> Role | None:
    """The least role that may ask for ``path``, a page or another route; None where no rule names it."""
    page = PAGES.get(path.strip("/"))
    return page or next((role for pattern, role in _PATTERNS if pattern.fullmatch(path)), None)


def whoever(needs: Role) -> str:
    """Who may do what ``needs`` that role, in words."""
    allowed = [f"{role}s" for role in ROLES if may(role, needs)]
    return "everybody" if len(allowed) == len(ROLES) else " and ".join(allowed)


def refusal(what: str, needs: Role, name: str, role: str | None) -> tuple[str, str]:
    """Why somebody may not do ``what``, and what can be done about it: two sentences without their full stops."""
    found = f"{what} is for {whoever(needs)}; the account {name} is {'an' if str(role)[:1] in 'aeiou' else 'a'} {role or 'stranger'}"
    return found, f"Ask one of them, or whoever runs this server for another role: tilehawk users role {name} {needs}"
