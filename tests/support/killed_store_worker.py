"""Uses of a control store that are killed before each of their statements and commits, one after the other.

Arguments: what is done, "commit", "delete" or "open"; and the URL of an empty database. Each line is JSON: the
statement that was not made any more ("" in the end, when all were made), and what the next process finds.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_records import make_answer, make_audit, make_config, make_event, make_operation, make_run
from sqlalchemy import Engine, create_engine, event, text

from services.control.life import RunLife
from services.control.records import Change, OperationState
from services.control.store import SqlStore, open_store
from services.reports import RunState

BEFORE = Change(
    runs=(make_run(), make_run("run_b")),
    operations=(make_operation(),),
    events=(make_event(1),),
    configs=(make_config(),),
    answers=(make_answer(),),
    settings={"name": "before"},
)
AFTER = Change(
    runs=(make_run(life=RunLife(state=RunState.PAUSED), step=9),),
    operations=(make_operation(state=OperationState.SUCCEEDED, ended_at=5.0),),
    events=(make_event(2), make_event(3)),
    configs=(make_config(at_step=9),),
    audit=(make_audit(),),
    answers=(make_answer(status=201),),
    settings={"name": "after"},
)


def found_in(store: SqlStore) -> dict[str, Any]:
    """Each part of a change, as far as the next process sees it."""
    run = next((each for each in store.runs() if each.run_id == "run_a"), None)
    operations, configs, answer = store.operations("run_a"), store.configs("run_a"), store.answer("key", "ops")
    return {
        "state": run.life.state.value if run else "gone",
        "operations": [each.state.value for each in operations],
        "events": [each.sequence for each in store.events("run_a", limit=9)],
        "configs": [each.at_step for each in configs],
        "num_audit": len(store.audit(limit=9)),
        "answer": answer.status if answer else None,
        "setting": store.setting("name"),
        "last": store.last_sequence(),
    }


def dies_before(number: int, url: str, action: Callable[[SqlStore | None], object], *, opens: bool) -> str:
    """Do it in a process of its own, which is killed before its `number`-th statement or commit, 0-based.

    Args:
        opens: whether opening the store is a part of what is killed.
    Returns:
        The statement; "" when all was done before.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        store = None if opens else open_store(url)
        made = 0

        def make(statement: str) -> None:
            nonlocal made
            if made == number:
                os.write(writer, statement.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            made += 1

        event.listen(Engine, "before_cursor_execute", lambda *args: make(" ".join(args[2].split())))
        event.listen(Engine, "commit", lambda _: make("COMMIT"))
        action(store)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        statement = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if status != (signal.SIGKILL if statement else 0):
        raise SystemExit(f"the process ended with status {status} after {statement!r}")
    return statement


ACTIONS: dict[str, Callable[[str], Callable[[SqlStore | None], object]]] = {
    "commit": lambda _: lambda store: store.commit(AFTER) if store else None,
    "delete": lambda _: lambda store: store.delete_run("run_a") if store else None,
    "open": lambda url: lambda _: open_store(url),
}


def empty(url: str) -> None:
    """Take everything out of a database again."""
    if not url.startswith("postgresql:"):
        Path(url).unlink()
        return
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


def main(what: str, url: str) -> None:
    opens = what == "open"
    if not opens:
        store = open_store(url)
        store.commit(BEFORE)
        store.close()
    for number in range(100):
        statement = dies_before(number, url, ACTIONS[what](url), opens=opens)
        store = open_store(url)
        found = found_in(store) | {"trouble": store.probe()}
        store.close()
        sys.stdout.write(json.dumps({"statement": statement, "found": found}) + "\n")
        if statement == "":
            return
        if opens:
            empty(url)
    raise SystemExit("it makes more statements than anything here does")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
