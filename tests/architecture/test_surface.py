"""The public surface: what modules promise, the error tree, the reference pages."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import typer

import app
import connectors
import engine
from app.cli import reference
from app.cli.main import build
from engine import errors
from engine.config import StageConfig

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    found.name
    for package in (app, connectors, engine)
    for found in pkgutil.walk_packages(package.__path__, prefix=f"{package.__name__}.")
    if not found.ispkg and ".migrations." not in found.name
)


def declared(name: str) -> list[str]:
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return ast.literal_eval(node.value)
    pytest.fail(f"{name} has no __all__")


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_is_there(name):
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text())
    defined = {getattr(node, "name", None) for node in ast.walk(tree)} | {
        target.id
        for node in ast.walk(tree)
        for target in ast.walk(node)
        if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
    }
    assert [each for each in declared(name) if each not in defined] == []


def test_error_tree_is_drawn_as_it_is():
    drawn: dict[str, tuple[str, int]] = {}
    parents: list[str] = []
    code = 0
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^ {4}([│├└─ ]*)([A-Z]\w+)\s+(\d+)?", line)
        if not found:
            continue
        depth = len(found[1]) // 4
        code = int(found[3]) if found[3] else drawn[parents[depth - 1]][1]
        drawn[found[2]] = (parents[depth - 1] if depth else "Exception", code)
        parents[depth:] = [found[2]]
    actual = {
        name: (each.__base__.__name__, each.exit_code)
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, errors.TilehawkError)
    }
    assert drawn == actual
    assert sorted(actual) == sorted(errors.__all__)


def test_reference_pages_are_current():
    assert (ROOT / "docs" / "cli.md").read_text() == reference.cli_page()
    assert (ROOT / "docs" / "configuration.md").read_text() == reference.configuration_page()


def commands(group, path=()):
    for name, each in group.commands.items():
        yield from commands(each, (*path, name)) if hasattr(each, "commands") else [(" ".join((*path, name)), each)]


def test_every_command_says_what_it_does_and_is_documented():
    page = (ROOT / "docs" / "cli.md").read_text()
    for name, command in commands(typer.main.get_command(build())):
        assert f"## tilehawk {name}\n" in page
        assert command.help, name
        assert all(parameter.help for parameter in command.params), name


@pytest.mark.parametrize("config", reference.stage_configs(), ids=lambda config: config.__name__)
def test_every_key_of_a_configuration_says_what_it_means(config: type[StageConfig]):
    assert config.__doc__
    assert [name for name, field in config.model_fields.items() if not field.description] == []
