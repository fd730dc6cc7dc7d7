"""Groups that a run writes down: which, how exactly, and that a reader explains what the run did."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from group_builders import VOCAB_SIZE, make_group, make_rollout
from recipe_builders import IN_PROCESS, make_recipe
from toy_policy import toy_changes, write_toy_policy

from rollout.requests import OpenGroup
from services.cli import main
from services.explain.file import GroupFile, read_groups
from services.explain.group import explain_record
from services.explain.summary import summarise
from services.group_dump import GroupDump, open_dump
from services.roles.shaping import ShapingRole, build_shaping_role
from services.run_dir import GROUPS_FILE
from shaping.pipeline import ShapingPipeline
from shaping.records import RolloutGroup

ROOT = Path(__file__).parents[2]
TOKENIZER = str(ROOT / "deploy" / "quickstart" / "policy")


def recipe_of(shaping: dict[str, Any] | None = None, **changes: Any) -> Any:
    rule = {"rewards": ["numeric_answer"], "segments": {"min_length": 2}, "verifiers": IN_PROCESS}
    wanted = {**rule, **(shaping or {})}
    return make_recipe({"model.path": TOKENIZER, "shaping": wanted, **changes})


def random_group(seed: int, *, ordinal: int = 0, **rollout: Any) -> RolloutGroup:
    """Four rollouts over few tokens, with entropies that need all their digits."""
    rng = np.random.default_rng(seed)
    rollouts = []
    for index in range(4):
        size = int(rng.integers(5, 12))
        nats = rng.exponential(0.3, size).astype(np.float32)
        ids = rng.integers(100, 104, size).tolist()
        rollouts.append(make_rollout(ids, entropies=nats, text="5" if index % 2 else "6", **rollout))
    return make_group(rollouts, group_id=f"g{ordinal:08d}")


def dumped(path: Path, recipe: Any, *groups: RolloutGroup) -> GroupFile:
    role = build_shaping_role(recipe, path)
    for group in groups:
        role.shape((group,))
    return read_groups(path)


def test_a_reader_explains_exactly_what_the_run_did(tmp_path: Path) -> None:
    for number, shaping in enumerate(
        (
            {},
            {"shapers": [{"kind": "less", "outside": "keep"}]},
            {"segments": {"min_length": 3, "quantile": 0.6, "membership": "le", "scope": "group", "match": "kgram"}},
            {"shapers": [{"kind": "less", "mode": "compat"}], "segments": {"min_length": 2, "match": "kgram"}},
            {"estimator": "rloo"},
        )
    ):
        groups = [random_group(seed, ordinal=4 * seed, policy_version=seed) for seed in range(10)]
        file = dumped(tmp_path / f"{number}.jsonl", recipe_of(shaping), *groups)
        explained = [explain_record(record, options={}, bound="lower") for record in file.groups]
        assert len(explained) == 10
        assert all(group.num_unlike_applied == 0 for group in explained)
        assert summarise(file, explained).warnings == ()
        for record, group in zip(file.groups, groups, strict=True):
            for response, rollout in zip(record.responses, group.rollouts, strict=True):
                np.testing.assert_array_equal(response.entropies.lower, rollout.entropies)
                np.testing.assert_array_equal(response.token_ids, rollout.response_ids)


def test_a_line_says_where_it_is_from(tmp_path: Path) -> None:
    recipe = recipe_of({"shapers": [{"kind": "less", "outside": "keep"}]})
    group = random_group(1, ordinal=8, policy_version=3, hint_ids=[361, 362])
    (record,) = dumped(tmp_path / "groups.jsonl", recipe, group).groups
    assert dict(record.labels) == {"step": 4, "policy_version": 3, "group_id": "g00000008"}
    assert (record.prompt_id, record.prompt) == ("p", "what is 2 + 3?")
    assert record.less == {
        "quantile": 0.8,
        "min_length": 2,
        "membership": "lt",
        "scope": "response",
        "match": "segment",
        "mode": "containment",
        "outside": "keep",
    }
    assert record.numbers == {"advantages", "multipliers"}
    assert [response.hint for response in record.responses] == ["To start"] * 4
    line = json.loads((tmp_path / "groups.jsonl").read_text())
    assert line["vocab_size"] == VOCAB_SIZE
    # One number for all tokens of a response, as the estimator gave it.
    assert all(isinstance(response["advantages"], float) for response in line["responses"])


def test_a_run_without_less_is_written_as_it_was(tmp_path: Path) -> None:
    file = dumped(tmp_path / "groups.jsonl", recipe_of({"shapers": []}), random_group(1))
    assert all((response.multipliers == 1).all() for response in file.groups[0].responses)
    explained = [explain_record(record, options={}, bound="lower") for record in file.groups]
    assert "another advantage than the trainer gave them" in summarise(file, explained).warnings[0]


@pytest.mark.parametrize("keep", ["correct", "wrong"])
def test_of_a_group_of_one_class_the_rollouts_that_are_left_are_written_and_drawn(tmp_path: Path, keep: str) -> None:
    shaping = {"transforms": [{"kind": "keep_class", "keep": keep}], "estimator": "w_reinforce"}
    groups = [random_group(seed, ordinal=4 * seed) for seed in range(5)]
    file = dumped(tmp_path / "groups.jsonl", recipe_of(shaping), *groups)
    explained = [explain_record(record, options={}, bound="lower") for record in file.groups]
    for record, group in zip(file.groups, groups, strict=True):
        assert [response.correct for response in record.responses] == [keep == "correct"] * 2
        kept = [rollout for rollout in group.rollouts if (rollout.response_text == "5") == (keep == "correct")]
        assert [len(response.token_ids) for response in record.responses] == [each.num_tokens for each in kept]
    assert all(group.num_unlike_applied == 0 for group in explained)
    # Said once of the file, and right: LESS compares classes, and there is one.
    (warning,) = summarise(file, explained).warnings
    assert warning == "No group has both correct and incorrect rollouts: nothing tells right from wrong"
    assert drawn(tmp_path)


def test_of_a_cut_response_what_is_left_is_written_and_drawn(tmp_path: Path) -> None:
    # Twelve short responses and one of 500 tokens, each correct.
    short = [make_rollout([100, 101, 102], text="5") for _ in range(12)]
    long = make_rollout([100, 101] * 250, entropies=np.random.default_rng(1).exponential(0.3, 500), text="5")
    group = make_group([*short, long], group_id="g00000000")
    file = dumped(tmp_path / "groups.jsonl", recipe_of({"transforms": ["dot"]}), group)
    # mean 536/13 = 41.23, std 497/sqrt(13) = 137.84: cut at 454.
    assert [len(response.token_ids) for response in file.groups[0].responses] == [3] * 12 + [454]
    assert not file.groups[0].responses[-1].correct
    line = json.loads((tmp_path / "groups.jsonl").read_text())
    assert [each["extra"]["is_truncated"] for each in line["responses"]] == [False] * 12 + [True]
    explained = [explain_record(record, options={}, bound="lower") for record in file.groups]
    assert summarise(file, explained).warnings == ()
    assert drawn(tmp_path)


def drawn(folder: Path) -> bool:
    """Whether `lessrl explain` makes its page of the groups in a folder."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(folder / "groups.jsonl"), "--html", str(folder / "groups.html")])
    return not ended.value.code and "</html>" in (folder / "groups.html").read_text()


def test_the_first_admitted_groups_of_each_step_are_written_whoever_comes_first(tmp_path: Path) -> None:
    # Four groups a step, two of them written.
    groups = [random_group(1, ordinal=ordinal) for ordinal in (3, 7, 1, 0, 2, 5, 4, 6)]
    file = dumped(tmp_path / "groups.jsonl", recipe_of(), *groups)
    assert [record.labels["group_id"] for record in file.groups] == ["g00000001", "g00000000", "g00000005", "g00000004"]
    opened = OpenGroup(ordinal=5, prompt=groups[0].prompt, visit=1, prompt_ids=groups[0].prompt_ids)
    assert opened.group_id == "g00000005"


def test_as_many_groups_as_the_recipe_says_and_none_for_none(tmp_path: Path) -> None:
    groups = [random_group(1, ordinal=ordinal) for ordinal in range(8)]
    every = dumped(tmp_path / "all.jsonl", recipe_of(**{"run.dump_groups_per_step": 9}), *groups)
    assert len(every.groups) == 8
    assert open_dump(recipe_of(**{"run.dump_groups_per_step": 0}), tmp_path / "none.jsonl") is None
    build_shaping_role(recipe_of()).shape((groups[0],))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["all.jsonl"]


def test_a_dropped_group_is_not_written(tmp_path: Path) -> None:
    role = build_shaping_role(recipe_of({"transforms": ["drop_uniform"]}), tmp_path / "groups.jsonl")
    role.shape((make_group([make_rollout(text="5"), make_rollout(text="5")], group_id="g00000000"),))
    assert not (tmp_path / "groups.jsonl").exists()


def test_workers_that_write_at_once_write_whole_lines(tmp_path: Path) -> None:
    recipe, path = recipe_of(**{"run.dump_groups_per_step": 4}), tmp_path / "groups.jsonl"
    groups = [random_group(seed, ordinal=seed) for seed in range(40)]
    roles = [build_shaping_role(recipe, path) for _ in range(4)]
    barrier = threading.Barrier(4)

    def work(index: int) -> None:
        barrier.wait()
        for group in groups[index::4]:
            roles[index].shape((group,))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(record.labels["group_id"]) for record in read_groups(path).groups) == [
        group.group_id for group in groups
    ]


def test_a_file_that_cannot_be_written_is_told_once_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of()
    dump = open_dump(recipe, tmp_path / "missing" / "groups.jsonl")
    assert isinstance(dump, GroupDump)
    role = ShapingRole(ShapingPipeline(recipe.shaping), dump)
    with caplog.at_level(logging.WARNING):
        for ordinal in (0, 1, 4):
            summary, _ = role.shape((random_group(1, ordinal=ordinal),))
            assert summary.drop is None
    (record,) = caplog.records
    assert "no more groups are dumped by this worker: No such file or directory" in record.getMessage()


def test_a_run_leaves_a_file_that_can_be_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    recipe = make_recipe(toy_changes(write_toy_policy(tmp_path), tmp_path), base_dir=tmp_path).as_dict()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "out"
    for words in (
        ["train", str(tmp_path / "recipe.yaml"), "--address", "house", "--run-dir", str(out)],
        ["explain", str(out / GROUPS_FILE), "--html", str(tmp_path / "groups.html")],
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert not ended.value.code
    # Two groups of each of three steps, eight rollouts each.
    assert "48  " in capsys.readouterr().out
    steps = [record.labels["step"] for record in read_groups(out / GROUPS_FILE).groups]
    assert sorted(steps) == [1, 1, 2, 2, 3, 3]
    assert f"lessrl explain {GROUPS_FILE}" in (out / "README.txt").read_text()
