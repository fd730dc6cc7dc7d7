"""export, replay, evaluate, compare, explain, hints, data inspect and steps: they need files and no control plane."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.addresses import LOCAL_ADDRESS
from services.commands.options import Address, AsJson, Overrides, parse_overrides
from services.explain.command import ExplainRequest
from services.explain.command import explain as explain_file
from shaping.components import import_module_of

LESS_PANEL = "LESS, where not as in the file"


def export(
    run_dir: Annotated[Path, typer.Argument(help="The directory of a run.")],
    out: Annotated[Path, typer.Option(help="A new directory for the model.")],
    checkpoint: Annotated[str, typer.Option("--from", help="A checkpoint's name.")] = "latest",
) -> None:
    """Write a checkpoint's policy as a Hugging Face model. The run may go on meanwhile."""
    typer.echo(import_module_of("services.checkpoints", "export").export(run_dir, checkpoint, out))


def replay(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A skipped step, RUN_DIR/skipped/step-000012; of a run: its latest.")
    ],
    rollout_only: Annotated[
        bool, typer.Option("--rollout-only", help="Sample its groups again and compare; no learner.")
    ] = False,
    checkpoint: Annotated[
        str, typer.Option(help='A policy of the run: a name, or "start"; default the newest before the step.')
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Train the groups of a skipped step again, in this process: which of them is not finite. Changes nothing."""
    command = import_module_of("services.replay", "command")
    options = {"checkpoint": checkpoint, "rollout_only": rollout_only, "as_json": as_json}
    raise typer.Exit(command.replay(directory, Console(), **options))


def evaluate(
    target: Annotated[
        str,
        typer.Argument(metavar="MODEL_OR_RUN", help="A model's folder or Hugging Face name, or a run's directory."),
    ],
    benchmarks: Annotated[
        str, typer.Option(help="Names with commas between them; name=path is a data file of your own.")
    ] = "",
    k: Annotated[int | None, typer.Option("--k", help="Answers to each problem; default each benchmark's own.")] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="LESSRL_DATA", help="Folder with the benchmarks' files; default the hub.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the evaluation: a new one, or one to go on with.")
    ] = None,
    engine: Annotated[str, typer.Option(help="vllm or hf; default the run's, or vllm.")] = "",
    template: Annotated[str, typer.Option(help="Prompt template; default the run's, or chat.")] = "",
    temperature: Annotated[float | None, typer.Option(help="Default each benchmark's own.")] = None,
    max_response_tokens: Annotated[int | None, typer.Option(help="Default each benchmark's own.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first problems of each benchmark alone.")] = None,
    checkpoint: Annotated[str, typer.Option("--from", help="A run's checkpoint; default its last policy.")] = "",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="MODEL_OR_RUN is an evaluation's directory: metrics again, no sampling.")
    ] = False,
    address: Address = LOCAL_ADDRESS,
    as_json: AsJson = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Ask a policy the problems of benchmarks, and say what its answers amount to. See docs/evaluation.md."""
    settings, command = (import_module_of("services.evaluation", name) for name in ("settings", "evaluate"))
    choices = settings.Choices(
        num_samples=k, temperature=temperature, max_response_tokens=max_response_tokens, limit=limit
    )
    request = settings.EvaluateRequest(
        target=target,
        choices=choices,
        benchmarks=benchmarks,
        data=data,
        out=out,
        engine=engine,
        template=template,
        checkpoint=checkpoint,
        address=address,
        overrides=parse_overrides(overrides),
        recompute=recompute,
        as_json=as_json,
    )
    raise typer.Exit(command.evaluate(request, Console()))


def compare(
    before: Annotated[Path, typer.Argument(help="An evaluation's directory, or that of a run with one.")],
    after: Annotated[Path, typer.Argument(help="Another one, of the same benchmarks.")],
    figure: Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what changed from one evaluation to another, problem by problem. Samples nothing."""
    command = import_module_of("services.evaluation", "compare")
    request = command.CompareRequest(before=before, after=after, figure=figure, as_json=as_json)
    raise typer.Exit(command.compare(request, Console()))


def inspect(
    source: Annotated[str, typer.Argument(help="A data file, a folder, a Hugging Face name, or a recipe.")],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Count and list bad rows; else the first is an error.")
    ] = False,
    tokenizer: Annotated[str, typer.Option(help="Model folder or name: lengths in tokens.")] = "",
    template: Annotated[str, typer.Option(help="Prompt template; default the recipe's, or the tokenizer's own.")] = "",
    verifier: Annotated[
        str, typer.Option(help="Judges each answer against itself; default the recipe's, or math_answer.")
    ] = "",
    samples: Annotated[int, typer.Option(help="Prompts shown of each source.")] = 3,
    max_prompt_tokens: Annotated[int | None, typer.Option(help="Longer prompts count as left out.")] = None,
    as_json: AsJson = False,
    overrides: Annotated[
        list[str], typer.Option("--set", help="An option of the source, or a key of the recipe. May be repeated.")
    ] = [],  # noqa: B006
) -> None:
    """Say what a source of prompts holds, what would be left out and why. See docs/data.md."""
    command = import_module_of("services.data", "command")
    request = command.InspectRequest(
        source=source,
        skip_bad=skip_bad,
        tokenizer=tokenizer,
        template=template,
        verifier=verifier,
        num_samples=samples,
        max_prompt_tokens=max_prompt_tokens,
        as_json=as_json,
        options=parse_overrides(overrides),
    )
    raise typer.Exit(command.inspect(request, Console()))


def steps(
    source: Annotated[str, typer.Argument(help="A data file, a folder, a Hugging Face name, or a recipe.")],
    samples: Annotated[int, typer.Option(help="Problems shown with their steps, of each source.")] = 3,
    as_json: AsJson = False,
    overrides: Annotated[
        list[str], typer.Option("--set", help="An option of the source, or a key of the recipe. May be repeated.")
    ] = [],  # noqa: B006
) -> None:
    """Say of which problems hints can be made, at which rates, and why of the others not. See docs/seele.md."""
    request = import_module_of("services.data", "steps").StepsRequest(
        source=source, num_samples=samples, as_json=as_json, options=parse_overrides(overrides)
    )
    raise typer.Exit(import_module_of("services.data", "steps_text").show_steps(request, Console()))


def hints(
    run_dir: Annotated[Path, typer.Argument(help="The directory of a run whose groups have several rounds.")],
    out: Annotated[Path, typer.Option(help="Write the picture (PNG) here.")] = Path("hints.png"),
) -> None:
    """Draw what hints did in a run: accuracy by round, hint rate, curves of single prompts. See docs/seele.md."""
    import_module_of("services", "hint_figure").write_hints_of(run_dir, out)
    typer.echo(str(out))


def explain(
    file: Annotated[Path, typer.Argument(help="Groups, one JSON object per line: a run's groups.jsonl, or your own.")],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    prompt: Annotated[str, typer.Option(help="Show the groups of this prompt, token by token.")] = "",
    step: Annotated[int | None, typer.Option(help="Groups of this step alone.")] = None,
    rollout: Annotated[int | None, typer.Option(help="With --prompt: this rollout alone.")] = None,
    table: Annotated[bool, typer.Option("--table", help="With --prompt: one line per token.")] = False,
    bound: Annotated[str, typer.Option(help="Entropies out of top-k log-probs: lower or upper.")] = "lower",
    tokenizer: Annotated[str, typer.Option(help="Model folder or name that gives text to bare token ids.")] = "",
    mode: Annotated[str | None, typer.Option(help="containment or compat.", rich_help_panel=LESS_PANEL)] = None,
    min_length: Annotated[int | None, typer.Option(help="Shortest segment.", rich_help_panel=LESS_PANEL)] = None,
    quantile: Annotated[float | None, typer.Option(help="Low-entropy share.", rich_help_panel=LESS_PANEL)] = None,
    membership: Annotated[str | None, typer.Option(help="lt or le.", rich_help_panel=LESS_PANEL)] = None,
    scope: Annotated[str | None, typer.Option(help="response or group.", rich_help_panel=LESS_PANEL)] = None,
    match: Annotated[str | None, typer.Option(help="segment or kgram.", rich_help_panel=LESS_PANEL)] = None,
    outside: Annotated[str | None, typer.Option(help="share or keep.", rich_help_panel=LESS_PANEL)] = None,
) -> None:
    """Say why each token of a file of groups got its multiplier, in the terminal and as a page. See docs/explain.md."""
    given = {
        "mode": mode,
        "min_length": min_length,
        "quantile": quantile,
        "membership": membership,
        "scope": scope,
        "match": match,
        "outside": outside,
    }
    request = ExplainRequest(
        file=file,
        html=html,
        prompt=prompt,
        step=step,
        rollout=rollout,
        with_table=table,
        bound=bound,
        tokenizer=tokenizer,
        options={name: value for name, value in given.items() if value is not None},
    )
    explain_file(request, Console())
