"""Checks of the machine: room on the disk, processors, what trains and how."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from app.doctor.check import Check

__all__ = ["device", "disk", "threads"]

GIGABYTE = 1024**3
DISK_WARNING = 10 * GIGABYTE
DISK_FAILURE = 1 * GIGABYTE


def disk(workspace: Path, free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free) -> Check:
    """The room at the workspace."""
    existing = next(folder for folder in (workspace.absolute(), *workspace.absolute().parents) if folder.exists())
    free = free_bytes(existing)
    result = "fail" if free < DISK_FAILURE else "warn" if free < DISK_WARNING else "ok"
    return Check("disk", result, f"{free / GIGABYTE:.1f} GB free at {existing}", "" if result == "ok" else "Make room, or use another disk")


def threads() -> Check:
    """The processors that may be used."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    found = f"{available} processors" + (f", OMP_NUM_THREADS={limit}" if limit else "")
    if available < 2:
        return Check("threads", "warn", found, "Training on one processor is slow")
    return Check("threads", "ok", found)


def device() -> Check:
    """What trains, and whether it multiplies bfloat16."""
    try:
        import torch

        from engine.training.schedule import uses_bf16
    except (ImportError, OSError) as broken:
        return Check("device", "fail", f"{type(broken).__name__}: {broken}", "make install")
    if torch.cuda.is_available():
        found, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        chosen, described = torch.device("cuda"), f"{torch.cuda.device_count()} × {found}, {memory / GIGABYTE:.0f} GB"
    elif torch.backends.mps.is_available():
        chosen, described = torch.device("mps"), "Apple GPU (MPS)"
    else:
        chosen, described = torch.device("cpu"), "CPU, no GPU"
    if chosen.type == "cpu" and torch.version.cuda is not None and Path("/proc/driver/nvidia/version").exists():
        return Check("device", "warn", f"{described}, though an NVIDIA driver is there", "Update the driver to what this torch needs")
    return Check("device", "ok", f"{described}; bf16 {'is used' if uses_bf16('auto', chosen) else 'is not used'}")
