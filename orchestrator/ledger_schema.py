"""Tables of the ledger, their version, and how an older ledger becomes a current one."""

import sqlalchemy as sa

from ..errors import StoreError

VERSION = 3
"""Raise it with every change of the tables, and add the step that leads to it to `STEPS`."""

metadata = sa.MetaData()

meta = sa.Table("meta", metadata, sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.Text))

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("evaluator", sa.String(128), nullable=False),
    sa.Column("values", sa.Text, nullable=False),
    sa.Column("cost", sa.Text, nullable=False),
    sa.Column("artifacts", sa.Text, nullable=False),
    sa.Column("run", sa.String(64), nullable=False, server_default=""),
    sa.Column("created", sa.Float, nullable=False),
)

failures = sa.Table(
    "failures",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("evaluator", sa.String(128), nullable=False),
    sa.Column("reason", sa.String(128), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("cost", sa.Text, nullable=False, server_default="{}"),
    sa.Column("run", sa.String(64), nullable=False, server_default=""),
    sa.Column("created", sa.Float, nullable=False),
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False, index=True),
    sa.Column("expires", sa.Float, nullable=False),
)

STEPS = {
    # 1 -> 2: who paid, so that a resumed run's budget counts what it spent before.
    1: (
        "ALTER TABLE outcomes ADD COLUMN run VARCHAR(64) NOT NULL DEFAULT ''",
        "ALTER TABLE failures ADD COLUMN run VARCHAR(64) NOT NULL DEFAULT ''",
    ),
    # 2 -> 3: what a failed attempt took all the same, so that budgets count it after a restart.
    2: ("ALTER TABLE failures ADD COLUMN cost TEXT NOT NULL DEFAULT '{}'",),
}


def migrate(engine: sa.Engine, name: str, *, read_only: bool) -> None:
    """Create the tables, or lead an older ledger step by step to the current version.

    Raises:
        StoreError: the ledger is of a newer version, or is old or empty and may not be written.
    """
    with engine.connect() as connection:
        known = sa.inspect(connection).has_table("meta")
        found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "version")) if known else None
    version = int(found) if found is not None else 0
    if version > VERSION:
        raise StoreError(name, f"ledger of version {version}, this Plait reads up to {VERSION}: upgrade Plait")
    if version == VERSION:
        return
    if read_only:
        raise StoreError(name, f"ledger of version {version}, expected {VERSION}: open it once for writing")
    with engine.begin() as connection:
        for step in range(version, VERSION) if version else ():
            for statement in STEPS[step]:
                connection.exec_driver_sql(statement)
        metadata.create_all(connection)
        connection.execute(sa.delete(meta).where(meta.c.name == "version"))
        connection.execute(sa.insert(meta).values(name="version", value=str(VERSION)))
