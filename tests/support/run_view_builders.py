"""Directories of runs for tests of what reads them: written by the run's own writers where these are light."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from report_builders import make_description, make_evaluation, make_event, make_step

from services.ledger import LedgerLine
from services.reports import RunReport
from services.run_dir import GROUPS_FILE, LEDGER_FILE, LOGS_DIR, METRICS_FILE, RunFiles
from services.run_view.view import OUTCOMES

AT = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""


def make_run_dir(
    run_dir: Path,
    *,
    num_steps: int = 3,
    groups_per_step: int = 4,
    stored_per_step: int = 2,
    recipe: dict[str, object] | None = None,
) -> Path:
    """A run that finished these steps: group g of a step has g of 4 rollouts right, the first ones are written down."""
    run_dir.mkdir(parents=True, exist_ok=True)
    files = RunFiles(run_dir, make_description(recipe=recipe or {"name": "tiny"}), api_address="http://127.0.0.1:1")
    files.write(make_event("starting"), at=AT)
    files.write(make_evaluation(0, 0.25), at=AT)
    for step in range(1, num_steps + 1):
        first = (step - 1) * groups_per_step
        files.write_ledger(make_ledger_line(first + each, step=step) for each in range(groups_per_step))
        append_groups(
            run_dir, [make_group_line(first + each, step=step, num_correct=each) for each in range(stored_per_step)]
        )
        files.write(make_step(step, {"reward_total_value": step / 10}), at=AT + step)
    files.write(make_evaluation(num_steps, 0.75), at=AT + num_steps)
    files.close()
    return run_dir


def make_ledger_line(ordinal: int, *, step: int = 1, outcome: str = "trained", prompt_id: str = "p") -> LedgerLine:
    return LedgerLine(
        ordinal=ordinal, group_id=f"g{ordinal:08d}", prompt_id=prompt_id, visit=1, outcome=outcome, step=step
    )


def random_ledger(num_lines: int, seed: int) -> list[LedgerLine]:
    """Steps rise, but for groups that end before or after others of their step."""
    rng = random.Random(seed)
    lines = []
    for ordinal in range(num_lines):
        outcome = rng.choice(OUTCOMES)
        step = max(1, ordinal // 50 + rng.randrange(-2, 3))
        lines.append(make_ledger_line(ordinal, step=step, outcome=outcome, prompt_id=rng.choice(HOSTILE)))
    return lines


def write_ledger(run_dir: Path, lines: Iterable[LedgerLine]) -> None:
    """Replace the ledger, as the run writes it."""
    (run_dir / LEDGER_FILE).unlink(missing_ok=True)
    files = RunFiles(run_dir, make_description(), api_address="")
    files.write_ledger(lines)
    files.close()


def append_reports(run_dir: Path, reports: Iterable[RunReport], *, at: float = AT) -> None:
    files = RunFiles(run_dir, make_description(), api_address="")
    for report in reports:
        files.write(report, at=at)
    files.close()


HOSTILE = (
    "p",
    '", "outcome": "trained", "step": 9}\n',
    '{"correct":true,"token_ids":[1,2,3]',
    '"responses":[{"correct":false,',
    "\u202e\x1b[31m\\",
)
"""Texts of prompts, tokens and prompt ids that look like what is around them."""


def make_group_line(
    ordinal: int = 0,
    *,
    step: int = 1,
    num_correct: int = 2,
    size: int = 4,
    tokens: Sequence[str] = ("a", "b", "c", "d"),
    prompt: str = "why?",
    rewards: Sequence[float] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A group as the run writes it: the first `num_correct` of `size` responses, of these tokens, are correct."""
    multiplier = {True: 1.0, False: 0.5}
    values = [float(index < num_correct) for index in range(size)] if rewards is None else rewards
    responses = [
        {
            "correct": index < num_correct,
            "token_ids": [ord(text[0]) if text else 0 for text in tokens],
            "tokens": list(tokens),
            "entropies": [0.25] * len(tokens),
            "advantages": 1.0 if index < num_correct else -1.0,
            "multipliers": [multiplier[index < num_correct]] * len(tokens),
            "extra": {"reward": reward, "is_truncated": False},
        }
        for index, reward in enumerate(values)
    ]
    head = {
        "version": 1,
        "prompt_id": fields.pop("prompt_id", "p"),
        "prompt": [{"role": "user", "content": prompt}],
        "group_id": f"g{ordinal:08d}",
        "step": step,
        "policy_version": step - 1,
        "vocab_size": 1000,
        "less": {"min_length": 2},
    }
    return {**head, **fields, "responses": responses}


def group_bytes(line: dict[str, Any]) -> bytes:
    """In the run's own spelling."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def append_groups(run_dir: Path, lines: Iterable[dict[str, Any]]) -> None:
    with (run_dir / GROUPS_FILE).open("ab") as file:
        file.writelines(map(group_bytes, lines))


def write_log(run_dir: Path, worker: str, text: str) -> Path:
    """Append to a worker's log."""
    path = run_dir / LOGS_DIR / f"{worker}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    return path


def write_many_steps(run_dir: Path, num_steps: int, num_metrics: int) -> None:
    """A metrics.jsonl with metric i of step s being (s * (i + 1)) % 1009."""
    names = [f"reward_r{index}_value" for index in range(num_metrics)]
    with (run_dir / METRICS_FILE).open("w") as file:
        for step in range(1, num_steps + 1):
            metrics = ", ".join(f'"{name}": {step * (index + 1) % 1009}' for index, name in enumerate(names))
            file.write(
                f'{{"kind": "step", "time": "2026-01-01T00:00:00.000Z", "step": {step}, "metrics": {{{metrics}}}, '
                f'"phase_seconds": {{}}, "groups": {{}}, "step_seconds": 1.0, "elapsed_seconds": {step}.0, '
                '"num_response_tokens": 10}\n'
            )
