"""What is planned before a learner step, and what is told after it. Pure."""

from collections.abc import Mapping, Sequence

from learner.batch_plan import BatchPlan, SampleSize, plan_batch
from learner.config import LearnerConfig
from rollout.buffer import TakenBatch
from services.group_loop import BufferedGroup, DroppedGroups
from services.ledger import SKIPPED, TRAINED, LedgerLine
from services.reports import StepReport
from shaping.errors import RunFailed
from shaping.groups import DropReason
from shaping.histograms import VERSIONS, Histogram
from shaping.metrics import Mean, histograms_of, merge_metrics, metric_values
from shaping.training import StepResult

MISMATCH_METRIC = "learner_logprob_difference_mean_nats"


def plan_step(groups: Sequence[BufferedGroup], learner: LearnerConfig, *, seed: int, step: int) -> BatchPlan:
    """Which rank trains what; no updates where every group was dropped, so that versions and steps stay in step.

    Args:
        seed: of the run.
    """
    sizes = [
        SampleSize(
            group_index=index,
            sample_index=size.sample_index,
            num_tokens=size.num_tokens,
            num_valid_tokens=size.num_valid_tokens,
        )
        for index, group in enumerate(groups)
        for size in group.shaped.summary.samples
    ]
    if not sizes:
        return BatchPlan(mini_batches=())
    return plan_batch(
        sizes,
        num_ranks=learner.num_ranks,
        mini_batch_groups=learner.mini_batch_groups,
        num_epochs=learner.num_epochs,
        micro_batch_tokens=learner.micro_batch_tokens,
        layout=learner.layout,
        seed=seed * 1_000_003 + step,
    )


def report_step(
    batch: TakenBatch[BufferedGroup],
    dropped: DroppedGroups,
    result: StepResult,
    *,
    total_steps: int,
    metrics: Mapping[str, float],
    histograms: Mapping[str, Histogram],
    phases: dict[str, float],
    step_seconds: float,
    elapsed_seconds: float,
) -> StepReport:
    """Merge what groups, learner and orchestrator measured.

    Args:
        metrics, histograms: the orchestrator's own, by catalogue name.
    """
    shaped = [item.shaped.summary for item in batch.items]
    staleness = [result.policy_version - 1 - each.min_policy_version for each in shaped]
    merged = merge_metrics([*(each.metrics for each in shaped), *dropped.metrics])
    merged["learner_staleness_versions"] = Mean(sum(staleness), len(staleness))
    merged["learner_group_staleness_versions"] = Histogram.of(staleness, VERSIONS)
    values = metric_values(merged)
    num_tokens = sum(item.num_response_tokens for item in batch.items) + dropped.num_response_tokens
    trained = 0 if result.skipped else len(batch.items)
    groups = {"trained": trained, "skipped": len(batch.items) - trained}
    groups.update({f"dropped_{reason.value}": batch.dropped[reason] for reason in DropReason})
    # Its groups do not know that the learner skipped the step.
    values["groups_trained_count"] = float(trained)
    values["groups_attempts_count"] = float(batch.num_attempts)
    values.update(batch.surplus_metrics(staleness))
    if batch.keep_share is not None:
        values["groups_keep_share"] = batch.keep_share
    return StepReport(
        step=result.policy_version,
        total_steps=total_steps,
        policy_version=result.policy_version,
        metrics={**values, **result.metrics, **metrics},
        phase_seconds=phases,
        step_seconds=step_seconds,
        groups=groups,
        num_response_tokens=num_tokens,
        elapsed_seconds=elapsed_seconds,
        histograms={**histograms_of(merged), **result.histograms, **histograms},
    )


def trained_lines(batch: TakenBatch[BufferedGroup], result: StepResult) -> list[LedgerLine]:
    """How the groups of a batch ended."""
    outcome = SKIPPED if result.skipped else TRAINED
    return [
        LedgerLine(
            ordinal=ordinal,
            group_id=item.group_id,
            prompt_id=item.prompt_id,
            visit=item.visit,
            rounds=item.rounds,
            outcome=outcome,
            step=result.policy_version,
        )
        for ordinal, item in zip(batch.ordinals, batch.items, strict=True)
    ]


def check_mismatch(result: StepResult, limit: float) -> None:
    """Refuse to go on from samples of another policy than the learner's: stale or different weights somewhere.

    Args:
        limit: largest mean difference of log-probs per token, nats.
    Raises:
        RunFailed: it is larger.
    """
    found = result.metrics.get(MISMATCH_METRIC)
    if found is not None and not found <= limit:
        cause = (
            f"sampler and learner must agree within {limit:g} nats per token on average, found {found:.3g} in step "
            f"{result.policy_version}: they hold different policies (run.max_mismatch_nats)"
        )
        raise RunFailed(role="learner", cause=cause)
