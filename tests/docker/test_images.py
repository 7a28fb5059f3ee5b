"""The images, as far as they can be checked where no container engine runs: what goes in is there, pinned, and nobody's secret."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(path for path in DOCKER.glob("Dockerfile*") if path.suffix != ".dockerignore")


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines]


def copied(path: Path) -> list[str]:
    """What a Dockerfile takes from the build context."""
    taken = [rest.split() for word, rest in instructions(path) if word in {"COPY", "ADD"}]
    return [source for words in taken if not words[0].startswith("--from=") for source in words[:-1]]


def ignored(name: str) -> bool:
    """Whether ``docker/Dockerfile.dockerignore`` keeps ``name`` out: the last line that matches decides."""
    out = False
    for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        parts = Path(name).parts
        prefixes = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        plain = pattern.removeprefix("**/")
        names = prefixes if plain == pattern else [part for prefix in prefixes for part in (prefix, Path(prefix).name)]
        if any(fnmatch.fnmatchcase(each, plain) for each in names):
            out = not rule.startswith("!")
    return out


def shipped() -> list[Path]:
    """The files below the copied paths that are not ignored."""
    found = []
    for source in copied(DOCKER / "Dockerfile"):
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
            if not ignored(file.relative_to(ROOT).as_posix()):
                found.append(file)
    return found


def test_there_are_the_two_images():
    assert [path.name for path in DOCKERFILES] == ["Dockerfile", "Dockerfile.gpu"]


def test_every_copied_path_is_there_and_reaches_the_build():
    sources = copied(DOCKER / "Dockerfile")
    assert {"app", "connectors", "engine", "pyproject.toml", "requirements.lock", "requirements-uv.lock"} <= {
        each.strip("./") for each in sources
    }
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if ignored(source.removeprefix("./"))] == []


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".venv/bin/python",
        "docker/.env",
        "docker/env.example",
        "tests/conftest.py",
        "runs/x.json",
        "app/__pycache__/server.cpython-311.pyc",
        "workspace/catalog.sqlite",
    ],
)
def test_nothing_else_reaches_the_build(name):
    assert ignored(name)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_base_is_pinned_to_a_version(path):
    text = path.read_text()
    bases = [rest.split()[0] for word, rest in instructions(path) if word == "FROM"]
    bases = [re.search(r"^ARG BASE=(\S+)$", text, re.MULTILINE)[1] if base == "${BASE}" else base for base in bases]
    assert bases
    for base in bases:
        assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+[a-z0-9.-]*", base), base


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_it_runs_as_nobody_in_particular(path):
    users = [rest for word, rest in instructions(path) if word == "USER"]
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("path", sorted(DOCKER.iterdir()), ids=lambda path: path.name)
def test_no_secret_is_written_down(path):
    if path.name in {".env", "imagery"}:
        pytest.skip("of this machine alone, and ignored by git")
    for line in path.read_text().splitlines():
        found = re.search(r"(?i)^\W*(?:ENV |ARG )?\w*(PASSWORD|TOKEN|SECRET|API_KEY)\w*\s*[:=]\s*(?P<value>\S.*)", line)
        value = found["value"].strip("\"'") if found else ""
        assert not value or value.startswith("${") or value in {"true", "false"}, line
        assert not re.search(r"://[^/\s:]+:[^/\s@$]+@", line), line


def test_what_is_installed_comes_from_the_locks_with_hashes():
    runs = " ".join(rest for word, rest in instructions(DOCKER / "Dockerfile") if word == "RUN")
    assert "pip install --require-hashes -r requirements-uv.lock" in runs
    assert "--require-hashes requirements-uv.lock requirements.lock" in runs
    assert "--no-deps --no-build-isolation ." in runs
    assert len(re.findall(r"\bpip (?:install|sync)\b", runs)) == 3
    assert "curl" not in runs
    assert "wget" not in runs


def test_versions_agree():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for path in DOCKER.iterdir():
        if path.is_file() and path.name != ".env":
            assert set(re.findall(r"\btilehawk(?:-gpu)?:(\d[\w.]*)", path.read_text())) <= {version}, path.name


def test_the_entry_point_is_a_command_that_runs():
    words = dict(instructions(DOCKER / "Dockerfile"))
    assert json.loads(words["ENTRYPOINT"]) == ["tilehawk"]
    tilehawk = Path(sys.executable).parent / "tilehawk"
    shown = subprocess.run([tilehawk, *json.loads(words["CMD"])], check=True, capture_output=True, text=True, timeout=120)
    assert "Usage: tilehawk" in shown.stdout


@pytest.mark.nightly
def test_what_the_image_installs_can_make_a_workspace(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    for file in shipped():
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    uv = Path(sys.executable).parent / "uv"
    how = ["--python", sys.executable, "--no-deps", "--no-build-isolation", "--target", site, "--quiet"]
    subprocess.run([uv, "pip", "install", *how, source], check=True, timeout=240)
    script = (
        "import sys, engine; from app.cli.main import run\n"
        f"assert engine.__file__.startswith({str(site)!r}), engine.__file__\n"
        f"sys.exit(run(['init', {str(tmp_path / 'workspace')!r}]))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd="/", env={"PYTHONPATH": str(site)}, timeout=120)
    assert (tmp_path / "workspace" / "catalog.sqlite").is_file()
