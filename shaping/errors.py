"""The exception tree of lessrl.

LessrlError
|- UserError          what a user wrote or supplied is wrong; shown as one line, exit code 2
|  |- RecipeError     a recipe key, value or combination
|  `- DataError       a data file, a row, a prompt
|- RecordError        a record broke its own rule at a border: a bug, or a foreign component
|- CheckpointError    a checkpoint is partial, damaged, or does not fit the run
|- EngineRefused      an engine failed its proof at start or refused weights
|- ChannelBroken      weights did not pass; which end is at fault is not known
|- RolloutAborted     a call for rollouts was given up because the user stops the run: nothing failed
`- RunFailed          a call, and in the end a run, failed; carries role, group and first cause
   |- RoleDied        a process ended or answers nothing any more: another may take its place
   |- DeadlineMissed  a call took longer than its deadline
   `- GroupLost       the arrays of a group are gone with the node that held them
Messages say: what must hold, what was found, where it comes from, what to do.
"""

__all__ = [
    "ChannelBroken",
    "CheckpointError",
    "DataError",
    "DeadlineMissed",
    "EngineRefused",
    "GroupLost",
    "LessrlError",
    "RecipeError",
    "RecordError",
    "RoleDied",
    "RolloutAborted",
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


class ChannelBroken(LessrlError, RuntimeError):
    """The other ends of a weight channel did not come, or one left it: says nothing of which one is at fault."""


class RolloutAborted(LessrlError, RuntimeError):
    """A call for rollouts was given up on the user's order: it is asked for again, and counts against nobody."""


class RunFailed(LessrlError, RuntimeError):
    """A call to a role failed; where nothing can be done about it, the run ends with it.

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
        return (_rebuild_run_failed, (type(self), self.role, self.cause, self.group_id))


class RoleDied(RunFailed):
    """A role's process ended, or it answers nothing any more: nothing is wrong with what it was asked."""


class DeadlineMissed(RunFailed):
    """A call took longer than its deadline; whether the role is stuck or only slow is not known."""


class GroupLost(RunFailed):
    """The arrays of a group are gone with the node that held them: it must be generated again."""


def _rebuild_run_failed(kind: type[RunFailed], role: str, cause: str, group_id: str) -> RunFailed:
    return kind(role=role, cause=cause, group_id=group_id)
