"""The checks behind ``tilehawk doctor``: each one looks at one thing and says what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadInput, TilehawkError

__all__ = ["Check", "chromium", "examine"]

GIGABYTE = 1024**3
DISK_WARNING = 10 * GIGABYTE
DISK_FAILURE = 1 * GIGABYTE


@dataclass(frozen=True)
class Check:
    """What was looked at, how it went (ok, warn or fail), what was found, and what to do (empty where nothing)."""

    name: str
    result: str
    found: str
    do: str = ""


def examine(workspace: Path) -> list[Check]:
    """Run all checks; one that breaks is a failed check, never the end of the others."""
    checks: list[Callable[[], Check]] = [
        _python,
        _torch,
        _onnx_runtime,
        _weights,
        lambda: _disk(workspace),
        _threads,
        lambda: _workspace(workspace),
        lambda: _secret(workspace),
        lambda: _jobs(workspace),
        _browser,
    ]
    return [check() for check in checks]


def chromium() -> str | None:
    """The path of a Chromium or Chrome for the browser tests, or None."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info < (3, 11, 13):
        return Check("python", "warn", version, "Works; 3.11.13 or newer has the security fixes of tarfile")
    return Check("python", "ok", version)


def _torch() -> Check:
    try:
        import torch
        import torchvision
        from torchvision.ops import nms

        kept = nms(torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]]), torch.tensor([0.9, 0.8]), 0.5)
    except (ImportError, OSError, RuntimeError) as broken:
        return Check("torch", "fail", f"{type(broken).__name__}: {broken}", "torch and torchvision are not one pair: make install")
    if kept.tolist() != [0]:
        return Check("torch", "fail", f"nms kept {kept.tolist()}", "torch and torchvision are not one pair: make install")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return Check("torch", "ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}, {device}")


def _onnx_runtime() -> Check:
    try:
        import onnxruntime
    except ImportError as missing:
        return Check("onnx runtime", "fail", str(missing), "make install")
    providers = ", ".join(onnxruntime.get_available_providers())
    return Check("onnx runtime", "ok", f"{onnxruntime.__version__}; compiled with {providers}")


def _weights() -> Check:
    try:
        from engine.models.backbone import packaged_weights

        tensors = packaged_weights()
    except (ImportError, OSError, TilehawkError) as broken:
        return Check("packaged weights", "fail", f"{type(broken).__name__}: {broken}", "make install")
    return Check("packaged weights", "ok", f"EfficientNet-Lite0, {len(tensors)} tensors")


def _disk(workspace: Path) -> Check:
    existing = next(folder for folder in (workspace.absolute(), *workspace.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    result = "fail" if free < DISK_FAILURE else "warn" if free < DISK_WARNING else "ok"
    return Check("disk", result, f"{free / GIGABYTE:.1f} GB free at {existing}", "" if result == "ok" else "Make room, or use another disk")


def _threads() -> Check:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    found = f"{available} processors" + (f", OMP_NUM_THREADS={limit}" if limit else "")
    if available < 2:
        return Check("threads", "warn", found, "Training on one processor is slow")
    return Check("threads", "ok", found)


def _workspace(root: Path) -> Check:
    from engine.catalog.summary import summarize
    from engine.catalog.workspace import MARKER, Workspace

    if not (root / MARKER).is_file():
        return Check("workspace", "warn", f"none at {root}", f"Make one: tilehawk init {root}")
    try:
        with Workspace.open(root) as opened:
            summary = summarize(opened)
    except BadInput as refused:
        return Check("workspace", "fail", refused.found, refused.remedy)
    except TilehawkError as busy:
        return Check("workspace", "warn", busy.found, busy.remedy)
    return Check("workspace", "ok", f"{root}: {summary.scenes} scenes" + (f", in use by {summary.busy}" if summary.busy else ""))


def _browser() -> Check:
    found = chromium()
    if found is None:
        return Check("chromium", "warn", "not found", "Only the browser tests need it: apt-get install chromium")
    return Check("chromium", "ok", found)


def _secret(root: Path) -> Check:
    from app.signing import SECRET_FILE

    path = root / SECRET_FILE
    if not path.is_file():
        return Check("secret", "ok", "none yet; the app makes it")
    if path.stat().st_mode & 0o077:
        return Check("secret", "warn", f"{path} can be read by others", f"chmod 600 {path}; remove it if somebody may have read it")
    return Check("secret", "ok", "readable by its owner alone")


def _jobs(root: Path) -> Check:
    """The job store, and whether a worker is there to work it off; a store that is not there yet is not made."""
    from app.jobs import Jobs
    from engine.catalog.workspace import MARKER, Workspace

    if not (root / MARKER).is_file():
        return Check("jobs", "warn", f"no workspace at {root}", f"Make one: tilehawk init {root}")
    try:
        with Workspace.open(root) as opened:
            if opened.jobs_url.startswith("sqlite") and not (root / "jobs.sqlite").is_file():
                return Check("jobs", "ok", "none yet")
            with Jobs(opened) as jobs:
                waiting = [job for job in jobs.list() if job.state in {"queued", "running", "interrupted"}]
                worker = jobs.worker()
    except TilehawkError as refused:
        return Check("jobs", "fail", refused.found, refused.remedy)
    who = "no worker" if worker is None else f"worker {worker.pid} on {worker.host}" + ("" if worker.alive else ", without a sign of life")
    if waiting and (worker is None or not worker.alive):
        return Check("jobs", "warn", f"{len(waiting)} to do, {who}", "Start one: tilehawk worker, or tilehawk app")
    return Check("jobs", "ok", f"{len(waiting)} to do, {who}")
