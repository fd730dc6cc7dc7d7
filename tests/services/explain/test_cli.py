"""`lessrl explain` from end to end: what is said, where, and the exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from explain_builders import make_line, make_response, worked_line, write_lines

from services.cli import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What `lessrl explain words` prints; it ends well and says nothing else."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", *(str(word) for word in words)])
    output = capsys.readouterr()
    assert (ended.value.code or 0, output.err) == (0, "")
    return output.out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a user's mistake is told in."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", *(str(word) for word in words)])
    output = capsys.readouterr()
    assert (ended.value.code, output.out) == (2, "")
    assert output.err.startswith("lessrl: ") and output.err.count("\n") == 1
    return output.err.removeprefix("lessrl: ").strip()


def test_a_file_is_told_on_one_screen_without_escapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = told(capsys, write_lines(tmp_path, worked_line(), worked_line()))
    assert "2 mixed" in text and "LESS containment, min length 3" in text
    assert "\x1b" not in text


def test_a_prompt_is_told_response_by_response(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_lines(tmp_path, worked_line({"step": 1}), worked_line({"step": 2}), worked_line({"prompt_id": "b"}))
    text = told(capsys, path, "--prompt", "worked")
    assert text.count("rollout 0  ") == 2 and "step 1" in text and "step 2" in text
    one = told(capsys, path, "--prompt", "worked", "--step", 2, "--rollout", 4, "--table")
    assert "step 1" not in one and one.count("rollout 4  ") == 1 and "rollout 0  " not in one
    assert '"1"' in one and "that no other rollout holds" in one


def test_warnings_come_before_a_prompt_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    response = {"tokens": ["a"], "top_logprobs": [[-0.5]], "correct": True}
    path = write_lines(tmp_path, make_line([response], vocab_size=50))
    assert "LOWER BOUND" in told(capsys, path, "--prompt", "p").splitlines()[0]
    assert "UPPER BOUND" in told(capsys, path, "--prompt", "p", "--bound", "upper").splitlines()[0]


def test_options_replace_those_of_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_lines(tmp_path, worked_line())
    words = ["--mode", "compat", "--min-length", 4, "--quantile", 0.7, "--membership", "le", "--scope", "group"]
    text = told(capsys, path, *words, "--outside", "keep")
    assert "LESS compat, min length 4, quantile 0.7, membership le, scope group, outside keep" in " ".join(text.split())
    assert "match kgram" in " ".join(told(capsys, path, "--match", "kgram").split())


def test_a_page_is_written_beside_what_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, out = write_lines(tmp_path, worked_line(), worked_line({"prompt_id": "b"})), tmp_path / "out.html"
    assert f"wrote {out}" in told(capsys, path, "--html", out, "--prompt", "b")
    assert out.read_text().startswith("<!doctype html>")
    assert '"prompt_id":"b"' in out.read_text() and '"prompt_id":"worked"' not in out.read_text()


def test_bare_ids_get_their_text_from_a_tokenizer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policy = ROOT / "deploy" / "quickstart" / "policy"
    line = make_line([{"token_ids": [361, 362, 14], "entropies": [0, 0, 1], "correct": True}])
    path = write_lines(tmp_path, line)
    assert "<361><362><14>" in told(capsys, path, "--prompt", "p")
    assert "To start," in told(capsys, path, "--prompt", "p", "--tokenizer", policy)


def test_what_cannot_work_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_lines(tmp_path, worked_line({"step": 3}), worked_line({"step": 5}))
    for words, said in (
        ((tmp_path / "no.jsonl",), "must be readable, found No such file or directory"),
        ((path, "--prompt", "werked"), "found no 'werked'; near it: worked"),
        ((path, "--step", 4), "found no 4 but steps 3 to 5"),
        ((path, "--prompt", "worked", "--rollout", 5), "--rollout must be in 0 to 4, got 5"),
        ((path, "--table"), "--table and --rollout show one prompt"),
        ((path, "--rollout", 0), "--table and --rollout show one prompt"),
        ((path, "--bound", "middle"), "--bound must be lower or upper, got 'middle'"),
        ((path, "--mode", "best"), "mode must be one of containment, compat, got 'best'"),
        ((path, "--min-length", 0), "min_length must be >= 1, got 0"),
        ((path, "--html", tmp_path / "no" / "out.html"), "--html must be a file that can be written"),
        ((path, "--tokenizer", tmp_path), "a tokenizer.json must be there"),
        ((write_lines(tmp_path, "{}\n", name="bad.jsonl"),), "version must be given"),
    ):
        assert said in refused(capsys, *words), words


def test_a_file_of_groups_without_steps_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_lines(tmp_path, make_line([make_response("ab", True)]))
    assert "found no 1 but no steps" in refused(capsys, path, "--step", 1)


def test_explaining_imports_neither_ray_nor_torch(tmp_path: Path) -> None:
    path = write_lines(tmp_path, worked_line())
    script = (
        "import sys\nfrom services.cli import main\n"
        f"try:\n    main(['explain', {str(path)!r}])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print(sorted({'ray', 'torch', 'transformers', 'numba', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) == []
