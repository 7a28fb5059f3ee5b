"""The services of ``docker/compose.yaml``, checked without a container engine."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from engine.catalog.schema import WorkerHeartbeat
from engine.catalog.workspace import Workspace

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = ["compose.yaml", "compose.gpu.yaml"]
OURS = ["app", "init", "worker"]
KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init", "networks", "ports",
    "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+s)?")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SCHEMAS = "docker-compose==1.29.2"
PARSER = "compose-spec==0.2.1"


def example() -> dict[str, str]:
    lines = [line for line in (DOCKER / "env.example").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled_in() -> dict[str, str]:
    return {name: value or "filled-in" for name, value in example().items()}


def interpolated(text: str, environment: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if environment.get(name):
            return environment[name]
        assert kind != "?", f"{name}: {rest}"
        return rest or ""

    return VARIABLE.sub(value, text)


def composed(name: str = "compose.yaml", environment: dict[str, str] | None = None) -> dict:
    return yaml.safe_load(interpolated((DOCKER / name).read_text(), filled_in() if environment is None else environment))


SERVICES = composed()["services"]


def test_the_services_are_these():
    assert sorted(SERVICES) == ["app", "database", "init", "label-studio", "worker"]


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_one_of_the_specification_that_we_know(name):
    document = composed(name)
    assert {key for key in document if not key.startswith("x-")} <= {"name", "networks", "services", "volumes"}
    for service in document["services"].values():
        assert set(service) <= KEYS
        health = service.get("healthcheck", {})
        assert set(health) <= HEALTH_KEYS
        for key in {"interval", "timeout", "start_period"} & set(health):
            assert health[key]
            assert DURATION.fullmatch(health[key]), health[key]


def test_what_is_not_filled_in_is_asked_for_by_name():
    for name in ("POSTGRES_PASSWORD", "LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD"):
        assert example()[name] == ""
        with pytest.raises(AssertionError, match=name):
            composed(environment={**filled_in(), name: ""})


def test_every_variable_is_in_the_example_or_has_a_default():
    used = {(name, kind) for file in FILES for name, kind, _ in VARIABLE.findall((DOCKER / file).read_text())}
    assert {name for name, kind in used if kind != "-"} <= set(example())
    assert set(example()) <= {name for name, _ in used}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_and_has_no_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+[a-z0-9.-]*", service["image"])
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), "a number, not root"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only") or name == "label-studio"
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(service)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "init"])
def test_every_lasting_service_has_a_health_check_and_comes_back(name):
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_ports_are_open_to_this_machine_alone_unless_one_says_otherwise():
    assert {name for name in SERVICES if "ports" in SERVICES[name]} == {"app", "label-studio"}
    for service in (SERVICES["app"], SERVICES["label-studio"]):
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_what_they_need_is_declared():
    document = composed()
    assert all(network in document["networks"] for service in SERVICES.values() for network in service.get("networks", {}))
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in document["volumes"] or source.startswith("./"), (name, volume)
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == ("service_completed_successfully" if needed == "init" else "service_healthy")
            assert needed == "init" or "healthcheck" in SERVICES[needed]
    build = SERVICES["init"]["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_app_and_worker_share_one_workspace_and_one_database():
    for name in OURS:
        assert "workspace:/workspace" in SERVICES[name]["volumes"]
        environment = SERVICES[name]["environment"]
        assert environment["TILEHAWK_DATABASE_URL"] == "postgresql+psycopg://tilehawk@database:5432/tilehawk"
        assert environment["PGPASSWORD"] == SERVICES["database"]["environment"]["POSTGRES_PASSWORD"]
    assert {SERVICES["database"]["environment"][key] for key in ("POSTGRES_USER", "POSTGRES_DB")} == {"tilehawk"}
    host = re.match(r"https?://([^:/]+)", SERVICES["app"]["environment"]["TILEHAWK_PUBLIC_URL"])[1]
    assert host in SERVICES["app"]["networks"]["default"]["aliases"]


@pytest.mark.parametrize("name", OURS)
def test_the_commands_are_commands_of_ours(name):
    tilehawk = Path(sys.executable).parent / "tilehawk"
    command = list(map(str, SERVICES[name]["command"]))
    shown = subprocess.run([tilehawk, command[0], "--help"], check=True, capture_output=True, text=True, timeout=120, env=wide())
    for option in (word for word in command[1:] if word.startswith("--")):
        assert option in shown.stdout


def wide() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def health():
    spec = importlib.util.spec_from_file_location("health", DOCKER / "health.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def answering(status: int):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "well"), [(200, True), (500, False), (403, False)])
def test_the_health_check_of_the_app_asks_it(health, status, well):
    with answering(status) as address:
        assert health.app_is_well(address) is well


def test_an_app_that_does_not_answer_is_not_well(health):
    with answering(200) as address:
        pass
    assert health.app_is_well(address) is False


@pytest.mark.parametrize(("host", "age", "well"), [(None, 1, True), (None, 60, False), ("elsewhere", 1, False)])
def test_the_health_check_of_the_worker_looks_for_its_last_sign_of_life(health, tmp_path, host, age, well):
    with Workspace.create(tmp_path / "workspace") as workspace:
        assert health.worker_is_well(workspace.root) is False
        with workspace.session() as session:
            beat = WorkerHeartbeat(id=1, pid=1, host=host or platform.node(), since=0.0)
            beat.at = time.time() - age
            session.add(beat)
        assert health.worker_is_well(workspace.root) is well


@pytest.mark.nightly
def test_the_health_check_of_the_app_finds_a_real_one_well(tmp_path):
    command = SERVICES["app"]["healthcheck"]["test"]
    assert command[1:] == ["python", "/opt/tilehawk/health.py", "app"]
    Workspace.create(tmp_path / "workspace").close()
    tilehawk = Path(sys.executable).parent / "tilehawk"
    arguments = ["app", "--no-worker", "--port", "0", "--workspace", str(tmp_path / "workspace")]
    with subprocess.Popen([tilehawk, *arguments], stderr=subprocess.PIPE, text=True) as app:
        try:
            address = next(found[0] for line in app.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            deadline = time.monotonic() + 60
            while subprocess.run([sys.executable, DOCKER / "health.py", "app", address], check=False, timeout=60).returncode != 0:
                assert time.monotonic() < deadline
        finally:
            app.terminate()
            app.wait(timeout=30)
    assert subprocess.run([sys.executable, DOCKER / "health.py", "app", address], check=False, timeout=60).returncode == 1


@pytest.fixture(scope="session")
def judges(tmp_path_factory):
    """Packages that know the compose specification, in a folder of their own."""
    folder = tmp_path_factory.mktemp("judges")
    command = [Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--no-deps", "--target", folder, SCHEMAS, PARSER]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    if done.returncode != 0:
        pytest.skip(f"the package index does not answer: {done.stderr.strip()[-200:]}")
    return folder


@pytest.mark.nightly
@pytest.mark.parametrize("name", FILES)
def test_it_follows_the_schema_of_the_specification(judges, name):
    import jsonschema

    schema = json.loads((judges / "compose" / "config" / "compose_spec.json").read_text())
    document = {key: value for key, value in composed(name).items() if key != "name"}  # younger than this schema
    judge = jsonschema.Draft7Validator(schema)
    assert [error.message for error in judge.iter_errors(document)] == []
    document["services"]["worker"]["helthcheck"] = {}
    assert list(judge.iter_errors(document)), "the schema sees a key that is wrong"


@pytest.mark.nightly
@pytest.mark.parametrize("name", FILES)
def test_a_parser_of_the_specification_takes_it(judges, name):
    script = (
        "import sys; from compose_spec import PyCompose\n"
        "compose = PyCompose.from_yaml(sys.stdin.read()); compose.validate(); print(compose.services)"
    )

    def parse(document: dict) -> subprocess.CompletedProcess[str]:
        how = {"env": {**os.environ, "PYTHONPATH": str(judges)}, "input": yaml.safe_dump(document), "timeout": 60}
        return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, **how)

    document = composed(name)
    taken = parse(document)
    assert taken.returncode == 0, taken.stderr
    assert all(service in taken.stdout for service in document["services"])
    document["services"]["worker"]["depends_on"] = {"database": {"condition": "service_is_fine"}}
    assert parse(document).returncode != 0, "the parser sees a value that is wrong"
