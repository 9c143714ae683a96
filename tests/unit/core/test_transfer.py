from math import inf

from job_rig import large, of_type, sent, small

from jupiter_agent.core.effects import DropObject, SendChunk, WriteChunk
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, Chunk, ChunkRequest, Missing
from jupiter_agent.core.transfer import LINGER_S, PAUSE_S, STALL_S, WINDOW, Transfers

OBJ = large(b"one", 2 * CHUNK_BYTES + 10)


def asked(effects: list) -> list[tuple[str, int, int]]:
    return [(node, m.offset, m.length) for node, m in sent(effects, ChunkRequest)]


def chunk(offset: int, size: int = OBJ.size, length: int | None = None) -> Chunk:
    part = min(CHUNK_BYTES, size - offset) if length is None else length
    return Chunk(OBJ.sha256, size, offset, bytes(part))


def arrive(transfers: Transfers, src: str, now: float) -> None:
    for offset in range(0, OBJ.size, CHUNK_BYTES):
        transfers.on_chunk(src, chunk(offset), now)
    transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), now)


def test_an_object_is_fetched_in_chunks_and_is_here_when_the_store_says_so():
    transfers = Transfers("me")
    effects = transfers.keep([OBJ], "n2", 0.0)
    assert asked(effects) == [("n2", 0, CHUNK_BYTES), ("n2", CHUNK_BYTES, CHUNK_BYTES), ("n2", 2 * CHUNK_BYTES, 10)]
    assert of_type(transfers.on_chunk("n2", chunk(0), 1.0), WriteChunk)
    transfers.on_chunk("n2", chunk(2 * CHUNK_BYTES), 1.0)
    transfers.on_chunk("n2", chunk(CHUNK_BYTES), 2.0)
    assert not transfers.has(OBJ)
    transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), 2.0)
    assert transfers.has(OBJ)
    assert transfers.moved_bytes == OBJ.size
    assert transfers.samples == [("n2", OBJ.size, 2.0)]
    assert transfers.next_deadline() == inf


def test_no_more_than_a_window_is_asked_for_at_once():
    transfers = Transfers("me")
    big = large(b"one", 10 * CHUNK_BYTES)
    assert len(asked(transfers.keep([big], "n2", 0.0))) == WINDOW
    assert asked(transfers.on_chunk("n2", Chunk(big.sha256, big.size, 0, bytes(CHUNK_BYTES)), 1.0)) == [
        ("n2", WINDOW * CHUNK_BYTES, CHUNK_BYTES)
    ]


def test_what_was_not_asked_for_is_dropped():
    transfers = Transfers("me")
    assert transfers.on_chunk("n2", chunk(0), 0.0) == []
    transfers.keep([OBJ], "n2", 0.0)
    assert transfers.on_chunk("n2", chunk(5), 0.0) == []
    assert transfers.on_chunk("n3", chunk(0, size=99_999_999), 0.0) == []
    assert transfers.on_chunk("n2", chunk(0, length=3), 0.0) == []
    assert transfers.moved_bytes == 0


def test_a_stalled_source_gives_way_to_the_next_one():
    transfers = Transfers("me")
    transfers.keep([OBJ], "n2", 0.0)
    assert transfers.also_at([OBJ], "n3", 1.0) == []
    assert transfers.next_deadline() == STALL_S
    assert {node for node, _, _ in asked(transfers.on_deadline(STALL_S))} == {"n3"}
    assert {node for node, _, _ in asked(transfers.on_deadline(2 * STALL_S))} == {"n2"}


def test_sources_that_have_nothing_are_each_asked_once_and_then_paused_for():
    transfers = Transfers("me")
    transfers.want(OBJ.sha256, OBJ.size, ["n2", "n3"], 0.0)
    assert {node for node, _, _ in asked(transfers.on_missing("n2", Missing(OBJ.sha256), 0.1))} == {"n3"}
    assert transfers.on_missing("n2", Missing(OBJ.sha256), 0.1) == [], "an answer to an earlier request"
    assert transfers.on_missing("n3", Missing(OBJ.sha256), 0.2) == []
    assert transfers.next_deadline() == 0.2 + PAUSE_S
    assert len(asked(transfers.on_deadline(0.2 + PAUSE_S))) == 3


def test_a_wrong_digest_starts_again_with_another_source():
    transfers = Transfers("me")
    transfers.want(OBJ.sha256, OBJ.size, ["n2", "n3"], 0.0)
    for offset in range(0, OBJ.size, CHUNK_BYTES):
        transfers.on_chunk("n2", chunk(offset), 1.0)
    [notice] = transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size, "wrong digest"), 1.0)
    assert notice.level == "warning"
    assert not transfers.has(OBJ)
    again = asked(transfers.on_deadline(1.0 + PAUSE_S))
    assert [offset for _, offset, _ in again] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert {node for node, _, _ in again} == {"n3"}


def test_small_objects_need_no_fetch():
    transfers = Transfers("me")
    assert transfers.has(small(b"x"))
    assert transfers.keep([small(b"x")], "n2", 0.0) == []
    transfers.release([small(b"x")], 0.0)
    assert transfers.next_deadline() == inf


def test_an_object_is_dropped_a_while_after_its_last_user():
    transfers = Transfers("me")
    transfers.keep([OBJ], "me", 0.0)
    transfers.keep([OBJ], "me", 0.0)
    transfers.release([OBJ], 1.0)
    assert transfers.next_deadline() == inf
    transfers.release([OBJ], 2.0)
    assert transfers.on_deadline(1.9 + LINGER_S) == []
    assert transfers.has(OBJ)
    assert transfers.on_deadline(2.0 + LINGER_S) == [DropObject(OBJ.sha256)]
    assert not transfers.has(OBJ)
    transfers.check()


def test_an_object_that_is_needed_again_meanwhile_stays():
    transfers = Transfers("me")
    transfers.keep([OBJ], "me", 0.0)
    transfers.release([OBJ], 1.0)
    assert transfers.keep([OBJ], "n2", 2.0) == []
    transfers.check()
    assert transfers.on_deadline(100.0) == []
    assert transfers.has(OBJ)


def test_an_object_whose_last_user_went_while_it_was_being_written_is_dropped_too():
    transfers = Transfers("me")
    transfers.keep([OBJ], "n2", 0.0)
    for offset in range(0, OBJ.size, CHUNK_BYTES):
        transfers.on_chunk("n2", chunk(offset), 1.0)
    transfers.release([OBJ], 1.0)
    transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), 1.0)
    assert transfers.on_deadline(1.0 + LINGER_S) == [DropObject(OBJ.sha256)]


def test_the_chunks_of_a_fetch_that_nobody_waits_for_are_dropped():
    transfers = Transfers("me")
    transfers.keep([OBJ], "n2", 0.0)
    transfers.release([OBJ], 0.0)
    assert transfers.on_chunk("n2", chunk(0), 1.0) == []


def test_identical_content_is_fetched_once_for_all_who_need_it():
    transfers = Transfers("me")
    assert transfers.keep([OBJ, OBJ], "n2", 0.0)
    assert transfers.keep([OBJ], "n2", 0.0) == []
    arrive(transfers, "n2", 1.0)
    for _ in range(2):
        transfers.release([OBJ], 2.0)
    assert transfers.on_deadline(100.0) == []


def test_an_object_that_is_made_here_need_not_be_fetched_any_longer():
    transfers = Transfers("me")
    transfers.keep([OBJ], "gone", 0.0)
    transfers.keep([OBJ], "me", 1.0)
    assert transfers.has(OBJ)
    transfers.check()
    assert transfers.on_deadline(STALL_S) == []
    assert transfers.next_deadline() == inf


def test_a_request_is_served_from_the_store_which_says_itself_what_it_lacks():
    transfers = Transfers("me")
    assert transfers.on_request("n2", ChunkRequest(OBJ.sha256, 7, 10**9), 0.0) == [
        SendChunk("n2", OBJ.sha256, 7, CHUNK_BYTES)
    ]


def test_an_object_known_from_a_hint_is_fetched_for_who_asks():
    transfers = Transfers("me")
    transfers.hint(OBJ.sha256, OBJ.size, "n9")
    assert {node for node, _, _ in asked(transfers.on_request("client:1", ChunkRequest(OBJ.sha256, 0, 5), 0.0))} == {
        "n9"
    }
    for offset in range(0, OBJ.size, CHUNK_BYTES):
        transfers.on_chunk("n9", chunk(offset), 1.0)
    assert transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), 1.0) == [SendChunk("client:1", OBJ.sha256, 0, 5)]
