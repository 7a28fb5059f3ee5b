"""Requests to a Label Studio server through its SDK: with bounded time, few repeats and errors that say what to do."""

from __future__ import annotations

import json
import random
import time
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from connectors.label_studio.transport import BoundedTransport, proxy_for
from engine.errors import BadInput, Missing, TilehawkError

if TYPE_CHECKING:
    import httpx
    from label_studio_sdk import LabelStudio

__all__ = ["LabelStudioConnection", "normal_address"]

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
LONGEST_ANSWERS = 3
"""A whole request takes at most so many times the longest silence."""
REPEATS = 3
FIRST_PAUSE_SECONDS = 0.5
PASSING = frozenset({429, 502, 503, 504})
RECONNECT = "Connect again with `tilehawk connect label-studio URL --token-stdin`"

Result = TypeVar("Result")


def normal_address(url: str) -> str:
    """``url`` without a slash at its end.

    Raises:
        BadInput: no http or https address, or one with credentials, a query or a fragment in it; the message does not repeat it.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise BadInput("the address of Label Studio cannot be used", expected="http://HOST[:PORT] or https://HOST[:PORT]")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise BadInput(
            "the address of Label Studio has credentials or parameters in it",
            expected="the bare address",
            remedy="Give the token on standard input: --token-stdin",
        )
    return url.strip().rstrip("/")


class LabelStudioConnection:
    """A Label Studio server at an address, and the account whose token it is.

    Args:
        url: its address.
        token: a legacy token, or a personal access token.
        transport: carries the requests; None for the network.
        pause: waits so many seconds between two tries.
        answer_seconds: of silence after which an answer is given up; all of it may take three times as long.

    Raises:
        BadInput: an address that cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.url = normal_address(url)
        """its address, without a slash at the end"""
        self._token = token
        self._transport = transport
        self._pause = pause
        self._answer_seconds = answer_seconds

    @property
    def address(self) -> str:
        """Origin of the server's address."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @cached_property
    def sdk(self) -> LabelStudio:
        """The SDK's client; what is asked of it goes through :meth:`ask`."""
        import httpx
        from label_studio_sdk import LabelStudio
        from label_studio_sdk.core.api_error import ApiError

        timeout = httpx.Timeout(self._answer_seconds, connect=CONNECT_SECONDS)
        network = self._transport or BoundedTransport(LONGEST_ANSWERS * self._answer_seconds, proxy=proxy_for(self.url))
        carrier = httpx.Client(timeout=timeout, transport=network, follow_redirects=False)
        weakref.finalize(self, carrier.close)
        try:
            made: LabelStudio = LabelStudio(base_url=f"{self.url}/", api_key=self._token, httpx_client=carrier, max_retries=0)  # type: ignore[no-untyped-call]
        except ApiError:
            raise self._wrong_token("it has expired, or never was one") from None
        return made

    def ask(self, call: Callable[[], Result], *, repeat: bool = True, gone: str = "", missing_is_fine: bool = False) -> Result:
        """The answer to ``call``, tried again after a pause where it failed on the way and may be repeated.

        Args:
            call: one request, or that and the one that renews an access token.
            repeat: it may be sent twice.
            gone: what is gone when the server does not find it.
            missing_is_fine: that it does not find it is an answer, too: None.

        Raises:
            BadInput: a wrong token, or what answers is not a Label Studio.
            Missing: the server does not find ``gone``.
            TilehawkError: nothing answers, or it is refused for another reason.
        """
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        for attempt in range(1, REPEATS + 1):
            last = attempt == REPEATS or not repeat
            try:
                return call()
            except httpx.TransportError as error:
                if last:
                    raise self._unreachable(type(error).__name__) from None
            except ApiError as error:
                if error.status_code == 404 and missing_is_fine:
                    return None  # type: ignore[return-value]
                torn = _torn(error.status_code, error.body)
                if last and torn:
                    raise self._unreachable("its answer was cut off") from None
                if last or not (torn or error.status_code in PASSING):
                    raise self._refusal(error.status_code, error.body, gone) from None
            except (json.JSONDecodeError, UnicodeDecodeError):
                if last:
                    raise self._unreachable("its answer was cut off") from None
            self._pause(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - no secret hangs on it
        raise AssertionError

    def _refusal(self, status: int | None, body: Any, gone: str) -> TilehawkError:
        if status in {401, 403}:
            return self._wrong_token(self._detail(body))
        if status == 404 and gone:
            return Missing(
                f"{gone} is gone from {self.address}",
                expected="what was pushed there",
                remedy="Restore it there, or push to a new project: tilehawk push --set new_project=true",
            )
        if isinstance(body, str) or (status is not None and 300 <= status < 400):
            if status is not None and status >= 500:
                return self._unreachable(f"it answers with the error {status}")
            return self.another_server()
        if status == 404:
            return self.another_server()
        return TilehawkError(
            f"Label Studio on {self.address} answered {status}: {self._detail(body)}", remedy="See the log of Label Studio"
        )

    def _detail(self, body: Any) -> str:
        """What the server says of its refusal, without the token should it repeat that."""
        found = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else None
        return str(found).replace(self._token, "…")[:300] if found else "no reason given"

    def _wrong_token(self, detail: str) -> BadInput:
        return BadInput(
            f"Label Studio on {self.address} refuses the token: {detail}",
            expected="a token of an account that may manage projects",
            remedy=f"Copy one from Account & Settings there. {RECONNECT}",
        )

    def another_server(self) -> BadInput:
        """What to say where something else answers."""
        return BadInput(
            f"what answers at {self.url} is not a Label Studio",
            expected="the address at which Label Studio opens in a browser, with its port",
            remedy=RECONNECT,
        )

    def _unreachable(self, what: str) -> TilehawkError:
        return TilehawkError(
            f"Label Studio at {self.url} cannot be reached ({what})",
            remedy="Start it or check the network, then run the same command again: it goes on where it was",
        )


def _torn(status: int | None, body: Any) -> bool:
    """Whether an answer that is meant to be JSON broke off on the way."""
    return status is not None and 200 <= status < 300 and isinstance(body, str) and body.lstrip()[:1] in {"{", "["}
