from job_rig import parcel

from jupiter_agent.core.join import JoinBuffer, merged_stamps


def sets(join: JoinBuffer, item: str = "i") -> list[list[bytes]]:
    return [[each.stamp for each in parcels] for _, parcels in join.sets(item)]


def test_nothing_is_offered_before_every_in_edge_has_something():
    join = JoinBuffer(["b", "c"])
    join.add(parcel("b", "d"))
    assert sets(join) == []
    join.add(parcel("c", "d", b"2", item="other"))
    assert sets(join) == []
    join.add(parcel("c", "d", b"3"))
    assert sets(join) == [[b"1", b"3"]]


def test_a_token_completes_a_set_like_data():
    join = JoinBuffer(["b", "c"])
    join.add(parcel("b", "d"))
    join.add(parcel("c", "d", b"2", objects=[]))
    assert sets(join) == [[b"1", b"2"]]


def test_parcels_that_carry_different_stamps_of_one_ancestor_do_not_join():
    join = JoinBuffer(["b", "c"])
    join.add(parcel("b", "d", b"b1", carried={"a": b"first"}))
    join.add(parcel("c", "d", b"c2", carried={"a": b"second"}))
    assert sets(join) == []
    join.add(parcel("b", "d", b"b2", carried={"a": b"second"}))
    assert sets(join) == [[b"b2", b"c2"]]


def test_tokens_disagree_as_data_does():
    join = JoinBuffer(["b", "c"])
    join.add(parcel("b", "d", carried={"a": b"first"}))
    join.add(parcel("c", "d", carried={"a": b"second"}, objects=[]))
    assert sets(join) == []


def test_the_same_object_is_held_once_but_not_with_other_carried_stamps():
    join = JoinBuffer(["b"])
    assert join.add(parcel("b", "d", carried={"a": b"first"}))
    assert not join.add(parcel("b", "d", carried={"a": b"first"}))
    assert join.add(parcel("b", "d", carried={"a": b"second"})), "a constant's second life (F3 of the model)"
    assert len(join.parcels("i")) == 2


def test_sets_come_in_the_order_of_arrival():
    join = JoinBuffer(["b", "c"])
    for src, stamp in [("c", b"c1"), ("b", b"b1"), ("b", b"b2"), ("c", b"c2")]:
        join.add(parcel(src, "d", stamp))
    assert sets(join) == [[b"b1", b"c1"], [b"b1", b"c2"], [b"b2", b"c1"], [b"b2", b"c2"]]


def test_a_set_carries_the_stamps_of_all_its_parcels():
    stamps = merged_stamps([parcel("b", "d", carried={"a": b"1", "x": b"2"}), parcel("c", "d", carried={"a": b"1"})])
    assert stamps == {"a": b"1", "x": b"2"}


def test_a_dropped_item_leaves_nothing():
    join = JoinBuffer(["b"])
    join.add(parcel("b", "d"))
    join.drop("i")
    join.drop("never seen")
    assert (join.items(), join.parcels("i"), sets(join)) == ([], [], [])
