"""Notifications of the annotation server: hints that are never believed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI

from app.bodies import BodyLimit, Uploads
from app.routes import webhooks
from app.routes.webhooks import PullRequests
from engine.catalog.workspace import Workspace
from engine.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client
PATH = "/webhooks/label-studio"
SECRET = "s3cret"


@pytest.fixture
def jobs(fake):
    return fake("jobs").FakeJobs()


@pytest.fixture
def client(jobs, tmp_path):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(webhooks.router(jobs, SECRET))
    with Workspace.create(tmp_path / "workspace") as workspace:
        app.add_middleware(BodyLimit, uploads=Uploads(workspace), upload_bytes=1024)
        yield TestClient(app)


def notify(client, secret=SECRET, body=b"{}"):
    return client.post(PATH, content=body, headers={} if secret is None else {"X-Tilehawk-Secret": secret})


@pytest.mark.guarantee("G20")
def test_hundred_notifications_are_one_pull(client, jobs):
    for number in range(100):
        assert notify(client, body=b'{"action": "ANNOTATION_CREATED", "id": %d}' % (number * 7 % 13)).status_code == 202
    assert [(job.verb, job.config, job.inputs) for job in jobs.queued] == [("pull", {}, {})]


@pytest.mark.guarantee("G20")
def test_notification_after_a_pull_began_is_another_pull(client, jobs):
    notify(client)
    jobs.queued[0].begun = True
    notify(client)
    assert len(jobs.queued) == 2


@pytest.mark.guarantee("G20")
def test_notifications_that_come_at_once_ask_the_job_store_once_more_at_most(jobs):
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def enqueue(self, *arguments, **options):
            begun.set()
            assert go_on.wait(10)
            return jobs.enqueue(*arguments, **options)

    pulls = PullRequests(Slow())
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(pulls.ask)
        assert begun.wait(10)
        for other in [pool.submit(pulls.ask) for _ in range(50)]:
            other.result(10)
        go_on.set()
        first.result(10)
    assert (jobs.asked, len(jobs.queued)) == (2, 1)


@pytest.mark.guarantee("G20")
@pytest.mark.parametrize("body", [b"", b"not json", b'{"action": "ANNOTATIONS_DELETED", "annotation": {"id": -1}}', b"\xff" * 1000])
def test_payload_is_not_read_for_data(client, jobs, body):
    assert notify(client, body=body).status_code == 202
    assert [(job.verb, job.config, job.inputs) for job in jobs.queued] == [("pull", {}, {})]


@pytest.mark.guarantee("G21")
@pytest.mark.parametrize("secret", [None, "", "s3cre", "s3crets", "S3CRET", "sécret".encode("latin-1")])
def test_wrong_secret_changes_nothing(client, jobs, secret):
    assert notify(client, secret=secret).status_code == 401
    assert jobs.asked == 0


@pytest.mark.guarantee("G21")
@pytest.mark.parametrize("pieces", [1, 50])
def test_endless_payload_is_cut_off_and_changes_nothing(client, jobs, pieces):
    chunk = b"x" * (1_100_000 // pieces)
    answer = client.post(PATH, content=iter([chunk] * pieces), headers={"X-Tilehawk-Secret": SECRET})
    assert (answer.status_code, "1000000 bytes" in answer.text) == (413, True)
    assert jobs.asked == 0


def test_job_store_that_refuses_is_told_of_and_the_next_notification_tries_again(caplog):
    asked = []

    class Refusing:
        def enqueue(self, *arguments, **options):
            asked.append(arguments)
            raise UsageError("no such verb")

    pulls = PullRequests(Refusing())
    pulls.ask()
    pulls.ask()
    assert len(asked) == 2
    assert "no such verb" in caplog.text


def test_an_error_that_nobody_foresaw_does_not_silence_the_next_notification(jobs, monkeypatch):
    pulls, enqueue = PullRequests(jobs), jobs.enqueue

    def full(*_args, **_more):
        raise OSError("the disk is full")

    monkeypatch.setattr(jobs, "enqueue", full)
    with pytest.raises(OSError, match="full"):
        pulls.ask()
    monkeypatch.setattr(jobs, "enqueue", enqueue)
    pulls.ask()
    assert len(jobs.queued) == 1
