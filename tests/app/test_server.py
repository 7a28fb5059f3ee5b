"""The server: own routes, the mounted pages, and how it starts."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from app.accounts import Accounts, Passwords
from app.bodies import LARGEST_FORM_BYTES
from app.server import serve
from app.settings import Settings
from engine.catalog.workspace import Workspace
from engine.errors import UsageError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:gradio"),
]


@pytest.fixture(scope="module")
def client(filled_workspace, fake):
    web = fake("web")
    return web.client(web.application(filled_workspace, fake("jobs").FakeJobs(), fake("pages").build))


def test_health_and_the_pages_are_there(client):
    assert client.get("/health").json() == {"status": "ok"}
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "window.gradio_config" in page.text


def test_gradio_keeps_to_itself(client, filled_workspace):
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert config["max_file_size"] == LARGEST_FORM_BYTES < Settings().upload_bytes
    assert config["username"] == "local"


def test_uploads_are_refused_where_another_app_is_in_charge(filled_workspace, fake):
    web = fake("web")
    reading = web.application(filled_workspace, fake("jobs").FakeJobs(), fake("pages").build, read_only=lambda: "another is in charge")
    client = web.client(reading)
    for method, path in (("POST", "/uploads"), ("PATCH", f"/uploads/{'0' * 32}"), ("DELETE", f"/uploads/{'0' * 32}")):
        answer = client.request(method, path)
        assert (answer.status_code, "another is in charge" in answer.text) == (409, True), method
    assert client.get("/uploads").json() == []


def test_taken_port_is_wrong_use_and_named(filled_workspace):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            serve(filled_workspace, host="127.0.0.1", port=port, worker=False, settings=Settings())


def test_unknown_host_is_wrong_use_and_named(tmp_path):
    with Workspace.create(tmp_path / "new") as workspace:
        Accounts(workspace, Passwords(cost=2**4)).add("anna", "correct horse")
        with pytest.raises(UsageError, match=r"nowhere\.invalid"):
            serve(workspace, host="nowhere.invalid", port=0, worker=False, settings=Settings())


@pytest.mark.parametrize(("host", "public_url"), [("0.0.0.0", None), ("127.0.0.1", "https://tiles.example.org")])
def test_others_are_let_in_only_where_somebody_can_log_in(tmp_path, host, public_url):
    with Workspace.create(tmp_path / "new") as workspace, pytest.raises(UsageError, match="tilehawk users add NAME"):
        serve(workspace, host=host, port=0, worker=False, settings=Settings(public_url=public_url))


def test_the_server_loads_no_torch():
    """It is what makes a start slow, and the worker's to use."""
    script = """
import sys
from app.settings import prepare_environment
prepare_environment()
import app.jobs, app.server, app.supervisor
import app.pages.site
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
