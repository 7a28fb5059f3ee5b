"""Jobs: queued, listed, run by a worker, cancelled, resumed; what is wrong is refused before it is queued."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.jobs import Jobs, job_error
from engine import errors
from engine.catalog.jobs import heartbeat, set_job_progress
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, UsageError


@pytest.fixture
def jobs(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace, Jobs(workspace) as opened:
        yield opened


@pytest.fixture
def workspace(jobs):
    return jobs._workspace


def test_a_queued_job_is_listed_with_what_it_was_given(jobs, tmp_path):
    job_id = jobs.enqueue("ingest", {"tile": 128}, inputs={"source": tmp_path})
    [job] = jobs.list()
    assert (job.id, job.verb, job.config, job.inputs) == (job_id, "ingest", {"tile": 128}, {"source": str(tmp_path)})
    assert (job.state, job.done, job.total, job.started, job.ended, job.report, job.error) == ("queued", 0, 0, None, None, None, None)
    assert jobs.get(job_id) == job
    assert jobs.worker() is None


def test_paths_become_absolute(jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert jobs.get(jobs.enqueue("labels-import", {}, inputs={"file": "labels.json"})).inputs == {"file": str(tmp_path / "labels.json")}


def test_newest_come_first_and_are_limited(jobs):
    ids = [jobs.enqueue("export", {"name": f"export-{number}"}) for number in range(5)]
    assert [job.id for job in jobs.list(limit=3)] == ids[:1:-1]


@pytest.mark.parametrize(
    ("verb", "config", "inputs", "named"),
    [
        ("finetun", {}, {}, "'finetune'"),
        ("finetune", {"nam": "x"}, {}, "'name'"),
        ("finetune", {"schedule": {"images_seen": 0}}, {}, "schedule.images_seen"),
        ("ingest", {}, {}, "source"),
        ("finetune", {}, {"source": "x"}, "source"),
        ("round", {"annotate": "nobody"}, {}, "annotate"),
    ],
)
def test_what_is_wrong_is_refused_and_not_queued(jobs, verb, config, inputs, named):
    with pytest.raises(UsageError) as refused:
        jobs.enqueue(verb, config, inputs=inputs)
    assert named in str(refused.value)
    assert jobs.list() == []


def test_unknown_job_is_answered_with_the_nearest(jobs):
    job_id = jobs.enqueue("export", {})
    with pytest.raises(BadInput, match=job_id):
        jobs.get(job_id[:-1] + "x")


def test_once_is_one_job_while_it_waits(jobs):
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: jobs.enqueue("export", {"name": "a"}, once=True), range(24)))
    assert len(ids) == 1
    assert jobs.enqueue("export", {"name": "b"}, once=True) not in ids
    assert jobs.enqueue("export", {"name": "a"}) not in ids
    assert len(jobs.list()) == 3


def test_once_is_another_job_when_the_first_was_cancelled(jobs):
    first = jobs.enqueue("export", {}, once=True)
    jobs.cancel(first)
    second = jobs.enqueue("export", {}, once=True)
    assert second != first
    assert jobs.enqueue("export", {}, once=True) == second


def test_a_queued_job_is_cancelled_at_once_and_resumed(jobs):
    job_id = jobs.enqueue("export", {})
    cancelled = jobs.cancel(job_id)
    assert cancelled.state == "cancelled"
    assert cancelled.ended is not None
    assert jobs.cancel(job_id) == cancelled
    assert jobs.is_cancelled(job_id)
    assert jobs.resume(job_id).state == "queued"
    assert not jobs.is_cancelled(job_id)
    assert jobs.resume(job_id).state == "queued"


def test_following_ends_with_the_job_and_says_why_it_waits(jobs):
    job_id = jobs.enqueue("export", {})
    heard = []

    def progress(done, total, message):
        heard.append(message)
        if len(heard) == 2:
            jobs.cancel(job_id)

    assert jobs.follow(job_id, progress, poll_seconds=0.01).state == "cancelled"
    assert heard == [f"{job_id} is queued; no worker runs, start one: tilehawk worker"] * 2


def test_a_follower_who_stops_leaves_the_job_alone(jobs):
    job_id = jobs.enqueue("export", {})

    def progress(done, total, message):
        raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        jobs.follow(job_id, progress)
    assert jobs.get(job_id).state == "queued"


def test_progress_is_shown_where_it_was_written(jobs, workspace):
    job_id = jobs.enqueue("export", {})
    with workspace.session() as session:
        set_job_progress(session, job_id, done=3, total=7, message="x" * 600, at=1.0)
    job = jobs.get(job_id)
    assert (job.done, job.total, job.message) == (3, 7, "x" * 512)


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "Cancelled"])
def test_a_failed_job_becomes_the_error_that_it_ended_in(jobs, name):
    original = getattr(errors, name)("found", expected="expected", remedy="remedy")
    job = jobs.get(jobs.enqueue("export", {}))
    again = job_error(type(job)(**{**vars(job), "state": "failed", "error": original.as_json()}))
    assert type(again) is type(original)
    assert again.as_json() == original.as_json()


def test_two_stores_opened_at_once_are_one(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        barrier = threading.Barrier(4)

        def enqueue(_):
            with Workspace.open(workspace.root) as opened:
                barrier.wait(10)
                with Jobs(opened) as own:
                    return own.enqueue("export", {})

        with ThreadPoolExecutor(4) as threads:
            ids = list(threads.map(enqueue, range(4)))
        with Jobs(workspace) as all_jobs:
            assert {job.id for job in all_jobs.list()} == set(ids)


def test_no_sign_of_life_before_the_first_worker(workspace):
    with workspace.session(write=False) as session:
        assert heartbeat(session) is None
