"""Each role does what its rules say and nothing else: every route, every page, every event of a page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.routing import Mount

from app import roles
from app.accounts import Accounts, Passwords
from app.pages import site
from app.pages.context import PageContext
from app.roles import ROLES, may
from app.security import GRADIO_ADMINISTRATION, GRADIO_SERVED, OWN_PROOF
from app.settings import Settings
from engine.catalog.workspace import Workspace

pytestmark = [
    pytest.mark.guarantee("G35"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:gradio"),
]

PEOPLE = {"anna": "annotator", "max": "manager", "eva": "engineer"}
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    with Workspace.create(tmp_path_factory.mktemp("roles") / "workspace") as made:
        for name, role in PEOPLE.items():
            Accounts(made, Passwords(cost=2**4)).add(name, PASSWORD, role)
        yield made


@pytest.fixture(scope="module")
def application(workspace, fake):
    web = fake("web")
    return web.application(workspace, fake("jobs").FakeJobs(), None, settings=Settings(public_url=web.ELSEWHERE), host="0.0.0.0")


@pytest.fixture(scope="module")
def blocks(application):
    return next(route.app.get_blocks() for route in application.routes if isinstance(route, Mount) and hasattr(route.app, "get_blocks"))


@pytest.fixture(scope="module")
def people(application, fake):
    """A client for everybody, logged in."""
    web = fake("web")
    clients = {name: web.client(application, address=web.ELSEWHERE, machine="203.0.113.10") for name in PEOPLE}
    for name, client in clients.items():
        assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
    return clients


@pytest.fixture
def visited():
    """Answer an event as it is when that person asks."""

    def visit(event, name, *values):
        token = LocalContext.request.set(gr.Request(username=name))
        try:
            return event(*values)
        finally:
            LocalContext.request.reset(token)

    return visit


def test_every_route_has_a_rule(application, fake):
    """A new route, or page, that nobody wrote a rule for is found here; until then it is the operator's alone."""
    served = [
        path
        for _, path in fake("web").every_route(application.routes)
        if not OWN_PROOF.fullmatch(path) and not (GRADIO_ADMINISTRATION.fullmatch(path) and not GRADIO_SERVED.fullmatch(path))
    ]
    assert len(served) > 30
    assert [path for path in served if roles.needed_for(path) is None] == []


def test_every_page_has_a_rule_and_every_rule_a_page():
    assert set(roles.PAGES) == set(site.PAGES)


def test_every_route_asks_for_the_role_that_its_rule_names(application, people, fake):
    for method, path in sorted(set(fake("web").every_route(application.routes))):
        needs = roles.needed_for(path)
        if needs is None or method not in {"GET", "POST"} or "heartbeat" in path or "queue/data" in path:
            continue
        for name, role in PEOPLE.items():
            if not may(role, needs):
                answer = people[name].request(method, path)
                assert answer.status_code == 403, (method, path, role)
                assert f"tilehawk users role {name} {needs}" in answer.text


@pytest.mark.parametrize("path", list(site.PAGES))
def test_page_opens_for_its_roles_and_tells_others_who_may(people, path):
    for name, role in PEOPLE.items():
        answer = people[name].get(f"/{path}", headers={"accept": "text/html"})
        allowed = may(role, roles.PAGES[path])
        assert answer.status_code == (200 if allowed else 403)
        assert allowed or f"the account {name} is a" in answer.text


def test_no_page_answers_an_event_to_somebody_who_may_not_open_it(blocks, visited):
    refused = 0
    for event in blocks.fns.values():
        for name, role in PEOPLE.items():
            if not may(role, roles.PAGES[event.page]):
                with pytest.raises(gr.Error, match=f"the account {name} is a"):
                    visited(event.fn, name)
                refused += 1
    assert refused > 50


def changing(blocks):
    """The events that change the workspace."""
    return [event for event in blocks.fns.values() if getattr(event.fn, "changes", False)]


def test_what_changes_the_workspace_is_refused_to_smaller_roles_in_the_line_of_news(blocks, visited, workspace):
    refused = 0
    for event in changing(blocks):
        for name, role in PEOPLE.items():
            if may(role, roles.PAGES[event.page]) and not may(role, event.fn.needs):
                said = visited(event.fn, name)
                news = said if isinstance(said, str) else said[-1]
                assert f"the account {name} is a" in news
                refused += 1
    assert refused > 5
    with workspace.session(write=False) as session:
        from engine.catalog import ledger

        assert ledger.events(session) == []


@pytest.mark.timeout(120)
def test_event_is_refused_over_the_wire_too(application, blocks, fake):
    """By whoever finds its number: not only where the page does not show it."""
    web = fake("web")
    closed = next(event for event in blocks.fns.values() if event.page == "training" and not event.inputs)
    cancel = next(event for event in changing(blocks) if event.page == "")
    with web.client(application, address=web.ELSEWHERE, machine="203.0.113.10") as client:
        client.post("/login", data={"name": "anna", "password": PASSWORD})
        for number, event in enumerate((closed, cancel)):
            asked = {"data": [None] * len(event.inputs), "fn_index": event._id, "session_hash": f"session{number}"}
            assert client.post("/gradio_api/queue/join", json=asked).status_code == 200
            said = client.get("/gradio_api/queue/data", params={"session_hash": f"session{number}"}).text
            assert "the account anna is an annotator" in said


def test_navigation_names_the_pages_that_one_may_open(blocks, visited):
    (links,) = [event.fn for event in blocks.fns.values() if event.page == "" and event.fn.__name__ == "links"]
    for name, role in PEOPLE.items():
        shown = {path for _, path in visited(links, name, gr.Request(username=name))["value"]}
        assert shown == {path for path, needs in roles.PAGES.items() if path and may(role, needs)}
    assert all(not shown for path, _, shown in blocks.pages if path), "Gradio itself shows none of them to everybody"


def rules_in_words(blocks):
    """The table of docs/security.md: who may open which page, and what of its buttons changes something for whom."""
    shown = {True: "yes", False: "–"}
    for path, (title, _) in site.PAGES.items():
        yield f"| {title}: look | " + " | ".join(shown[may(role, roles.PAGES[path])] for role in ROLES) + " |"
        for event in changing(blocks):
            if event.page == path:
                label = " ".join(str(blocks.blocks[event.targets[0][0]].value).split())
                allowed = [may(role, roles.PAGES[path]) and may(role, event.fn.needs) for role in ROLES]
                yield f"| {title}: *{label}* | " + " | ".join(shown[each] for each in allowed) + " |"


def test_page_about_security_says_what_the_code_does(blocks):
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    written = [line for line in page.splitlines() if line.endswith(("| yes |", "| – |"))]
    assert written == list(rules_in_words(blocks)), "write the table anew from rules_in_words"


def test_somebody_at_this_machine_may_do_everything(workspace, fake):
    context = PageContext(workspace, fake("jobs").FakeJobs(), Settings())
    for needs in ROLES:
        context.require(needs, "This")

    async def build():
        return site.build(context)

    assert [shown for _, _, shown in asyncio.run(build()).pages] == [True] * len(site.PAGES)
