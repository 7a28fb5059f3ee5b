"""Checks of the installation: Python, packages, torch, the runtime, the packaged weights, a browser for tests."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from app.doctor.check import Check
from engine.errors import TilehawkError

__all__ = ["ADVISED_PYTHON", "browser", "chromium", "onnx_runtime", "packages", "python", "torch_pair", "weights"]

ADVISED_PYTHON = (3, 11, 13)
"""From here on tarfile has its security fixes."""
FLOOR = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*[(]?\s*[^;]*?(?:>=|==)\s*([0-9][0-9.]*)")


def python() -> Check:
    """The interpreter."""
    running = platform.python_version()
    if sys.version_info < ADVISED_PYTHON:
        return Check("python", "warn", running, "Works; 3.11.13 or newer has the security fixes of tarfile")
    return Check("python", "ok", running)


def packages(wanted: list[str] | None = None) -> Check:
    """The packages that are installed, against their least versions.

    Args:
        wanted: requirements as pyproject.toml has them; None for those of the installed Tilehawk.
    """
    try:
        asked = (requires("tilehawk") or []) if wanted is None else wanted
    except PackageNotFoundError:
        return Check("packages", "warn", "tilehawk itself is not installed as a package", "make install")
    older, looked_at = [], 0
    for requirement in asked:
        named = FLOOR.match(requirement)
        if named is None or "extra ==" in requirement:
            continue
        name, least = named.groups()
        try:
            there = version(name)
        except PackageNotFoundError:
            older += [] if "sys_platform" in requirement else [f"{name} is missing"]
            continue
        looked_at += 1
        if _numbers(there) < _numbers(least):
            older.append(f"{name} {there} is below {least}")
    if older:
        return Check("packages", "fail", ", ".join(older), "make install")
    return Check("packages", "ok", f"{looked_at} packages, none below its floor")


def torch_pair() -> Check:
    """Whether torch and torchvision are one pair."""
    try:
        import torch
        import torchvision
        from torchvision.ops import nms

        kept = nms(torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]]), torch.tensor([0.9, 0.8]), 0.5)
    except (ImportError, OSError, RuntimeError) as broken:
        return Check("torch", "fail", f"{type(broken).__name__}: {broken}", "torch and torchvision are not one pair: make install")
    if kept.tolist() != [0]:
        return Check("torch", "fail", f"nms kept {kept.tolist()}", "torch and torchvision are not one pair: make install")
    return Check("torch", "ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def onnx_runtime() -> Check:
    """What exported models run in."""
    try:
        import onnxruntime
    except ImportError as missing:
        return Check("onnx runtime", "fail", str(missing), "make install")
    providers = ", ".join(onnxruntime.get_available_providers())
    return Check("onnx runtime", "ok", f"{onnxruntime.__version__}; compiled with {providers}")


def weights() -> Check:
    """The weights that come with the installation."""
    try:
        from engine.models.backbone import packaged_weights

        tensors = packaged_weights()
    except (ImportError, OSError, TilehawkError) as broken:
        return Check("packaged weights", "fail", f"{type(broken).__name__}: {broken}", "make install")
    return Check("packaged weights", "ok", f"EfficientNet-Lite0, {len(tensors)} tensors")


def chromium() -> str | None:
    """The path of a Chromium or Chrome for the browser tests, or None."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


def browser() -> Check:
    """What the browser tests drive."""
    found = chromium()
    if found is None:
        return Check("chromium", "warn", "not found", "Only the browser tests need it: apt-get install chromium")
    return Check("chromium", "ok", found)


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, without what is behind it; 1.2 and 1.2.0 are equal."""
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[^0-9.]", version)[0])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
