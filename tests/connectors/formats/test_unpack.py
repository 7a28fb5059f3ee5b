import io
import tarfile
import zipfile

import pytest

from connectors.formats.unpack import unpacked
from engine.errors import ArchiveRefused, BadInput
from engine.imagery.archive import ArchiveLimits

SMALL = ArchiveLimits(max_members=20, max_member_bytes=1000, max_total_bytes=5000)


def packed(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_label_files_keep_their_places_pictures_are_empty_and_the_rest_stays_out(tmp_path):
    archive = packed(
        tmp_path / "a.zip", {"set/labels/a.txt": "0", "set/images/a.JPG": b"\xff\xd8", "set/run.sh": "rm", "__MACOSX/x.txt": "0"}
    )
    with unpacked(archive, tmp_path) as folder:
        assert files(folder) == {"set/labels/a.txt": b"0", "set/images/a.JPG": b""}
    assert not folder.exists()


def test_a_file_or_folder_is_itself(tmp_path):
    (tmp_path / "a.txt").write_text("0")
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "none.zip"):
        with unpacked(path) as there:
            assert there == path


@pytest.mark.guarantee("G12")
@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", "a/../../b.txt", "C:a.txt", "a\\b.txt", "a\u202e.txt", "．．/a.txt"])
def test_a_name_that_leads_elsewhere_refuses_the_archive_and_touches_nothing(tmp_path, name):
    archive = packed(tmp_path / "a.zip", {"good.txt": "0", name: "0"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArchiveRefused, match=r"a\.zip: .* is refused"), unpacked(archive, tmp_path):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.guarantee("G13")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file_refuses_the_archive(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("labels/a.txt")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(ArchiveRefused, match="is refused"), unpacked(tmp_path / "a.tar", tmp_path):
        pass


@pytest.mark.guarantee("G11")
@pytest.mark.parametrize(
    "members",
    [
        {"a.txt": "0" * 2000},
        {f"{number}.txt": "0" * 900 for number in range(10)},
        {f"{number}.txt": "" for number in range(30)},
    ],
)
def test_an_archive_over_a_cap_is_refused_and_leaves_nothing(tmp_path, members):
    archive = packed(tmp_path / "a.zip", members)
    with pytest.raises(BadInput), unpacked(archive, tmp_path, SMALL):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.guarantee("G11")
def test_a_bomb_is_cut_off_by_its_ratio(tmp_path):
    archive = packed(tmp_path / "a.zip", {"a.json": b"\x00" * (80 << 20)})
    with pytest.raises(BadInput, match="inflates"), unpacked(archive, tmp_path):
        pass


def test_two_members_that_cannot_lie_side_by_side_are_refused(tmp_path):
    archive = packed(tmp_path / "a.zip", {"a.txt": "0", "a.txt/b.txt": "0"})
    with pytest.raises(ArchiveRefused, match="cannot be unpacked"), unpacked(archive, tmp_path):
        pass


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 500
        archive.addfile(entry, io.BytesIO(bytes(range(250)) * 2))
    (tmp_path / "a.tar.gz").write_bytes(content.getvalue()[:-30])
    with pytest.raises(BadInput), unpacked(tmp_path / "a.tar.gz", tmp_path):
        pass


def test_what_a_reader_refuses_is_told_with_the_paths_of_the_archive(tmp_path):
    archive = packed(tmp_path / "a.zip", {"set/a.txt": "0"})
    with pytest.raises(BadInput) as refused, unpacked(archive, tmp_path) as folder:
        raise BadInput(f"{folder}/set/a.txt, line 3: bad", remedy=f"Look into {folder}")
    assert str(refused.value) == "a.zip: set/a.txt, line 3: bad. Look into it."
