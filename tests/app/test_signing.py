"""The workspace's secret and what is signed with it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest

from app.signing import Signer, webhook_secret
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

SIGNER = Signer(b"0" * 32)
NOW = 1_800_000_000.0


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


def parts(url):
    split = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(split.query).items()}
    return split, query["expires"], query["signature"]


def test_secret_is_made_once_and_its_owner_s_alone(workspace):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Signer.of(workspace).key("tile"), range(8)))
    assert len(keys) == 1
    path = workspace.root / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == 32


def test_damaged_secret_is_refused_and_kept(workspace):
    Signer.of(workspace)
    (workspace.root / "secret.key").write_bytes(b"cut")
    with pytest.raises(BadInput, match=r"secret\.key has 3 bytes"):
        Signer.of(workspace)
    assert (workspace.root / "secret.key").read_bytes() == b"cut"


def test_each_workspace_and_each_purpose_has_a_key_of_its_own(workspace, tmp_path):
    with Workspace.create(tmp_path / "other") as other:
        keys = {Signer.of(each).key(purpose) for each in (workspace, other) for purpose in ("tile", "session", "webhook")}
        assert webhook_secret(workspace) != webhook_secret(other)
    assert len(keys) == 6
    assert webhook_secret(workspace) == webhook_secret(workspace)


def test_address_works_for_its_tile_until_it_expires():
    split, expires, signature = parts(SIGNER.tile_url("https://tiles.example.org/", 7, valid_seconds=60, now=NOW))
    assert (split.netloc, split.path) == ("tiles.example.org", "/signed/tiles/7.png")
    assert SIGNER.verify(7, expires, signature, now=NOW + 59)
    assert not SIGNER.verify(7, expires, signature, now=NOW + 60)


@pytest.mark.parametrize(
    ("tile_id", "expires", "signature"),
    [
        (8, "{e}", "{s}"),
        (7, "{e}0", "{s}"),
        (7, "{e}", "{s}0"),
        (7, "{e}", ""),
        (7, "{e}", "é"),
        (7, "", "{s}"),
        (7, "-1", "{s}"),
        (7, "1e12", "{s}"),
        (7, "٣", "{s}"),
        (7, "9" * 400, "{s}"),
        (7, "0{e}", "é"),
    ],
)
def test_anything_else_does_not(tile_id, expires, signature):
    _, e, s = parts(SIGNER.tile_url("http://x", 7, valid_seconds=60, now=NOW))
    assert not SIGNER.verify(tile_id, expires.format(e=e), signature.format(s=s), now=NOW)


def test_another_secret_signs_otherwise():
    _, expires, signature = parts(Signer(b"1" * 32).tile_url("http://x", 7, now=NOW))
    assert not SIGNER.verify(7, expires, signature, now=NOW)
