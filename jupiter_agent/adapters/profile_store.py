"""What an agent learned of links and code, kept over restarts: `profiles.db` of a state folder (SQLite).

A hint, nothing more: a damaged file is put aside, one of a later version is left alone and this run remembers nothing.
Rows hold MessagePack made and checked by `core`; the schema only grows, one step of `MIGRATIONS` at a time. One thread
at a time; writing is a few milliseconds, so it is done off the loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MIGRATIONS = (
    "CREATE TABLE links (peer TEXT PRIMARY KEY, saved_at REAL NOT NULL, model BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE executions (bundle BLOB NOT NULL, task TEXT NOT NULL, node TEXT NOT NULL, saved_at REAL NOT NULL, "
    "profile BLOB NOT NULL, PRIMARY KEY (bundle, task, node)) WITHOUT ROWID",
)
"""Step i brings a file from version i to i + 1; `;` separates statements. Never change one, add another."""

MOST_LINKS, MOST_EXECUTIONS = 4096, 100_000
"""Those saved last are kept"""


class ProfileStore:
    """`notice` says what is wrong with the file, if anything."""

    def __init__(self, path: Path) -> None:
        self.notice = ""
        try:
            self._db = _opened(path)
        except sqlite3.OperationalError as error:
            self.notice = f"{path.name}: {error}: what is learned in this run is not kept"
            self._db = _opened(None)
        except sqlite3.DatabaseError as error:
            self.notice = f"{path.name} is damaged and was put aside: {error}"
            for part in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                with suppress(OSError):
                    part.replace(part.with_name(part.name.replace(path.name, path.name + ".damaged")))
            self._db = _opened(path)
        except _LaterError as error:
            self.notice = f"{path.name} {error}: what is learned in this run is not kept"
            self._db = _opened(None)

    def close(self) -> None:
        self._db.close()

    # --- links ---

    def links(self) -> dict[str, tuple[float, bytes]]:
        """peer -> (wall time when it was saved, its model as it was given)."""
        rows = self._db.execute("SELECT peer, saved_at, model FROM links ORDER BY saved_at")
        return {peer: (saved_at, model) for peer, saved_at, model in rows}

    def save_links(self, models: Mapping[str, bytes], wall: float) -> None:
        """Keep these, in place of what was kept of the same peers. OSError when the disk takes nothing."""
        rows = [(peer, wall, model) for peer, model in models.items()]
        self._write("INSERT OR REPLACE INTO links VALUES (?, ?, ?)", rows)
        oldest = "SELECT peer FROM links ORDER BY saved_at DESC LIMIT -1 OFFSET ?"
        self._write(f"DELETE FROM links WHERE peer IN ({oldest})", [(MOST_LINKS,)])

    def forget_links(self, peer: str = "") -> int:
        """Forget the link models of one peer, or of all; how many there were."""
        return self._write("DELETE FROM links WHERE ? IN ('', peer)", [(peer,)])

    # --- executions ---

    def executions(self) -> list[tuple[bytes, str, str, bytes]]:
        """(bundle, task, node, its profile as it was given), oldest first."""
        return list(self._db.execute("SELECT bundle, task, node, profile FROM executions ORDER BY saved_at"))

    def save_executions(self, rows: Sequence[tuple[bytes, str, str, bytes]], wall: float) -> None:
        """Keep these, in place of what was kept of the same bundle, task and node. OSError: the disk takes nothing."""
        kept = [(bundle, task, node, wall, profile) for bundle, task, node, profile in rows]
        self._write("INSERT OR REPLACE INTO executions VALUES (?, ?, ?, ?, ?)", kept)
        oldest = "SELECT bundle, task, node FROM executions ORDER BY saved_at DESC LIMIT -1 OFFSET ?"
        self._write(f"DELETE FROM executions WHERE (bundle, task, node) IN ({oldest})", [(MOST_EXECUTIONS,)])

    def forget_executions(self, bundle: bytes | None = None) -> int:
        """Forget the profiles of one bundle, or of all; how many there were."""
        return self._write("DELETE FROM executions WHERE ?1 IS NULL OR bundle = ?1", [(bundle,)])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        """How many rows it changed."""
        try:
            with self._db:
                return self._db.executemany(statement, rows).rowcount
        except sqlite3.Error as error:
            raise OSError(f"profiles.db: {error}") from error


class _LaterError(Exception):
    """The file was written by a later version."""


def _opened(path: Path | None) -> sqlite3.Connection:
    """The database, at the present version; of the memory where there is no path."""
    db = sqlite3.connect(path or ":memory:", timeout=2.0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # the last rows may be lost in a power cut, the file is not
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise _LaterError(f"is of version {version}, this program knows {len(MIGRATIONS)}")
        for number, step in enumerate(MIGRATIONS[version:], version + 1):
            db.executescript(f"BEGIN; {step}; PRAGMA user_version = {number}; COMMIT")
        db.execute("SELECT count(*) FROM links").fetchone()
    except BaseException:
        db.close()
        raise
    if path is not None:
        path.chmod(0o600)
    return db
