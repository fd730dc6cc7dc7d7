"""Who calls: tokens of several people and programs, each with a name and a role; kept as digests, never as text.

Without tokens, which only a loopback bind may be, everybody who can connect is `local` and may do all.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from services.control.records import Caller
from shaping.errors import UserError

TOKENS_VARIABLE = "LESSRL_TOKENS"
TOKENS_FILE_VARIABLE = "LESSRL_TOKENS_FILE"
MIN_TOKEN_CHARS = 16
WARN_SECONDS = 60.0
LOCAL = "local"
INSECURE = "anyone"

logger = logging.getLogger(__name__)


class Role(StrEnum):
    """What a token may do; each role may do what those before it may."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def may(self, needed: "Role") -> bool:
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Args:
    digest: SHA-256 of the token.
    """

    name: str
    role: Role
    digest: bytes

    @classmethod
    def of(cls, name: str, role: Role, text: str) -> "Token":
        return cls(name=name, role=role, digest=digest_of(text))


def digest_of(text: str) -> bytes:
    """What is kept of a token or ticket."""
    return hashlib.sha256(text.encode()).digest()


def parse_tokens(lines: Iterable[str], *, where: str) -> tuple[Token, ...]:
    """Tokens out of lines `name role token`; empty lines and those that begin with # are skipped.

    Args:
        where: file or variable, for errors. No error shows a token.
    Raises:
        UserError: a line of another shape, an unknown role, a token that is short, or given twice.
    """
    found: list[Token] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        place = f"line {number} of {where}"
        if len(words) != 3:
            raise UserError(f"a token's line must be `name role token`, found {len(words)} words ({place})")
        name, role, text = words
        if role not in set(Role):
            raise UserError(f"a token's role must be read, operate or admin, found {role!r} ({place})")
        if len(text) < MIN_TOKEN_CHARS:
            raise UserError(
                f"a token must have at least {MIN_TOKEN_CHARS} characters, found {len(text)} ({place}); make one with "
                "`openssl rand -hex 24`"
            )
        token = Token.of(name, Role(role), text)
        if any(token.digest == each.digest for each in found):
            raise UserError(f"a token must be one caller's alone, found that of {name} twice ({place})")
        found.append(token)
    return tuple(found)


def read_tokens(path: Path | None, *, environment: Mapping[str, str]) -> tuple[Token, ...]:
    """Tokens of a file, of the variable LESSRL_TOKENS (lines of the same shape), or of both.

    Args:
        path: none: that of LESSRL_TOKENS_FILE, if it is set.
    Raises:
        UserError: a file that cannot be read, that everybody may read, or that holds what is no token.
    """
    named = path or (Path(environment[TOKENS_FILE_VARIABLE]) if environment.get(TOKENS_FILE_VARIABLE) else None)
    tokens = parse_tokens(environment.get(TOKENS_VARIABLE, "").splitlines(), where=TOKENS_VARIABLE)
    if named is None:
        return tokens
    try:
        text, mode = named.read_text(encoding="utf-8"), named.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the file of tokens must be readable, found: {error} ({named})") from error
    if mode & 0o007:
        raise UserError(
            f"a file of tokens must be closed to others, found mode {mode & 0o777:o} ({named}); run chmod 600 on it"
        )
    return (*tokens, *parse_tokens(text.splitlines(), where=str(named)))


def require_tokens(host: str, tokens: Collection[Token], *, insecure: bool) -> None:
    """Refuse a bind that would let the network in without a token.

    Args:
        host: that is bound.
        insecure: `--insecure-no-auth`.
    Raises:
        UserError: no token, an address that is not loopback, and `insecure` was not given.
    """
    if tokens or insecure or is_loopback(host):
        return
    raise UserError(
        f"a control plane on {host} must ask for a token, found none; give --tokens-file or {TOKENS_VARIABLE} "
        "(lines `name role token`), bind 127.0.0.1, or say --insecure-no-auth"
    )


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Doorkeeper:
    """Says who a caller is.

    Args:
        tokens: none: everybody is admin, under the name `local`; `require_tokens` says where that may be.
        insecure: that it is so for the network as well: everybody is `anyone`, and the log says so each minute.
        clock: seconds, for that.
    """

    def __init__(self, tokens: Sequence[Token], *, insecure: bool, clock: Callable[[], float]) -> None:
        self._tokens = tuple(tokens)
        self._insecure = insecure and not tokens
        self._clock = clock
        self._warned_at: float | None = None

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return bool(self._tokens)

    def caller(self, authorization: str, address: str) -> Caller | None:
        """Who sends this header; none where a token is needed and this is no known one.

        Args:
            authorization: the header, or "".
            address: of the client.
        """
        if not self._tokens:
            self._warn()
            name = INSECURE if self._insecure else LOCAL
            return Caller(name=name, role=Role.ADMIN, address=address)
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = self._find(digest_of(text.strip()))
        return None if token is None else Caller(name=token.name, role=token.role, address=address)

    def _find(self, digest: bytes) -> Token | None:
        # Every token is looked at, whichever matched: how long it takes says nothing of which one was near.
        found: Token | None = None
        for token in self._tokens:
            if secrets.compare_digest(token.digest, digest):
                found = token
        return found

    def _warn(self) -> None:
        now = self._clock()
        if self._insecure and (self._warned_at is None or now - self._warned_at >= WARN_SECONDS):
            self._warned_at = now
            logger.warning("the control plane asks nobody for a token (--insecure-no-auth): whoever can connect rules")
