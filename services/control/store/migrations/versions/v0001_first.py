"""The first form: runs, their operations, events and config generations; audit log, kept answers, settings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite numbers rows by itself in a column of exactly this type.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("rest", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", name="runs_of_one_id"),
    )
    op.create_table(
        "operations",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        _of_a_run(),
        sa.Column("operation_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("requested_at", sa.Double, nullable=False),
        sa.Column("deadline_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("rest", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "operation_id", name="operations_of_one_id"),
    )
    op.create_index("operations_by_state", "operations", ["run_id", "state"])
    op.create_table(
        "events",
        sa.Column("sequence", NUMBER, primary_key=True, autoincrement=False),
        _of_a_run(),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("rest", sa.Text, nullable=False),
    )
    op.create_index("events_by_run", "events", ["run_id", "sequence"])
    op.create_table(
        "configs",
        _of_a_run(primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at_step", sa.Integer),
        sa.Column("rest", sa.Text, nullable=False),
    )
    _create_what_belongs_to_no_run()


def _create_what_belongs_to_no_run() -> None:
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("rest", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "answers",
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("rest", sa.Text, nullable=False),
    )
    op.create_index("answers_by_age", "answers", ["created_at"])
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _of_a_run(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "run_id", sa.Text, sa.ForeignKey("runs.run_id", ondelete="CASCADE"), nullable=False, primary_key=primary_key
    )
