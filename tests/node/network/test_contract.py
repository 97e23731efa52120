"""What every `Network` promises, asked of the real one and of its twin."""

import asyncio

import pytest

from node.network._limits import Limits
from node.network.base import (
    EXCESS,
    GOSSIP_BYTES_MAX,
    PINNED_MAX,
    REQUEST_BYTES_MAX,
    SEND_BYTES_MAX,
    NetworkError,
)
from tests.node.network.homes import (
    OTHER_TOPIC,
    PATIENCE_S,
    TOPIC,
    Street,
    connect,
    key_of,
    until,
)


async def test_gossip_reaches_all_once_and_never_its_author(street: Street) -> None:
    homes = [await street.start(number) for number in range(4)]
    for home in homes[1:]:
        await connect(home, homes[0])
    await homes[1].network.publish(TOPIC, b"first after the start")
    await until(lambda: all(home.heard() for home in homes if home is not homes[1]))
    await asyncio.sleep(0.2)
    for home in homes:
        assert home.heard() == ([] if home is homes[1] else [b"first after the start"])


async def test_gossip_names_its_forwarder(street: Street) -> None:
    first, second = await street.pair()
    await second.network.publish(TOPIC, b"x")
    await until(first.heard)
    assert first.gossip == [(second.peer_id, b"x")]


async def test_the_same_bytes_on_two_topics_are_two_messages(street: Street) -> None:
    first, second = await street.pair()
    await second.network.publish(TOPIC, b"x")
    await second.network.publish(OTHER_TOPIC, b"x")
    await second.network.publish(TOPIC, b"x")
    await second.network.publish(TOPIC, b"end")
    await until(lambda: b"end" in first.heard())
    assert sorted(first.heard()) == [b"end", b"x", b"x"]


async def test_a_check_that_fails_keeps_gossip_and_counts_it(street: Street) -> None:
    first, second = await street.pair(check=lambda peer, data: data != b"invalid")
    await second.network.publish(TOPIC, b"invalid")
    await second.network.publish(TOPIC, b"valid")
    await until(first.heard)
    assert first.heard() == [b"valid"]
    assert first.count("gossip_invalid") == 1
    assert first.count("offences") == 1
    assert second.peer_id in first.peer_ids()


async def test_invalid_gossip_is_not_passed_on(street: Street) -> None:
    middle = await street.start(0, check=lambda peer, data: data != b"invalid")
    left = await street.start(1, limits=Limits(peers_target=1))
    right = await street.start(2, limits=Limits(peers_target=1))
    for home in (left, right):
        await connect(home, middle)
    await left.network.publish(TOPIC, b"invalid")
    await left.network.publish(TOPIC, b"valid")
    await until(right.heard)
    assert right.heard() == [b"valid"]


async def test_ignored_gossip_goes_no_further_and_is_nobodys_fault(street: Street) -> None:
    middle = await street.start(0, check=lambda peer, data: None if data == b"old" else True)
    left = await street.start(1, limits=Limits(peers_target=1))
    right = await street.start(2, limits=Limits(peers_target=1))
    for home in (left, right):
        await connect(home, middle)
    await left.network.publish(TOPIC, b"old")
    await left.network.publish(TOPIC, b"new")
    await until(right.heard)
    assert right.heard() == middle.heard() == [b"new"]
    assert middle.count("gossip_ignored") == 1
    assert middle.count("gossip_invalid") == middle.count("offences") == 0


async def test_who_brings_too_much_is_cut_off_and_who_passes_it_on_is_not(street: Street) -> None:
    limits = Limits(offences_max=3, ban_s=3_600)
    victim = await street.start(
        0, check=lambda peer, data: EXCESS if data.startswith(b"more") else True, limits=limits
    )
    middle = await street.start(1, limits=Limits(peers_target=1))
    author = await street.start(2, limits=Limits(peers_target=1))
    for home in (victim, author):
        await connect(home, middle)
    for number in range(5):
        await author.network.publish(TOPIC, b"more %d" % number)
    await author.network.publish(TOPIC, b"enough")
    await until(victim.heard)
    assert victim.heard() == [b"enough"]
    assert victim.count("gossip_dropped") == 5
    assert victim.count("offences") == 0
    for number in range(5):
        await middle.network.publish(TOPIC, b"more of its own %d" % number)
    await until(lambda: middle.peer_id not in victim.peer_ids())
    assert victim.count("bans") == 1


async def test_who_is_pinned_is_not_blamed_for_bringing_too_much(street: Street) -> None:
    first, second = await street.pair(
        check=lambda peer, data: EXCESS, limits=Limits(offences_max=1)
    )
    first.network.pin([second.peer_id])
    for number in range(3):
        await second.network.publish(TOPIC, b"%d" % number)
    await until(lambda: first.count("gossip_dropped") == 3)
    assert first.count("offences") == 0
    assert first.peer_ids() == {second.peer_id}


async def test_a_burst_of_gossip_arrives_whole(street: Street) -> None:
    first, second = await street.pair()
    messages = [b"%d" % number for number in range(300)]
    for message in messages:
        await second.network.publish(TOPIC, message)
    await until(lambda: len(first.gossip) == len(messages))
    assert sorted(first.heard()) == sorted(messages)


async def test_sends_arrive_in_order(street: Street) -> None:
    first, second = await street.pair()
    messages = [b"%d" % number for number in range(500)]
    assert all(second.network.send(first.peer_id, "vote", message) for message in messages)
    await until(lambda: len(first.sends) == len(messages))
    assert first.sends == [(second.peer_id, message) for message in messages]


async def test_sends_go_both_ways_and_may_be_large(street: Street) -> None:
    first, second = await street.pair()
    large = bytes(SEND_BYTES_MAX)
    assert first.network.send(second.peer_id, "vote", large)
    assert second.network.send(first.peer_id, "vote", b"")
    await until(lambda: first.sends and second.sends)
    assert second.sends == [(first.peer_id, large)]
    assert first.sends == [(second.peer_id, b"")]


async def test_a_send_to_nobody_is_dropped_and_counted(street: Street) -> None:
    home = await street.start(0)
    assert not home.network.send("nobody", "vote", b"x")
    assert home.count("sends_dropped") == 1


async def test_a_full_queue_drops_and_counts(street: Street) -> None:
    first, second = await street.pair(limits=Limits(messages_burst=200_000))
    sent = 0
    while sent < 100_000 and second.network.send(first.peer_id, "vote", b"%d" % sent):
        sent += 1
    assert second.count("sends_dropped") == 1
    await until(lambda: len(first.sends) == sent)
    assert first.sends[-1] == (second.peer_id, b"%d" % (sent - 1))


async def test_requests_are_answered(street: Street) -> None:
    first, second = await street.pair()
    assert await second.network.request(first.peer_id, "double", b"ab") == b"abab"
    assert await first.network.request(second.peer_id, "double", b"") == b""


async def test_many_requests_at_once(street: Street) -> None:
    first, second = await street.pair()
    questions = [b"%d" % number for number in range(12)]
    answers = await asyncio.gather(
        *(second.network.request(first.peer_id, "double", data) for data in questions)
    )
    assert answers == [data * 2 for data in questions]


async def test_guard_13_an_answer_of_many_megabytes_arrives_whole(street: Street) -> None:
    first, second = street.make(0), await street.start(1)
    answer = bytes(range(256)) * 40_960

    async def large(peer_id: str, data: bytes) -> bytes:
        return answer

    first.network.on_request("large", large)
    await first.network.start()
    await connect(second, first)
    assert await second.network.request(first.peer_id, "large", b"") == answer


async def test_an_unknown_protocol_is_an_error(street: Street) -> None:
    first, second = await street.pair()
    with pytest.raises(NetworkError, match="does not answer"):
        await second.network.request(first.peer_id, "unheard-of", b"")
    assert second.count("requests_failed") == 1


async def test_a_request_to_nobody_is_an_error(street: Street) -> None:
    home = await street.start(0)
    with pytest.raises(NetworkError, match="not connected"):
        await home.network.request("nobody", "double", b"")


async def test_a_request_times_out(street: Street) -> None:
    first, second = street.make(0), await street.start(1)

    async def never(peer_id: str, data: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    first.network.on_request("never", never)
    await first.network.start()
    await connect(second, first)
    with pytest.raises(NetworkError, match="did not answer"):
        await second.network.request(first.peer_id, "never", b"", timeout_s=0.2)
    assert await second.network.request(first.peer_id, "double", b"a") == b"aa"


async def test_a_peer_that_goes_fails_requests_and_is_told(street: Street) -> None:
    first, second = street.make(0), await street.start(1)
    asked = asyncio.Event()

    async def never(peer_id: str, data: bytes) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    first.network.on_request("never", never)
    await first.network.start()
    await connect(second, first)
    request = asyncio.create_task(
        second.network.request(first.peer_id, "never", b"", timeout_s=10 * PATIENCE_S)
    )
    await asked.wait()
    await first.network.stop()
    with pytest.raises(NetworkError):
        await asyncio.wait_for(request, PATIENCE_S)
    await until(lambda: not second.network.peers())
    assert second.events == [(first.peer_id, True), (first.peer_id, False)]
    assert not second.network.send(first.peer_id, "vote", b"x")


async def test_a_handler_that_raises_harms_nobody(street: Street) -> None:
    first, second = await street.pair()
    second.network.send(first.peer_id, "bad", b"")
    with pytest.raises(NetworkError):
        await second.network.request(first.peer_id, "bad", b"")
    await until(lambda: first.count("handler_errors") == 2)
    await until(lambda: first.count("offences") == 2)
    assert await second.network.request(first.peer_id, "double", b"a") == b"aa"


async def test_penalties_end_in_a_ban(street: Street) -> None:
    first, second = await street.pair(limits=Limits(offences_max=3, ban_s=0.5))
    for _ in range(3):
        first.network.penalize(second.peer_id, "a bad block")
    for here, there in ((first, second), (second, first)):
        await until(lambda one=here, other=there: (other.peer_id, False) in one.events)
    assert first.count("bans") == 1
    # The ban ends, and the peer that still wants the connection comes back.
    await until(lambda: first.network.peers() and second.network.peers())


async def test_more_than_a_peer_may_send_ends_in_a_ban(street: Street) -> None:
    # What is spent does not come back, or a slow machine could afford it all.
    limits = Limits(messages_per_s=0, messages_burst=20, ban_s=3_600)
    first, second = await street.pair(limits=limits)
    for number in range(100):
        second.network.send(first.peer_id, "vote", b"%d" % number)
    await until(lambda: not first.network.peers())
    assert first.count("bans") == 1
    assert len(first.sends) <= 20


async def test_strangers_are_refused_where_the_community_is_closed(street: Street) -> None:
    friend = street.make(1).peer_id
    first = await street.start(0, allowed=lambda peer_id: peer_id == friend)
    stranger = await street.start(2)
    stranger.network.want(first.address)
    member = street.homes[0]
    await member.network.start()
    member.network.want(first.address)
    await until(lambda: first.peer_ids() == {friend})
    await until(lambda: first.count("refused") >= 1)
    assert first.peer_ids() == {friend}
    assert not stranger.network.peers()


async def test_three_homes_with_one_address_find_each_other(street: Street) -> None:
    first = await street.start(0)
    others = [await street.start(number) for number in (1, 2)]
    for home in others:
        home.network.want(first.address)
    await until(lambda: all(len(home.network.peers()) == 2 for home in street.homes))


async def test_who_is_pinned_is_let_in_where_there_is_no_room_and_takes_nobodys(
    street: Street,
) -> None:
    full = await street.start(0, limits=Limits(peers_max=2))
    seat, *others = [
        await street.start(number, limits=Limits(peers_target=1)) for number in (1, 2, 3, 4)
    ]
    for home in others[:2]:
        await connect(home, full)
    full.network.pin([seat.peer_id])
    await connect(seat, full)
    assert len(full.peer_ids()) == 3
    refused = full.count("refused")
    others[2].network.want(full.address)
    await until(lambda: full.count("refused") > refused)
    assert others[2].peer_id not in full.peer_ids()
    # Nobody's place is lost by it.
    full.network.pin([])
    assert len(full.peer_ids()) == 3


async def test_who_is_pinned_is_dialled_though_there_are_peers_enough(street: Street) -> None:
    middle = await street.start(0)
    seat, other = [await street.start(number, limits=Limits(peers_target=1)) for number in (1, 2)]
    await connect(seat, middle)
    await connect(other, middle)
    assert other.peer_id not in seat.peer_ids()
    other.network.pin([seat.peer_id])
    await until(lambda: seat.peer_id in other.peer_ids())


async def test_a_pin_before_the_start_holds(street: Street) -> None:
    full = street.make(0, limits=Limits(peers_max=1))
    full.network.pin([key_of(1).peer_id])
    await full.network.start()
    seat, other = [await street.start(number, limits=Limits(peers_target=1)) for number in (1, 2)]
    await connect(other, full)
    await connect(seat, full)


async def test_both_sides_may_want_each_other(street: Street) -> None:
    first, second = await street.start(0), await street.start(1)
    first.network.want(second.address)
    second.network.want(first.address)
    await until(lambda: first.network.peers() and second.network.peers())
    await asyncio.sleep(0.3)
    for here, there in ((first, second), (second, first)):
        assert here.events == [(there.peer_id, True)]
        assert await here.network.request(there.peer_id, "double", b"a") == b"aa"
        assert here.network.send(there.peer_id, "vote", b"v")
        await here.network.publish(TOPIC, here.peer_id.encode())
    await until(lambda: all(home.sends and home.gossip for home in (first, second)))


async def test_what_is_too_large_is_refused_at_once(street: Street) -> None:
    first, second = await street.pair()
    with pytest.raises(NetworkError, match=f"at most {GOSSIP_BYTES_MAX}"):
        await first.network.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))
    with pytest.raises(NetworkError, match=f"at most {SEND_BYTES_MAX}"):
        first.network.send(second.peer_id, "vote", bytes(SEND_BYTES_MAX + 1))
    with pytest.raises(NetworkError, match=f"at most {REQUEST_BYTES_MAX}"):
        await first.network.request(second.peer_id, "double", bytes(REQUEST_BYTES_MAX + 1))
    await first.network.publish(TOPIC, bytes(GOSSIP_BYTES_MAX))
    await until(second.heard)


async def test_misuse_is_an_error_that_says_what_would_be_right(street: Street) -> None:
    home = street.make(0)
    with pytest.raises(NetworkError, match="not running"):
        await home.network.publish(TOPIC, b"x")
    with pytest.raises(NetworkError, match="no name"):
        home.network.on_send(".send", lambda peer, data: None)
    with pytest.raises(NetworkError, match="already"):
        home.network.on_send("vote", lambda peer, data: None)
    with pytest.raises(NetworkError, match="expected /ip4/HOST/tcp/PORT/p2p/PEER_ID"):
        home.network.want("127.0.0.1:4001")
    with pytest.raises(NetworkError, match=f"at most {PINNED_MAX} peers can be pinned"):
        home.network.pin([f"peer {number}" for number in range(PINNED_MAX + 1)])
    await home.network.start()
    with pytest.raises(NetworkError, match="before the network starts"):
        home.network.on_send("late", lambda peer, data: None)
    with pytest.raises(NetworkError, match="call on_gossip before start"):
        await home.network.publish("other", b"x")
    with pytest.raises(NetworkError, match="starts once"):
        await home.network.start()
    await home.network.stop()
    await home.network.stop()
