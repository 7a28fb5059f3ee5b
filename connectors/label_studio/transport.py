"""The network with an end to every request: a server that lets a byte drip now and then holds off a limit on silence for ever."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

__all__ = ["BoundedTransport", "proxy_for"]


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for ``url``."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    known = urllib.request.getproxies()
    return known.get(parts.scheme) or known.get("all")


class BoundedTransport(httpx.HTTPTransport):
    """Requests that are given up ``whole_seconds`` after they began, however much of the answer has come; one at a time.

    Args:
        whole_seconds: for connecting, sending and reading, all together.
        proxy: its address; None for none.
    """

    def __init__(self, whole_seconds: float, *, proxy: str | None = None) -> None:
        super().__init__(proxy=proxy)
        self._whole_seconds = whole_seconds
        self._clock = _Clock()
        # httpx has no parameter for it
        self._pool._network_backend = _Backend(self._pool._network_backend, self._clock)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its time runs from now until its answer is read."""
        self._clock.end = time.monotonic() + self._whole_seconds
        return super().handle_request(request)


class _Clock:
    """When the request that is under way has to be over."""

    end = 0.0

    def bounded(self, seconds: float | None) -> float:
        """``seconds``, or what is left.

        Raises:
            httpcore.ReadTimeout: nothing is left.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole request took too long")
        return left if seconds is None else min(seconds, left)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        made = self._inner.connect_tcp(host, port, self._clock.bounded(timeout), local_address, socket_options)
        return _Stream(made, self._clock)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.bounded(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._clock.bounded(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._clock.bounded(timeout)), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
