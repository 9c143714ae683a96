from math import inf

from job_rig import CHAIN, Around, make_job, parcel, place, reg, sent
from msgspec import structs

from jupiter_agent.core.messages.jobs import Parcel, ParcelReceived, RunStarted
from jupiter_agent.core.outbox import RESEND_MAX_S, Outbox


def ack(p: Parcel, boot: int = 1) -> ParcelReceived:
    return ParcelReceived(p.job, p.item, p.src, p.dst, p.stamp, p.carried, boot)


def receivers(effects: list) -> list[str]:
    return [node for node, _ in sent(effects, Parcel)]


def box(**hosts: str) -> tuple[Outbox, Around]:
    around = Around()
    return Outbox(place(make_job(CHAIN), **hosts), around), around


def test_a_parcel_waits_until_its_receivers_host_is_known():
    outbox, _ = box()
    assert outbox.put(parcel("a", "b"), 0.0) == []
    assert outbox.next_deadline() == inf
    place(outbox._job, b="n2")
    assert receivers(outbox.flush(1.0)) == ["n2"]


def test_the_same_parcel_is_owed_once():
    outbox, _ = box(b="n2")
    assert receivers(outbox.put(parcel("a", "b"), 0.0)) == ["n2"]
    assert outbox.put(parcel("a", "b"), 0.0) == []
    outbox.on_received("n2", ack(parcel("a", "b")))
    assert outbox.put(parcel("a", "b"), 0.0) == []


def test_it_is_sent_again_ever_more_slowly_until_it_is_received():
    outbox, _ = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    times = []
    while outbox.next_deadline() < 40.0:
        times.append(outbox.next_deadline())
        assert receivers(outbox.flush(times[-1])) == ["n2"]
    assert times[:4] == [1.0, 3.0, 7.0, 15.0]
    assert times[4] - times[3] == RESEND_MAX_S
    assert outbox.flush(times[-1] + 0.5) == []
    outbox.on_received("n2", ack(parcel("a", "b")))
    assert (outbox.next_deadline(), outbox.unreceived()) == (inf, 0)


def test_a_receiver_that_never_answers_is_sent_it_for_weeks():
    outbox, _ = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    for _ in range(2000):
        now = outbox.next_deadline()
        assert receivers(outbox.flush(now)) == ["n2"]
    assert outbox.next_deadline() - now == RESEND_MAX_S


def test_it_goes_to_the_new_host_at_once_when_the_receiver_moved_even_if_received():
    outbox, _ = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    outbox.on_received("n2", ack(parcel("a", "b")))
    outbox._job.merge([reg("b", "n3", epoch=2)])
    assert receivers(outbox.flush(0.5)) == ["n3"]
    outbox.on_received("n2", ack(parcel("a", "b")))
    assert outbox.unreceived() == 1, "the old host's word does not count"


def test_it_is_sent_again_when_its_host_restarted():
    outbox, around = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    outbox.on_received("n2", ack(parcel("a", "b")))
    assert outbox.flush(0.5) == []
    around.boots["n2"] = 2
    assert receivers(outbox.flush(1.0)) == ["n2"]
    outbox.on_received("n2", ack(parcel("a", "b"), boot=2))
    assert outbox.flush(2.0) == []


def test_a_receipt_from_before_a_restart_that_is_known_already_does_not_count():
    outbox, around = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    around.boots["n2"] = 2
    outbox.on_received("n2", ack(parcel("a", "b"), boot=1))
    assert outbox.unreceived() == 1


def test_nothing_is_sent_to_a_host_that_is_gone_until_it_is_back():
    outbox, around = box(b="n2")
    around.gone.add("n2")
    assert outbox.put(parcel("a", "b"), 0.0) == []
    assert outbox.next_deadline() == inf
    around.gone.clear()
    assert receivers(outbox.flush(9.0)) == ["n2"]


def test_freeing_an_item_gives_its_parcels_back_and_leaves_the_others():
    outbox, _ = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    outbox.put(parcel("a", "home"), 0.0)
    outbox.put(parcel("a", "b", item="other"), 0.0)
    outbox.on_received("n2", ack(parcel("a", "b")))
    assert sorted(p.dst for p in outbox.free("i")) == ["b", "home"]
    assert outbox.free("i") == []
    assert outbox.items() == {"other"}
    outbox.check()


def strikes(effects: list) -> list[int]:
    return [message.strikes for _, message in sent(effects, Parcel)]


def received(outbox: Outbox, node: str, boot: int = 1) -> None:
    outbox.on_received(node, ack(parcel("a", "b"), boot))


def test_a_host_that_is_lost_with_a_parcel_is_its_first_strike_once():
    outbox, around = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    received(outbox, "n2")
    around.gone.add("n2")
    assert outbox.flush(1.0) == outbox.flush(2.0) == []
    outbox._job.merge([reg("b", "n3", epoch=2)])
    assert strikes(outbox.flush(3.0)) == [1]


def test_a_planned_move_and_a_parcel_that_nobody_received_are_no_strike():
    outbox, around = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    around.gone.add("n2")
    outbox._job.merge([reg("b", "n3", epoch=2)])
    assert strikes(outbox.flush(1.0)) == [0]
    received(outbox, "n3")
    outbox._job.merge([reg("b", "n1", epoch=3)])
    assert strikes(outbox.flush(2.0)) == [0]


def test_after_the_first_strike_only_announced_runs_count():
    outbox, around = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    received(outbox, "n2")
    around.boots["n2"] = 2
    assert strikes(outbox.flush(1.0)) == [1]
    received(outbox, "n2", 2)
    around.boots["n2"] = 3
    assert strikes(outbox.flush(2.0)) == [1], "it may have waited there"
    received(outbox, "n2", 3)
    outbox.on_run("n1", RunStarted("job1", "i", "b"))
    outbox.on_run("n2", RunStarted("job1", "i", "b"))
    outbox.on_run("n2", RunStarted("job1", "i", "b", over=True))
    around.boots["n2"] = 4
    assert strikes(outbox.flush(3.0)) == [1], "it had come out of that run"
    received(outbox, "n2", 4)
    outbox.on_run("n2", RunStarted("job1", "i", "c"))
    around.boots["n2"] = 5
    assert strikes(outbox.flush(4.0)) == [2]


def test_with_three_strikes_it_is_sent_no_more_and_given_up_once():
    outbox, around = box(b="n2")
    outbox.put(structs.replace(parcel("a", "b"), strikes=2), 0.0)
    received(outbox, "n2")
    outbox.on_run("n2", RunStarted("job1", "i", "b"))
    around.gone.add("n2")
    outbox._job.merge([reg("b", "n3", epoch=2)])
    assert outbox.flush(1.0) == outbox.flush(99.0) == []
    assert [owed.lost for owed in outbox.poisoned] == [["n2"]], "the others were lost with what it stems from"
    assert outbox.next_deadline() == inf
    outbox.check()


def test_a_host_that_left_in_peace_is_no_strike_against_what_it_held():
    outbox, around = box(b="n2")
    outbox.put(parcel("a", "b"), 0.0)
    outbox.on_received("n2", ack(parcel("a", "b")))
    around.gone.add("n2")
    around.dead = list  # it has left: nobody is dead
    outbox._job.merge([reg("b", "n3", epoch=2)])
    [(to, again)] = sent(outbox.flush(1.0), Parcel)
    assert (to, again.strikes) == ("n3", 0)


def test_the_next_deadline_is_never_late_and_is_found_again_with_every_flush():
    outbox, _ = box(b="n2")
    outbox.put(parcel("a", "b", item="i"), 0.0)
    outbox.put(parcel("a", "b", item="k"), 0.5)
    outbox.on_received("n2", ack(parcel("a", "b", item="i")))
    assert outbox.next_deadline() <= 1.5
    assert outbox.flush(1.0) == []
    assert outbox.next_deadline() == 1.5
    outbox.free("k")
    assert outbox.next_deadline() == inf
