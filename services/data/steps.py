"""`lessrl data steps`: whether hints can be made of a source's solutions, and at which rates. Samples nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rollout.solution_steps import hint_text, why_unusable
from rollout.sources.base import PromptSource, SkippedRow
from services.data.inspect_source import MIXTURE
from services.data.measure import measure_lengths
from services.data.report import LengthFacts, SamplePrompt
from services.data.target import find_target
from shaping.components import Component, ComponentSpec, load
from shaping.errors import DataError, UserError
from shaping.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsRequest:
    """What is asked for.

    Args:
        source: a data file, a folder, a Hugging Face name, or a recipe.
        num_samples: problems that are shown with their steps, of each source.
        options: of the source, or keys of the recipe.
    """

    source: str
    num_samples: int = 3
    as_json: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCount:
    """Problems with one number of steps |y|.

    Args:
        rates: hint rates l / |y| that a plan can reach: the whole solution is no hint.
    """

    num_steps: int
    num_problems: int
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedSteps:
    """A problem that no hints can be made for.

    Args:
        number: its row; of a source that is made on demand, its place from 1.
    """

    number: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSteps:
    """One source.

    Args:
        label: what a recipe or a mixture calls it, or the source as it was given.
        num_problems: looked at; what a filter leaves out is not.
        counts: usable problems by |y|, ascending.
        longest_hints: characters of the longest hint of each usable problem; None where no problem is usable.
    """

    label: str
    unit: str
    num_problems: int
    num_usable: int
    num_filtered: int
    counts: tuple[StepCount, ...]
    refused: tuple[RefusedSteps, ...]
    longest_hints: LengthFacts | None
    samples: tuple[SamplePrompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsReport:
    """Everything that `lessrl data steps` found."""

    source: str
    sources: tuple[SourceSteps, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_report(request: StepsRequest) -> StepsReport:
    """What there is to say of a source's solutions.

    Raises:
        UserError: no such source, options that cannot be, or a source without steps.
    """
    if request.num_samples < 0:
        raise UserError(f"--samples must be >= 0, got {request.num_samples}")
    target = find_target(request.source, request.options)
    found = [
        each for label, spec in target.specs.items() for each in inspect_steps(spec, label, samples=request.num_samples)
    ]
    return StepsReport(source=request.source, sources=tuple(found))


def inspect_steps(spec: ComponentSpec, label: str, *, samples: int) -> list[SourceSteps]:
    """Every source of a spec: a mixture has several.

    Raises:
        UserError: as `make_report`.
    """
    component = load("rollout.sources", spec, label)
    if spec.kind == MIXTURE:
        parts = zip(component.config.specs, component.config.labels, strict=True)
        return [each for part, name in parts for each in inspect_steps(part, f"{label}/{name}", samples=samples)]
    if not component.module.supplies_steps(component.config):
        raise DataError(
            f"a source must have solution steps, found none named ({label}); set steps_field (--set steps_field=NAME) "
            "to the field that holds them, of GSM8K `answer`"
        )
    if hasattr(component.module, "read_table"):
        return [_of_rows(component, label, samples)]
    source: PromptSource = component.build()
    prompts = [source.prompt(index) for index in range(len(source))]
    return [_judged(label, "row", prompts, range(1, len(prompts) + 1), source.skipped_rows, samples=samples)]


def _of_rows(component: Component, label: str, samples: int) -> SourceSteps:
    """A source that reads rows: those that a run refuses, or keeps without steps, are counted with their reason."""
    options = replace(component.config, on_bad_row="skip", on_bad_steps="bad_row")
    table = component.module.read_table(options)
    loaded: PromptSource = component.module.build(options)
    left_out = {row.number for row in loaded.skipped_rows}
    numbers = [row.number for row in table.rows if row.number not in left_out]
    prompts = [loaded.prompt(index) for index in range(len(loaded))]
    return _judged(label, table.unit, prompts, numbers, loaded.skipped_rows, samples=samples)


def _judged(
    label: str,
    unit: str,
    prompts: Sequence[Prompt],
    numbers: Sequence[int],
    skipped: Sequence[SkippedRow],
    *,
    samples: int,
) -> SourceSteps:
    reasons = [why_unusable(prompt.solution_steps, prompt.reference_answer) for prompt in prompts]
    usable = [(number, prompt) for number, prompt, why in zip(numbers, prompts, reasons, strict=True) if not why]
    refused = [RefusedSteps(number=number, reason=why) for number, why in zip(numbers, reasons, strict=True) if why]
    refused += [RefusedSteps(number=row.number, reason=row.reason) for row in skipped if not row.is_filtered]
    longest = [len(hint_text(prompt.solution_steps[:-1])) for _, prompt in usable]
    num_filtered = sum(row.is_filtered for row in skipped)
    return SourceSteps(
        label=label,
        unit=unit,
        num_problems=len(prompts) + len(skipped) - num_filtered,
        num_usable=len(usable),
        num_filtered=num_filtered,
        counts=_counts([prompt for _, prompt in usable]),
        refused=tuple(sorted(refused, key=lambda each: each.number)),
        longest_hints=measure_lengths("longest hint characters", longest) if longest else None,
        samples=_samples(usable, samples),
    )


def _counts(prompts: Sequence[Prompt]) -> tuple[StepCount, ...]:
    found = Counter(len(prompt.solution_steps) for prompt in prompts)
    return tuple(
        StepCount(num_steps=size, num_problems=count, rates=tuple(shown / size for shown in range(size)))
        for size, count in sorted(found.items())
    )


def _samples(usable: Sequence[tuple[int, Prompt]], num_samples: int) -> tuple[SamplePrompt, ...]:
    """Problems at even distances, the first one included."""
    count = min(num_samples, len(usable))
    chosen = [usable[index * len(usable) // count] for index in range(count)]
    return tuple(
        SamplePrompt(
            number=number,
            prompt_id=prompt.prompt_id,
            messages=tuple({"role": each.role, "content": each.content} for each in prompt.messages),
            reference_answer=prompt.reference_answer,
            solution_steps=prompt.solution_steps,
        )
        for number, prompt in chosen
    )
