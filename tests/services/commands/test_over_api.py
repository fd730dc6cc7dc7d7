"""Commands against a real control plane on a real port: what is printed, and with which exit code."""

import json
import re
from pathlib import Path

import pytest
from lessrl_shell import Shell
from run_view_builders import write_log
from served_plane import CHECKPOINT, RUN_ID, ObedientRun, ServedPlane, serve_run

from services.reports import RunEvent, RunState

HOSTILE = "\x1b[2J\x07 \u202e evil \x9b31m"


# -- looking


@pytest.mark.usefixtures("run")
def test_json_is_the_object_of_the_api(lessrl: Shell) -> None:
    status = lessrl("status", "--json")
    assert (status.code, status.err) == (0, "")
    assert (status.data["id"], status.data["status"]["state"], status.data["status"]["step"]) == (RUN_ID, "running", 1)
    assert {"spec", "status", "links", "created_at", "run_dir"} <= set(status.data)
    assert lessrl("list", "--json").data == {"items": [status.data]}
    for noun, member in (("groups", "group_id"), ("workers", "role"), ("checkpoints", "policy_version")):
        listed = lessrl(noun, "--json").data
        assert list(listed) == ["items"] and all(member in each for each in listed["items"]) and listed["items"]
        assert lessrl(noun, "list", "--json").data == listed


def test_run_is_named_by_id_name_directory_or_not_at_all(lessrl: Shell, run: ObedientRun) -> None:
    found = [lessrl("status", *words, "--json").data["id"] for words in ((), (RUN_ID,), ("tiny",), (run.run_dir,))]
    assert found == [RUN_ID] * 4
    listed = [
        lessrl("checkpoints", *words, "--json").data
        for words in (("list",), (RUN_ID,), (RUN_ID, "list"), ("list", "--run", "tiny"), ("--run", RUN_ID, "list"))
    ]
    assert listed[1:] == listed[:-1]


@pytest.mark.usefixtures("run")
def test_words_say_what_is_and_a_dash_where_nothing_is(lessrl: Shell) -> None:
    said = lessrl("status").out
    assert f"run            {RUN_ID}  tiny\n" in said
    assert "progress       step 1/10, 18 s left\n" in said
    # No checkpoint was reported.
    assert "checkpoint     -\n" in said
    header, row = lessrl("list").out.splitlines()
    assert header.split() == ["run", "name", "state", "step", "accuracy", "created", "message"]
    assert row.split()[:5] == [RUN_ID, "tiny", "running", "1/10", "-"]


@pytest.mark.usefixtures("run")
def test_list_is_filtered(lessrl: Shell) -> None:
    assert lessrl("list", "--state", "paused").out == "no runs\n"
    assert lessrl("list", "--label", "team=a").out == "no runs\n"
    assert "--state must be one of" in lessrl.refused(2, "list", "--state", "napping")


@pytest.mark.usefixtures("run")
def test_streams_are_one_object_per_line(lessrl: Shell) -> None:
    lines = [json.loads(line) for line in lessrl("events", "--json").out.splitlines()]
    assert [each["type"] for each in lines if each["type"] in ("starting", "started", "step_completed")] == [
        "starting",
        "started",
        "step_completed",
    ]
    only = lessrl("events", "--type", "step_completed", "--json").out.splitlines()
    assert [json.loads(line)["message"] for line in only] == ["step 1 of 10"]
    last = json.loads(only[0])["id"]
    assert all(json.loads(line)["id"] > last for line in lessrl("events", "--after", last, "--json").out.splitlines())


def test_text_of_a_run_cannot_steer_the_terminal(lessrl: Shell, run: ObedientRun) -> None:
    write_log(run.run_dir, "rollout-0", f"2023-11-14 22:13:20,000 INFO x: {HOSTILE}\n")
    run.report(RunEvent(kind="worker_lost", message=HOSTILE, state=RunState.RUNNING))
    for words in (("events",), ("logs",), ("status",), ("list",), ("top", "--once")):
        out = lessrl(*words).out
        assert "evil" in out
        assert not any(char in out for char in "\x1b\x07\u202e\x9b"), words


def test_logs_are_filtered_by_the_control_plane(lessrl: Shell, run: ObedientRun) -> None:
    write_log(run.run_dir, "rollout-0", "".join(f"2023-11-14 22:13:2{n},000 INFO x: line {n}\n" for n in range(5)))
    assert [line.rsplit(" ", 1)[1] for line in lessrl("logs", "--tail", 2).out.splitlines()] == ["3", "4"]
    assert len(lessrl("logs", "--search", "LINE 3").out.splitlines()) == 1


@pytest.mark.usefixtures("run")
def test_group_is_shown_with_a_mark_below_each_token(lessrl: Shell) -> None:
    said = lessrl("groups", "show", "g00000001").out
    assert "1 of 4 correct" in said and "rollout 3" in said
    # Four tokens, four marks.
    assert re.search(r"0 │ abcd\n  │ \S{4}\n", said)
    assert "rollout 3" not in lessrl("groups", "show", "g00000001", "--rollout", 1).out
    assert "--rollout must be in 0 to 3" in lessrl.refused(2, "groups", "show", "g00000001", "--rollout", 9)
    assert lessrl("groups", "show", "g00000001", "--json").data["prompt_id"] == "p"


@pytest.mark.usefixtures("run")
def test_what_is_not_there_is_a_mistake(lessrl: Shell) -> None:
    assert "run_404" in lessrl.refused(2, "status", "run_404")
    assert "nobody" in lessrl.refused(2, "status", "nobody")
    lessrl.refused(2, "groups", "show", "g99999999")
    lessrl.refused(2, "eval", "show", "none")


# -- steering


def test_pause_that_is_waited_for_is_a_pause_with_its_checkpoint(lessrl: Shell, run: ObedientRun) -> None:
    said = lessrl("pause", "--wait", "--reason", "maintenance")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{RUN_ID}: paused (drain), {CHECKPOINT}, released none, exactness learner_exact\n"
    again = lessrl("pause", "--json").data
    assert again["run"]["status"]["pause"]["reason"] == "maintenance"
    order = run.told[-1].order
    assert order is not None and (order.mode, order.checkpoint) == ("drain", True)


@pytest.mark.usefixtures("run")
def test_pause_says_how_and_nothing_that_was_not_said(lessrl: Shell) -> None:
    options = ("--mode", "abort", "--no-checkpoint", "--timeout", 60, "--on-timeout", "fail", "--ttl", 3600)
    answer = lessrl("pause", *options, "--wait", "--json").data
    assert answer["operation"]["state"] == "succeeded"
    asked = {"mode": "abort", "checkpoint": False, "timeout_seconds": 60.0, "ttl_seconds": 3600.0}
    assert answer["operation"]["request"].items() >= asked.items()


def test_pause_that_fails_ends_with_code_1(lessrl: Shell, served: ServedPlane, tmp_path: Path) -> None:
    with serve_run(served, tmp_path / "run", pause_error="the disk is full"):
        said = lessrl.refused(1, "pause", "--wait")
        assert said.startswith("pause failed in phase saving: ") and "the disk is full" in said
        assert lessrl("status", "--json").data["status"]["state"] == "running"


def test_resume_without_a_directory_is_one_over_the_api(lessrl: Shell, run: ObedientRun) -> None:
    lessrl("pause", "--wait")
    assert lessrl("resume", "--wait").out == f"{RUN_ID}: running\n"
    lessrl("pause", "--wait")
    # A run that has a process is paused, whatever its directory holds.
    assert lessrl("resume", run.run_dir, "--wait", "--json").data["run"]["status"]["state"] == "running"
    assert "lessrl config set" in lessrl.refused(2, "resume", RUN_ID, "--set", "run.steps=9")


@pytest.mark.usefixtures("run")
def test_conflict_ends_with_code_4_and_says_what_is_allowed(lessrl: Shell) -> None:
    assert lessrl("cancel", "--wait").code == 0
    said = lessrl.refused(4, "pause")
    assert "it is cancelled and allows nothing" in said
    assert lessrl("cancel").code == 0


@pytest.mark.usefixtures("run")
def test_what_cannot_be_asked_ends_with_code_2(lessrl: Shell) -> None:
    assert "release" in lessrl.refused(2, "pause", "--mode", "freeze", "--release", "all")
    assert lessrl("pause", "--modus", "drain").code == 2


@pytest.mark.parametrize(("end", "code"), [("completed", 0), ("failed", 1), ("cancelled", 130)])
def test_wait_ends_with_the_code_of_the_run_where_it_is_asked_to(
    lessrl: Shell, run: ObedientRun, end: str, code: int
) -> None:
    run.end(end, "as it is")
    assert lessrl("wait").code == 0
    said = lessrl("wait", "--exit-status")
    assert said.code == code and said.out.startswith(f"{RUN_ID}: {end}, step 1/10")
    assert lessrl("wait", "--until", "paused").code == (code or 1)
    assert lessrl("wait", "--until", end, "--json").data["status"]["state"] == end


@pytest.mark.usefixtures("run")
def test_wait_ends_with_code_5_when_its_time_is_over(lessrl: Shell) -> None:
    assert f"in vain for {RUN_ID} to be paused" in lessrl.refused(5, "wait", "--until", "paused", "--timeout", 0)


def test_end_of_a_run_whose_control_plane_went_with_it_is_in_its_directory(
    lessrl: Shell, served: ServedPlane, run: ObedientRun
) -> None:
    served.stop()
    assert "found:" in lessrl.refused(3, "wait", run.run_dir)
    ended = {"name": "tiny", "status": "cancelled", "steps": 4, "total_steps": 10}
    (run.run_dir / "summary.json").write_text(json.dumps(ended))
    said = lessrl("wait", run.run_dir, "--exit-status")
    assert (said.code, said.out) == (130, f"{RUN_ID}: cancelled, step 4/10\n")
    served.start_again()


# -- config


@pytest.mark.usefixtures("run")
def test_live_key_is_changed_and_takes_effect(lessrl: Shell) -> None:
    key = "learner.optimizer.learning_rate"
    answer = lessrl("config", "set", f"{key}=1e-5", "--wait", "--json").data
    assert (answer["generation"], answer["at_step"]) == (2, 2)
    assert float(lessrl("config", "get", key).out) == 1e-5
    patches = [each["patch"] for each in lessrl("config", "history", "--json").data["items"]]
    assert patches == [{}, {key: 1e-5}]
    assert lessrl("config", "get", "--original").out == "name: tiny  # as written\n"


@pytest.mark.usefixtures("run")
def test_config_is_changed_only_from_the_generation_that_was_seen(lessrl: Shell) -> None:
    words = ("config", "set", "run.steps=9", "--if-generation")
    assert lessrl(*words, 1).code == 0
    assert "2" in lessrl.refused(4, *words, 1)


@pytest.mark.usefixtures("run")
def test_key_that_is_not_live_is_refused_with_the_reason(lessrl: Shell) -> None:
    assert "seed" in lessrl.refused(2, "config", "set", "seed=1")
    assert "must be key=value" in lessrl.refused(2, "config", "set", "run.steps")
    assert "found" in lessrl.refused(2, "config", "get", "run.stepz")


@pytest.mark.usefixtures("run")
def test_live_keys_are_listed_with_range_and_border(lessrl: Shell) -> None:
    said = lessrl("config", "get", "--live").out
    assert "learner.optimizer.learning_rate = " in said and "from the next step" in said
    assert lessrl("config", "--json").data["live_keys"][0]["key"] in said


# -- checkpoints, evaluations, workers


@pytest.mark.usefixtures("run")
def test_checkpoints_are_pinned_and_removed_over_the_api(lessrl: Shell) -> None:
    assert lessrl("checkpoints", "pin", "step-000001").out == "step-000001 is pinned\n"
    assert "pinned" in lessrl.refused(4, "checkpoints", "rm", "step-000001")
    assert lessrl("checkpoints", RUN_ID, "unpin", "step-000001").code == 0
    assert lessrl("checkpoints", "rm", "step-000001").out == "step-000001 is removed\n"
    lessrl.refused(4, "checkpoints", "rm", CHECKPOINT)
    assert [each["name"] for each in lessrl("checkpoints", "--json").data["items"]] == [CHECKPOINT]


def test_checkpoints_of_a_directory_need_no_control_plane(
    lessrl: Shell, run: ObedientRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESSRL_URL", "http://127.0.0.1:1")
    (run.run_dir / "control.json").unlink()
    assert CHECKPOINT in lessrl("checkpoints", run.run_dir).out
    assert "as they were written" in lessrl("checkpoints", run.run_dir, "verify", CHECKPOINT).out
    assert lessrl("checkpoints", run.run_dir, "pin", CHECKPOINT).out == f"{CHECKPOINT} is pinned\n"
    assert "name the run by its directory" in lessrl.refused(2, "checkpoints", "verify", CHECKPOINT)


def test_operations_are_started_and_waited_for(lessrl: Shell, run: ObedientRun) -> None:
    made = lessrl("checkpoints", "create", "--tag", "mine", "--wait", "--json").data
    assert (made["kind"], made["state"], made["result"]) == ("checkpoint", "succeeded", {"checkpoint": CHECKPOINT})
    assert lessrl("eval", "start", "--wait", "--json").data["state"] == "succeeded"
    assert lessrl("workers", "restart", "rollout-0", "--wait", "--json").data["kind"] == "restart_worker"
    assert [task.kind for intent in run.told for task in intent.tasks][:1] == ["checkpoint"]
    lessrl.refused(2, "workers", "restart", "rollout-9")
