"""A run's disk in memory: checkpoints pass through JSON as they would on a real one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.ledger import LedgerLine
from services.orchestrator import Resumed
from services.ports import ControlPort, LearnerPort, ShapedHandle
from services.recipe_sections import CheckpointConfig
from services.run_store import SaveOutcome
from services.skipped_step import SkippedStep
from services.snapshot import RunSnapshot
from services.workers import Workers


@dataclass(slots=True)
class FakeStore:
    """RunStore: keeps what it is given in memory, and can hold a checkpoint back."""

    ledger: list[LedgerLine] = field(default_factory=list)
    checkpoints: list[Resumed] = field(default_factory=list)
    skipped: dict[int, tuple[ShapedHandle, ...]] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    save_errors: list[str] = field(default_factory=list)
    retention: CheckpointConfig | None = None

    def attach(self, learner: LearnerPort, control: ControlPort) -> None:
        del learner, control

    def keep(self, config: CheckpointConfig) -> None:
        self.retention = config

    def write_ledger(self, line: LedgerLine) -> None:
        self.ledger.append(line)

    def begin(self, snapshot: RunSnapshot) -> "FakeCheckpoint":
        # Through JSON and back, as on disk.
        return FakeCheckpoint(self, RunSnapshot.from_json(json.loads(json.dumps(snapshot.as_json()))), len(self.ledger))

    async def keep_skipped(self, skipped: SkippedStep, groups: tuple[ShapedHandle, ...], workers: Workers) -> str:
        await workers.save_groups(groups, f"skipped-{skipped.step}")
        self.skipped[skipped.step] = groups
        return f"skipped-{skipped.step}"


@dataclass(slots=True)
class FakeCheckpoint:
    """PendingCheckpoint of a FakeStore."""

    store: FakeStore
    snapshot: RunSnapshot
    num_ledger_lines: int

    async def finish(
        self, groups: tuple[ShapedHandle, ...], metrics: Mapping[str, float], workers: Workers, *, tag: str = ""
    ) -> SaveOutcome:
        del metrics
        await workers.save_groups(groups, f"checkpoint-{self.snapshot.version}")
        if self.store.save_errors:
            return SaveOutcome(error=self.store.save_errors.pop(0))
        self.store.lengths.append(self.num_ledger_lines)
        self.store.checkpoints.append(Resumed(snapshot=self.snapshot, groups=groups))
        self.store.tags.append(tag)
        return SaveOutcome(name=f"checkpoint-{len(self.store.checkpoints)}")
