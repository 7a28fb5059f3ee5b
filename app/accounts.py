"""Who may log in: accounts with scrypt hashes, a bound on attempts, and sessions signed with the workspace's secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.roles import NEW_ACCOUNTS, Role
from app.signing import Signer
from engine.catalog.schema import UserRow
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

__all__ = ["SESSION_SECONDS", "Account", "Accounts", "Attempts", "Passwords", "Sessions"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 256
SESSION_SECONDS = 12 * 3600
SECONDS_KNOWN = 2.0
ADDRESSES_REMEMBERED = 10_000


@dataclass(frozen=True)
class Passwords:
    """Hashes of passwords by scrypt (RFC 7914), each with a salt of its own; the cost is kept with the hash.

    Args:
        cost: N, a power of two; memory is 128 · N · block_size bytes.
        block_size: r.
        parallel: p.
    """

    cost: int = 2**15
    block_size: int = 8
    parallel: int = 1
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def hash(self, password: str) -> str:
        """``password`` with a fresh salt, as text."""
        salt = secrets.token_bytes(16)
        digest = self._scrypt(password, salt, self.cost, self.block_size, self.parallel)
        return "$".join(["scrypt", str(self.cost), str(self.block_size), str(self.parallel), _text(salt), _text(digest)])

    def matches(self, password: str, stored: str) -> bool:
        """Whether ``stored`` is a hash of ``password``; compared in constant time. A password over the bound never matches."""
        if len(password) > LONGEST_PASSWORD:
            return False
        _, cost, block_size, parallel, salt, digest = stored.split("$")
        computed = self._scrypt(password, _bytes(salt), int(cost), int(block_size), int(parallel))
        return hmac.compare_digest(computed, _bytes(digest))

    def _scrypt(self, password: str, salt: bytes, cost: int, block_size: int, parallel: int) -> bytes:
        """One at a time, so that a crowd at the door cannot take the memory that training needs."""
        with self._one_at_a_time:
            memory = 256 * cost * block_size * parallel
            return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=cost, r=block_size, p=parallel, maxmem=memory)


@dataclass(frozen=True)
class Account:
    """Somebody who may log in: their name, what they may do, and a mark that changes with their password (None where they have none)."""

    name: str
    role: str
    fingerprint: str | None


class Accounts:
    """The accounts of a workspace.

    Args:
        workspace: where they are kept.
        passwords: how they are hashed.
    """

    def __init__(self, workspace: Workspace, passwords: Passwords | None = None) -> None:
        self._workspace = workspace
        self._passwords = passwords or Passwords()
        self._nobody = self._passwords.hash(secrets.token_hex(16))

    def add(self, name: str, password: str, role: Role | None = None) -> bool:
        """Make the account ``name``, or give it a new password, which ends its sessions; returns whether it is a new one.

        Args:
            name: the account.
            password: what it logs in with.
            role: what it may do; None leaves an account as it is, and makes a new one an engineer.

        Raises:
            BadInput: a name or a password of the wrong form.
        """
        if not NAME.fullmatch(name):
            raise BadInput(f"the user name {name!r}", expected="letters, digits and . _ @ -, at most 64", remedy="Choose another name")
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise BadInput(
                f"a password of {len(password)} characters",
                expected=f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD}",
                remedy="Choose another password",
            )
        with self._workspace.session() as session:
            row = session.get(UserRow, name)
            if row is None:
                session.add(UserRow(name=name, password_hash=self._passwords.hash(password), role=role or NEW_ACCOUNTS))
                return True
            row.password_hash, row.role = self._passwords.hash(password), role or row.role
            return False

    def set_role(self, name: str, role: Role) -> None:
        """Let the account ``name`` do what ``role`` may, from its next click on; its sessions go on.

        Raises:
            BadInput: there is no such account.
        """
        with self._workspace.session() as session:
            self._row(session, name).role = role

    def remove(self, name: str) -> None:
        """Remove the account ``name`` and end its sessions.

        Raises:
            BadInput: there is none.
        """
        with self._workspace.session() as session:
            session.delete(self._row(session, name))

    def names(self) -> list[str]:
        """Everybody's name, in order."""
        return list(self.roles())

    def roles(self) -> dict[str, str]:
        """What everybody may do, by name, in order."""
        with self._workspace.session(write=False) as session:
            return {row.name: row.role for row in session.scalars(select(UserRow).order_by(UserRow.name))}

    def check(self, name: str, password: str) -> bool:
        """Whether this is the password of that account; an unknown name takes as long as a known one."""
        stored = self._stored(name)
        matches = self._passwords.matches(password, stored or self._nobody)
        return matches and stored is not None

    def account(self, name: str) -> Account | None:
        """What is known of the account ``name``; None where there is none."""
        with self._workspace.session(write=False) as session:
            row = session.get(UserRow, name)
            return None if row is None else Account(row.name, row.role, _fingerprint(row.password_hash))

    def _stored(self, name: str) -> str | None:
        with self._workspace.session(write=False) as session:
            row = session.get(UserRow, name)
            return None if row is None or not row.password_hash else row.password_hash

    @staticmethod
    def _row(session: Session, name: str) -> UserRow:
        row = session.get(UserRow, name)
        if row is None:
            known = list(session.scalars(select(UserRow.name).order_by(UserRow.name)))
            raise BadInput(f"no user {name!r}", expected=f"one of {known}", remedy="See: tilehawk users list")
        return row


class Sessions:
    """Who is logged in, by a signed cookie that ends after twelve hours, with the password, or with the account.

    Args:
        accounts: whose sessions.
        signer: the workspace's.
        clock: monotonic seconds, for how long an account is remembered without asking the catalog.
    """

    def __init__(self, accounts: Accounts, signer: Signer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts, self._clock = accounts, clock
        self._serializer = URLSafeTimedSerializer(signer.key("session"), salt="session", signer_kwargs={"digest_method": hashlib.sha256})
        self._known: dict[str, tuple[float, Account | None]] = {}

    def begin(self, name: str) -> str:
        """The cookie of a new session."""
        account = self._accounts.account(name)
        return str(self._serializer.dumps([name, account and account.fingerprint]))

    def user(self, cookie: str) -> str | None:
        """Whose session ``cookie`` is; None for one that is forged, over, or of an account that changed."""
        try:
            name, fingerprint = self._serializer.loads(cookie, max_age=SESSION_SECONDS)
        except (BadSignature, ValueError, TypeError):
            return None
        account = self._account(name)
        return name if account is not None and fingerprint is not None and fingerprint == account.fingerprint else None

    def role(self, name: str) -> str | None:
        """What the account ``name`` may do, at most two seconds after somebody changed it; None where there is none."""
        account = self._account(name)
        return None if account is None else account.role

    def _account(self, name: str) -> Account | None:
        now = self._clock()
        since, known = self._known.get(name, (-SECONDS_KNOWN, None))
        if now - since >= SECONDS_KNOWN:
            known = self._accounts.account(name)
            self._known[name] = (now, known)
        return known


class Attempts:
    """A bound on failed logins, by whoever tries.

    Args:
        allowed: failures within ``seconds`` after which further attempts are refused.
        seconds: length of the window.
        clock: monotonic seconds.
    """

    def __init__(self, allowed: int = 10, seconds: float = 300.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._seconds, self._clock = allowed, seconds, clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, *keys: str) -> float:
        """Seconds until another attempt may be made for all of ``keys``; 0 for now."""
        now = self._clock()
        with self._lock:
            recent = [self._failures[key] for key in keys if key in self._failures]
            full = [failures[0] + self._seconds - now for failures in recent if len(failures) >= self._allowed]
        return max([0.0, *full])

    def failed(self, *keys: str) -> None:
        """Note a failed attempt for each of ``keys``."""
        with self._lock:
            for key in keys:
                self._failures.setdefault(key, deque(maxlen=self._allowed)).append(self._clock())
                self._failures.move_to_end(key)
            while len(self._failures) > ADDRESSES_REMEMBERED:
                self._failures.popitem(last=False)


def _fingerprint(password_hash: str) -> str | None:
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16] if password_hash else None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
