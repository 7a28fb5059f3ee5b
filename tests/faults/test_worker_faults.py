"""Workers that are killed, stopped, or die again and again: jobs go on where they were, one at a time, and people go on working."""

import shutil
import signal
import time
from collections import Counter

import pytest
from sqlalchemy import delete, update

from app.jobs import SIGN_OF_LIFE_SECONDS, Jobs
from app.workflows.durable import RECOVERIES
from engine.catalog.annotations import tile_boxes
from engine.catalog.models import get_model, model_directory, models
from engine.catalog.rounds import rounds
from engine.catalog.schema import Annotation, LedgerEvent, Review
from engine.catalog.summary import summarize
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.stages.finetune import FinetuneConfig, finetune

STEPS = 12


@pytest.fixture(scope="module")
def workers(fake):
    with fake("workers").Workers() as started:
        yield started


@pytest.fixture(scope="module")
def until(fake):
    return fake("workers").until


@pytest.fixture(scope="module")
def training(fake):
    """Fine-tuning with a checkpoint after every step."""
    squares = fake("squares")
    config = FinetuneConfig(schedule=squares.schedule(images_seen=2 * STEPS, checkpoint_seconds=0.0), detector=squares.TINY)
    return config.model_dump(mode="json", exclude_unset=True)


@pytest.fixture(scope="module")
def labelled(fake, tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled") / "workspace"
    with Workspace.create(root) as workspace:
        fake("squares").fill(workspace, fake("catalog").add_scene)
    return root


@pytest.fixture(scope="module")
def weights(labelled, training, tmp_path_factory):
    """Of an uninterrupted run."""
    with Workspace.open(shutil.copytree(labelled, tmp_path_factory.mktemp("whole") / "workspace")) as workspace:
        report = finetune(workspace, FinetuneConfig.from_mapping(training))
        return (model_directory(workspace, report.model) / "model.safetensors").read_bytes()


class Service:
    """A workspace, its jobs, and what the tests wait for."""

    def __init__(self, workspace, jobs, workers, until):
        self.workspace, self.jobs, self._workers, self.until = workspace, jobs, workers, until

    def start(self, **environment):
        """A worker that has given a sign of life."""
        return self._workers.start(self.workspace.root, self.jobs, **environment)

    def in_training(self, step=2):
        """Wait until a training has a checkpoint of some step."""

        def reached():
            return any(int(path.name.removeprefix("step-")) >= step for path in self.workspace.checkpoints.glob("*/step-*"))

        self.until(reached, every=0.002)

    def state(self, job_id, wanted, **patience):
        """Wait until a job is in a state; returns it."""
        return self.until(lambda: (job := self.jobs.get(job_id)).state == wanted and job, **patience)


@pytest.fixture
def service(labelled, tmp_path, workers, until):
    with Workspace.open(shutil.copytree(labelled, tmp_path / "workspace")) as workspace, Jobs(workspace) as jobs:
        yield Service(workspace, jobs, workers, until)
        workers.end_all()


def trained(workspace):
    """Report and weights of the only model."""
    with workspace.session(write=False) as session:
        [row] = models(session, stage="finetune")
        report = get_model(session, row.name).metrics["training"]
    return report, (model_directory(workspace, row.name) / "model.safetensors").read_bytes()


@pytest.mark.guarantee("G1", "G28")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_training_goes_on_with_the_next_worker_and_ends_the_same(service, workers, training, weights, ending):
    worker = service.start()
    job_id = service.jobs.enqueue("finetune", training)
    service.in_training()
    assert workers.end(worker, ending) == (-signal.SIGKILL if ending == signal.SIGKILL else 0)
    assert service.jobs.get(job_id).state == ("interrupted" if ending == signal.SIGKILL else "queued")
    assert service.jobs.worker() is None
    service.start()
    assert service.state(job_id, "done").report["resumed_at_step"] > 0
    report, found = trained(service.workspace)
    assert report["resumed_at_step"] > 0
    assert found == weights


@pytest.mark.guarantee("G28")
def test_a_flow_goes_on_at_the_step_it_was_in(service, workers, training):
    with service.workspace.session() as session:
        hidden = [tile for tile in tiles(session, split="train") if tile.scene_name == "train-1"]
        session.execute(delete(Review).where(Review.tile_id.in_([tile.id for tile in hidden])))
        session.execute(update(Annotation).where(Annotation.scene_id == hidden[0].scene_id).values(state="withheld"))
    job_id = service.jobs.enqueue("round", {"budget_seconds": 600, "annotate": "oracle", "retrain": {"finetune": training}})
    worker = service.start()
    service.in_training()
    workers.end(worker, signal.SIGKILL)
    service.start()
    report = service.state(job_id, "done").report
    assert report["round"] == 1
    assert report["oracle"]["tiles"] == 2
    assert report["retrain"]["finetune"]["resumed_at_step"] > 0
    assert report["retrain"]["evaluate"]["split"] == "test"
    with service.workspace.session(write=False) as session:
        assert [row.number for row in rounds(session)] == [1]
        kinds = Counter(event.kind for event in session.query(LedgerEvent))
    assert (kinds["rank"], kinds["finetune"], kinds["evaluate"]) == (1, 1, 1)


@pytest.mark.guarantee("G28")
def test_a_stopped_worker_is_noticed_and_forgiven(service, workers, training):
    worker = service.start()
    job_id = service.jobs.enqueue("finetune", training)
    service.in_training()
    workers.tell(worker, signal.SIGSTOP)
    interrupted = service.state(job_id, "interrupted", seconds=SIGN_OF_LIFE_SECONDS + 2)
    assert interrupted.report is None
    assert not service.jobs.worker().alive
    assert summarize(service.workspace).scenes == 4
    workers.tell(worker, signal.SIGCONT)
    service.until(lambda: service.jobs.worker().alive, seconds=SIGN_OF_LIFE_SECONDS)
    assert service.state(job_id, "done").report["resumed_at_step"] == 0


@pytest.mark.guarantee("G28")
def test_a_cancelled_training_goes_on_from_its_checkpoint(service, workers, training, weights):
    service.start()
    job_id = service.jobs.enqueue("finetune", training)
    service.in_training()
    service.jobs.cancel(job_id)
    service.state(service.jobs.enqueue("evaluate", {}), "failed", seconds=10)
    service.jobs.resume(job_id)
    assert service.state(job_id, "done").report["resumed_at_step"] > 0
    assert trained(service.workspace)[1] == weights


@pytest.mark.guarantee("G28")
def test_a_job_that_kills_its_worker_is_given_up_and_the_queue_goes_on(service, workers, training, weights):
    deadly = service.jobs.enqueue("finetune", training)
    harmless = service.jobs.enqueue("evaluate", {})
    for _ in range(RECOVERIES + 1):
        assert workers.wait(workers.start(service.workspace.root, TILEHAWK_CRASH_AT="1")) == 137
    assert service.jobs.get(deadly).state == "interrupted"
    service.start()
    failed = service.state(deadly, "failed")
    assert failed.error["found"] == f"the worker died {RECOVERIES + 1} times while it ran {deadly}"
    assert service.state(harmless, "failed").error["error"] == "BadInput"
    service.jobs.resume(deadly)
    assert service.state(deadly, "done").report["model"]
    assert trained(service.workspace)[1] == weights


@pytest.mark.guarantee("G26")
def test_trainings_never_overlap_while_people_go_on_working(service, workers, training):
    service.start()
    ids = [service.jobs.enqueue("finetune", training | {"name": name}) for name in ("first", "second")]
    seen, longest, saved = [], 0.0, 0
    while not seen or set(seen[-1]) != {"done"}:
        seen.append(tuple(job.state for job in reversed(service.jobs.list())))
        began = time.monotonic()
        with service.workspace.session() as session:
            session.add(Annotation(scene_id=4, x1=1, y1=1, x2=9, y2=9, label=0, source="browser", state="accepted"))
        with service.workspace.session(write=False) as session:
            assert tile_boxes(session, tiles(session, split="train"))
        longest = max(longest, time.monotonic() - began)
        saved += 1
        assert "failed" not in seen[-1]
    assert [job.id for job in reversed(service.jobs.list())] == ids
    assert ("running", "queued") in seen
    assert ("done", "running") in seen
    assert ("running", "running") not in seen
    assert longest < 2
    with service.workspace.session(write=False) as session:
        assert session.query(Annotation).where(Annotation.source == "browser").count() == saved
        assert [row.name for row in models(session)] == ["first", "second"]


@pytest.mark.guarantee("G28")
def test_an_interrupted_job_is_resumed_by_hand_where_no_worker_is_left(service, workers, training):
    worker = service.start()
    job_id = service.jobs.enqueue("finetune", training)
    service.in_training()
    workers.end(worker, signal.SIGKILL)
    assert service.jobs.resume(job_id).state == "queued"
    service.start()
    assert service.state(job_id, "done").report["resumed_at_step"] > 0
