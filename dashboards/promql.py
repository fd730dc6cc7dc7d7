"""PromQL expressions over runs. Each result has the label run_id, and those of `by`.

A step's counters and histograms jump once, when the step is reported. A rate over a short window is then a spike, and
over a window without a step nothing. So what is fed by steps is divided by something that jumps with it, the number or
seconds of the steps, or the number of what was counted: the quotient is exact for any window and any length of a step.
Between two steps there is no point, and the panel's line goes across. Nor has a quotient a point where its divisor is
0, which keeps NaN out.
"""

from collections.abc import Mapping

WINDOW = "$__rate_interval"
STEPS = "less_step_seconds_count"
STEP_SECONDS = "less_step_seconds_sum"


def run_samples(name: str, **labels: str) -> str:
    """The samples of the chosen runs. A label's value is matched as it is, or with a leading ~ as a pattern."""
    return _samples(name, 'job=~"$job"', 'run_id=~"$run_id"', labels=labels)


def level(name: str, *by: str, **labels: str) -> str:
    """A gauge. The largest, where a control plane that began anew is scraped beside its former self."""
    return f"max by ({_labels(by)}) ({run_samples(name, **labels)})"


def rate(name: str, *by: str, **labels: str) -> str:
    """A counter's increase per second."""
    return f"sum by ({_labels(by)}) (rate({run_samples(name, **labels)}[{WINDOW}]))"


def increase(name: str, *by: str, **labels: str) -> str:
    """A counter's increase over the window: for events, which are rare."""
    return f"sum by ({_labels(by)}) (increase({run_samples(name, **labels)}[{WINDOW}]))"


def quotient(above: str, below: str) -> str:
    """Of two expressions with the same labels."""
    return f"{above} / ({below} > 0)"


def quotient_by_run(above: str, below: str) -> str:
    """Of one with labels, and one with run_id alone."""
    return f"{above} / on (run_id) group_left () ({below} > 0)"


def per_step(name: str, *by: str, **labels: str) -> str:
    """A counter's increase in a step, the mean of the window's steps."""
    above, below = rate(name, *by, **labels), rate(STEPS)
    return quotient_by_run(above, below) if by else quotient(above, below)


def per_step_second(name: str, *by: str, **labels: str) -> str:
    """A counter's increase in a second of the steps in which it rose."""
    above, below = rate(name, *by, **labels), rate(STEP_SECONDS)
    return quotient_by_run(above, below) if by else quotient(above, below)


def share(name: str, by: str, of: str = "", **labels: str) -> str:
    """What part of a counter, or of the counter `of`, has each value of a label."""
    return quotient_by_run(rate(name, by, **labels), rate(of or name))


def part(name: str, of: str = "", **labels: str) -> str:
    """What part of a counter, or of the counter `of`, has these labels."""
    return quotient(rate(name, **labels), rate(of or name))


def mean(name: str, *by: str, **labels: str) -> str:
    """Of a histogram, from its exact sum."""
    return quotient(rate(f"{name}_sum", *by, **labels), rate(f"{name}_count", *by, **labels))


def quantile(q: float, name: str, *by: str, **labels: str) -> str:
    """Of a histogram whose values are not negative. The comparison leaves out the NaN of a window without values."""
    buckets = rate(f"{name}_bucket", "le", *by, **labels)
    return f"histogram_quantile({q:g}, {buckets}) >= 0"


def mix(name: str, by: str, **labels: str) -> str:
    """What part of a counter has each value of a label, the chosen runs together. Adds up to 1."""
    samples = run_samples(name, **labels)
    return f"sum by ({by}) (rate({samples}[{WINDOW}])) / on () group_left () (sum(rate({samples}[{WINDOW}])) > 0)"


def spread(name: str, **labels: str) -> str:
    """What part of a histogram's values lies up to each bound, the chosen runs together.

    Their number is the last bucket: a histogram of values below 0 has no `_count`.
    """
    buckets, all_values = (run_samples(f"{name}_bucket", **labels, **last) for last in ({}, {"le": "+Inf"}))
    return f"sum by (le) (rate({buckets}[{WINDOW}])) / on () group_left () (sum(rate({all_values}[{WINDOW}])) > 0)"


def service_samples(name: str, **labels: str) -> str:
    """The samples of a control plane, which belong to no run."""
    return _samples(name, 'job=~"$job"', labels=labels)


def ray_samples(name: str, **labels: str) -> str:
    """The samples of Ray, or of vLLM through Ray, which know no run."""
    return _samples(name, 'job=~"$ray_job"', labels=labels)


def _samples(name: str, *matchers: str, labels: Mapping[str, str]) -> str:
    wanted = (
        f'{label}=~"{value[1:]}"' if value[:1] == "~" else f'{label}="{value}"' for label, value in labels.items()
    )
    return f"{name}{{{', '.join((*matchers, *wanted))}}}"


def _labels(by: tuple[str, ...]) -> str:
    return ", ".join(("run_id", *by))
