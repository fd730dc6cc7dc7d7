"""How an answer of the control plane is said to a person. What does not exist is said to be absent, never as zero."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.commands.screen import ABSENT
from services.progress_facts import duration

KIND_WIDTH = 22
_UNITS = ("B", "kB", "MB", "GB", "TB")


def dig(data: Any, path: str) -> Any:
    """The member at a dotted path of JSON data; None where it, or something above it, is absent or null."""
    for name in path.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def seconds_of(time: Any) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None where there is none."""
    try:
        read = datetime.fromisoformat(str(time))
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def ago(time: Any, *, now: float) -> str:
    """How long a moment has passed."""
    at = seconds_of(time)
    return ABSENT if at is None else f"{duration(max(0.0, now - at))} ago"


def clock_time(time: Any) -> str:
    """Hours, minutes and seconds of a moment, here."""
    at = seconds_of(time)
    return "--:--:--" if at is None else datetime.fromtimestamp(at).strftime("%H:%M:%S")


def day_time(time: Any) -> str:
    """A moment in UTC, to the second."""
    at = seconds_of(time)
    return ABSENT if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(num_bytes: Any) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    if not isinstance(num_bytes, int | float):
        return ABSENT
    value, unit = float(num_bytes), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def number(value: Any, form: str = "{:,}") -> str:
    """A number, or that there is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return form.format(value) if is_number else ABSENT


def seconds_left(seconds: Any) -> str:
    """A duration, or that nobody can say."""
    return duration(float(seconds)) if isinstance(seconds, int | float) else ABSENT


def progress_of(status: Any) -> str:
    """In words how far a run, given by its status, is: step 12/48, 3 min 05 s left."""
    parts = [f"step {number(dig(status, 'step'))}/{number(dig(status, 'total_steps'))}"]
    if dig(status, "eta_seconds") is not None:
        parts.append(f"{seconds_left(dig(status, 'eta_seconds'))} left")
    phase = dig(status, "pause.phase")
    if phase not in (None, "done"):
        parts.append(f"{dig(status, 'pause.mode')}: {str(phase).replace('_', ' ')}")
    return ", ".join(parts)


def event_line(event: Any) -> str:
    """One event in one line."""
    kind = str(dig(event, "type") or "")
    return f"{clock_time(dig(event, 'at'))}  {kind:<{KIND_WIDTH}} {dig(event, 'message') or ''}".rstrip()


def log_line(line: Any) -> str:
    """One line of a log in one line."""
    where = "/".join(str(part) for part in (dig(line, "component"), dig(line, "worker")) if part)
    level = str(dig(line, "level") or "")
    return f"{clock_time(dig(line, 'at'))}  {where:<18} {level:<7} {dig(line, 'text') or ''}".rstrip()
