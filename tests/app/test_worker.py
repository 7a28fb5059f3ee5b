"""A worker on the real job store, with stages that do as they are told."""

import threading
import time

import pytest
from sqlalchemy import func, select

from app.jobs import ENDED, Jobs
from app.worker import run_worker
from engine.catalog.schema import Source
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, WorkspaceBusy


@pytest.fixture(scope="module")
def until(fake):
    return fake("workers").until


@pytest.fixture(scope="module")
def stages(fake):
    with pytest.MonkeyPatch.context() as patch:
        fake("verbs").install(patch)
        yield fake("verbs")


@pytest.fixture
def world(stages):
    return stages.renew()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    with Workspace.create(tmp_path_factory.mktemp("worker") / "workspace") as opened:
        yield opened


@pytest.fixture(scope="module")
def jobs(workspace, stages):
    with Jobs(workspace) as opened:
        yield opened


@pytest.fixture(scope="module")
def running_worker(workspace, until, jobs):
    """A worker in a thread; it must end without an error."""
    stop, errors = threading.Event(), []

    def work():
        try:
            with Workspace.open(workspace.root) as own:
                run_worker(own, stop=stop)
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: errors or ((found := jobs.worker()) and found.alive))
    yield
    stop.set()
    thread.join(60)
    assert errors == []
    assert not thread.is_alive()


@pytest.fixture
def worker(running_worker, world):
    """A worker that goes on from test to test, and a new world for each."""


@pytest.fixture
def ended(jobs, until):
    def wait(job_id):
        return until(lambda: (job := jobs.get(job_id)).state in ENDED and job)

    return wait


@pytest.fixture
def begun(jobs, until):
    """Wait until a job runs and has reported ``message``."""

    def wait(job_id, message="waiting"):
        return until(lambda: (job := jobs.get(job_id)).state == "running" and job.message == message and job)

    return wait


def test_a_job_runs_and_leaves_its_report(worker, jobs, ended):
    job = ended(jobs.enqueue("act", {"name": "a"}))
    assert (job.state, job.report, job.error) == ("done", {"name": "a", "values": [1, 2]}, None)
    assert (job.done, job.total, job.message) == (3, 3, "acted")
    assert job.created <= job.ended + 1
    with pytest.raises(BadInput, match="is done"):
        jobs.resume(job.id)
    assert jobs.cancel(job.id).state == "done"


def test_progress_is_seen_while_a_job_runs(worker, jobs, ended, begun, world):
    job_id = jobs.enqueue("act", {"ends": "when told", "reports": 5})
    running = begun(job_id)
    assert (running.done, running.total, running.report, running.ended) == (5, 5, None, None)
    world.go.set()
    heard = []
    assert jobs.follow(job_id, lambda *report: heard.append(report), poll_seconds=0.01).state == "done"
    assert heard[-1] == (5, 5, "acted")


def test_a_stage_may_report_while_it_writes(worker, jobs, ended, workspace):
    """A report that wrote to the catalog itself would wait for the very transaction that it is made in."""
    job = ended(jobs.enqueue("act", {"name": "written", "writing": True, "reports": 50}))
    assert job.state == "done"
    assert job.ended - job.started < 15
    with workspace.session(write=False) as session:
        assert session.scalar(select(func.count()).select_from(Source)) == 1


@pytest.mark.guarantee("G28")
def test_a_running_job_is_cancelled_within_two_seconds_and_goes_on_when_resumed(worker, jobs, begun, ended, world, until):
    job_id = jobs.enqueue("act", {"ends": "when told"})
    begun(job_id)
    asked = time.monotonic()
    assert jobs.cancel(job_id).state == "cancelled"
    until(lambda: ("act", "stopped") in world.events, seconds=2)
    assert time.monotonic() - asked <= 2
    world.go.set()
    assert jobs.resume(job_id).state in {"queued", "running", "done"}
    assert ended(job_id).state == "done"
    assert [what for _, what in world.events] == ["begins", "stopped", "begins", "ends"]


def test_the_next_job_begins_only_when_the_cancelled_one_has_stopped(worker, jobs, begun, ended, world):
    first = jobs.enqueue("act", {"name": "first", "ends": "when told"})
    second = jobs.enqueue("act", {"name": "second"})
    begun(first)
    jobs.cancel(first)
    assert ended(second).state == "done"
    assert world.events == [("first", "begins"), ("first", "stopped"), ("second", "begins"), ("second", "ends")]
    assert world.most_inside == 1


def test_jobs_run_one_at_a_time_in_their_order(worker, jobs, ended, world):
    names = [f"job-{number}" for number in range(4)]
    for job_id in [jobs.enqueue("act", {"name": name}) for name in names]:
        assert ended(job_id).state == "done"
    assert world.events == [(name, what) for name in names for what in ("begins", "ends")]
    assert world.most_inside == 1


def test_a_refusal_is_kept_with_its_remedy_and_code(worker, jobs, ended, world):
    job = ended(jobs.enqueue("act", {"ends": "refused"}))
    assert job.state == "failed"
    assert job.error == {
        "error": "NothingToDo",
        "found": "nothing was found",
        "expected": "something",
        "remedy": "Bring something",
        "exit_code": 4,
    }
    world.repaired = True
    jobs.resume(job.id)
    again = ended(job.id)
    assert (again.state, again.error) == ("done", None)


def test_a_fault_is_kept_in_a_file_and_the_queue_goes_on(worker, jobs, ended, workspace):
    job = ended(jobs.enqueue("act", {"ends": "broken"}))
    assert job.state == "failed"
    assert job.error["found"] == "unexpected ZeroDivisionError: a fault"
    [log] = workspace.reports.iterdir()
    assert str(log) in job.error["remedy"]
    assert "ZeroDivisionError: a fault\nof two lines" in log.read_text()
    assert ended(jobs.enqueue("act", {})).state == "done"


def test_a_flow_that_failed_goes_on_at_the_step_it_failed_in(worker, jobs, ended, world):
    job = ended(jobs.enqueue("flow", {"name": "second", "ends": "refused"}))
    assert (job.state, job.error["found"], job.message) == ("failed", "nothing was found", "second: acting 2")
    world.repaired = True
    jobs.resume(job.id)
    assert ended(job.id).report == {"first": "first", "second": "second"}
    assert world.events.count(("first", "begins")) == 1
    assert world.events.count(("second", "begins")) == 2


def test_once_waits_behind_the_one_that_runs(worker, jobs, begun, ended, world):
    """What the running one has read already may be old: one more must follow it, and one alone."""
    options = {"ends": "when told"}
    first = jobs.enqueue("act", options, once=True)
    begun(first)
    later = {jobs.enqueue("act", options, once=True) for _ in range(5)}
    assert len(later) == 1
    assert first not in later
    world.go.set()
    assert [ended(job_id).state for job_id in (first, *later)] == ["done", "done"]
    assert jobs.enqueue("act", options, once=True) not in {first, *later}


@pytest.mark.guarantee("G26")
def test_there_is_no_second_worker(worker, jobs, workspace):
    with Workspace.open(workspace.root) as other, pytest.raises(WorkspaceBusy, match=r"process \d+ .*worker, since"):
        run_worker(other)
    with pytest.raises(WorkspaceBusy), workspace.worker_lock("finetune"):
        pytest.fail("the worker holds it")


def test_a_follower_who_stops_does_not_stop_the_job(worker, jobs, begun, ended, world):
    job_id = jobs.enqueue("act", {"ends": "when told"})
    begun(job_id)

    def progress(done, total, message):
        raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        jobs.follow(job_id, progress)
    world.go.set()
    assert ended(job_id).state == "done"
