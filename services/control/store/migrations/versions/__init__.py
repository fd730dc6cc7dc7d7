"""One file per form, run in order by alembic. A file that was released is never changed."""
