"""Fixtures of the command line and the page: a way to type a command, and a small workspace filled through the catalog."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.main import build, run


@dataclass(frozen=True)
class Typed:
    """How a typed command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tilehawk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Typed]:
    """Type a command in this process, in a folder of its own, with no workspace named in the environment."""
    monkeypatch.delenv("TILEHAWK_WORKSPACE", raising=False)
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)

    def type_command(*arguments: object, application: Callable[[], typer.Typer] = build) -> Typed:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments], application=application)
        out, err = capsys.readouterr()
        return Typed(code, out, err)

    return type_command
