"""The ledger: one contract, two databases, and what happens when the disk or the schema says no."""

import os
import sqlite3
import threading

import pytest
from plait.errors import StoreError
from plait.orchestrator.ledger import Entry, Ledger
from plait.records import Failed, Scored


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    import sqlalchemy as sa

    given = os.environ.get("PLAIT_TEST_POSTGRES")
    assert given, "set PLAIT_TEST_POSTGRES to the URL of a PostgreSQL database for tests"
    from plait.orchestrator.ledger_schema import metadata

    engine = sa.create_engine(given)
    metadata.drop_all(engine)
    yield given
    metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def ledger(url):
    made = Ledger(url)
    yield made
    made.close()


def entry(key, value=1.0, run="r"):
    return Entry(key, "evaluator", Scored({"x": value}, {"seconds": 0.5}), run)


def test_what_is_recorded_is_found_and_nothing_else(ledger):
    ledger.record([entry("a"), entry("b", 2.0)])
    found = ledger.find(["a", "b", "c"])
    assert {key: one.outcome.values["x"] for key, one in found.items()} == {"a": 1.0, "b": 2.0}
    assert found["a"].run == "r"
    assert ledger.costs("r") == [{"seconds": 0.5}] * 2


def test_floats_come_back_bit_for_bit(ledger):
    value = 0.1 + 0.2
    ledger.record([entry("a", value)])
    assert ledger.find(["a"])["a"].outcome.values["x"] == value


def test_the_first_to_record_wins(ledger):
    ledger.record([entry("a", 1.0)])
    ledger.record([entry("a", 2.0)])
    assert ledger.find(["a"])["a"].outcome.values["x"] == 1.0


def test_failures_are_kept_and_never_found(ledger):
    ledger.record([Entry("a", "evaluator", Failed("OutOfMemory", "big"), "r")])
    assert ledger.find(["a"]) == {}
    assert ledger.failures() == [Failed("OutOfMemory", "big")]


def test_claims_exclude_expire_and_end_with_the_outcome(ledger):
    assert ledger.claim(["a", "b"], "one", 60) == {"a", "b"}
    assert ledger.claim(["a", "c"], "two", 60) == {"c"}
    ledger.record([entry("a")], "one")
    ledger.release("two")
    assert ledger.counts()["claims"] == 1
    ledger.renew("one", -1)  # its heartbeat stopped long ago
    assert ledger.claim(["b"], "two", 60) == {"b"}


def test_many_writers_at_once_lose_nothing(url):
    errors: list[BaseException] = []

    def write(number):
        try:
            mine = Ledger(url)
            for i in range(25):
                mine.record([entry(f"{number}-{i}"), entry(f"shared-{i}")])
            mine.close()
        except BaseException as error:
            errors.append(error)

    Ledger(url).close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    reader = Ledger(url)
    assert reader.counts()["outcomes"] == 4 * 25 + 25
    reader.close()


def test_more_keys_than_a_statement_takes(ledger):
    keys = [f"key-{i}" for i in range(5000)]
    ledger.record([entry(key) for key in keys])
    assert len(ledger.find(keys)) == 5000


def test_version_1_is_migrated_and_keeps_its_rows(tmp_path):
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.executescript(
        """
        CREATE TABLE meta (name VARCHAR(64) PRIMARY KEY, value TEXT);
        INSERT INTO meta VALUES ('version', '1');
        CREATE TABLE outcomes (key VARCHAR(64) PRIMARY KEY, evaluator VARCHAR(128) NOT NULL, "values" TEXT NOT NULL,
            cost TEXT NOT NULL, artifacts TEXT NOT NULL, created FLOAT NOT NULL);
        INSERT INTO outcomes VALUES ('a', 'e', '{"x":3.5}', '{}', '[]', 0);
        CREATE TABLE failures (id INTEGER PRIMARY KEY AUTOINCREMENT, key VARCHAR(64) NOT NULL,
            evaluator VARCHAR(128) NOT NULL, reason VARCHAR(128) NOT NULL, detail TEXT NOT NULL,
            created FLOAT NOT NULL);
        CREATE TABLE claims (key VARCHAR(64) PRIMARY KEY, owner VARCHAR(128) NOT NULL, expires FLOAT NOT NULL);
        """
    )
    old.close()
    with pytest.raises(StoreError, match="version 1"):
        Ledger(path, read_only=True)
    ledger = Ledger(path)
    assert ledger.find(["a"])["a"].outcome.values == {"x": 3.5}
    ledger.record([entry("b")])
    ledger.close()


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "new.db"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(StoreError, match=r"version 99.*upgrade"):
        Ledger(path)


@pytest.mark.parametrize("content", [b"not a database at all, and long enough to be read as one" * 40])
def test_a_file_that_is_no_ledger_is_one_line(tmp_path, content):
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        Ledger(path)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="folder exist"):
        Ledger(tmp_path / "no" / "such" / "ledger.db")


def test_a_password_is_never_shown():
    with pytest.raises(StoreError) as error:
        Ledger("postgresql+psycopg://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value)
