import bz2
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib

import pytest

from engine.errors import ArchiveRefused, BadInput, UnreadableImage
from engine.imagery import archive as archive_module
from engine.imagery.archive import ArchiveLimits, read_members, source_kind

KINDS = ("zip", "tar", "tar.gz")
LIMITS = ArchiveLimits()
CONTENT = [("b/two.png", b"two" * 100), ("a.png", b"one" * 50), ("notes.txt", b"")]


@pytest.fixture
def archives(fake):
    return fake("archives")


def contents(source, limits=LIMITS, **options):
    found = {}
    for member in read_members(source, limits, **options):
        if member.refusal is None:
            with member.open() as reader:
                target = io.BytesIO()
                reader.copy_to(target)
            found[member.name] = target.getvalue()
    return found


def refusals(source, limits=LIMITS):
    return {member.name: member.refusal for member in read_members(source, limits) if member.refusal}


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_with_their_names_and_bytes(archives, tmp_path, kind):
    source = archives.write_archive(tmp_path / "imagery.bin", kind, CONTENT)
    assert contents(source) == dict(CONTENT)


def test_bzip2_is_read_too(archives, tmp_path):
    plain = archives.write_archive(tmp_path / "a.tar", "tar", CONTENT)
    (tmp_path / "a.tbz").write_bytes(bz2.compress(plain.read_bytes()))
    assert contents(tmp_path / "a.tbz") == dict(CONTENT)


@pytest.mark.parametrize(("kind", "expected"), [("zip", "zip"), ("tar", "tar"), ("tar.gz", "tar")])
def test_the_kind_is_told_by_content(archives, tmp_path, kind, expected):
    assert source_kind(archives.write_archive(tmp_path / "picture.png", kind, CONTENT)) == expected


def test_anything_else_is_a_file_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip at all")
    assert source_kind(tmp_path / "a.zip") == "file"
    assert source_kind(tmp_path) == "folder"
    with pytest.raises(BadInput, match="nowhere"):
        source_kind(tmp_path / "nowhere")


@pytest.mark.parametrize(("magic", "kind"), [(b"\xfd7zXZ\x00", "xz"), (b"7z\xbc\xaf'\x1c", "7z"), (b"Rar!\x1a\x07", "rar")])
def test_other_kinds_of_archives_are_refused_by_name(tmp_path, magic, kind):
    (tmp_path / "a.tar").write_bytes(magic + bytes(100))
    with pytest.raises(ArchiveRefused, match=kind):
        source_kind(tmp_path / "a.tar")


def test_a_source_that_may_not_be_read_is_named(fake):
    with fake("permissions").locked() as folder:
        (folder / "a.zip").write_bytes(b"PK")
        with fake("permissions").closed(folder / "a.zip"), pytest.raises(BadInput, match=r"a\.zip' cannot be read: Permission denied"):
            source_kind(folder / "a.zip")


def test_the_order_of_a_zip_does_not_depend_on_how_it_was_packed(archives, tmp_path):
    one = archives.write_archive(tmp_path / "1.zip", "zip", CONTENT)
    other = archives.write_archive(tmp_path / "2.zip", "zip", CONTENT[::-1])
    assert [member.name for member in read_members(one, LIMITS)] == [member.name for member in read_members(other, LIMITS)]


def test_peeked_bytes_are_read_again(archives, tmp_path):
    source = archives.write_archive(tmp_path / "a.tar.gz", "tar.gz", CONTENT)
    members = read_members(source, LIMITS)
    with next(members).open() as reader:
        assert reader.peek(5) == b"twotw"
        assert reader.peek(2) == b"tw"
        target = io.BytesIO()
        reader.copy_to(target)
    assert target.getvalue() == CONTENT[0][1]


@pytest.mark.parametrize("kind", KINDS)
def test_system_junk_is_passed_over(archives, tmp_path, kind):
    source = archives.write_archive(tmp_path / "a", kind, [("__MACOSX/._a.png", b"x"), ("x/.DS_Store", b"x"), ("a.png", b"1")])
    assert contents(source) == {"a.png": b"1"}
    assert not refusals(source)


@pytest.mark.guarantee("G12")
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_refused_with_a_reason(archives, tmp_path, kind):
    members = [("good.png", b"good"), *((name, b"bad") for name in archives.HOSTILE_NAMES)]
    source = archives.write_archive(tmp_path / "a", kind, sorted(members, key=lambda member: member[0] != "good.png"))
    accepted, refused = contents(source), refusals(source)
    if kind == "zip":
        assert set(accepted) == {"GOOD.PNG"}
        assert refused["good.png"]
    else:
        assert set(accepted) == {"good.png"}
        assert refused["GOOD.PNG"]
    folders = sum(name.endswith("/") for name in archives.HOSTILE_NAMES)
    assert len(refused) + folders >= len(archives.HOSTILE_NAMES)
    assert all(name.isprintable() for name in refused)


def _tar_entry(kind, name, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, link, 1, 3
    return entry


@pytest.mark.guarantee("G13")
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_only_regular_files_of_a_tar_are_read(tmp_path, mode):
    with tarfile.open(tmp_path / "a.tar", mode) as archive:
        for entry in (
            _tar_entry(tarfile.SYMTYPE, "link.png", "/etc/passwd"),
            _tar_entry(tarfile.SYMTYPE, "x", ".."),
            _tar_entry(tarfile.LNKTYPE, "x/hard.png", "x/../../deep.png"),
            _tar_entry(tarfile.LNKTYPE, "hard.png", "good.png"),
            _tar_entry(tarfile.FIFOTYPE, "pipe.png"),
            _tar_entry(tarfile.CHRTYPE, "zero.png"),
            _tar_entry(tarfile.BLKTYPE, "disk.png"),
            _tar_entry(b"Z", "strange.png"),
            _tar_entry(tarfile.DIRTYPE, "folder"),
        ):
            archive.addfile(entry)
        good = tarfile.TarInfo("good.png")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
    assert contents(tmp_path / "a.tar") == {"good.png": b"good"}
    assert set(refusals(tmp_path / "a.tar")) == {
        "link.png",
        "x",
        "x/hard.png",
        "hard.png",
        "pipe.png",
        "zero.png",
        "disk.png",
        "strange.png",
    }


def test_a_sparse_member_of_a_tar_is_refused(tmp_path):
    entry = tarfile.TarInfo("huge.png")
    entry.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50), "GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry)
    assert refusals(tmp_path / "a.tar") == {"huge.png": "a sparse file"}


@pytest.mark.guarantee("G13")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [(stat.S_IFLNK, "a symbolic link"), *((kind, "no regular file") for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK))],
)
def test_only_regular_files_of_a_zip_are_read(tmp_path, kind, reason):
    entry = zipfile.ZipInfo("link.png")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
        archive.writestr("good.png", b"good")
    assert contents(tmp_path / "a.zip") == {"good.png": b"good"}
    assert refusals(tmp_path / "a.zip") == {"link.png": reason}


def test_encrypted_and_oddly_compressed_entries_of_a_zip_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("secret.png", b"secret")
        archive.writestr("odd.png", b"odd" * 100, compress_type=zipfile.ZIP_LZMA)
        archive.writestr("good.png", b"good")
    raw = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + flags] |= 0x1
    path.write_bytes(raw)
    assert contents(path) == {"good.png": b"good"}
    assert refusals(path) == {"secret.png": "encrypted", "odd.png": "compressed by method 14; stored and deflated entries are read"}


@pytest.mark.guarantee("G14")
def test_links_and_pipes_in_a_folder_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/good.png").write_bytes(b"good")
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    assert contents(folder) == {"deep/good.png": b"good"}
    assert refusals(folder) == {"link.png": "a symbolic link", "linked": "a symbolic link", "pipe.png": "no regular file"}


@pytest.mark.guarantee("G14")
def test_a_file_that_becomes_a_link_while_the_folder_is_read_is_not_followed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"good")
    (tmp_path / "secret").write_bytes(b"secret")
    (member,) = read_members(folder, LIMITS)
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableImage):
        member.open()


def test_a_folder_that_may_not_be_read_is_set_aside_by_name(fake):
    permissions = fake("permissions")
    with permissions.locked() as root:
        for name in ("a", "shut", "z"):
            (root / name).mkdir()
            (root / name / "tile.png").write_bytes(b"x")
        with permissions.closed(root / "shut"):
            members = list(read_members(root, ArchiveLimits()))
        assert [member.name for member in members] == ["a/tile.png", "shut", "z/tile.png"]
        assert "Permission denied" in members[1].refusal
        with permissions.closed(root), pytest.raises(ArchiveRefused, match="cannot be read"):
            list(read_members(root, ArchiveLimits()))


def test_a_folder_that_is_to_be_left_out_is_not_entered(tmp_path):
    for name in ("a.png", "work/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert set(contents(tmp_path, exclude=tmp_path / "work")) == {"a.png"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_off_archive_is_refused_at_any_length(archives, tmp_path, kind):
    whole = archives.write_archive(tmp_path / "whole", kind, [("a.png", os.urandom(3000)), ("b.png", os.urandom(3000))]).read_bytes()
    useful = len(whole) if kind != "tar" else whole.rindex(b"b.png") // 512 * 512 + 512 + 3072
    for length in [*range(600, useful - 1, max(1, useful // 23)), useful - 1, useful - 513]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ArchiveRefused, match="cut"):
            contents(tmp_path / "cut")


def test_a_tar_cut_between_two_members_is_refused(archives, tmp_path):
    whole = archives.write_archive(tmp_path / "whole.tar", "tar", [("a.png", bytes(512))]).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    (tmp_path / "cut.tar").write_bytes(whole[: end + 512])
    with pytest.raises(ArchiveRefused, match="no end of archive"):
        contents(tmp_path / "cut.tar")


def test_a_damaged_member_of_a_zip_does_not_spoil_the_others(archives, tmp_path):
    path = archives.write_archive(tmp_path / "a.zip", "zip", [("bad.png", os.urandom(3000)), ("good.png", b"good")])
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 0xFF
    path.write_bytes(raw)
    opened = {member.name: member for member in read_members(path, LIMITS)}
    assert set(opened) == {"bad.png", "good.png"}
    for member in read_members(path, LIMITS):
        with member.open() as reader:
            if member.name == "bad.png":
                with pytest.raises(UnreadableImage, match="damaged"):
                    reader.copy_to(None)
            else:
                reader.copy_to(None)


@pytest.mark.guarantee("G11")
@pytest.mark.parametrize("kind", KINDS)
def test_too_many_entries_are_refused(archives, tmp_path, kind):
    source = archives.write_archive(tmp_path / "a", kind, [(f"{n}.png", b"") for n in range(11)])
    with pytest.raises(ArchiveRefused, match="more than 10 entries"):
        contents(source, ArchiveLimits(max_members=10))


@pytest.mark.guarantee("G11")
@pytest.mark.parametrize("kind", KINDS)
def test_too_many_bytes_in_all_are_refused(archives, tmp_path, kind):
    source = archives.write_archive(tmp_path / "a", kind, [(f"{n}.png", bytes(40_000)) for n in range(10)])
    with pytest.raises(ArchiveRefused, match="bytes"):
        contents(source, ArchiveLimits(max_total_bytes=300_000))


@pytest.mark.guarantee("G11")
def test_a_member_above_its_cap_is_set_aside(archives, tmp_path):
    members = [("big.png", bytes(5000)), ("small.png", b"small")]
    limits = ArchiveLimits(max_member_bytes=1000)
    tarred = archives.write_archive(tmp_path / "a.tar", "tar", members)
    assert set(refusals(tarred, limits)) == {"big.png"}
    assert contents(tarred, limits) == {"small.png": b"small"}
    zipped = archives.write_archive(tmp_path / "a.zip", "zip", members)
    zipped_members = read_members(zipped, limits)
    with next(zipped_members).open() as reader, pytest.raises(UnreadableImage, match="1000 bytes"):
        reader.copy_to(None)


@pytest.mark.guarantee("G11")
def test_a_header_that_lies_about_its_size_gives_no_more_bytes_than_the_cap(archives, tmp_path):
    path = archives.write_archive(tmp_path / "a.zip", "zip", [("bomb.png", bytes(200_000))])
    raw = bytearray(path.read_bytes())
    for signature, size in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", raw, raw.index(signature) + size, 10)
    path.write_bytes(raw)
    members = read_members(path, LIMITS)
    with next(members).open() as reader, pytest.raises(UnreadableImage):
        reader.copy_to(None)


@pytest.fixture
def ratio_judged_early(monkeypatch):
    monkeypatch.setattr(archive_module, "RATIO_FREE_BYTES", 100_000)


@pytest.mark.guarantee("G11")
def test_a_member_that_inflates_too_far_is_stopped(archives, tmp_path, ratio_judged_early):
    source = archives.write_archive(tmp_path / "a.zip", "zip", [("bomb.png", bytes(20_000_000))])
    members = read_members(source, LIMITS)
    target = io.BytesIO()
    with next(members).open() as reader, pytest.raises(UnreadableImage, match="200 times"):
        reader.copy_to(target)
    assert target.tell() < 4_000_000


@pytest.mark.guarantee("G11")
def test_a_tar_stream_that_inflates_too_far_is_stopped(archives, tmp_path, ratio_judged_early):
    source = archives.write_archive(tmp_path / "a.tgz", "tar.gz", [("bomb.png", bytes(20_000_000)), ("good.png", b"x")])
    with pytest.raises(ArchiveRefused, match="200 times"):
        contents(source)


@pytest.mark.guarantee("G11")
def test_overlapping_entries_of_a_zip_are_refused(archives, tmp_path):
    path = archives.write_archive(tmp_path / "a.zip", "zip", [("a.png", os.urandom(500)), ("b.png", os.urandom(500))])
    raw = bytearray(path.read_bytes())
    second = raw.rindex(b"PK\x01\x02")
    struct.pack_into("<L", raw, second + 42, 0)
    path.write_bytes(raw)
    with pytest.raises(ArchiveRefused, match="overlapping"):
        contents(path)


@pytest.mark.guarantee("G11")
def test_a_header_of_a_tar_cannot_fill_the_memory(tmp_path):
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 30_000_000
    with gzip.open(tmp_path / "a.tgz", "wb") as stream:
        stream.write(name.tobuf(tarfile.GNU_FORMAT))
        for _ in range(30):
            stream.write(os.urandom(1) * 1_000_000)
    with pytest.raises(ArchiveRefused, match="headers"):
        contents(tmp_path / "a.tgz")


def test_a_gzip_that_holds_no_tar_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"just text" * 1000))
    with pytest.raises(ArchiveRefused, match=r"a\.gz"):
        contents(tmp_path / "a.gz")


def test_a_damaged_checksum_at_the_end_of_a_stream_is_noticed(archives, tmp_path):
    path = archives.write_archive(tmp_path / "a.tgz", "tar.gz", CONTENT)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<L", raw, len(raw) - 8, zlib.crc32(b"something else"))
    path.write_bytes(raw)
    with pytest.raises(ArchiveRefused, match="damaged"):
        contents(path)
