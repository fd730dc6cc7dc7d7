"""`lessrl` in the process of a test, as somebody at a shell sees it."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from services.cli import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Shell:
    """`lessrl words` in this process, told where its control plane is."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        told = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, told.out, told.err)

    def refused(self, code: int, *words: object) -> str:
        """The one line that says why."""
        said = self(*words)
        assert (said.code, said.out) == (code, ""), said
        assert re.fullmatch(r"lessrl: [^\n]+\n", said.err)
        return said.err.removeprefix("lessrl: ").rstrip("\n")
