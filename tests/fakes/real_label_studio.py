"""A real Label Studio on loopback, from a virtual environment of its own.

``TILEHAWK_LABEL_STUDIO_VENV`` names one that has it; else one is made below the user's cache folder, which takes minutes and a gigabyte.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VERSION = "1.23.2"
SECONDS_TO_START, SECONDS_TO_INSTALL = 900, 1200


class Unavailable(Exception):
    """Why there is no real server to be had."""


@dataclass(frozen=True)
class Real:
    url: str
    token: str
    pictures: Path
    """the folder that it serves local files from"""


def program() -> Path:
    """The command of a virtual environment that has Label Studio, installed if need be."""
    named = os.environ.get("TILEHAWK_LABEL_STUDIO_VENV")
    if named:
        found = Path(named) / "bin" / "label-studio"
        if not found.is_file():
            raise Unavailable(f"TILEHAWK_LABEL_STUDIO_VENV names {named}, which has no bin/label-studio")
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tilehawk" / f"label-studio-{VERSION}"
    found = cache / "bin" / "label-studio"
    if not (cache / "complete").is_file():
        shutil.rmtree(cache, ignore_errors=True)
        install = [str(cache / "bin" / "python"), "-m", "pip", "install", "--quiet", f"label-studio=={VERSION}"]
        for command in ([sys.executable, "-m", "venv", str(cache)], install):
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS_TO_INSTALL)
            if done.returncode:
                raise Unavailable(f"Label Studio cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
        (cache / "complete").touch()
    return found


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Real]:
    """A server with its data in ``folder``, for as long as the block runs; ``settings`` go into its environment."""
    command = program()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(20)
    pictures = folder / "pictures"
    pictures.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO", "VIRTUAL_ENV"))} | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_USERNAME": "ada@example.com",
        "LABEL_STUDIO_PASSWORD": secrets.token_hex(8),
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(pictures),
        "COLLECT_ANALYTICS": "false",
        **settings,
    }
    arguments = [str(command), "start", "--no-browser", "--internal-host", "127.0.0.1", "-p", str(port)]
    log = folder / "server.log"
    with log.open("wb") as stream:
        child = subprocess.Popen(arguments, env=environment, stdout=stream, stderr=stream, start_new_session=True, cwd=folder)
    try:
        wait_until_up(f"http://127.0.0.1:{port}", child, log)
        yield Real(f"http://127.0.0.1:{port}", token, pictures)
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(20)


def wait_until_up(url: str, child: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if child.poll() is not None:
                break
            time.sleep(0.2)
    raise Unavailable(f"Label Studio did not start: {log.read_text(errors='replace')[-500:]}")
