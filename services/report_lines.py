"""Reports of a run as lines of JSON, and back: the format of metrics.jsonl.

`kind` says which record a line holds, `time` when it was written. The kind of an event is named `event` there. A number
that was not finite is null, and is read as NaN.
"""

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from services.plain_data import plain_data
from services.reports import EvaluationReport, RunEvent, RunReport, StepReport
from shaping.errors import CheckpointError


def report_line(report: RunReport, *, at: float) -> str:
    """One line, its end left out.

    Args:
        at: seconds since the epoch.
    """
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    plain = plain_data(asdict(report))
    if isinstance(report, StepReport):
        record = {"kind": "step", "time": time, **plain}
    elif isinstance(report, EvaluationReport):
        record = {"kind": "evaluation", "time": time, **plain}
    else:
        event = plain.pop("kind")
        record = {"kind": "event", "time": time, "event": event, **plain}
    return json.dumps(record, allow_nan=False)


def read_report(line: bytes, where: str) -> RunReport:
    """Read a line back.

    Args:
        where: the line's place, for messages.
    Raises:
        CheckpointError: not such a line, or one of another version of lessrl.
    """
    try:
        record: dict[str, Any] = json.loads(line)
        kind, _ = record.pop("kind"), record.pop("time")
        if kind == "event":
            return _Event.model_validate_json(_report(record | {"kind": record.pop("event")})).report
        if kind == "step":
            record |= {name: _with_nan(record[name]) for name in ("metrics", "phase_seconds")}
            # A line of an earlier version has none.
            record["histograms"] = {name: _with_nan(each) for name, each in record.get("histograms", {}).items()}
            return _Step.model_validate_json(_report(_with_nan(record))).report
        if kind == "evaluation":
            record["metrics"] = _with_nan(record["metrics"])
            return _Evaluation.model_validate_json(_report(_with_nan(record))).report
        reason = f"kind {kind!r} is none of event, step, evaluation"
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['msg']} ({'.'.join(map(str, first['loc'][1:]))})"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise CheckpointError(f"a line must be a report that this version of lessrl wrote, found {reason} ({where})")


class _Strict(BaseModel):
    """Every entry, no other, and each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Event(_Strict):
    report: RunEvent


class _Step(_Strict):
    report: StepReport


class _Evaluation(_Strict):
    report: EvaluationReport


def _report(record: dict[str, Any]) -> str:
    return json.dumps({"report": record})


def _with_nan(record: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in record.items()}
