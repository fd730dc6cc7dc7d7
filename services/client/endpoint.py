"""Which control plane is meant, and with which token. A token comes from the environment or a file, never as a word.

The address is the first of: `--url`, what RUN_DIR/control.json names where a run is named by its directory,
LESSRL_URL, `url` in ~/.config/lessrl/config, and http://127.0.0.1:8470. The token is the first of LESSRL_TOKEN, the
file that LESSRL_TOKEN_FILE names, and `token` or `token_file` in ~/.config/lessrl/config; the last is for that file's
own address alone, so that it is shown to no other host.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.run_dir import CONTROL_FILE
from shaping.errors import UserError

DEFAULT_URL = "http://127.0.0.1:8470"
CONFIG_FILE = Path(".config", "lessrl", "config")

_CONFIG_KEYS = ("url", "token", "token_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A control plane.

    Args:
        url: without a slash at its end.
        token: "" sends none.
        named_by: where the address comes from, for messages.
        run_id: of the run whose directory named the address; "" otherwise.
    """

    url: str
    token: str = field(default="", repr=False)
    named_by: str
    run_id: str = ""


def find_endpoint(
    url: str = "",
    *,
    run_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> Endpoint:
    """The control plane that is meant.

    Args:
        url: of the command line; "" where nothing was said.
        run_dir: of a run that was named by its directory.
        environment, home: the process's own unless given.
    Raises:
        UserError: an address that is none, or a file that others can read.
    """
    environment = os.environ if environment is None else environment
    config = _read_config((Path.home() if home is None else home) / CONFIG_FILE)
    control = _read_control(run_dir) if run_dir is not None else {}
    found = (
        (url, "--url"),
        (control.get("url", ""), f"{run_dir}/{CONTROL_FILE}"),
        (environment.get("LESSRL_URL", ""), "LESSRL_URL"),
        (config.get("url", ""), f"~/{CONFIG_FILE}"),
        (DEFAULT_URL, "nothing was said; --url or LESSRL_URL names another"),
    )
    chosen, named_by = next(each for each in found if each[0])
    address = _checked(chosen, named_by)
    token = _token_of(environment)
    if not token and address == _checked(config.get("url") or DEFAULT_URL, f"~/{CONFIG_FILE}"):
        token = config.get("token", "") or _read_token(config.get("token_file", ""), f"~/{CONFIG_FILE}")
    return Endpoint(url=address, token=token, named_by=named_by, run_id=control.get("run_id", ""))


def _token_of(environment: Mapping[str, str]) -> str:
    token = environment.get("LESSRL_TOKEN", "").strip()
    return token or _read_token(environment.get("LESSRL_TOKEN_FILE", ""), "LESSRL_TOKEN_FILE")


def _read_token(path: str, named_by: str) -> str:
    if not path:
        return ""
    words = _read_private(Path(path).expanduser(), named_by).split()
    if len(words) != 1:
        raise UserError(f"a token's file must hold one token and nothing else, found {len(words)} words ({path})")
    return words[0]


def _read_config(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        read: Any = yaml.safe_load(_read_private(path, "the command line's own settings"))
    except yaml.YAMLError as error:
        # The reader's own words quote the file, which may hold a token.
        raise UserError(f"{path} must hold lines like `url: {DEFAULT_URL}`, found something else") from error
    unknown = sorted(set(read) - set(_CONFIG_KEYS)) if isinstance(read, dict) else ["no key at all"]
    if unknown:
        raise UserError(f"{path} may hold {', '.join(_CONFIG_KEYS)}, found {', '.join(map(str, unknown))}")
    return {key: str(value) for key, value in read.items() if value is not None}


def _read_private(path: Path, named_by: str) -> str:
    """Text of a file that nobody else can read.

    Raises:
        UserError: it cannot be read, or others can.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"a file with a token must be readable, found: {reason} ({path}, {named_by})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise UserError(
            f"a file with a token must be readable by you alone, found mode {stat.S_IMODE(mode):04o}; "
            f"chmod 600 {path} ({named_by})"
        )
    return text


def _read_control(run_dir: Path) -> dict[str, str]:
    """Where a run's directory says that its control plane is."""
    path = run_dir / CONTROL_FILE
    try:
        owner = path.stat().st_uid
        read: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"a run's directory must hold {CONTROL_FILE} to be asked, found none ({run_dir}); name the run by its id "
            "and the control plane by --url"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} must be readable JSON; name the run by its id and use --url") from error
    # Another user's directory could name an address of theirs, which would then be shown the token.
    if owner not in (os.getuid(), 0):
        raise UserError(f"{path} must be yours, found another user's; name the run by its id and use --url")
    if not isinstance(read, dict) or not isinstance(read.get("url"), str) or not isinstance(read.get("run_id"), str):
        raise UserError(f"{path} must name url and run_id, found something else; use --url")
    return {"url": read["url"], "run_id": read["run_id"]}


def _checked(url: str, named_by: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UserError(f"an address must be like {DEFAULT_URL}, found one that cannot be read ({named_by})") from error
    # Neither is quoted: both are where people put what nobody else should read.
    if parts.username or parts.password:
        raise UserError(f"an address must hold no user or password; set LESSRL_TOKEN instead ({named_by})")
    if parts.query or parts.fragment:
        raise UserError(f"an address must end with its path, found ? or # behind it ({named_by})")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"an address must be like {DEFAULT_URL}, got {url!r} ({named_by})")
    return url.rstrip("/")
