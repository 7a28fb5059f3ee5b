"""Files that are either old or complete, whatever the moment at which their writer dies."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import BadInput
from engine.files import (
    REPLACED,
    TEMPORARY,
    atomic_directory,
    atomic_file,
    inside,
    place,
    sha256_of,
    sweep_beside,
    sweep_temporary,
    write_json,
    write_lines,
    write_text,
)

WRITERS = {
    "file": "write_text(root / 'target', content * 10_000)",
    "json": "write_json(root / 'target', {'content': content * 10_000})",
    "lines": "write_lines(root / 'target', [content * 5_000 + content * 5_000])",
    "directory": (
        "with atomic_directory(root / 'target') as made:\n"
        "        for name in ('a', 'b'):\n"
        "            (made / name).write_text(content * 10_000)"
    ),
}
CHILD = """
import os, sys
from pathlib import Path
from engine.files import atomic_directory, write_json, write_lines, write_text

def write(root, content):
    {writer}

for before in ("absent", "old"):
    for crash_at in range(1, 100):
        root = Path(sys.argv[1]) / before / f"{{crash_at:03}}"
        root.mkdir(parents=True)
        if before == "old":
            write(root, "old ")
        child = os.fork()
        if not child:
            os.environ["TILEHAWK_CRASH_AT"] = str(crash_at)
            write(root, "new ")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            break
        assert code == 137, code
"""


def contents(target: Path) -> set[str]:
    """What stands under the final name, every file reduced to its distinct words."""
    files = sorted(target.iterdir()) if target.is_dir() else [target]
    if target.is_dir():
        assert [path.name for path in files] == ["a", "b"]
    return {word for path in files for word in ("old", "new") if f"{word} " * 10_000 in path.read_text()} | {
        "half" for path in files if not any(f"{word} " * 10_000 in path.read_text() for word in ("old", "new"))
    }


@pytest.mark.guarantee("G2")
@pytest.mark.parametrize("kind", WRITERS)
def test_writer_that_dies_leaves_old_or_new_and_what_it_left_is_swept(kind, tmp_path):
    child = CHILD.format(writer=WRITERS[kind])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", child, str(tmp_path)], check=True, timeout=120, env=environment)
    for before in ("absent", "old"):
        trials = sorted((tmp_path / before).iterdir())
        assert len(trials) >= 4
        seen = []
        for root in trials:
            target = root / "target"
            found = contents(target) if target.exists() else {"absent"}
            assert len(found) == 1, f"{root}: {found}"
            seen += found
            sweep_temporary(root)
            assert [path.name for path in root.iterdir()] == (["target"] if target.exists() else [])
            assert before == "absent" or contents(target) in ({"old"}, {"new"}), "what was there before is neither kept nor replaced"
        assert set(seen) <= {before, "new", "absent"}
        assert seen[0] == before
        assert seen[-1] == "new"


def test_error_inside_leaves_the_old_content_and_nothing_else(tmp_path):
    write_text(tmp_path / "target", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "target") as temporary:
        temporary.write_text(str(1 / 0))
    assert (tmp_path / "target").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_placed_files_are_synced_before_they_are_renamed_and_nothing_is_placed_of_nothing(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "b").write_text("old")
    recorded = Recorded(monkeypatch)
    place({tmp_path / name: tmp_path / "there" / name for name in ("a", "b")})
    assert {path.name: path.read_text() for path in (tmp_path / "there").iterdir()} == {"a": "a", "b": "b"}
    assert [what for what, _ in recorded.calls] == ["sync", "sync", "rename", "rename", "sync"]
    recorded.calls.clear()
    place({})
    assert recorded.calls == []


def test_directory_replaces_the_old_one_as_a_whole(tmp_path):
    for name in ("old", "new"):
        with atomic_directory(tmp_path / "target") as made:
            (made / name).write_text(name)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_directory_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    with atomic_directory(tmp_path / "target") as made:
        (made / "old").write_text("old")

    rename = Path.replace

    def refused(path, target):
        if not path.name.startswith(REPLACED) and path.name.startswith(TEMPORARY):
            raise PermissionError("in use")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError), atomic_directory(tmp_path / "target") as made:
        (made / "new").write_text("new")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["target", "target/old"]


def test_json_without_place_for_a_number_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "target", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_lines_are_written_one_after_the_other_and_an_error_among_them_leaves_the_old_ones(tmp_path):
    target = tmp_path / "target"
    write_lines(target, ["eins", "zwölf"])
    assert target.read_bytes() == "eins\nzwölf\n".encode()

    def broken():
        yield "drei"
        raise ValueError

    with pytest.raises(ValueError):
        write_lines(target, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert target.read_text().startswith("eins")


def test_sweep_takes_leftovers_only(tmp_path):
    (tmp_path / f"{TEMPORARY}1").write_text("x")
    (tmp_path / f"{TEMPORARY}2").mkdir()
    (tmp_path / f"{TEMPORARY}2" / "inner").write_text("x")
    (tmp_path / "kept").write_text("x")
    assert sweep_temporary(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_left_of_one_target_alone_is_swept(tmp_path):
    mine, others = (
        [f"{TEMPORARY}0a-labels.json", f"{TEMPORARY}x_9-labels.json"],
        [f"{TEMPORARY}0a-my-labels.json", f"{TEMPORARY}0a-labels.jsonl"],
    )
    for name in [*mine, *others]:
        (tmp_path / name).write_text("x")
    (tmp_path / f"{REPLACED}0a-labels.json").mkdir()
    assert sweep_beside(tmp_path / "labels.json") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "labels.json"])


def test_hash_is_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"tile" * 100_000)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"tile" * 100_000).hexdigest()


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc/passwd", "link/x"])
def test_path_that_leads_out_is_refused(relative, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="leads out"):
        inside(tmp_path / "root", relative)


@pytest.mark.parametrize("relative", ["x", "a/b", "a/../x", "."])
def test_path_inside_is_resolved(relative, tmp_path):
    assert inside(tmp_path, relative).is_relative_to(tmp_path.resolve())


class Recorded:
    """What is asked of the operating system, in order: (what, which file)."""

    def __init__(self, patch):
        self.calls = []
        sync, replace = os.fsync, Path.replace

        def recorded_sync(descriptor):
            self.calls.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
            sync(descriptor)

        def recorded_replace(path, target):
            self.calls.append(("rename", Path(path)))
            return replace(path, target)

        patch.setattr(os, "fsync", recorded_sync)
        patch.setattr(Path, "replace", recorded_replace)


@pytest.mark.guarantee("G8")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the files behind descriptors are told by /proc")
@pytest.mark.parametrize("before", ["absent", "old"])
def test_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch, before):
    if before == "old":
        write_text(tmp_path / "target", "old")
    recorded = Recorded(monkeypatch)
    write_text(tmp_path / "target", "new")
    (first, temporary), (second, renamed), (third, folder) = recorded.calls
    assert (first, second, third) == ("sync", "rename", "sync")
    assert temporary == renamed
    assert temporary.name.startswith(TEMPORARY)
    assert folder == tmp_path


@pytest.mark.guarantee("G8")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the files behind descriptors are told by /proc")
def test_every_file_of_a_folder_is_synced_before_the_folder_gets_its_name(tmp_path, monkeypatch):
    recorded = Recorded(monkeypatch)
    with atomic_directory(tmp_path / "target") as made:
        (made / "inner").mkdir()
        for name in ("a", "inner/b"):
            (made / name).write_text(name)
    renamed = recorded.calls.index(("rename", made))
    assert {path for what, path in recorded.calls[:renamed] if what == "sync"} == {made, made / "a", made / "inner", made / "inner" / "b"}
    assert recorded.calls[renamed + 1 :] == [("sync", tmp_path)]


@pytest.mark.guarantee("G8")
def test_nothing_in_the_engine_renames_or_syncs_but_this_file():
    """One place for it: whoever writes state elsewhere by hand would have to say so here."""
    root = Path(__file__).parents[2] / "engine"
    syncing = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.py")) if "os.fsync" in path.read_text()]
    assert syncing == ["files.py"]
