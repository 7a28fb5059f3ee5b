"""No fake: a real PostgreSQL server in a temporary folder, on a free port of the loopback, from the programs of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = "tester"
PASSWORD = "CANARY-of-postgres"


@dataclass(frozen=True)
class Server:
    """A running server; every connection needs the password."""

    programs: Path
    folder: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def psql(self, statement: str, *, database: str = "postgres") -> str:
        command = [self.programs / "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, self._libpq(database)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def program(self, name: str, *arguments: str, database: str = "postgres") -> subprocess.CompletedProcess[bytes]:
        """Run ``pg_dump`` or the like on ``database``."""
        command = [self.programs / name, *arguments, "-d", self._libpq(database)]
        return subprocess.run(command, check=True, capture_output=True, timeout=60)

    def _libpq(self, database: str) -> str:
        return self.url(database).replace("+psycopg", "")

    def restart(self) -> None:
        _run(self.programs, "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run(self.programs, "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", options, "start")


def programs() -> Path | None:
    """The folder of the server's programs, of the newest version there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def running(where: Path) -> Iterator[Server]:
    """A server of its own while the block runs."""
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        arguments = ["-D", folder / "data", "-A", "scram-sha-256", "-U", USER, f"--pwfile={folder / 'password'}"]
        _run(where, "initdb", *arguments, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        server = Server(where, folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            _run(where, "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")


def wait_until(condition: Any, *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(where: Path, program: str, *arguments: object) -> None:
    who: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    command = [str(where / program), *map(str, arguments)]
    done = subprocess.run(command, check=False, timeout=60, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **who)
    assert done.returncode == 0, f"{program} ended with {done.returncode}"
