"""Commands about jobs, and stages typed while a worker has the workspace."""

import json
import shutil

import pytest

from app.jobs import Jobs
from engine.catalog.workspace import Workspace
from engine.stages.finetune import FinetuneConfig


@pytest.fixture(scope="module")
def workers(fake):
    with fake("workers").Workers() as started:
        yield started


@pytest.fixture(scope="module")
def root(fake, tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled") / "workspace"
    with Workspace.create(root) as workspace:
        fake("squares").fill(workspace, fake("catalog").add_scene)
    return root


@pytest.fixture
def config_file(fake, tmp_path):
    squares = fake("squares")
    config = FinetuneConfig(schedule=squares.schedule(images_seen=8), detector=squares.TINY)
    path = tmp_path / "finetune.json"
    path.write_text(json.dumps(config.model_dump(mode="json", exclude_unset=True)))
    return path


@pytest.fixture
def workspace(root, tmp_path):
    with Workspace.open(shutil.copytree(root, tmp_path / "workspace")) as opened:
        yield opened


@pytest.fixture
def worker(workspace, workers):
    with Jobs(workspace) as jobs:
        yield workers.start(workspace.root, jobs)
        workers.end_all()


def test_a_stage_answers_the_same_here_and_through_a_worker(tilehawk, workspace, workers, config_file):
    command = ("finetune", "--config", config_file, "--workspace", workspace.root, "--json")
    here = tilehawk(*command, "--name", "here")
    with Jobs(workspace) as jobs:
        workers.start(workspace.root, jobs)
        through = tilehawk(*command, "--name", "through")
        refused = tilehawk("rank", "--workspace", workspace.root, "--json")
        workers.end_all()
        assert [job.verb for job in jobs.list()] == ["rank", "finetune"]
    assert (here.code, through.code) == (0, 0)
    different = {"model", "seconds"}
    assert through.document.keys() == here.document.keys()
    assert {key: through.document[key] for key in through.document.keys() - different} == {
        key: here.document[key] for key in here.document.keys() - different
    }
    assert through.document["model"] == "through"
    assert refused.code == 4
    assert refused.document == tilehawk("rank", "--workspace", workspace.root, "--json").document


@pytest.mark.guarantee("G26")
def test_without_the_queue_a_stage_is_refused_and_says_by_whom(tilehawk, workspace, worker):
    for command in ("evaluate", "round"):
        typed = tilehawk(command, "--no-queue", "--workspace", workspace.root, "--json")
        assert typed.code == 1
        assert typed.document["error"] == "WorkspaceBusy"
        assert f"process {worker} (worker, since" in typed.document["found"]


@pytest.mark.guarantee("G26")
def test_beside_a_stage_that_is_no_worker_nothing_is_queued(tilehawk, workspace):
    with Workspace.open(workspace.root) as other, other.worker_lock("ingest"):
        for command in ("evaluate", "round"):
            typed = tilehawk(command, "--workspace", workspace.root, "--json")
            assert (typed.code, typed.document["error"]) == (1, "WorkspaceBusy")
    assert tilehawk("jobs", "list", "--workspace", workspace.root, "--json").document == {"worker": None, "jobs": []}


def test_jobs_are_listed_cancelled_resumed_and_followed(tilehawk, workspace, workers):
    with Jobs(workspace) as jobs:
        job_id = jobs.enqueue("evaluate", {})
    here = ("--workspace", workspace.root)
    assert tilehawk("jobs", "list", *here, "--json").document["jobs"][0]["id"] == job_id
    shown = tilehawk("jobs", "list", *here).out
    assert "queued" in shown
    assert "start one: tilehawk worker" in shown
    assert tilehawk("jobs", "cancel", job_id, *here, "--json").document["state"] == "cancelled"
    followed = tilehawk("jobs", "follow", job_id, *here, "--json")
    assert (followed.code, followed.document["remedy"]) == (130, f"Go on with it: tilehawk jobs resume {job_id}")
    assert tilehawk("jobs", "resume", job_id, *here, "--json").document["state"] == "queued"
    workers.start(workspace.root)
    followed = tilehawk("jobs", "follow", job_id, *here, "--json")
    workers.end_all()
    assert (followed.code, followed.document["error"]) == (3, "BadInput")
    assert followed.document["remedy"]
    unknown = tilehawk("jobs", "follow", "nonsense", *here, "--json")
    assert (unknown.code, unknown.document["error"]) == (3, "BadInput")


def test_a_second_worker_is_refused(tilehawk, workspace, worker):
    typed = tilehawk("worker", "--workspace", workspace.root)
    assert typed.code == 1
    assert f"process {worker} (worker, since" in typed.err
