"""Why a question about a run's directory has no answer; anything else that is wrong with one is a plain UserError."""

from shaping.errors import UserError


class NotFound(UserError):
    """There is no such thing.

    Args:
        what: "group", "checkpoint", "evaluation", "distribution" or "run-directory".
    """

    def __init__(self, what: str, message: str) -> None:
        self.what = what
        super().__init__(message)


class InUse(UserError):
    """It is there and must stay: the newest checkpoint, a pinned one, or one that somebody works with."""
