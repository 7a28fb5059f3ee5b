"""Files that come in pieces: whatever cuts them off, they end as the bytes that were sent, within their caps."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.announcements import Announcement, UploadLimits, UploadRefused, inert_name
from app.arrivals import Arrivals
from app.bodies import CHUNK_BYTES, UPLOAD_SECONDS
from app.settings import Settings
from engine.catalog.workspace import Workspace

LIMITS = UploadLimits(largest=1000, together=2000, reserve=100, arriving=3)
FREE = 10_000


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture
def arrivals(workspace):
    return Arrivals(workspace, LIMITS, free_bytes=lambda _: FREE)


def announced(size=10, name="flight.zip", fingerprint="0123456789abcdef", **more):
    return Announcement(name=name, size=size, fingerprint=fingerprint, **more)


def send(arrivals, arrival, piece, *, at=None, by="ana"):
    return arrivals.append(arrival.id, by, arrival.offset if at is None else at, piece, zlib.crc32(piece))


def refused(status):
    return pytest.raises(UploadRefused, check=lambda refusal: refusal.status is status)


def test_pieces_become_the_file_and_it_is_handed_over_once(workspace, arrivals):
    arrival = arrivals.begin(announced(), "ana")
    arrival = send(arrivals, send(arrivals, arrival, b"01234"), b"56789")
    assert arrival.complete
    kept = arrivals.take(arrival.id, "ana")
    assert kept.read_bytes() == b"0123456789"
    assert kept.parent.parent == workspace.uploads
    assert arrivals.of("ana") == []
    with refused(HTTPStatus.NOT_FOUND):
        arrivals.take(arrival.id, "ana")


def test_what_nobody_could_take_in_is_an_upload_again(workspace, arrivals):
    arrival = send(arrivals, arrivals.begin(announced(), "ana"), b"0123456789")
    places = []

    def refuse() -> None:
        with arrivals.handing_over(arrival.id, "ana") as file:
            places.append(file)
            raise RuntimeError(file.read_text())

    with pytest.raises(RuntimeError, match="0123456789"):
        refuse()
    assert not places[0].exists()
    assert arrivals.of("ana") == [arrival]
    with arrivals.handing_over(arrival.id, "ana") as file:
        assert file.read_bytes() == b"0123456789"
    assert arrivals.of("ana") == []
    assert file.is_file()


def test_an_upload_whose_file_is_shorter_than_its_record_is_none(workspace, arrivals):
    arrival = send(arrivals, arrivals.begin(announced(), "ana"), b"01234")
    [file] = workspace.uploads.glob("arriving/*/*")
    os.truncate(file, 3)
    assert arrivals.of("ana") == []
    assert arrivals.begin(announced(), "ana").id != arrival.id


def test_same_file_again_goes_on_and_another_one_does_not(arrivals):
    first = arrivals.begin(announced(), "ana")
    send(arrivals, first, b"0123")
    again = arrivals.begin(announced(), "ana")
    assert (again.id, again.offset) == (first.id, 4)
    others = [announced(fingerprint="ffffffff"), announced(size=11)]
    assert first.id not in {arrivals.begin(other, "ana").id for other in others}


def test_somebody_else_s_upload_is_not_there(arrivals):
    arrival = arrivals.begin(announced(), "ana")
    assert arrivals.begin(announced(), "bob").id != arrival.id
    for action in (arrivals.get, arrivals.take, arrivals.remove):
        with refused(HTTPStatus.NOT_FOUND):
            action(arrival.id, "bob")
    with refused(HTTPStatus.NOT_FOUND):
        send(arrivals, arrival, b"x", by="bob")
    assert [each.id for each in arrivals.of("ana")] == [arrival.id]


def test_piece_that_belongs_elsewhere_is_told_where(arrivals):
    arrival = send(arrivals, arrivals.begin(announced(), "ana"), b"0123")
    for offset in (0, 3, 5):
        with pytest.raises(UploadRefused) as refusal:
            send(arrivals, arrival, b"x", at=offset)
        assert (refusal.value.status, refusal.value.offset) == (HTTPStatus.CONFLICT, 4)


def test_piece_that_is_damaged_or_too_long_or_empty_adds_nothing(arrivals):
    arrival = arrivals.begin(announced(), "ana")
    with refused(HTTPStatus.UNPROCESSABLE_ENTITY):
        arrivals.append(arrival.id, "ana", 0, b"0123", zlib.crc32(b"0124"))
    for piece in (b"", b"x" * 11):
        with refused(HTTPStatus.BAD_REQUEST):
            send(arrivals, arrival, piece)
    assert arrivals.get(arrival.id, "ana").offset == 0


def test_piece_above_the_cap_is_refused_whatever_is_left(workspace):
    arrivals = Arrivals(workspace, UploadLimits(1 << 30, 1 << 31, 0))
    arrival = arrivals.begin(announced(size=1 << 29), "ana")
    with refused(HTTPStatus.BAD_REQUEST):
        send(arrivals, arrival, bytes(CHUNK_BYTES + 1))


def test_what_has_not_come_as_a_whole_is_not_handed_over(arrivals):
    arrival = send(arrivals, arrivals.begin(announced(), "ana"), b"0123")
    with pytest.raises(UploadRefused, match="come to 40%"):
        arrivals.take(arrival.id, "ana")


@given(data=st.data(), content=st.binary(min_size=1, max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interruption_ends_in_the_same_bytes(workspace, data, content):
    """Pieces of any length, lost before, while or after they are written, sent twice or from elsewhere, by a new process each time."""
    made = announced(size=len(content), fingerprint=f"{zlib.crc32(content):08x}")
    arrivals = Arrivals(workspace, LIMITS, free_bytes=lambda _: FREE)
    for left in arrivals.of("ana"):
        arrivals.remove(left.id, "ana")
    arrival = arrivals.begin(made, "ana")
    file = workspace.uploads / "arriving" / arrival.id / "flight.zip"
    while not arrival.complete:
        arrivals = Arrivals(workspace, LIMITS, free_bytes=lambda _: FREE)
        arrival = arrivals.begin(made, "ana")
        end = data.draw(st.integers(arrival.offset + 1, len(content)), label="end of the piece")
        piece = content[arrival.offset : end]
        fate = data.draw(st.sampled_from(["whole", "torn", "twice", "elsewhere"]))
        if fate == "torn":
            with file.open("ab") as stream:
                stream.write(data.draw(st.binary(max_size=20), label="what was written when it died"))
            arrivals = Arrivals(workspace, LIMITS, free_bytes=lambda _: FREE)
        if fate == "elsewhere":
            with refused(HTTPStatus.CONFLICT):
                send(arrivals, arrival, piece, at=end)
            continue
        arrival = send(arrivals, arrival, piece)
        if fate == "twice" and not arrival.complete:
            with refused(HTTPStatus.CONFLICT):
                send(arrivals, arrival, piece, at=end - len(piece))
    kept = Arrivals(workspace, LIMITS).take(arrival.id, "ana")
    assert kept.read_bytes() == content


CHILDREN = """
import os, sys, zlib
from pathlib import Path
from app.announcements import Announcement, UploadLimits
from app.arrivals import Arrivals
from engine.catalog.workspace import Workspace

content = bytes(range(256)) * 12

def upload():
    with Workspace.open(Path(sys.argv[1])) as workspace:
        arrivals = Arrivals(workspace, UploadLimits(1 << 20, 1 << 20, 0))
        arrival = arrivals.begin(Announcement(name="flight.zip", size=len(content), fingerprint="00000000"), "ana")
        while not arrival.complete:
            piece = content[arrival.offset : arrival.offset + 1000]
            arrival = arrivals.append(arrival.id, "ana", arrival.offset, piece, zlib.crc32(piece))
        return arrivals.take(arrival.id, "ana")

died = 0
while True:
    child = os.fork()
    if not child:
        os.environ["TILEHAWK_CRASH_AT"] = str(died + 1)
        print(upload(), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 137:
        print(died, code)
        break
    died += 1
"""


def test_process_that_dies_at_any_write_sync_or_rename_goes_on(workspace):
    """As SQLite tests itself: die at the first step, go on and die at the second, until one comes through."""
    command = [sys.executable, "-c", CHILDREN, str(workspace.root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=250)
    kept, end = done.stdout.splitlines()
    died, code = map(int, end.split())
    assert (died > 3, code) == (True, 0)
    assert Path(kept).read_bytes() == bytes(range(256)) * 12


@pytest.mark.guarantee("G40")
@pytest.mark.parametrize(("sizes", "status"), [([1001], 413), ([1000, 1000, 1], 429), ([1, 1, 1, 1], 429)])
def test_upload_beyond_a_cap_is_refused_by_name_and_others_stay(workspace, arrivals, sizes, status):
    *before, last = sizes
    for index, size in enumerate(before):
        arrivals.begin(announced(size=size, fingerprint=f"{index:08x}"), "ana")
    with pytest.raises(UploadRefused, match=r"too\.zip") as refusal:
        arrivals.begin(announced(size=last, name="too.zip"), "bob")
    assert refusal.value.status == status
    assert refusal.value.remedy
    assert len(arrivals.of("ana")) == len(before)
    assert len(list((workspace.uploads / "arriving").iterdir())) == 2 * len(before)


@pytest.mark.guarantee("G40")
def test_upload_that_would_take_of_the_reserve_is_refused_with_what_it_needs_and_what_there_is(workspace):
    free = [1000]
    arrivals = Arrivals(workspace, LIMITS, free_bytes=lambda _: free[0])
    with pytest.raises(UploadRefused, match=r"needs 901B beside the 100B that stay free; the disk has 1000B"):
        arrivals.begin(announced(size=901), "ana")
    first = arrivals.begin(announced(size=800), "ana")
    with refused(HTTPStatus.INSUFFICIENT_STORAGE):
        arrivals.begin(announced(size=101, fingerprint="ffffffff"), "ana")  # the 800 that are still to come are spoken for
    first = send(arrivals, first, b"x" * 300)
    free[0] = 399
    with refused(HTTPStatus.INSUFFICIENT_STORAGE):
        send(arrivals, first, b"x" * 300)
    free[0] = 1000
    assert send(arrivals, first, b"x" * 300).offset == 600, "goes on as soon as there is room"


@pytest.mark.guarantee("G40")
def test_what_nobody_went_on_with_for_a_day_is_swept_and_the_rest_stays(workspace, arrivals):
    old, new = (arrivals.begin(announced(fingerprint=f"{index:08x}"), "ana") for index in range(2))
    (workspace.uploads / "arriving" / ".tmp-a-record.json").write_text("{")
    kept = workspace.uploads / "somebody's" / "flight.zip"
    kept.parent.mkdir()
    kept.write_bytes(b"taken before")
    moment = 1_800_000_000
    for path in (workspace.uploads / "arriving").iterdir():
        age = UPLOAD_SECONDS + (-60 if path.stem == new.id else 60)
        os.utime(path, (moment - age, moment - age))
    arrivals.sweep(now=moment)
    assert [each.id for each in arrivals.of("ana")] == [new.id]
    assert {path.stem for path in (workspace.uploads / "arriving").iterdir()} == {new.id}
    assert old.id not in {path.name for path in workspace.uploads.iterdir()}
    assert kept.exists()


def test_what_was_handed_over_goes_a_week_after_its_job_was_given_up(workspace, arrivals):
    day, moment = 86400, 1_800_000_000
    kept = {}
    for index, days in enumerate([8, 8, 8, 8, 8, 8, 6]):
        arrival = arrivals.begin(announced(fingerprint=f"{index:08x}"), "ana")
        kept[index] = arrivals.take(send(arrivals, arrival, b"0123456789").id, "ana")
        for path in (kept[index], kept[index].parent):
            os.utime(path, (moment - days * day,) * 2)
    arriving = arrivals.begin(announced(), "ana")
    others = [workspace.uploads / "somebody's" / "flight.zip", workspace.uploads / "arriving" / arriving.id / "flight.zip"]
    others[0].parent.mkdir()
    others[0].write_bytes(b"not ours")
    for path in (*others, *(each.parent for each in others)):
        os.utime(path, (moment - 30 * day,) * 2)
    states = [("failed", 8), ("failed", 6), ("cancelled", 8), ("interrupted", 9), ("done", 8)]
    listed = [
        SimpleNamespace(state=state, created=moment - 9 * day, ended=moment - days * day, inputs={"source": str(kept[index])})
        for index, (state, days) in enumerate(states)
    ]
    arrivals.sweep_kept(lambda: listed, now=moment)
    assert [index for index, file in kept.items() if file.exists()] == [1, 3, 4, 6]
    assert all(path.exists() for path in others)


def test_jobs_are_not_listed_where_nothing_is_old(arrivals):
    arrivals.take(send(arrivals, arrivals.begin(announced(), "ana"), b"0123456789").id, "ana")
    arrivals.sweep_kept(lambda: pytest.fail("jobs were listed"))


@pytest.mark.guarantee("G7")
def test_disk_that_fills_while_a_piece_is_written_leaves_what_was_there(workspace):
    """A real one: in a child that may write no file above 3,000 bytes."""
    script = """
import resource, signal, sys, zlib
from pathlib import Path
from app.announcements import Announcement, UploadLimits, UploadRefused
from app.arrivals import Arrivals
from engine.catalog.workspace import Workspace

with Workspace.open(Path(sys.argv[1])) as workspace:
    arrivals = Arrivals(workspace, UploadLimits(1 << 20, 1 << 20, 0))
    arrival = arrivals.begin(Announcement(name="a.zip", size=5000, fingerprint="00000000"), "ana")
    arrival = arrivals.append(arrival.id, "ana", 0, b"x" * 2000, zlib.crc32(b"x" * 2000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    try:
        arrivals.append(arrival.id, "ana", 2000, b"y" * 3000, zlib.crc32(b"y" * 3000))
    except UploadRefused as refusal:
        print(refusal.status.value, refusal)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    arrival = arrivals.append(arrival.id, "ana", 2000, b"z" * 3000, zlib.crc32(b"z" * 3000))
    print(arrivals.take(arrival.id, "ana"))
"""
    done = subprocess.run([sys.executable, "-c", script, str(workspace.root)], check=False, capture_output=True, text=True, timeout=120)
    said, kept = done.stdout.splitlines()
    assert said.startswith("507 the next piece of a.zip could not be written: needs")
    assert Path(kept).read_bytes() == b"x" * 2000 + b"z" * 3000


@pytest.mark.guarantee("G36")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../../evil.zip", "evil.zip"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.zip", "evil.zip"),
        ("..", "upload"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\x00b\n.zip", "a_b_.zip"),
        ("Überflug 1.zip", "Überflug_1.zip"),
        ("．．／evil.zip", "evil.zip"),
        ("\ud800.zip", "zip"),
        ("x" * 999 + ".zip", "x" * 196 + ".zip"),
        ("ü" * 999 + ".zip", "ü" * 98 + ".zip"),
        ("<img src=x>.zip", "img_src_x_.zip"),
    ],
)
def test_name_never_decides_where_a_file_lies(workspace, arrivals, name, expected):
    assert inert_name(name) == expected
    if "\ud800" in name:
        return
    arrival = send(arrivals, arrivals.begin(announced(size=1, name=name), "ana"), b"x")
    kept = arrivals.take(arrival.id, "ana")
    assert kept == workspace.uploads / arrival.id / expected


@pytest.mark.parametrize("record", [b"", b"{", b'{"id": "../../x"}', b"[]"])
def test_record_that_is_no_record_is_no_upload(workspace, arrivals, record):
    arrival = arrivals.begin(announced(), "ana")
    (workspace.uploads / "arriving" / f"{arrival.id}.json").write_bytes(record)
    assert arrivals.of("ana") == []
    with refused(HTTPStatus.NOT_FOUND):
        arrivals.get(arrival.id, "ana")


def test_limits_are_those_of_the_settings():
    assert UploadLimits.of(Settings(upload_bytes=5000, reserve_bytes=7)) == UploadLimits(5000, 10_000, 7)
