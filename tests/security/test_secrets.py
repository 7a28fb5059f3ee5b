"""A whole journey with a token, a password and a key that are called CANARY: they are nowhere but where they belong."""

from __future__ import annotations

import logging

import pytest

from app.accounts import Accounts, Passwords
from app.connections import CONNECTIONS_FILE, connect_label_studio
from app.doctor import examine
from app.jobs import Jobs
from app.pages.annotators import Actions
from app.pages.context import PageContext
from app.settings import Settings
from app.signing import SECRET_FILE, Signer, ml_backend_secret, webhook_secret
from app.wiring import annotation_server
from engine.catalog.workspace import Workspace
from engine.errors import TilehawkError
from engine.stages.backup import back_up
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push
from engine.stages.rank import RankConfig, rank

pytestmark = pytest.mark.guarantee("G39")

TOKEN = "CANARY0123456789abcdef0123456789abcdef01"
PASSWORD = "CANARY correct horse"


def address(tile):
    return f"http://127.0.0.1:7860/signed/tiles/{tile}.png"


@pytest.fixture(scope="module")
def travelled(tmp_path_factory, fake):
    """A workspace after a connection, a push, a pull, a job and failures of each; what was said on the way; and its log."""
    said, log = [], []

    class Kept(logging.Handler):
        def emit(self, record):
            log.append(f"{record.getMessage()} {record.args} {record.exc_info}")

    handler = Kept(logging.DEBUG)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with (
            fake("label_studio_server").serving() as studio,
            Workspace.create(tmp_path_factory.mktemp("journey") / "workspace") as workspace,
        ):
            studio.tokens[TOKEN] = "Token"
            fake("labelled").fill(workspace, fake("catalog").add_scene)
            fake("labelled").predict(workspace, "found")
            rank(workspace, RankConfig(budget_seconds=1e6))
            Accounts(workspace, Passwords(cost=2**4)).add("anna", PASSWORD)
            Signer.of(workspace)
            connected = connect_label_studio(workspace, studio.url, TOKEN)
            server = annotation_server(workspace)
            said += [connected, push(workspace, server, address, PushConfig()), pull(workspace, server, PullConfig())]
            with Jobs(workspace) as jobs:
                jobs.enqueue("push", {})
                said += jobs.list()
            said += [Actions(PageContext(workspace, fake("jobs").FakeJobs(), Settings())).status(), examine(workspace.root)]
            del studio.tokens[TOKEN]
            for attempt in (
                lambda: push(workspace, server, address, PushConfig()),
                lambda: pull(workspace, server, PullConfig(full=True)),
                lambda: connect_label_studio(workspace, studio.url, TOKEN),
                lambda: connect_label_studio(workspace, "http://127.0.0.1:1", TOKEN),
                lambda: connect_label_studio(workspace, studio.url, f"{TOKEN} with spaces"),
                lambda: Accounts(workspace, Passwords(cost=2**4)).add("an na", PASSWORD),
            ):
                with pytest.raises(TilehawkError) as refused:
                    attempt()
                said += [refused.value, refused.value.as_json(), refused.getrepr(showlocals=False)]
            yield workspace, [str(each) for each in said], log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def test_no_file_holds_the_token_but_the_one_that_its_owner_alone_can_read(travelled):
    workspace, _, _ = travelled
    holders = [path.name for path in workspace.root.rglob("*") if path.is_file() and b"CANARY" in path.read_bytes()]
    assert holders == [CONNECTIONS_FILE]
    for name in (CONNECTIONS_FILE, SECRET_FILE):
        assert (workspace.root / name).stat().st_mode & 0o777 == 0o600


def test_key_and_what_is_made_of_it_are_in_no_other_file(travelled):
    workspace, _, _ = travelled
    key = (workspace.root / SECRET_FILE).read_bytes()
    secrets = [key, key.hex().encode(), webhook_secret(workspace).encode(), ml_backend_secret(workspace).encode()]
    holders = {path.name for path in workspace.root.rglob("*") for secret in secrets if path.is_file() and secret in path.read_bytes()}
    assert holders == {SECRET_FILE}


def test_no_report_page_or_error_repeats_it(travelled):
    _, said, _ = travelled
    assert len(said) > 15
    assert [each for each in said if "CANARY" in each] == []


def test_no_log_repeats_it(travelled):
    _, _, log = travelled
    assert [line for line in log if "CANARY" in line] == []


def test_backup_that_was_not_asked_for_secrets_holds_none(travelled, tmp_path):
    workspace, _, _ = travelled
    back_up(workspace, tmp_path / "kept.tar")
    content = (tmp_path / "kept.tar").read_bytes()
    assert b"CANARY" not in content
    assert b"scrypt$" not in content
    assert (workspace.root / SECRET_FILE).read_bytes() not in content
