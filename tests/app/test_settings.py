"""Which workspace a call works on, and the settings of the service."""

from __future__ import annotations

import pytest

from app.settings import ENVIRONMENT, Settings, find_workspace
from engine.errors import UsageError


@pytest.fixture
def nested(tmp_path):
    inner = tmp_path / "workspace" / "scenes" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "workspace" / "tilehawk.json").write_text("{}")
    return inner


def test_option_comes_first(nested, tmp_path):
    assert find_workspace(tmp_path / "x", environment={"TILEHAWK_WORKSPACE": "y"}, current=nested) == tmp_path / "x"


def test_environment_comes_second(nested, tmp_path):
    assert find_workspace(None, environment={"TILEHAWK_WORKSPACE": str(tmp_path / "y")}, current=nested) == tmp_path / "y"


@pytest.mark.parametrize("environment", [{}, {"TILEHAWK_WORKSPACE": ""}])
def test_nearest_parent_that_is_a_workspace_comes_third(nested, tmp_path, environment):
    assert find_workspace(None, environment=environment, current=nested) == tmp_path / "workspace"


def test_current_folder_comes_last(tmp_path):
    assert find_workspace(None, environment={}, current=tmp_path) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({}, {}, Settings()),
        ({"TILEHAWK_PUBLIC_URL": "https://Tiles.example.org:8443/"}, {}, Settings(public_url="https://tiles.example.org:8443")),
        ({"TILEHAWK_PUBLIC_URL": ""}, {}, Settings()),
        ({"TILEHAWK_PUBLIC_URL": "https://a.example"}, {"public_url": "http://b.example"}, Settings(public_url="http://b.example")),
        ({"TILEHAWK_PUBLIC_URL": "https://a.example"}, {"public_url": None}, Settings(public_url="https://a.example")),
        ({"TILEHAWK_UPLOAD_BYTES": "3GiB"}, {}, Settings(upload_bytes=3 * 1024**3)),
        ({"TILEHAWK_UPLOAD_BYTES": "5000"}, {}, Settings(upload_bytes=5000)),
        ({"TILEHAWK_RESERVE_BYTES": "1GiB"}, {}, Settings(reserve_bytes=1024**3)),
        ({"TILEHAWK_PULL_SECONDS": "2.5"}, {}, Settings(pull_seconds=2.5)),
        ({"TILEHAWK_IMPORT_FOLDERS": "/a:/b"}, {}, Settings(import_folders=("/a", "/b"))),
    ],
)
def test_settings_come_from_what_is_given_then_the_environment(environment, given, expected):
    assert Settings.from_environment(environment, **given) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TILEHAWK_PUBLIC_URL", "tiles.example.org"),
        ("TILEHAWK_PUBLIC_URL", "ftp://tiles.example.org"),
        ("TILEHAWK_PUBLIC_URL", "https://user:word@tiles.example.org"),
        ("TILEHAWK_PUBLIC_URL", "https://tiles.example.org/app"),
        ("TILEHAWK_PUBLIC_URL", "https://tiles.example.org?x=1"),
        ("TILEHAWK_PUBLIC_URL", "https://tiles.example.org:port"),
        ("TILEHAWK_UPLOAD_BYTES", "much"),
        ("TILEHAWK_UPLOAD_BYTES", "1"),
        ("TILEHAWK_RESERVE_BYTES", "-1"),
        ("TILEHAWK_PULL_SECONDS", "0"),
        ("TILEHAWK_PULL_SECONDS", "nan"),
    ],
)
def test_impossible_setting_is_wrong_use_and_named(variable, value):
    with pytest.raises(UsageError, match=variable):
        Settings.from_environment({variable: value})


def test_every_setting_is_documented():
    assert {f"TILEHAWK_{name.upper()}" for name in Settings.model_fields} <= set(ENVIRONMENT)
    assert all(ENVIRONMENT.values())
