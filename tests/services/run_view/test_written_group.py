"""One group on its way to a reader: whole, masked, kept for the next one, and never at the cost of all others."""

import json
from pathlib import Path

import pytest
from group_builders import make_group, make_rollout
from recipe_builders import IN_PROCESS, make_recipe
from run_view_builders import HOSTILE, append_groups, group_bytes, make_group_line, make_run_dir

from services.control.redaction import Redactor
from services.explain.file import read_groups
from services.explain.group import explain_record
from services.explain.view import group_view
from services.roles.shaping import build_shaping_role
from services.run_dir import GROUPS_FILE
from services.run_view.byte_cache import ByteCache
from services.run_view.drawing import draw
from services.run_view.refusals import NotFound
from services.run_view.stored_groups import OWN_SPELLING, StoredGroup, glance
from services.run_view.view import RunView
from services.run_view.written_group import MAX_TOKENS, group_json
from shaping.errors import UserError
from shaping.records import StopReason

TOKENIZER = str(Path(__file__).parents[3] / "deploy" / "quickstart" / "policy")


def stored(line: bytes, **changes: int) -> StoredGroup:
    found = glance(line)
    sizes = {"num_correct": found.num_correct, "num_rollouts": found.num_rollouts, "num_tokens": found.num_tokens}
    return StoredGroup(offset=0, num_bytes=len(line), step=found.step, **{**sizes, **changes})


def test_a_group_is_what_explain_shows_and_what_its_answers_got(tmp_path: Path) -> None:
    append_groups(tmp_path, [make_group_line(7, rewards=[1.0, 0.5, 0.0, -1.0], tokens=HOSTILE)])
    found = json.loads(RunView(tmp_path).group("g00000007"))
    explained = explain_record(read_groups(tmp_path / GROUPS_FILE).groups[0], options={}, bound="lower")
    assert {name: found[name] for name in group_view(explained)} == json.loads(json.dumps(group_view(explained)))
    assert (found["group_id"], found["num_tokens"]) == ("g00000007", 4 * len(HOSTILE))
    assert [(each["correct"], each["reward"], each["num_tokens"]) for each in found["answers"]] == [
        (True, 1.0, 5),
        (True, 0.5, 5),
        (False, 0.0, 5),
        (False, -1.0, 5),
    ]


def test_a_group_that_was_not_written_down_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"run\.dump_groups_per_step") as caught:
        RunView(make_run_dir(tmp_path)).group("g00000003")
    assert caught.value.what == "group"


@pytest.mark.parametrize("group_id", ["", "../x", "g" * 10_000, "\ud800", "\0"])
def test_a_hostile_id_is_a_group_that_is_not_there(tmp_path: Path, group_id: str) -> None:
    with pytest.raises(NotFound):
        RunView(make_run_dir(tmp_path)).group(group_id)


def test_a_process_of_its_own_draws_the_same() -> None:
    # 33,000 tokens: more than are drawn here.
    line = group_bytes(make_group_line(1, tokens=["a", "b", "wörd\n"] * 11_000, size=1))
    assert draw(line, stored(line), "g00000001") == group_json(line, stored(line), "g00000001")
    with pytest.raises(UserError, match="unknown field 'other'"):
        draw(line.replace(b'"entropies"', b'"other"', 1), stored(line), "g00000001")


def test_a_group_that_nobody_could_look_at_is_refused() -> None:
    line = group_bytes(make_group_line())
    with pytest.raises(UserError, match=f"a group of at most {MAX_TOKENS} tokens is drawn, found {MAX_TOKENS + 1}"):
        group_json(line, stored(line, num_tokens=MAX_TOKENS + 1), "g00000000")


def test_a_secret_that_is_learned_later_leaves_a_kept_group_too(tmp_path: Path) -> None:
    append_groups(tmp_path, [make_group_line(0, prompt="say canary-11 twice")])
    redactor = Redactor()
    view = RunView(tmp_path, mask=redactor)
    assert b"canary-11" in view.group("g00000000")
    redactor.learn(["canary-11"])
    assert json.loads(view.group("g00000000"))["prompt"] == "say [redacted] twice"


def test_the_cache_keeps_what_was_used_last_and_no_more_bytes_than_it_may() -> None:
    cache = ByteCache(10)
    cache.put("a", b"1234")
    cache.put("b", b"1234")
    assert cache.get("a") == b"1234"
    cache.put("c", b"1234")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"1234", None, b"1234")
    cache.put("a", b"12")
    assert cache.num_bytes == 6
    cache.put("d", b"x" * 11)
    assert (cache.get("d"), cache.num_bytes) == (None, 0)


def test_what_the_run_writes_has_rewards_and_is_glanced_at_in_its_own_spelling(tmp_path: Path) -> None:
    rewards = [{"kind": "numeric_answer", "weight": 0.1}]
    shaping = {"rewards": rewards, "segments": {"min_length": 2}, "verifiers": IN_PROCESS}
    role = build_shaping_role(make_recipe({"model.path": TOKENIZER, "shaping": shaping}), tmp_path / GROUPS_FILE)
    right = make_rollout([361, 362, 14], text="5")
    wrong = make_rollout([223, 27], text="6", stop_reason=StopReason.LENGTH)
    role.shape((make_group([right, wrong], group_id="g00000000"),))
    line = (tmp_path / GROUPS_FILE).read_bytes()
    # 0.1 as float32, in the fewest digits that say it.
    assert [each["extra"] for each in json.loads(line)["responses"]] == [
        {"reward": 0.1, "is_truncated": False},
        {"reward": 0.0, "is_truncated": True},
    ]
    assert line.startswith(OWN_SPELLING)
    found = glance(line)
    assert (found.group_id, found.num_correct, found.num_rollouts, found.num_tokens) == ("g00000000", 1, 2, 5)
    assert RunView(tmp_path).distribution("reward")["n"] == 2
