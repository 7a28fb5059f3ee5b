"""Checks of the workspace: its catalog, locks, secrets, accounts and jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from app.doctor.check import Check, found_by
from engine.errors import TilehawkError

__all__ = ["accounts", "database", "jobs", "locks", "secrets", "workspace"]

LARGE_LOG = 1 << 30
MOUNTS = Path("/proc/mounts")
OVER_A_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "9p", "afs", "ceph", "glusterfs"}
)
READABLE_BY_OTHERS = 0o077


def workspace(root: Path) -> Check:
    """Whether there is one, and what is in it."""
    from engine.catalog.summary import summarize
    from engine.catalog.workspace import MARKER, Workspace

    if not (root / MARKER).is_file():
        return Check("workspace", "warn", f"none at {root}", f"Make one: tilehawk init {root}")

    def look() -> Check:
        with Workspace.open(root) as opened:
            summary = summarize(opened)
        return Check("workspace", "ok", f"{root}: {summary.scenes} scenes" + (f", in use by {summary.busy}" if summary.busy else ""))

    return found_by("workspace", look)


def database(root: Path) -> Check:
    """Whether the catalog is sound and of this version; looked at before anything opens it, and so brings it forward."""
    from engine.catalog import migrations

    catalog = root / "catalog.sqlite"
    if not catalog.is_file():
        return Check("database", "ok", "on PostgreSQL, see workspace" if _on_a_server(root) else "none yet")
    try:
        with closing(sqlite3.connect(f"{catalog.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.DatabaseError, TypeError) as damaged:
        return Check("database", "fail", f"{catalog.name} cannot be read: {damaged}", "Put a backup back: tilehawk restore")
    log = catalog.with_name(f"{catalog.name}-wal")
    size = log.stat().st_size if log.is_file() else 0
    state = f"schema {revision}" + ("" if revision == migrations.HEAD else f", this version has {migrations.HEAD}")
    if sound != "ok":
        return Check("database", "fail", f"{catalog.name} is damaged: {sound}", "Put a backup back: tilehawk restore")
    if revision not in migrations.REVISIONS:
        return Check("database", "fail", state, "Update Tilehawk: a newer one made this workspace")
    if revision != migrations.HEAD:
        return Check("database", "warn", state, "It is brought forward when it is next opened; make a backup first if you doubt that")
    if mode != "wal":
        return Check("database", "warn", f"journal mode {mode}, not wal", "Stop everything that has it open, and start the app again")
    if size > LARGE_LOG:
        return Check(
            "database", "warn", f"{state}; {log.name} has {size >> 20} MB", "Somebody reads it for very long: end that, or restart"
        )
    return Check("database", "ok", f"{state}, sound, write-ahead log of {size >> 10} KB")


def locks(root: Path, mounts: Path = MOUNTS) -> Check:
    """Whether the file system under the workspace keeps locks for all who use it."""
    kind, place = _file_system(root, mounts)
    if kind in OVER_A_NETWORK:
        return Check(
            "locks",
            "warn",
            f"{root} is on {kind} ({place})",
            "Locks and SQLite are not safe over a network: use a local disk, or let one machine alone use the workspace",
        )
    return Check("locks", "ok", f"on {kind or 'a file system that is not known'}, locks hold")


def secrets(root: Path) -> Check:
    """Whether nobody but their owner reads the files with secrets."""
    from engine.catalog.backups import SECRET_FILES

    there = [root / name for name in SECRET_FILES if (root / name).is_file()]
    open_ones = [path for path in there if path.stat().st_mode & READABLE_BY_OTHERS]
    if open_ones:
        names = " ".join(str(path) for path in open_ones)
        return Check(
            "secrets", "warn", f"{names} can be read by others", f"chmod 600 {names}; make new ones if somebody may have read them"
        )
    return Check("secrets", "ok", f"{', '.join(path.name for path in there)}: readable by their owner alone" if there else "none yet")


def accounts(root: Path) -> Check:
    """Whether whoever can reach the app can log in to it, and somebody may do everything."""
    from app.accounts import Accounts
    from app.roles import OPERATOR
    from app.security import Access
    from app.settings import Settings
    from engine.catalog.workspace import MARKER, Workspace

    def look() -> Check:
        public = Settings.from_environment().public_url
        if not (root / MARKER).is_file():
            return Check("accounts", "ok", "no workspace yet")
        with Workspace.open(root) as opened:
            known = Accounts(opened).roles()
        reached = f"TILEHAWK_PUBLIC_URL is {public}" if public else "TILEHAWK_PUBLIC_URL is not set"
        if public and Access.of("127.0.0.1", public).login and not known:
            return Check("accounts", "fail", f"{reached}, and nobody can log in", "Make an account: tilehawk users add NAME")
        if known and OPERATOR not in known.values():
            return Check("accounts", "warn", f"{len(known)}, none of them an {OPERATOR}", f"tilehawk users role NAME {OPERATOR}")
        if public and public.startswith("http:") and Access.of("127.0.0.1", public).login:
            return Check(
                "accounts", "warn", f"{reached}: passwords travel in the open", "Put a proxy with TLS in front, and name https://…"
            )
        return Check("accounts", "ok", f"{len(known)} accounts; {reached}")

    return found_by("accounts", look)


def jobs(root: Path) -> Check:
    """The job store, and whether a worker is there to work it off; a store that is not there yet is not made."""
    from app.jobs import Jobs
    from engine.catalog.workspace import MARKER, Workspace

    if not (root / MARKER).is_file():
        return Check("jobs", "warn", f"no workspace at {root}", f"Make one: tilehawk init {root}")
    try:
        with Workspace.open(root) as opened:
            if opened.jobs_url.startswith("sqlite") and not (root / "jobs.sqlite").is_file():
                return Check("jobs", "ok", "none yet")
            with Jobs(opened) as store:
                waiting = [job for job in store.list() if job.state in {"queued", "running", "interrupted"}]
                worker = store.worker()
    except TilehawkError as refused:
        return Check("jobs", "fail", refused.found, refused.remedy)
    who = "no worker" if worker is None else f"worker {worker.pid} on {worker.host}" + ("" if worker.alive else ", without a sign of life")
    if waiting and (worker is None or not worker.alive):
        return Check("jobs", "warn", f"{len(waiting)} to do, {who}", "Start one: tilehawk worker, or tilehawk app")
    return Check("jobs", "ok", f"{len(waiting)} to do, {who}")


def _on_a_server(root: Path) -> bool:
    marker = root / "tilehawk.json"
    return marker.is_file() and '"catalog"' in marker.read_text(errors="replace")


def _file_system(root: Path, mounts: Path) -> tuple[str, str]:
    """(kind, where it is mounted) of the file system under ``root``; empty where the system does not say."""
    if not mounts.is_file():
        return "", ""
    resolved, best = root.absolute().resolve(), ("", "")
    for line in mounts.read_text(errors="replace").splitlines():
        _, place, kind, *_ = [*line.split(), "", "", ""]
        if place and resolved.is_relative_to(place.replace("\\040", " ")) and len(place) >= len(best[1]):
            best = (kind, place)
    return best
