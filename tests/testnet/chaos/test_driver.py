"""The test build lies as it is told, and the production daemon never becomes it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import node
from consensus.messages import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    Block,
    Header,
    Proposal,
    Vote,
    VoteSummary,
    decode_message,
    header_hash,
    proposal_signed_bytes,
    vote_signed_bytes,
)
from node import tiers
from node.network.libp2p import Libp2pNetwork
from testnet.chaos.driver import FLOOD_COPIES, Driven, Liar, bend_network
from testnet.chaos.targets.base import Drive, lies_told
from tests.node.grid import make_genesis
from wire.codec import encode
from wire.keys import SigningKey, verify

KEY = SigningKey.generate()
OTHER = SigningKey.generate()
CHAIN = "street"
PEERS = ("a", "b", "c")
HASH = b"\7" * 32


def vote(key: SigningKey = KEY, block_hash: bytes = HASH, kind: int = PREVOTE) -> Vote:
    signature = key.sign(vote_signed_bytes(kind, CHAIN, 0, 9, 1, block_hash))
    return Vote(
        kind=kind, epoch=0, height=9, round=1, block_hash=block_hash, voter=0, signature=signature
    )


def proposal() -> Proposal:
    names = (
        *("parent_hash", "last_certificate_hash", "tx_root", "receipts_root", "state_root"),
        *("authorities_hash", "next_authorities_hash", "params_hash", "evidence_root"),
        *("inbox_root", "outbox_root", "anchor_hash"),
    )
    header = Header(
        version=1,
        chain_id=CHAIN,
        epoch=0,
        height=9,
        time_ms=1_000,
        proposer=0,
        anchor_height=0,
        **dict.fromkeys(names, HASH),
    )
    signature = KEY.sign(proposal_signed_bytes(CHAIN, 0, 9, 1, header_hash(header), -1))
    return Proposal(
        epoch=0,
        height=9,
        round=1,
        block=Block(header, (), None),
        valid_round=-1,
        pol=None,
        proposer=0,
        signature=signature,
    )


def liar(behaviour: str) -> Liar:
    found = Liar(KEY, CHAIN, lambda: behaviour)
    # It learns its peers by talking to them; what it says of others' votes is never changed.
    for peer in PEERS:
        found.outgoing(peer, encode(vote(OTHER)))
    return found


def test_an_honest_one_changes_nothing() -> None:
    for message in (vote(), proposal()):
        assert liar("").outgoing("c", encode(message)) == [encode(message)]


@pytest.mark.parametrize("behaviour", ["equivocate", "withhold", "nil"])
def test_what_others_have_signed_is_never_changed(behaviour: str) -> None:
    summary = VoteSummary(0, 9, 1, -1, 3, False, ())
    for message in (vote(OTHER), summary):
        assert liar(behaviour).outgoing("c", encode(message)) == [encode(message)]


def test_one_that_withholds_says_nothing_of_its_own() -> None:
    for message in (vote(), proposal()):
        assert liar("withhold").outgoing("a", encode(message)) == []


@pytest.mark.parametrize("kind", [PREVOTE, PRECOMMIT])
def test_one_that_votes_nil_signs_it(kind: int) -> None:
    (said,) = liar("nil").outgoing("a", encode(vote(kind=kind)))
    changed = decode_message(said)
    assert isinstance(changed, Vote)
    assert changed.block_hash == NIL
    signed = vote_signed_bytes(kind, CHAIN, 0, 9, 1, NIL)
    assert verify(KEY.public, signed, changed.signature)


def test_one_that_equivocates_tells_two_well_signed_stories() -> None:
    one = liar("equivocate")
    votes = {peer: one.outgoing(peer, encode(vote())) for peer in PEERS}
    assert votes["a"] == votes["b"] == [encode(vote())]
    other = decode_message(votes["c"][0])
    assert isinstance(other, Vote)
    assert other.block_hash == NIL
    (told,) = one.outgoing("c", encode(proposal()))
    changed = decode_message(told)
    assert isinstance(changed, Proposal)
    claimed = header_hash(changed.block.header)
    assert claimed != header_hash(proposal().block.header)
    signed = proposal_signed_bytes(CHAIN, 0, 9, 1, claimed, -1)
    assert verify(KEY.public, signed, changed.signature)


def test_a_flood_repeats_and_adds_what_cannot_be_read() -> None:
    said = liar("flood").outgoing("a", encode(vote()))
    assert said[:-1] == [encode(vote())] * FLOOD_COPIES
    assert said[-1] != said[0]


def test_it_is_told_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    driven = Driven(file)
    assert driven.now == Drive()
    told = Drive(skew_ms=-5, behaviour="nil")
    file.write_bytes(msgspec.json.encode(told))
    driven.read()
    assert driven.now == told
    file.write_text("{")
    driven.read()
    assert driven.now == told


@pytest.mark.parametrize(
    ("behaviour", "protocol", "count"),
    [("withhold", "consensus", 0), ("", "consensus", 1), ("withhold", "sync", 1)],
)
def test_the_daemons_network_is_the_one_that_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, protocol: str, count: int
) -> None:
    monkeypatch.setattr(tiers, "Libp2pNetwork", Libp2pNetwork)
    sent: list[bytes] = []
    monkeypatch.setattr(
        Libp2pNetwork, "send", lambda _self, _peer, _protocol, data: sent.append(data) or True
    )
    driven = Driven(tmp_path / "chaos.json")
    driven.now = Drive(behaviour=behaviour)
    bend_network(driven, CHAIN)
    network = tiers.libp2p_of(make_genesis(), KEY, tmp_path, "/ip4/127.0.0.1/tcp/0", ())
    network.send("a", protocol, encode(vote()))
    assert sent == [encode(vote())] * count
    driven.tell()
    grid: Any = SimpleNamespace(data=lambda name: tmp_path / "data")
    assert lies_told(grid, "home-01") == driven.lies == (0 if count else 1)


def test_the_daemon_knows_nothing_of_it() -> None:
    package = Path(node.__file__).parent
    assert not [file for file in package.rglob("*.py") if "chaos" in file.read_text()]
