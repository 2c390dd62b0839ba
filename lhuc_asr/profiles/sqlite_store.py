"""Profiles in one SQLite file: quick to open, to list and to carry away; written by several processes in turn.

What is written survives a killed process; only a loss of power may undo the last changes, never half of one.

SQLite's ``secure_delete`` zeroes what is deleted, but not the copies that it left on other pages when it rearranged
them. So rows that tell of a speaker are never rearranged: they are only appended, and zeroed in place when the speaker
is deleted. The index of the ids, which is rearranged, is built anew then; zeroed rows are swept out when they are most.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lhuc_asr.errors import ProfileError
from lhuc_asr.profiles.backend import History, Numbers, taken
from lhuc_asr.profiles.format import Encoded

_APPLICATION, _VERSION = 0x4C485543, 1  # "LHUC"
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
PRAGMA journal_mode = WAL;
CREATE TABLE speakers (number INTEGER PRIMARY KEY, speaker BLOB NOT NULL);
CREATE INDEX who ON speakers (speaker);
CREATE TABLE current (owner INTEGER PRIMARY KEY, version INTEGER NOT NULL);
CREATE TABLE versions (
    owner INTEGER NOT NULL, version INTEGER NOT NULL, page BLOB NOT NULL, tensors BLOB NOT NULL, UNIQUE (owner, version)
);
"""
_OVERWRITE = (
    "UPDATE versions SET page = zeroblob(length(page)), tensors = zeroblob(length(tensors)) WHERE owner = ?",
    "UPDATE speakers SET speaker = zeroblob(length(speaker)) WHERE number = ?",
    "DELETE FROM current WHERE owner = ?",
)
_PATIENCE = 60.0
"""Seconds to wait for another process that writes."""

_INHERITED: list[sqlite3.Connection] = []
"""A forked process must neither use nor close what its parent opened."""


@dataclass
class SqliteBackend:
    """Profiles as rows; safe for threads, and for processes forked from this one.

    Attributes:
        path: of a database that ``create`` made.
    """

    path: Path
    _connection: sqlite3.Connection | None = field(default=None, init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False)
    _process: int = field(default_factory=os.getpid, init=False)

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty database; where several processes try, one succeeds and all go on with that."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as name:
            empty = Path(name, "empty")
            with closing(sqlite3.connect(empty)) as connection:
                connection.executescript(_SCHEMA)
            try:
                path.hardlink_to(empty)
            except FileExistsError:
                return

    def speakers(self) -> Sequence[str]:
        """Everybody, from the small table."""
        with self._reading() as connection:
            rows = connection.execute("SELECT speaker FROM current JOIN speakers ON number = owner")
            return sorted(row[1:].decode() for (row,) in rows)

    def numbers(self, speaker: str) -> Numbers | None:
        """Both tables in one look."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT v.version, c.version FROM speakers JOIN current c ON c.owner = number "
                "JOIN versions v ON v.owner = number WHERE speaker = ? ORDER BY v.version",
                (_key(speaker),),
            ).fetchall()
        return Numbers(tuple(version for version, _ in rows), rows[0][1]) if rows else None

    def read(self, speaker: str, version: int | None) -> Encoded | None:
        """One row."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT page, tensors FROM speakers JOIN current c ON c.owner = number "
                "JOIN versions v ON v.owner = number AND v.version = coalesce(?, c.version) WHERE speaker = ?",
                (version, _key(speaker)),
            ).fetchone()
        return None if row is None else Encoded(json.loads(row[0]), row[1])

    def add(self, speaker: str, encoded: Encoded) -> int:
        """One row more, and the speaker points to it."""
        with self._writing() as connection:
            owner = _owner(connection, speaker)
            if owner is None:
                return _insert(connection, speaker, History({1: encoded}, 1))
            (last,) = connection.execute("SELECT max(version) FROM versions WHERE owner = ?", (owner,)).fetchone()
            _insert_version(connection, owner, last + 1, encoded)
            connection.execute("UPDATE current SET version = ? WHERE owner = ?", (last + 1, owner))
            return int(last) + 1

    def make_current(self, speaker: str, version: int) -> bool:
        """The speaker points to another row."""
        with self._writing() as connection:
            owner = _owner(connection, speaker)
            changed = connection.execute(
                "UPDATE current SET version = ?2 WHERE owner = ?1 "
                "AND EXISTS (SELECT 1 FROM versions WHERE owner = ?1 AND version = ?2)",
                (owner, version),
            )
            return changed.rowcount > 0

    def remove(self, speaker: str) -> bool:
        """Overwrite the rows with zeros, then empty the log of changes, so that no file holds a byte of them.

        Raises:
            ProfileError: the rows are gone, but another process reads for so long that the log cannot be emptied.
        """
        with self._writing() as connection:
            owner = _owner(connection, speaker)
            if owner is not None:
                for overwrite in _OVERWRITE:
                    connection.execute(overwrite, (owner,))
                connection.execute("REINDEX who")
        self._sweep()
        self._empty_log(speaker)
        return owner is not None

    def restore(self, histories: Iterable[tuple[str, History]]) -> None:
        """All speakers in one transaction."""
        with self._writing() as connection:
            for speaker, history in histories:
                if _owner(connection, speaker) is not None:
                    raise taken(speaker)
                _insert(connection, speaker, history)

    def size_bytes(self) -> int:
        """Of the database and its log."""
        files = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal", "-shm"))
        return sum(file.stat().st_blocks * 512 for file in files if file.exists())

    def close(self) -> None:
        """Close the database; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _sweep(self) -> None:
        """Write the database anew when most of its rows are zeroed ones."""
        with self._reading() as connection:
            (zeroed, alive) = connection.execute(
                "SELECT (SELECT count(*) FROM speakers) - (SELECT count(*) FROM current), count(*) FROM current"
            ).fetchone()
            if zeroed > alive:
                with self._writing():
                    connection.execute("DELETE FROM versions WHERE owner NOT IN (SELECT owner FROM current)")
                    connection.execute("DELETE FROM speakers WHERE number NOT IN (SELECT owner FROM current)")
                connection.execute("VACUUM")

    def _empty_log(self, speaker: str) -> None:
        with self._reading() as connection:
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise ProfileError(
                f"speaker {speaker!r} is deleted, but another process holds '{self.path}' open for reading and traces "
                "remain in its log; delete again when that process is done"
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock_of_this_process():
            try:
                yield self._open()
            except sqlite3.Error as error:
                raise ProfileError(f"the profile store '{self.path}' cannot be used: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _lock_of_this_process(self) -> threading.RLock:
        if self._process != os.getpid():  # forked: the parent's thread may hold the old lock for ever
            if self._connection is not None:
                _INHERITED.append(self._connection)
            self._connection, self._lock, self._process = None, threading.RLock(), os.getpid()
        return self._lock

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(
                uri, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._check(connection)
            for pragma in ("secure_delete = ON", "synchronous = NORMAL"):
                connection.execute(f"PRAGMA {pragma}")
            self._connection = connection
        return self._connection

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == _APPLICATION and version <= _VERSION:
            return
        connection.close()
        if application != _APPLICATION:
            raise ProfileError(f"'{self.path}' is a database, but not one of profiles")
        raise ProfileError(f"'{self.path}' has format {version}; this version reads up to {_VERSION}: upgrade lhuc_asr")


def _key(speaker: str) -> bytes:
    """The id as a row holds it; no row of zeros can be one."""
    return b"\x01" + speaker.encode()


def _owner(connection: sqlite3.Connection, speaker: str) -> int | None:
    row = connection.execute("SELECT number FROM speakers WHERE speaker = ?", (_key(speaker),)).fetchone()
    return None if row is None else int(row[0])


def _insert(connection: sqlite3.Connection, speaker: str, history: History) -> int:
    """A new speaker with all versions; returns the current number."""
    owner = connection.execute("INSERT INTO speakers (speaker) VALUES (?)", (_key(speaker),)).lastrowid
    assert owner is not None
    connection.execute("INSERT INTO current VALUES (?, ?)", (owner, history.current))
    for number, encoded in history.versions.items():
        _insert_version(connection, owner, number, encoded)
    return history.current


def _insert_version(connection: sqlite3.Connection, owner: int, number: int, encoded: Encoded) -> None:
    page = json.dumps(encoded.page, ensure_ascii=False).encode()
    connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", (owner, number, page, encoded.tensors))
