"""What was learned of runs outlives the agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from jupiter_agent.adapters.learned_runs import LearnedRuns
from jupiter_agent.adapters.profile_store import ProfileStore
from jupiter_agent.core.messages.profiling import TaskProfile
from jupiter_agent.core.profiling.exec_book import ExecBook

APP = b"a" * 32
TOLD = TaskProfile("t", (0.0, 0.0, 0.0), (2.0, 0.0, 0.0), 0.8, 1.25, 9, 100, 1.0, False, {"u": 50})


def test_profiles_are_known_again_after_a_restart_until_they_are_forgotten(tmp_path: Path) -> None:
    async def life() -> None:
        path, book = tmp_path / "profiles.db", ExecBook("me")
        learned = LearnedRuns(path, book)
        assert not path.exists()
        book.take("n2", APP, [TOLD])
        await learned.keep(book.unsaved(1.0))
        book.take("n3", APP, [TOLD])
        learned.close(2.0)
        again = ExecBook("me")
        kept = LearnedRuns(path, again)
        assert again.nodes_with(APP, ["t"], 0.0) == {"n2", "n3"}
        await kept.forget(APP)
        kept.close(3.0)
        third = ExecBook("me")
        LearnedRuns(path, third).close(4.0)
        assert not third.knows(APP)

    asyncio.run(life())


def test_a_row_that_is_damaged_costs_that_row(tmp_path: Path) -> None:
    async def life() -> None:
        path, book = tmp_path / "profiles.db", ExecBook("me")
        store = ProfileStore(path)
        store.save_executions([(APP, "t", "n2", b"\xc1"), (APP, "t", "n3", b"\x93\x01")], 1.0)
        store.close()
        first = LearnedRuns(path, book)
        book.take("n4", APP, [TOLD])
        first.close(2.0)
        again = ExecBook("me")
        LearnedRuns(path, again).close(3.0)
        assert again.nodes_with(APP, ["t"], 0.0) == {"n4"}

    asyncio.run(life())
