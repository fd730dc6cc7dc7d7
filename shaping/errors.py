"""The exception tree of lessrl.

LessrlError
|- UserError          what a user wrote or supplied is wrong; shown as one line, exit code 2
|  |- RecipeError     a recipe key, value or combination
|  `- DataError       a data file, a row, a prompt
|- RecordError        a record broke its own rule at a border: a bug, or a foreign component
|- CheckpointError    a checkpoint is partial, damaged, or does not fit the run
|- EngineRefused      an engine failed its proof at start or refused weights
`- RunFailed          a run ended; carries role, group and first cause
Messages say: what must hold, what was found, where it comes from, what to do.
"""

__all__ = [
    "CheckpointError",
    "DataError",
    "EngineRefused",
    "LessrlError",
    "RecipeError",
    "RecordError",
    "RunFailed",
    "UserError",
]


class LessrlError(Exception):
    """Base of every error that lessrl raises on purpose."""


class UserError(LessrlError, ValueError):
    """What the user wrote or supplied cannot work. Shown without a traceback."""


class RecipeError(UserError):
    """A recipe key, value or combination of values cannot work."""


class DataError(UserError):
    """A data file, a row of it, or a prompt cannot be used."""


class RecordError(LessrlError, ValueError):
    """A record that crosses a border broke its rule."""


class CheckpointError(LessrlError, RuntimeError):
    """A checkpoint is partial, damaged, or does not fit the run; nothing of it was taken over."""


class EngineRefused(LessrlError, RuntimeError):
    """An engine failed its proof at start, or refused weights that did not verify."""


class RunFailed(LessrlError, RuntimeError):
    """A run ended with a failure.

    Args:
        role: which part failed first: rollout, shaping, learner, orchestrator.
        cause: the first cause, one line.
        group_id: the group under work, or "" where no group was involved.
    """

    def __init__(self, *, role: str, cause: str, group_id: str = "") -> None:
        self.role = role
        self.cause = cause
        self.group_id = group_id
        where = f"{role} (group {group_id})" if group_id else role
        super().__init__(f"{where}: {cause}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_run_failed, (self.role, self.cause, self.group_id))


def _rebuild_run_failed(role: str, cause: str, group_id: str) -> RunFailed:
    return RunFailed(role=role, cause=cause, group_id=group_id)
