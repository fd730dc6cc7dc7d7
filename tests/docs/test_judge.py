"""What the checks of the pages find: a wrong word of each sort is a fault, the right one beside it is none."""

from pathlib import Path

import pytest

from tests.docs.judge import block_faults, link_faults, span_faults
from tests.docs.pages import ROOT, Page, slug
from tests.docs.shell import read_commands

HERE = ROOT / "docs" / "made_up.md"


def page_of(text: str) -> Page:
    return Page(path=HERE, text=text)


def faults_of(text: str) -> list[str]:
    page = page_of(text)
    found = [fault for block in page.blocks() for fault in block_faults(block)]
    found += [fault for span in page.spans() for fault in span_faults(span, page)]
    return [str(fault) for fault in found + link_faults(page, lambda path: page_of(path.read_text()).anchors())]


def block(text: str, language: str = "sh") -> str:
    return f"```{language}\n{text}\n```\n"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("lessrl plan RECIPE --json", "lessrl plan RECIPE --jsn", "--jsn"),
        ("lessrl plan RECIPE", "lessrl plann RECIPE", "no command 'plann'"),
        ("lessrl plan RECIPE", "lessrl plan", "recipe must be given"),
        ("lessrl plan RECIPE", "lessrl plan RECIPE more", "nothing takes 'more'"),
        ("lessrl top", "lesrl top", "no program 'lesrl'"),
        ("lessrl workers run_1 restart rollout-0", "lessrl workers run_1 restrat rollout-0", "restrat"),
        ("lessrl checkpoints pin step-000010", "lessrl checkpoints pim step-000010", "no command"),
        ("lessrl pause --mode freeze", "lessrl pause --mode frezee", "found 'frezee'"),
        ("lessrl wait --until paused", "lessrl wait --until sleeping", "found 'sleeping'"),
        ("lessrl train RECIPE --set run.steps=4", "lessrl train RECIPE --set run.stesp=4", "did you mean"),
        ("lessrl train RECIPE --set run.steps=4", "lessrl train RECIPE --set run.steps=four", "run.steps"),
        ("lessrl config set run.steps=4", "lessrl config set seed=4", "seed is no live key"),
        ("make unit", "make units", "no target 'units'"),
        ("make bench ARGS=--json", "make bnech ARGS=--json", "no target 'bnech'"),
        ("ray job submit --working-dir . -- lessrl top", "ray job submit --workng-dir . -- lessrl top", "--workng-dir"),
        ("ray job submit -- lessrl plan RECIPE", "ray job submit -- lessrl plan RECIPE --jsn", "--jsn"),
        ("ray status", "ray statsu", "no command 'statsu'"),
        ("kubectl exec POD -- lessrl status", "kubectl exec POD -- lessrl statsu", "statsu"),
        ("docker run IMAGE lessrl version", "docker run IMAGE lessrl versoin", "versoin"),
        ("python -m tests.benchmarks.loop", "python -m tests.benchmarks.lop", "no module"),
        (
            "python deploy/examples/trl_less.py",
            "python deploy/examples/trl_les.py",
            "no file deploy/examples/trl_les.py",
        ),
        ("pip install 'lessrl[postgres]'", "pip install 'lessrl[postgre]'", "no extra 'postgre'"),
        ("export LESSRL_URL=http://h:1", "export LESSRL_ULR=http://h:1", "nothing reads LESSRL_ULR"),
        ("LESSRL_TOKEN=x lessrl top", "LESSRL_TOKN=x lessrl top", "nothing reads LESSRL_TOKN"),
        ("X=$(lessrl version --json)", "X=$(lessrl version --jsn)", "--jsn"),
        ("cd docs && make lint", "cd docs && make lnit", "lnit"),
        ("lessrl top # any --word", "lessrl top --word", "--word"),
    ],
)
def test_a_wrong_word_of_a_command_is_found(right: str, wrong: str, said: str) -> None:
    assert faults_of(block(right)) == []
    (fault,) = faults_of(block(wrong))
    assert fault.startswith("docs/made_up.md:2: ") and said in fault


@pytest.mark.parametrize(
    ("language", "right", "wrong"),
    [
        ("yaml", "run: {steps: 3}", "run: {stepps: 3}"),
        ("yaml", "run: {steps: 3}", "run: {steps: 3"),
        ("yaml", "run: {steps: 3}", "run: {steps: 3}\nrun: {steps: 4}"),
        ("yaml", "groups_per_step: 4\nplan: single_round", "groups_per_step: 4\nplan: single_rond"),
        (
            "yaml",
            "shaping: {shapers: [{kind: less, outside: keep}]}",
            "shaping: {shapers: [{kind: less, outsid: keep}]}",
        ),
        ("yaml", "# prometheus.yml\nscrape_configs: []", "scrape_configs: []"),
        ("yaml", "apiVersion: v1\nkind: Pod", "apiVersion: v1\nkid: Pod"),
        ("json", '{"a": 1}', '{"a": 1,}'),
        ("python", "x = 1", "x = "),
        ("python", "from shaping.less import multipliers", "from shaping.less import multiplierz"),
        ("promql", "rate(less_x_total[5m])", "rate(less_x_total[5m]"),
        ("text", "anything", "```python\n"),
    ],
)
def test_a_wrong_block_is_found(language: str, right: str, wrong: str) -> None:
    assert faults_of(block(right, language)) == []
    if language != "text":
        assert len(faults_of(block(wrong, language))) == 1


def test_a_block_that_nothing_can_check_is_a_fault() -> None:
    assert "found 'cobol'" in faults_of(block("MOVE 1 TO X", "cobol"))[0]


def test_a_block_without_a_language_is_a_shells_where_a_line_begins_like_a_command() -> None:
    assert faults_of("```\na ──► b\n```\n") == []
    assert "statsu" in faults_of("```\nlessrl statsu\n```\n")[0]


def test_a_fence_that_is_never_closed_is_refused() -> None:
    with pytest.raises(ValueError, match="open from line 1"):
        page_of("```sh\nlessrl top\n").blocks()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("[a](cli.md)", "[a](clii.md)"),
        ("[a](../README.md)", "[a](../../README.md)"),
        ("[a](cli.md#exit-codes)", "[a](cli.md#exit-code)"),
        ("## Up here\n[a](#up-here)", "## Up here\n[a](#down-there)"),
        ("![a](top.png)", "![a](top.jpg)"),
        ("[a]: cli.md", "[a]: clii.md"),
        ('<img src="top.png">', '<img src="tops.png">'),
        ("[a](https://h.example/nothing)", "[a](/docs/cli.md)"),
        ("[`a`](cli.md)", "[`a`](clii.md)"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(right: str, wrong: str) -> None:
    assert faults_of(right) == []
    assert len(faults_of(wrong)) == 1


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("`lessrl pause --mode`", "`lessrl pause --mod`"),
        ("`lessrl train`", "`lessrl trian`"),
        ("`make test`", "`make tests`"),
        ("`cli.md`", "`clii.md`"),
        ("`deploy/recipes/*.yaml`", "`deploy/recipes/*.yamll`"),
        ("`shaping/{less,metrics}.py`", "`shaping/{less,metrix}.py`"),
        ("`less_run_step`", "`less_run_steps`"),
        ('`less_run_state{state="paused"}`', '`less_run_stat{state="paused"}`'),
        ("`segments_low_tokens_share`", "`segments_lowest_tokens_share`"),
        ("`verdict_{status}_rollouts`", "`verdict_{state}_rollouts`"),
        ('`less_reward_part_value{reward="format"}`', '`less_reward_value{reward="format"}`'),
        ('`less_reward_value_bucket{le="1.0"}`', '`less_run_step{le="1.0"}`'),
        ("`services/control/`", "`services/kontrol/`"),
    ],
)
def test_a_wrong_name_in_the_text_is_found(right: str, wrong: str) -> None:
    assert faults_of(right) == []
    assert len(faults_of(wrong)) == 1


def test_headings_are_named_as_github_names_them() -> None:
    # Marks of code and punctuation go, spaces become hyphens, and a second heading of the same words is numbered.
    assert slug("`run.steps`: what, and why?") == "runsteps-what-and-why"
    assert page_of("# A b\n## A b\n```sh\n# no heading\n```\n").anchors() == {"a-b", "a-b-1"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lessrl plan X \\\n  --json", [("lessrl", "plan", "X", "--json")]),
        ("lessrl plan X [--json] [--set run.steps=1]", [("lessrl", "plan", "X", "--json", "--set", "run.steps=1")]),
        ("$ lessrl top\nlessrl is a word of the output", [("lessrl", "top")]),
        ("cat > f <<EOF\nlessrl top\nEOF\nlessrl list", [("cat",), ("lessrl", "list")]),
        ("lessrl list 2> errors | head -3; lessrl top &", [("lessrl", "list"), ("head", "-3"), ("lessrl", "top")]),
        ("lessrl train R --set 'a=[{kind: x}, {k: 1}]'", [("lessrl", "train", "R", "--set", "a=[{kind: x}, {k: 1}]")]),
        ("lessrl status <run-id>", [("lessrl", "status", "RUN-ID")]),
        ("if lessrl list; then\n  lessrl top\nfi", [("lessrl", "list"), ("lessrl", "top")]),
        ("# lessrl top", []),
    ],
)
def test_a_shell_text_is_taken_apart(text: str, words: list[tuple[str, ...]]) -> None:
    assert [command.words for command in read_commands(text)] == words


def test_a_command_is_named_by_its_own_line(tmp_path: Path) -> None:
    page = Page(path=tmp_path / "p.md", text="# P\n\n```sh\nlessrl top\n\nlessrl tpo\n```\n")
    (fault,) = block_faults(page.blocks()[0])
    assert fault.place.endswith("p.md:6")
