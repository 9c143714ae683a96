from math import inf

from job_rig import large, of_type, sent, small

from jupiter_agent.core.effects import DropBulk, DropObject, FetchBulk, Notice, Send, SendChunk, TellBulk, WriteChunk
from jupiter_agent.core.events import BulkEnded, ObjectStored
from jupiter_agent.core.messages.bulk import BulkAt, BulkWanted
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, Chunk, ChunkRequest, Missing
from jupiter_agent.core.transfer import (
    ACTIVE,
    ASKERS,
    HINTS,
    LINGER_S,
    PAUSE_S,
    STALL_MAX_S,
    STALL_S,
    WINDOW,
    Transfers,
)

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


def test_a_source_that_never_answers_is_asked_for_weeks():
    transfers = Transfers("me")
    transfers.keep([OBJ], "n2", 0.0)
    for _ in range(2000):
        now = transfers.next_deadline()
        assert {node for node, _, _ in asked(transfers.on_deadline(now))} == {"n2"}
    assert transfers.next_deadline() - now == STALL_MAX_S


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


def test_who_asks_again_for_what_is_under_way_is_served_once():
    transfers = Transfers("me")
    transfers.hint(OBJ.sha256, OBJ.size, "n9")
    for _ in range(3):
        transfers.on_request("client:1", ChunkRequest(OBJ.sha256, 0, 5), 0.0)
    for number in range(2 * ASKERS):
        transfers.on_request(f"client:{number}", ChunkRequest(OBJ.sha256, 0, 5), 0.0)
    served = transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), 1.0)
    assert len(served) == ASKERS
    assert sum(effect.dst == "client:1" for effect in of_type(served, SendChunk)) == 1


def test_who_asks_for_what_nobody_can_give_is_told():
    transfers = Transfers("me")
    transfers.hint(OBJ.sha256, OBJ.size, "n9")
    transfers.on_request("client:1", ChunkRequest(OBJ.sha256, 0, 5), 0.0)
    assert sent(transfers.on_chunk("n9", chunk(0, size=7, length=7), 1.0), Missing) == [
        ("client:1", Missing(OBJ.sha256))
    ]


def test_hints_are_forgotten_when_there_are_many():
    transfers = Transfers("me")
    for number in range(HINTS + 1):
        transfers.hint(number.to_bytes(32, "big"), 1, "n9")
    first, second = (transfers.on_request("client:1", ChunkRequest(n.to_bytes(32, "big"), 0, 1), 0.0) for n in (0, 1))
    assert of_type(first, SendChunk), "answered by what the store says"
    assert asked(second)


# --- the bulk channel


def with_bulk() -> Transfers:
    transfers = Transfers("me")
    transfers.bulk = True
    return transfers


def ended(error: str = "", moved: int = 0, peer: str = "n2") -> BulkEnded:
    return BulkEnded(OBJ.sha256, peer, moved, 0.5, error)


def test_a_source_is_asked_once_where_it_serves_and_then_everything_is_taken_there():
    transfers = with_bulk()
    other = large(b"two", 99_999)
    assert transfers.keep([OBJ], "n2", 0.0) == [Send("n2", BulkWanted())]
    assert transfers.keep([other], "n2", 0.0) == []
    assert transfers.on_bulk_at("n2", BulkAt(4711), 0.1) == [
        FetchBulk(OBJ.sha256, OBJ.size, "n2", 4711),
        FetchBulk(other.sha256, other.size, "n2", 4711),
    ]
    third = large(b"three", 99_998)
    assert transfers.keep([third], "n2", 0.2, durable=True) == [FetchBulk(third.sha256, third.size, "n2", 4711, True)]


def test_a_question_that_got_lost_is_asked_again_however_many_wait_for_the_answer():
    transfers = with_bulk()
    assert transfers.keep([OBJ, large(b"two", 99_999)], "n2", 0.0) == [Send("n2", BulkWanted())]
    assert transfers.on_deadline(STALL_S) == [Send("n2", BulkWanted())]
    assert transfers.on_deadline(3 * STALL_S) == [Send("n2", BulkWanted())]


def test_a_large_output_starts_to_move_with_its_parcel_not_with_a_place_to_run():
    transfers = with_bulk()
    transfers.on_bulk_at("n2", BulkAt(4711), 0.0)
    assert of_type(transfers.keep([OBJ], "n2", 0.1), FetchBulk)


def test_what_the_bulk_channel_brought_is_here_and_a_sample_of_the_link():
    transfers = with_bulk()
    transfers.on_bulk_at("n2", BulkAt(4711), 0.0)
    transfers.keep([OBJ], "n2", 0.0)
    assert transfers.next_deadline() == inf
    transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), 1.0)
    assert transfers.on_bulk_ended(ended(moved=OBJ.size), 1.0) == []
    assert transfers.has(OBJ)
    assert (transfers.samples, transfers.moved_bytes) == ([("n2", OBJ.size, 0.5)], OBJ.size)


def test_a_source_without_a_bulk_channel_and_one_that_cannot_be_reached_are_asked_for_chunks():
    for answer in (BulkAt(0), BulkAt(4711)):
        transfers = with_bulk()
        transfers.keep([OBJ], "n2", 0.0)
        effects = transfers.on_bulk_at("n2", answer, 0.1)
        if answer.port:
            effects = transfers.on_bulk_ended(ended("unreachable"), 4.0)
        assert len(asked(effects)) == 3
        assert asked(transfers.keep([large(b"two", 99_999)], "n2", 5.0)), "nor is it tried again at once"


def test_a_lost_session_goes_on_at_the_next_source_and_after_the_last_one_later():
    transfers = with_bulk()
    for node in ("n2", "n3"):
        transfers.on_bulk_at(node, BulkAt(4711), 0.0)
    transfers.want(OBJ.sha256, OBJ.size, ["n2", "n3"], 0.0)
    assert transfers.on_bulk_ended(ended("lost", 100), 1.0) == [FetchBulk(OBJ.sha256, OBJ.size, "n3", 4711)]
    assert transfers.on_bulk_ended(ended("lost", peer="n2"), 1.0) == [], "n2 is not asked any more"
    assert transfers.on_bulk_ended(ended("lost", 0, "n3"), 2.0) == []
    assert transfers.next_deadline() == 2.0 + PAUSE_S
    assert transfers.on_deadline(2.0 + PAUSE_S) == [Send("n2", BulkWanted())], "it may serve elsewhere now"


def test_a_source_that_does_not_say_where_it_serves_gives_way_to_the_next():
    transfers = with_bulk()
    transfers.on_bulk_at("n3", BulkAt(4711), 0.0)
    transfers.want(OBJ.sha256, OBJ.size, ["n2", "n3"], 0.0)
    assert transfers.on_deadline(STALL_S) == [FetchBulk(OBJ.sha256, OBJ.size, "n3", 4711)]


def test_a_size_that_the_only_source_contradicts_is_given_up_and_said():
    transfers = with_bulk()
    transfers.on_bulk_at("n2", BulkAt(4711), 0.0)
    transfers.keep([OBJ], "n2", 0.0)
    notice, *others = transfers.on_bulk_ended(ended("size 7"), 1.0)
    assert isinstance(notice, Notice)
    assert notice.level == "error"
    assert others == [DropObject(OBJ.sha256)]
    assert "has it with 7" in transfers.refuted([small(b"x"), OBJ])
    assert transfers.refuting
    assert transfers.on_deadline(1.0) == [DropBulk(OBJ.sha256)]
    assert transfers.next_deadline() == inf, "and never asked for again"
    transfers.release([OBJ], 2.0)
    assert transfers.refuted([OBJ]) == ""


def test_a_size_that_one_of_two_sources_contradicts_is_asked_of_the_other():
    transfers = with_bulk()
    for node in ("n2", "n3"):
        transfers.on_bulk_at(node, BulkAt(4711), 0.0)
    transfers.want(OBJ.sha256, OBJ.size, ["n2", "n3"], 0.0)
    assert transfers.on_bulk_ended(ended("size 7"), 1.0) == [FetchBulk(OBJ.sha256, OBJ.size, "n3", 4711)]


def test_a_lying_size_in_chunks_is_given_up_too():
    transfers = Transfers("me")
    transfers.keep([OBJ], "n2", 0.0)
    [notice, _] = transfers.on_chunk("n2", chunk(0, size=99_999_999), 0.0)
    assert isinstance(notice, Notice)
    assert transfers.refuted([OBJ])


def test_no_more_than_so_many_objects_come_at_once_and_the_rest_follow():
    transfers = with_bulk()
    transfers.on_bulk_at("n2", BulkAt(4711), 0.0)
    objects = [large(b"%d" % n, 100_000 + n) for n in range(ACTIVE + 2)]
    assert len(transfers.keep(objects, "n2", 0.0)) == ACTIVE
    [begun] = transfers.on_stored(ObjectStored(objects[0].sha256, objects[0].size), 1.0)
    assert begun == FetchBulk(objects[ACTIVE].sha256, objects[ACTIVE].size, "n2", 4711)


def test_the_channel_is_told_of_what_nobody_needs_any_longer():
    transfers = with_bulk()
    transfers.on_bulk_at("n2", BulkAt(4711), 0.0)
    transfers.keep([OBJ], "n2", 0.0)
    transfers.release([OBJ], 1.0)
    assert transfers.next_deadline() <= 1.0
    assert transfers.on_deadline(1.0) == [DropBulk(OBJ.sha256)]


def test_what_is_needed_again_in_the_same_turn_is_not_dropped_from_the_channel():
    transfers = with_bulk()
    transfers.on_bulk_at("n2", BulkAt(4711), 0.0)
    transfers.keep([OBJ], "n2", 0.0)
    transfers.release([OBJ], 1.0)
    assert transfers.keep([OBJ], "n2", 1.0) == [FetchBulk(OBJ.sha256, OBJ.size, "n2", 4711)]
    assert transfers.on_deadline(1.0) == []
    transfers.on_stored(ObjectStored(OBJ.sha256, OBJ.size), 2.0)
    assert transfers.on_deadline(2.0) == [], "nor is what came"


def test_who_asks_where_this_node_serves_is_told():
    assert with_bulk().on_bulk_wanted("n2", BulkWanted(), 0.0) == [TellBulk("n2")]
    assert Transfers("me").on_bulk_wanted("n2", BulkWanted(), 0.0) == [Send("n2", BulkAt(0))]


def test_through_others_small_chunks_are_asked_for_one_at_a_time_no_faster_than_they_carry():
    transfers = with_bulk()
    transfers.relayed = lambda node: 65_536.0
    [first] = asked(transfers.keep([OBJ], "n2", 0.0))
    assert first == ("n2", 0, 65_536)
    effects = transfers.on_chunk("n2", chunk(0, length=65_536), 0.5)
    assert asked(effects) == []
    assert transfers.next_deadline() == 2.0
    assert asked(transfers.on_deadline(2.0)) == [("n2", 65_536, 65_536)]


def test_chunks_for_a_node_that_others_reach_are_given_to_them():
    transfers = Transfers("me")
    transfers.keep([OBJ], "me", 0.0)
    transfers.relayed = lambda node: 1000.0 if node == "n2" else 0.0
    ask = ChunkRequest(OBJ.sha256, 0, 10)
    assert transfers.on_request("n2", ask, 0.0) == [SendChunk("n2", OBJ.sha256, 0, 10, relayed=True)]
    assert transfers.on_request("n3", ask, 0.0) == [SendChunk("n3", OBJ.sha256, 0, 10)]
