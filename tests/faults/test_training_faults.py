"""A training that is killed ends as if it had not been; checkpoints, models and exports are whole or not there."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.catalog.models import get_model, model_directory, models
from engine.catalog.workspace import Workspace
from engine.deploy.export import export_detector
from engine.deploy.runtime import load_detector
from engine.files import TEMPORARY
from engine.models.store import read_model
from engine.stages.finetune import FinetuneConfig
from engine.training.checkpoint import CheckpointStore

pytestmark = pytest.mark.timeout(1500)

CRASHED = 137 << 8
PATIENCE = 120.0
STEPS = 12


class TrainingProcess:
    """The process of ``training_child.py``."""

    def __init__(self):
        command = [sys.executable, Path(__file__).with_name("training_child.py")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment)
        assert self._line() == "ready"

    def _line(self):
        line = self._process.stdout.readline().strip()
        assert line, "the child process died"
        return line

    def start(self, verb, *arguments, **death):
        """Begin in a fork; returns its process id. :meth:`end` must follow."""
        self._process.stdin.write(json.dumps({"verb": verb, "arguments": arguments, **death}, default=str) + "\n")
        return int(self._line())

    def end(self):
        """Wait for the fork; returns its exit status."""
        return int(self._line())

    def run(self, verb, *arguments, **death):
        self.start(verb, *arguments, **death)
        return self.end()

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


@pytest.fixture(scope="module")
def training():
    process = TrainingProcess()
    yield process
    process.close()


@pytest.fixture(scope="module")
def squares(fake):
    return fake("squares")


@pytest.fixture(scope="module")
def config(squares):
    """With a checkpoint after every step."""
    schedule = squares.schedule(images_seen=2 * STEPS, checkpoint_seconds=0.0)
    return FinetuneConfig(schedule=schedule, detector=squares.TINY).model_dump(mode="json")


@pytest.fixture(scope="module")
def labelled(squares, fake, tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled") / "workspace"
    with Workspace.create(root) as workspace:
        squares.fill(workspace, fake("catalog").add_scene)
    return root


@pytest.fixture
def copy(labelled, tmp_path):
    return shutil.copytree(labelled, tmp_path / "workspace")


def outcome(root):
    """The only model's report, losses and weights; and nothing may be left beside it."""
    with Workspace.open(root) as workspace:
        with workspace.session(write=False) as session:
            [row] = models(session)
            report = get_model(session).metrics["training"]
        folder = model_directory(workspace, row.name)
        assert read_model(folder).stage == "finetune"
        assert [path.name for path in workspace.models.iterdir()] == [row.name]
        assert list(workspace.checkpoints.iterdir()) == []
        return report, json.loads((folder / "metrics.json").read_text())["losses"], (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(training, labelled, config, tmp_path_factory):
    root = shutil.copytree(labelled, tmp_path_factory.mktemp("whole") / "workspace")
    assert training.run("finetune", root, config) == 0
    return outcome(root)


def wait_for_step(root, step):
    """Until the checkpoint of ``step``, or of a later one, is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(int(path.name.removeprefix("step-")) >= step for path in (root / "checkpoints").glob("*/step-*")):
            return
        time.sleep(0.001)
    pytest.fail(f"no checkpoint of step {step} within {PATIENCE} s")


def same_as(root, uninterrupted):
    """Whether losses and weights are those of the run in one go; returns the step at which it was taken up."""
    report, losses, weights = outcome(root)
    assert losses == uninterrupted[1]
    assert weights == uninterrupted[2]
    return report["resumed_at_step"]


@pytest.mark.guarantee("G1")
def test_a_run_that_is_killed_at_five_random_steps_ends_as_if_it_had_not_been(training, copy, config, uninterrupted):
    for step in sorted(random.Random(4).sample(range(1, STEPS - 4), 5)):
        child = training.start("finetune", copy, config)
        wait_for_step(copy, step)
        os.kill(child, signal.SIGKILL)
        assert training.end() == signal.SIGKILL
    assert training.run("finetune", copy, config) == 0
    assert 0 < same_as(copy, uninterrupted) < STEPS


@pytest.mark.guarantee("G1", "G2")
def test_a_run_that_dies_at_any_write_of_a_checkpoint_ends_as_if_it_had_not(training, copy, config, uninterrupted, tmp_path):
    """At every write, sync and rename of the first two checkpoints and of the log before them."""
    resumed = []
    for crash_at in itertools.count(1):
        root = shutil.copytree(copy, tmp_path / str(crash_at))
        assert training.run("finetune", root, config, crash_at=crash_at) == CRASHED
        assert training.run("finetune", root, config) == 0
        resumed.append(same_as(root, uninterrupted))
        shutil.rmtree(root)
        if resumed[-1] == 2:
            break
    assert resumed == sorted(resumed)
    assert set(resumed) == {0, 1, 2}


@pytest.mark.guarantee("G1", "G2")
def test_a_run_that_dies_later_ends_as_if_it_had_not(training, copy, config, uninterrupted, tmp_path):
    """In a checkpoint, in the model's folder, and between them."""
    codes, resumed = [], []
    for crash_at in range(1, 400, 23):
        root = shutil.copytree(copy, tmp_path / str(crash_at))
        codes.append(training.run("finetune", root, config, crash_at=crash_at))
        for folder in (path for path in (root / "models").iterdir() if not path.name.startswith(TEMPORARY)):
            assert read_model(folder).stage == "finetune"
        if codes[-1] == 0:
            break
        assert training.run("finetune", root, config) == 0
        resumed.append(same_as(root, uninterrupted))
        shutil.rmtree(root)
    assert codes == [CRASHED] * (len(codes) - 1) + [0]
    assert resumed == sorted(resumed)
    assert (resumed[0], resumed[-1]) == (0, STEPS - 1)


def is_whole(checkpoint):
    step = checkpoint.step
    return (
        torch.equal(checkpoint.tensors["weight"], torch.full((3, 2), float(step)))
        and torch.equal(checkpoint.tensors["momentum"], torch.arange(4.0) * step)
        and checkpoint.facts == {"losses": [float(step)] * step}
    )


@pytest.mark.guarantee("G1", "G2")
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_checkpoint_is_the_last_or_the_new_one_wherever_the_process_dies(training, tmp_path, before):
    found, codes = [], []
    for crash_at in range(1, 100):
        folder = tmp_path / str(crash_at)
        for step in range(1, before + 1):
            assert training.run("checkpoint", folder, step) == 0
        codes.append(training.run("checkpoint", folder, before + 1, crash_at=crash_at))
        left = len(list(folder.glob(f"{TEMPORARY}*")))
        checkpoint = CheckpointStore(folder).load_last()
        assert checkpoint is None or is_whole(checkpoint)
        assert not list(folder.glob(f"{TEMPORARY}*"))
        found.append((checkpoint.step if checkpoint else 0, left))
        if codes[-1] == 0:
            break
    assert codes == [CRASHED] * (len(codes) - 1) + [0]
    assert len(codes) > 6
    assert {step for step, _ in found} == {before, before + 1}
    assert (found[0][0], found[-1]) == (before, (before + 1, 0))
    assert max(left for _, left in found) > 0


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize(("before", "allowed"), [("absent", {"absent", "new"}), ("old", {"old", "absent", "new"})])
def test_an_export_is_absent_or_old_or_complete_wherever_the_process_dies(training, ready, tmp_path, before, allowed):
    seen, codes = [], []
    for crash_at in range(1, 100):
        target = tmp_path / str(crash_at) / "export"
        if before == "old":
            shutil.copytree(ready, target)
        codes.append(training.run("export", target, ready / "model.onnx", "new", crash_at=crash_at))
        if target.exists():
            load_detector(target, threads=1, device="cpu")
            document = json.loads((target / "export.json").read_text())
            assert document["parity"]["images"] == 1
        seen.append(document["model"] if target.exists() else "absent")
        if codes[-1] == 0:
            break
    assert codes == [CRASHED] * (len(codes) - 1) + [0]
    assert len(codes) > 6
    assert set(seen) == allowed
    assert (seen[0], seen[-1]) == (before, "new")


@pytest.fixture(scope="module")
def ready(squares, tmp_path_factory):
    """An older export."""
    directory = tmp_path_factory.mktemp("ready") / "export"
    image = squares.samples(1).sample(0).image[None]
    export_detector(squares.Cells(), squares.LABELS, image, directory, model="old", threads=1)
    return directory
