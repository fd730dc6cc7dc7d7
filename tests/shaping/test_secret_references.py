"""References are found as written, stand for what they name, and stand for nothing quietly nowhere."""

from pathlib import Path

import pytest

from shaping.secret_references import references_in, resolve_references, secret_of


def test_references_are_found_as_written_and_nothing_else_is() -> None:
    text = "a ${env:A} b ${file:/x/y} $env:B ${ENV:C} {env:D} ${env:} ${env:E"
    assert references_in(text) == ("${env:A}", "${file:/x/y}")


def test_a_variable_and_the_text_of_a_file_are_what_they_stand_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  of the file\n")
    assert secret_of("${env:A}", {"A": "of the variable"}) == "of the variable"
    assert secret_of(f"${{file:{tmp_path}/token}}", {}) == "of the file"
    assert secret_of("${env:B}", {"A": "x"}) == ""
    assert secret_of(f"${{file:{tmp_path}/none}}", {}) == ""
    assert secret_of("plain", {"plain": "x"}) == ""


def test_a_text_is_resolved_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_A", "${env:SECRET_B}")
    monkeypatch.delenv("SECRET_B", raising=False)
    # What a secret holds is no reference.
    assert resolve_references("<${env:SECRET_A}>", "url") == "<${env:SECRET_B}>"
    assert resolve_references("plain", "url") == "plain"
    with pytest.raises(ValueError, match=r"found none for \$\{env:SECRET_B\} \(url\)"):
        resolve_references("${env:SECRET_A} ${env:SECRET_B}", "url")
