"""How many verdicts may be missing: a verifier that fails must end a run, not thin it out in silence."""

from collections import deque

from shaping.groups import Verdict

WINDOW_ROLLOUTS = 500
LEAST_ROLLOUTS = 100
_SHOWN_EXAMPLES = 3
_SHOWN_CHARACTERS = 120


class VerdictBudget:
    """The share of missing verdicts among the newest rollouts, and when it is too large.

    It is of the last `WINDOW_ROLLOUTS` rollouts, whole groups; before `LEAST_ROLLOUTS` have come it is counted as
    if these had, so that one early time-out ends nothing.

    Args:
        max_share: largest share of rollouts without a verdict (run.max_no_verdict_share).
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self._groups: deque[tuple[str, int, tuple[Verdict, ...]]] = deque()
        self._num_rollouts = 0
        self._num_missing = 0

    def add(self, prompt_id: str, num_scored: int, excluded: tuple[Verdict, ...]) -> str:
        """Count one group.

        Returns:
            Why the run must end, with examples; "" while it may go on.
        """
        self._groups.append((prompt_id, num_scored + len(excluded), excluded))
        self._num_rollouts += num_scored + len(excluded)
        self._num_missing += len(excluded)
        while self._num_rollouts - self._groups[0][1] >= WINDOW_ROLLOUTS:
            _, size, missing = self._groups.popleft()
            self._num_rollouts -= size
            self._num_missing -= len(missing)
        if self._num_missing <= self.max_share * max(self._num_rollouts, LEAST_ROLLOUTS):
            return ""
        return (
            f"{self._num_missing} of the last {self._num_rollouts} rollouts got no verdict, a share of "
            f"{self.max_share:g} may (run.max_no_verdict_share); {self._examples()}"
        )

    def _examples(self) -> str:
        found = [(prompt_id, each) for prompt_id, _, missing in reversed(self._groups) for each in missing]
        lines = [_line(prompt_id, verdict) for prompt_id, verdict in found[:_SHOWN_EXAMPLES]]
        return f"for example {'; '.join(lines)}"


def _line(prompt_id: str, verdict: Verdict) -> str:
    answer = ascii(verdict.extracted[:_SHOWN_CHARACTERS])
    return f"prompt {prompt_id}, answer {answer}: {verdict.status} ({verdict.detail})"
