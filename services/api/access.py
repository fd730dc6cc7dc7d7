"""Who may call a control plane, from where and how often: the answers of whoever started it, as one record.

It pickles, and holds digests of tokens, never tokens: an actor on another machine gets it as it is.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.api.auth import Token, is_loopback, read_tokens, require_tokens
from services.api.limits import Limits

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_ANY_ADDRESS = ("0.0.0.0", "::", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The defaults are those of a loopback bind without tokens.

    Args:
        allowed_hosts: names that the Host and Origin headers may hold, port aside, beside the address that a client
            connected to.
        insecure: that nobody is asked for a token on a bind that others can reach.
        audit_file: gets a line for each call that changes something, beside the table in the store; None: none does.
    """

    tokens: tuple[Token, ...] = ()
    allowed_hosts: tuple[str, ...] = LOOPBACK_NAMES
    insecure: bool = False
    limits: Limits = field(default_factory=Limits)
    audit_file: Path | None = None


def access_of(
    host: str,
    *,
    tokens_file: Path | None = None,
    allowed_hosts: Sequence[str] = (),
    insecure: bool = False,
    audit_file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Access:
    """Access to a server that binds `host`.

    Args:
        allowed_hosts: more names to be called by; a bind that others can reach has its own name anyway.
    Raises:
        UserError: a bind that others can reach, without a token; tokens that cannot be read.
    """
    tokens = read_tokens(tokens_file, environment=environment)
    require_tokens(host, tokens, insecure=insecure)
    return Access(
        tokens=tokens,
        allowed_hosts=(*LOOPBACK_NAMES, *_own_names(host), *(each.lower() for each in allowed_hosts)),
        insecure=insecure and not is_loopback(host),
        audit_file=audit_file,
    )


def _own_names(host: str) -> tuple[str, ...]:
    if is_loopback(host):
        return ()
    if host in _ANY_ADDRESS:
        return (socket.gethostname().lower(),)
    return (f"[{host}]" if ":" in host else host.lower(),)
