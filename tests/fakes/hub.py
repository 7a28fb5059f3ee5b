"""A hub on loopback that serves the files it is given, as the Hugging Face hub answers for one commit."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What was asked of the hub; ``status`` other than 200 answers everything."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files, self.status, self.asked = files, 200, list[tuple[str, str, str | None]]()
        self.address = ""


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """A hub of ``files``: repository/name → content."""
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
            repository, _, rest = self.path.lstrip("/").partition("/resolve/")
            name = f"{repository}/{rest.partition('/')[2]}"
            content = hub.files.get(name)
            known = any(each.startswith(f"{repository}/") for each in hub.files)
            self.send_response(hub.status if hub.status != 200 else 200 if content is not None else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if with_body and content is not None:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join(10)
