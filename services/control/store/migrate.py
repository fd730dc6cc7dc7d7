"""Bringing a control store to the form that this version writes, when it is opened."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from services.control.records import StoreError
from services.control.store.opened import OpenedDatabase, troubles_named

MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(opened: OpenedDatabase, *, migrations: Path = MIGRATIONS) -> None:
    """Run every migration that the database has not seen, in one transaction: all of them, or none.

    Raises:
        StoreError: the database is of a newer version, or is no control store.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_current_head()
    advice = "see that it is a control store, that its disk has room and its server answers"
    with troubles_named(opened.description, advice), opened.engine.begin() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found == newest:
            return
        known = {script.revision for script in scripts.walk_revisions()}
        if found is not None and found not in known:
            raise StoreError(
                f"a control store must be of this version or an older one, found form {found} where {newest} is the "
                f"newest known ({opened.description}); use the newer lessrl that wrote it, or name another store"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
