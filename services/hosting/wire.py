"""Reports and intents as JSON, between the process of a run and a control plane that it reaches over HTTP."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from services.plain_data import plain_data
from services.report_lines import read_report, report_line
from services.reports import BufferReport, ControlReport, Intent, OperationReport, RunDescription
from shaping.errors import RecordError

_OPERATION, _BUFFER = TypeAdapter(OperationReport), TypeAdapter(BufferReport)
_INTENT, _DESCRIPTION = TypeAdapter(Intent), TypeAdapter(RunDescription)
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {"operation": _OPERATION, "buffer": _BUFFER}


def dump_reports(reports: Sequence[ControlReport]) -> list[dict[str, Any]]:
    """Reports as JSON data."""
    return [_dump_report(each) for each in reports]


def load_reports(plain: Sequence[Mapping[str, Any]]) -> tuple[ControlReport, ...]:
    """Read `dump_reports` back.

    Raises:
        RecordError: something else.
    """
    return tuple(_load_report(each) for each in plain)


def dump_intent(intent: Intent) -> dict[str, Any]:
    """An intent as JSON data."""
    plain: dict[str, Any] = _INTENT.dump_python(intent, mode="json")
    return plain


def load_intent(plain: Mapping[str, Any]) -> Intent:
    """Read `dump_intent` back.

    Raises:
        RecordError: something else.
    """
    intent: Intent = _load(_INTENT, plain, "an intent")
    return intent


def dump_description(description: RunDescription) -> dict[str, Any]:
    """A description as JSON data."""
    plain: dict[str, Any] = _DESCRIPTION.dump_python(description, mode="json")
    return plain


def load_description(plain: Mapping[str, Any]) -> RunDescription:
    """Read `dump_description` back.

    Raises:
        RecordError: something else.
    """
    description: RunDescription = _load(_DESCRIPTION, plain, "the description of a run")
    return description


def _dump_report(report: ControlReport) -> dict[str, Any]:
    if isinstance(report, OperationReport):
        return {"kind": "operation", "report": plain_data(_OPERATION.dump_python(report))}
    if isinstance(report, BufferReport):
        return {"kind": "buffer", "report": plain_data(_BUFFER.dump_python(report))}
    return {"kind": "line", "report": report_line(report, at=time.time())}


def _load_report(plain: Mapping[str, Any]) -> ControlReport:
    kind, report = str(plain.get("kind")), plain.get("report")
    if kind == "line":
        return read_report(str(report).encode(), "a report of a run")
    if kind not in _ADAPTERS:
        raise RecordError(f"a report must be of kind line, operation or buffer, got {kind!r} (a report of a run)")
    loaded: ControlReport = _load(_ADAPTERS[kind], report, "a report of a run")
    return loaded


def _load(adapter: TypeAdapter[Any], plain: Any, what: str) -> Any:
    try:
        return adapter.validate_json(json.dumps(plain))
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{first['msg']} ({'.'.join(map(str, first['loc']))})"
        raise RecordError(f"{what} must be what this version of lessrl writes, found: {found}") from error
