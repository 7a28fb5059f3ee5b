"""What may import what, and what each import costs."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCIENCE = ["models", "pretext", "training", "inference", "evaluation", "selection", "simulation"]
BLOCKED = ["sqlalchemy", "alembic", "rasterio", "gradio", "dbos", "faiss", "fastapi", "pyogrio", "typer"]


def python(script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=240, env=environment)


def test_layers_hold():
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(linter)], check=False, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_importing_the_engine_loads_nothing_heavy():
    script = """
import sys
import engine
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "numpy", "pydantic", "sqlalchemy", "PIL"}))
"""
    done = python(script)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def science_modules() -> list[str]:
    return sorted(
        found.name for room in SCIENCE for found in pkgutil.walk_packages([str(ROOT / "engine" / room)], prefix=f"engine.{room}.")
    )


def test_the_science_imports_on_a_bare_machine():
    script = f"""
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(BLOCKED)!r}:
            raise ModuleNotFoundError(f"{{name}} is not on a bare machine", name=name)

sys.meta_path.insert(0, Absent())
for name in {science_modules()!r}:
    importlib.import_module(name)
print("all imported")
"""
    assert len(science_modules()) >= 10
    done = python(script)
    assert done.stdout.strip().endswith("all imported"), done.stderr


@pytest.mark.parametrize("package", ["app", "connectors", "engine"])
def test_every_folder_of_source_is_a_package(package):
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
