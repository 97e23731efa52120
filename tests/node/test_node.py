"""Whole nodes on the network's twin: agreement, restarts, late joiners, partitions, refusals."""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

import node.chain.inbox
import node.chain.wal
import node.network.memory
import node.pool.mempool
from consensus.messages import (
    NIL,
    PREVOTE,
    ConsensusMessage,
    Proposal,
    Vote,
    VoteSummary,
    decode_message,
    header_hash,
    proposal_signed_bytes,
)
from consensus.wal import AbstainRecord, LockRecord, VoteRecord, WalRecord, scan
from market import client
from market.app import BlockResult
from node.chain.messages import TransactionBatch
from node.chain.wal import Wal
from node.errors import ControlError, GenesisError, StoreError
from node.network._limits import Limits
from node.network.base import GOSSIP_BYTES_MAX
from node.setup import DATABASE_NAME, WAL_NAME
from node.tiers import topics
from tests.node.grid import (
    BALANCE_MICRO,
    MARKET_START_MS,
    PATIENCE_S,
    Grid,
    Member,
    address_of,
    at_height,
    double_votes,
    key_of,
    make_genesis,
    running,
    until,
)
from wire.codec import decode
from wire.transaction import CheckedTransaction

# Slots of a tenth of a second: gates that close make blocks without any transaction.
BUSY = {"time_lapse": 3_000, "slot_minutes": 5}


def busy_grid(directory: Path, homes: int = 4) -> Grid:
    return Grid(directory, make_genesis(homes, **BUSY))


def quiet_grid(directory: Path, homes: int = 5) -> Grid:
    """Blocks come with transactions and once a second."""
    return Grid(directory, make_genesis(homes, time_lapse=1))


def logged_votes(member: Member) -> list[Vote]:
    """Return the votes in a stopped home's write-ahead log."""
    found = scan((member.data / WAL_NAME).read_bytes())
    assert found.damage is None
    votes = []
    for record in found.records:
        if isinstance(record, VoteRecord):
            votes.append(record.vote)
        if isinstance(record, LockRecord):
            votes.append(record.precommit)
    return votes


async def same_blocks(members: list[Member], heights: range) -> bool:
    for height in heights:
        blocks = [await member.ask("block", height=height) for member in members]
        if any(block is None or block != blocks[0] for block in blocks):
            return False
    return True


async def test_homes_agree_on_every_block_and_state(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path, homes=6)
    async with running(grid, range(6)) as members:
        await at_height(members, 6)
        assert await same_blocks(members, range(7))
        status = await members[5].ask("status")
        assert status["authority"] is None
        assert not status["voting"]
        assert (await members[0].ask("status"))["voting"]
        assert not members[5].spoken
    assert not double_votes([vote for member in members for vote in member.votes])


async def test_a_transaction_is_decided_everywhere_and_moves_the_money(tmp_path: Path) -> None:
    grid = quiet_grid(tmp_path)
    async with running(grid, range(5)) as members:
        giver, taker = members[4], members[0]
        transfer = giver.sign(client.transfer(taker.key.address, 12_345))
        answer = await giver.ask("submit", transaction=transfer.raw.hex())
        assert answer == {"id": transfer.tx_id.hex()}
        await until(
            lambda: all(
                client.account(member.node.app.query, taker.key.address).balance_micro
                == BALANCE_MICRO + 12_345
                for member in members
            ),
            "the transfer is applied everywhere",
        )
        heights = [
            (await member.ask("transaction", id=transfer.tx_id.hex()))["height"]
            for member in members
        ]
        assert heights[0] > 0
        assert heights == heights[:1] * 5
        money = await giver.ask("money")
        assert money["balances_micro"] == 5 * BALANCE_MICRO
        bonds_micro = 4 * grid.genesis.governance.bond_micro
        assert money["held_micro"] == bonds_micro
        assert money["minted_micro"] - money["redeemed_micro"] == 5 * BALANCE_MICRO + bonds_micro
        await until(
            lambda: not any(len(member.node.mempool) for member in members), "nothing is pending"
        )
        status = await giver.ask("status")
        assert status["finality_ms"]["count"] == 1


def bad_transactions(member: Member) -> dict[str, CheckedTransaction | bytes]:
    good = member.sign(client.transfer(key_of(1).address, 1))
    fat = client.Call("ledger", "transfer", {"address": "x" * 9_000, "amount_micro": 1})
    return {
        "bad_signature": good.raw[:-1] + bytes([good.raw[-1] ^ 1]),
        "bad_nonce": member.sign(client.transfer(key_of(1).address, 1), nonce=1),
        "expired": member.sign(client.transfer(key_of(1).address, 1), valid_until_ms=1_000),
        "malformed": member.sign(fat),
        "unknown_entry": member.sign(client.Call("ledger", "gamble", {})),
        "unknown_contract": member.sign(client.Call("casino", "gamble", {})),
    }


async def test_a_refused_transaction_says_why_and_reaches_nobody(tmp_path: Path) -> None:
    grid = quiet_grid(tmp_path)
    async with running(grid, range(5)) as members:
        home, others = members[4], [members[n] for n in range(4)]
        first = home.sign(client.transfer(key_of(1).address, 1), nonce=1)
        await home.ask("submit", transaction=first.raw.hex())
        await until(lambda: home.height > 0 and not len(home.node.mempool), "the first is decided")
        assert home.network is not None
        for code, bad in bad_transactions(home).items():
            raw = bad if isinstance(bad, bytes) else bad.raw
            with pytest.raises(ControlError, match=f"^{code}: .+"):
                await home.ask("submit", transaction=raw.hex())
        # One that is good, sent later, has reached everybody: what was to come has come.
        last = home.sign(client.transfer(key_of(1).address, 1))
        await home.ask("submit", transaction=last.raw.hex())
        await until(
            lambda: all(
                client.account(member.node.app.query, key_of(1).address).balance_micro
                == BALANCE_MICRO + 2
                and len(member.node.mempool) == 0
                for member in members
            ),
            "both transfers are applied everywhere",
        )
        assert said_by(home) == {first.raw, last.raw}
        assert [other.node.mempool.refused for other in others] == [{}] * 4
        assert set(home.node.mempool.refused) == set(bad_transactions(home))


def said_by(member: Member) -> set[bytes]:
    """Return the transactions that a home has gossiped or handed over."""
    assert member.network is not None
    transactions, _ = topics(member.grid.genesis)
    gossiped = [data for topic, data in member.network.published if topic == transactions]
    return {
        raw
        for data in [*gossiped, *member.network.handed]
        for raw in decode(data, TransactionBatch, GOSSIP_BYTES_MAX).transactions
    }


async def test_several_handed_in_together_are_taken_or_refused_one_by_one(tmp_path: Path) -> None:
    grid = quiet_grid(tmp_path)
    async with running(grid, range(5)) as members:
        giver, taker = members[4], members[0]
        good = [giver.sign(client.transfer(taker.key.address, amount)) for amount in (1, 10)]
        bad = bad_transactions(giver)["unknown_entry"]
        assert isinstance(bad, CheckedTransaction)
        raws = [good[0].raw.hex(), bad.raw.hex(), good[1].raw.hex(), "00"]
        answer = await giver.ask("submit_many", transactions=raws)
        assert answer["accepted"] == 2
        assert [row[:2] for row in answer["refused"]] == [[1, "unknown_entry"], [3, "malformed"]]
        assert all(row[2] for row in answer["refused"])
        assert answer["pending"] == 2
        await until(
            lambda: (
                client.account(taker.node.app.query, taker.key.address).balance_micro
                == BALANCE_MICRO + 11
            ),
            "both transfers are applied",
        )
        for wrong in ("00", ["xx"], [1], None):
            with pytest.raises(ControlError, match="transactions is a list of hexadecimal texts"):
                await giver.ask("submit_many", transactions=wrong)


async def test_a_transaction_goes_straight_to_who_proposes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine, it is not said again.
    monkeypatch.setattr(node.pool.mempool, "REPEAT_S", 3_600.0)
    grid = Grid(tmp_path, make_genesis(8, 7, time_lapse=1))
    async with running(grid, range(8)) as members:
        giver = members[7]
        await until(lambda: len(giver.node.network.peers()) == 7, "all are connected")
        transfer = giver.sign(client.transfer(key_of(0).address, 5))
        await giver.ask("submit", transaction=transfer.raw.hex())
        await until(
            lambda: all(
                client.account(member.node.app.query, key_of(0).address).balance_micro
                == BALANCE_MICRO + 5
                for member in members
            ),
            "the transfer is applied everywhere",
        )
        assert giver.network is not None
        assert len(giver.network.handed) == 4  # f + 2 of seven
        assert said_by(giver) == {transfer.raw}
        assert not any(member.network and member.network.handed for member in members[:7])
        transactions, _ = topics(grid.genesis)
        gossiped = [topic for topic, _ in giver.network.published if topic == transactions]
        assert not gossiped


async def test_authorities_are_connected_to_each_other_where_homes_take_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(peers_max=2, peers_target=1)
    monkeypatch.setattr(node.network.memory, "Limits", lambda: limits)
    grid = busy_grid(tmp_path, homes=8)
    # Each authority finds its two places taken before another authority comes.
    places = {0: (4, 5), 1: (6, 7), 2: (4, 5), 3: (6, 7)}
    async with running(grid, ()):
        for home in range(4, 8):
            await grid.members[home].start(())
        for number, homes in places.items():
            member = await grid.members[number].start(())
            for home in homes:
                assert grid.members[home].network is not None
                grid.members[home].network.want(address_of(number))  # type: ignore[union-attr]
            await until(
                lambda: len(member.node.network.peers()) >= 2,  # noqa: B023
                "its places are taken",
            )
        authorities = grid.members[:4]
        for one, other in itertools.permutations(authorities, 2):
            one.node.network.want(address_of(other.number))
        await until(
            lambda: all(
                {other.peer_id for other in authorities}
                <= {one.peer_id, *(peer.peer_id for peer in one.node.network.peers())}
                for one in authorities
            ),
            "all authorities are connected",
        )
        await at_height(authorities, 3)
        assert all(one.node.network.counters()["refused"] == 0 for one in authorities)


async def test_a_late_joiner_fetches_the_chain(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path, homes=5)
    async with running(grid, range(4)) as members:
        await at_height(members, 8)
        late = await grid.members[4].start()
        await at_height([late], 10)
        assert await same_blocks([*members, late], range(9))
        await until(lambda: late.node.sync.behind == 0, "it has caught up")


async def test_an_authority_that_restarts_catches_up_votes_and_never_twice(
    tmp_path: Path,
) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        one, others = members[1], [members[n] for n in (0, 2, 3)]
        logged: list[Vote] = []
        for _ in range(3):
            before = one.height
            await until(
                lambda: any(vote.height > before + 1 for vote in one.votes),  # noqa: B023
                "it votes",
            )
            await one.stop()
            logged += logged_votes(one)
            stopped = max(other.height for other in others)
            await at_height(others, stopped + 2)
            said = len(one.votes)
            await one.start()
            await at_height([one], stopped + 2)
            await until(lambda: len(one.votes) > said, "it votes again")  # noqa: B023
        assert one.node.chain.voting
        await at_height(members, one.height + 2)
    logged += logged_votes(one)
    assert len({vote.height for vote in logged}) > 3
    # What was said was logged, and neither contradicts itself.
    assert set(one.votes) <= set(logged)
    assert not double_votes(logged)
    assert not double_votes(one.votes)


async def test_an_authority_that_lost_its_log_abstains_for_two_heights(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        one = members[2]
        await at_height(members, 3)
        await one.stop()
        (one.data / WAL_NAME).unlink()
        said = len(one.votes)
        await one.start()
        assert not one.node.chain.voting
        reopened = one.height
        await until(lambda: one.node.chain.voting, "it votes again")
        assert one.height >= reopened + 2
        await until(lambda: len(one.votes) > said, "it is heard again")
        assert min(vote.height for vote in one.votes[said:]) > reopened + 2
    records = scan((one.data / WAL_NAME).read_bytes()).records
    assert [item.heights for item in records if isinstance(item, AbstainRecord)] == [2, 1, 0]
    assert not double_votes(one.votes)


async def test_an_authority_that_lost_its_database_signs_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.chain.wal, "BULKY_BYTES", 1)
    shortened: list[bytes] = []
    rewrite = Wal.rewrite

    def rewriting(wal: Wal, records: Sequence[WalRecord]) -> None:
        rewrite(wal, records)
        if wal._path.parent == one.data:
            shortened.append(wal._path.read_bytes())

    monkeypatch.setattr(Wal, "rewrite", rewriting)
    grid = busy_grid(tmp_path)
    one = grid.members[0]
    async with running(grid, range(4)) as members:
        await at_height(members, 5)
        await one.stop()
        for file in one.data.glob(DATABASE_NAME + "*"):
            file.unlink()
        # As if it had been stopped just after it shortened its log.
        (one.data / WAL_NAME).write_bytes(shortened[-1])
        signed = max(vote.height for vote in logged_votes(one))
        said = len(one.spoken)
        # Alone at the first height, with reason enough to make a block.
        grid.hub.partition([one.peer_id])
        await one.start()
        await asyncio.sleep(1.0)
        assert one.height == 0
        assert not any(isinstance(message, Vote) for message in one.spoken[said:])
        grid.hub.heal()
        await at_height([one], signed + 2)
    late = [message for message in one.spoken[said:] if isinstance(message, Vote)]
    assert all(vote.height > signed for vote in late if vote.voter == one.number)


async def test_half_a_street_waits_and_the_whole_goes_on(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        await at_height(members, 2)
        ids = [member.peer_id for member in members]
        grid.hub.partition(ids[:2], ids[2:])
        highest = max(member.height for member in members)
        with pytest.raises(AssertionError, match="not within"):
            await until(
                lambda: any(member.height > highest + 1 for member in members), "a block", 1.0
            )
        cut = max(member.height for member in members)
        grid.hub.heal()
        await at_height(members, cut + 4)
        assert await same_blocks(members, range(cut + 4))
    assert not double_votes([vote for member in members for vote in member.votes])


async def test_a_restarted_home_has_the_state_it_had(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        await at_height(members, 4)
    roots = {}
    for member in grid.members:
        await member.start()
        await member.stop()
    for member in grid.members:
        with sqlite3.connect(member.data / DATABASE_NAME) as db:
            height = db.execute("SELECT MAX(height) FROM blocks").fetchone()[0]
        db.close()
        await member.start()
        status = await member.ask("status")
        roots[member.number] = (status["height"], status["state_root"])
        assert (await member.ask("block", height=height))["state_root"] == status["state_root"]
        await member.stop()
    assert len({root for height, root in roots.values() if height == roots[0][0]}) == 1


TAMPERED = {
    "UPDATE state SET value = x'01' WHERE key LIKE 'ledger/%'": "state at height",
    "UPDATE state SET value = x'c1' WHERE key = 'chain/block'": "state at height",
    "DELETE FROM state WHERE key = 'chain/block'": "state at height",
    "DELETE FROM state WHERE key LIKE 'code/%' OR key LIKE 'vm/%'": "state at height",
    "UPDATE state SET value = 'text' WHERE key = 'chain/params'": "state at height",
    "INSERT INTO state VALUES ('ledger/account/x', x'01')": "state at height",
    "UPDATE blocks SET certificate = x'00' WHERE height > 0": "block at height",
    "UPDATE blocks SET block = x'00'": "block at height",
    "UPDATE blocks SET hash = x'00'": "block at height",
}


async def test_a_tampered_database_is_refused_by_name(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    one = grid.members[3]
    async with running(grid, range(4)) as members:
        await at_height(members, 2)
    path = one.data / DATABASE_NAME
    whole = path.read_bytes()
    for statement, words in TAMPERED.items():
        path.write_bytes(whole)
        with sqlite3.connect(path) as db:
            changed = db.execute(statement).rowcount
        db.close()
        assert changed, statement
        with pytest.raises(StoreError) as caught:
            await one.start()
        line = str(caught.value)
        assert words in line, statement
        assert str(path) in line
        assert "\n" not in line


async def test_a_certificate_of_another_block_is_no_proof(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    one = grid.members[3]
    async with running(grid, range(4)) as members:
        await at_height(members, 3)
    path = one.data / DATABASE_NAME
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE blocks SET certificate = (SELECT certificate FROM blocks WHERE height = 1)"
            " WHERE height > 1"
        )
    db.close()
    with pytest.raises(StoreError, match="it is another block's"):
        await one.start()


async def test_another_genesis_is_refused(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    await grid.members[0].start()
    await grid.members[0].stop()
    grid.genesis = make_genesis(4)
    with pytest.raises(GenesisError, match="belongs to genesis"):
        await grid.members[0].start()


async def test_a_proposal_with_another_state_is_prevoted_nil(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    liar, honest = grid.members[1], [grid.members[n] for n in (0, 2, 3)]
    lies: set[tuple[int, int]] = set()

    def lie(message: ConsensusMessage) -> ConsensusMessage:
        if isinstance(message, Proposal) and message.proposer == liar.number:
            lies.add((message.height, message.round))
            return forged(message, liar)
        return message

    liar.alter = lie
    async with running(grid, range(4)):
        await until(
            lambda: all(member.node.chain.counts["refused_blocks"] for member in honest),
            "each of the others has had a lie before it",
        )
        height = max(member.height for member in honest)
        await at_height(honest, height + 2)
        assert await same_blocks(honest, range(height + 2))
    for member in honest:
        values = [
            vote.block_hash
            for vote in member.votes
            if vote.kind == PREVOTE and (vote.height, vote.round) in lies
        ]
        assert values
        assert set(values) == {NIL}


def forged(proposal: Proposal, liar: Member) -> Proposal:
    """Return the proposal with another state root, signed as it must be."""
    header = msgspec.structs.replace(proposal.block.header, state_root=b"\x66" * 32)
    signed = proposal_signed_bytes(
        header.chain_id,
        proposal.epoch,
        proposal.height,
        proposal.round,
        header_hash(header),
        proposal.valid_round,
    )
    block = msgspec.structs.replace(proposal.block, header=header)
    return msgspec.structs.replace(proposal, block=block, signature=liar.key.sign(signed))


async def test_a_part_that_fails_stops_the_node_with_its_error(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        one = members[0]

        def fail(*args: object) -> None:
            raise OSError("no space left on device")

        one.node.chain._wal.append = fail  # type: ignore[method-assign]
        error = await one.ended()
        assert isinstance(error, OSError)
        # It said nothing that it could not write down; the others go on.
        await at_height(members[1:], members[1].height + 3)


async def test_votes_flooding_a_node_neither_stop_its_timers_nor_its_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.chain.inbox, "MESSAGES_MAX", 0)
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        chains = [member.node.chain for member in members]
        await until(lambda: all(chain.counts["dropped_inputs"] > 10 for chain in chains), "drops")
        assert {member.height for member in members} == {0}
        monkeypatch.setattr(node.chain.inbox, "MESSAGES_MAX", 4_096)
        await at_height(members, 3)


async def test_a_restarted_authority_has_its_last_block_for_peers_behind(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        await at_height(members, 2)
    # Alone it decides nothing: what it knows it has from its disk.
    async with running(grid, [2]) as (one,):
        core = one.node.chain._core
        assert core is not None
        await until(lambda: len(core._repair.past) > 0, "the last block is known")
        decided = core._repair.past[0].decided
        assert header_hash(decided.block.header) == one.node.chain.head.hash
        assert decided.certificate == one.node.chain.head.certificate


async def test_nothing_signed_leaves_the_house_before_it_is_on_the_disk(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        wal, network = members[0].node.chain._wal, members[0].network
        assert network is not None
        append, sync, send = wal.append, wal.sync, network.send
        done: list[str] = []

        def appending(record: WalRecord) -> None:
            done.append("append")
            append(record)

        def syncing() -> None:
            sync()
            done.append("sync")

        def sending(peer_id: str, protocol: str, data: bytes) -> bool:
            if protocol == node.chain.inbox.PROTOCOL and not isinstance(
                decode_message(data), VoteSummary
            ):
                done.append("send")
            return send(peer_id, protocol, data)

        wal.append, wal.sync = appending, syncing  # type: ignore[method-assign]
        network.send = sending  # type: ignore[method-assign]
        await at_height(members, members[0].height + 4)
    assert done.count("send") > 10
    assert done.count("append") > 6
    assert ("append", "send") not in set(itertools.pairwise(done))


async def test_a_status_names_one_height_and_its_state(tmp_path: Path) -> None:
    grid = busy_grid(tmp_path)
    async with running(grid, range(4)) as members:
        home = members[0]
        app = home.node.app
        commit = app.commit
        seen: list[tuple[int, str]] = []

        def slowly(result: BlockResult) -> None:
            commit(result)
            # In a thread of its own: statuses are asked for before the chain takes note of it.
            time.sleep(0.05)

        app.commit = slowly  # type: ignore[method-assign]
        goal = home.height + 4
        while home.height < goal:
            status = home.node.status.snapshot()
            seen.append((status["height"], status["state_root"]))
            await asyncio.sleep(0.005)
        for height, root in dict.fromkeys(seen):
            assert (await home.ask("block", height=height))["state_root"] == root


@pytest.mark.slow
async def test_households_trade_and_every_slot_is_settled(tmp_path: Path) -> None:
    genesis = make_genesis(5, time_lapse=300, market_start_ms=MARKET_START_MS)
    grid = Grid(tmp_path, genesis, households=True)
    async with running(grid, range(5)) as members:
        query = members[4].node.app.query

        def trades() -> list[client.Trade]:
            slots = client.settled_slots(query, 100)
            return [trade for slot in slots for trade in client.trades_of_slot(query, slot)]

        await until(
            lambda: (
                len(client.settled_slots(query, 100)) >= 5
                and any(not trade.backstop for trade in trades())
            ),
            "slots are settled, and neighbours have traded in one",
            4 * PATIENCE_S,
        )
        height = min(member.height for member in members)
        assert await same_blocks(members, range(height + 1))
        money = await members[0].ask("money")
        supply = money["minted_micro"] - money["redeemed_micro"]
        assert money["balances_micro"] + money["held_micro"] == supply
        status = await members[0].ask("status")
        # A busy machine may be late for a gate; nothing else is wrong with what a home sends.
        assert set(status["home"]["refused"]) <= {"gate_closed", "expired", "too_late"}
        assert status["finality_ms"]["count"] > 0
    assert not double_votes([vote for member in members for vote in member.votes])
