"""Decoders of transactions, of the control socket, of proofs, and of what neighbours say."""

import contextlib
import functools
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from unittest.mock import Mock

import msgspec
import trio
from google.protobuf.message import DecodeError as ProtobufError
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.utils import encode_varint_prefixed
from libp2p.utils.varint import encode_uvarint

from consensus.authorities import AuthoritySet
from consensus.light import LightClient
from consensus.sync_messages import Headers
from market import client, contracts, governance
from market.app import Application
from market.deployment import _CHANGE_BYTES_MAX, CodeChange
from market.errors import Fault
from market.receipts import Receipt
from market.vm import merkle
from market.vm.executor import _CODE_BYTES_MAX
from market.vm.gate import Code
from market.vm.host import from_text, to_text
from node.api.answers import Answers
from node.api.contracts import read_args
from node.api.control import ControlServer, _line, answer_of
from node.chain.messages import TransactionBatch
from node.errors import ConfigError, ControlError, ProofError
from node.health import problem_of
from node.network import _patches, _streams
from node.network._addresses import check_listen, check_peer, told_by
from node.network._exchange import EXCHANGE_BYTES_MAX, PeerAddresses
from node.network._pubsub import GuardedPubsub, _controls
from node.network._streams import FrameError
from node.network.base import GOSSIP_BYTES_MAX, SEND_BYTES_MAX, NetworkError
from node.pool.mempool import Mempool
from node.pool.verifier import TransactionVerifier
from node.proofs.bill import QUESTION_BYTES_MAX as PROVE_BYTES_MAX
from node.proofs.bill import BillReader, ProveBill
from node.proofs.light import _bytes as served_bytes
from node.proofs.receipts import QUESTION_BYTES_MAX, ProveReceipt, ReceiptProof, ReceiptReader
from node.status import Finality
from tests.fuzz.judge import Target, Told
from tests.market.street import HOME_KEYS, METER_KEYS, SLOT, START_MS, Street, params
from tests.node.network.homes import key_of as peer_key
from tests.node.proofs.test_bill import HOME, Server, sign
from wire.codec import check_plain, decode, decode_plain, encode, plain_problem
from wire.errors import DecodeError, EncodeError
from wire.keys import SigningKey, is_address
from wire.transaction import CheckedTransaction, Refused, check

T = TypeVar("T")

PLAIN_BYTES_MAX: Final = 65_536
RPCS_MAX: Final = 64
KEYS: Final = {key.public: key for key in (*HOME_KEYS, *METER_KEYS)}


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine that never waits comes to."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        work.close()
    raise AssertionError("it waits for something")


@functools.lru_cache
def street() -> Street:
    """A market with an order in it."""
    made = Street(params())
    assert made.home(1, client.post_order(SLOT, "sell", 500, 100_000)).code == "ok"
    return made


def calls() -> list[tuple[SigningKey, client.Call]]:
    home, meter, other = HOME_KEYS[1], METER_KEYS[1], HOME_KEYS[2].address
    return [
        (home, client.post_order(SLOT, "buy", 500, 200_000)),
        (home, client.withdraw_order(f"{SLOT}-1")),
        (meter, client.post_reading(SLOT, 12, 0, 1)),
        (home, client.transfer(other, 5_000)),
        (home, client.register_home(other, other, "ä home", "prosumer", 1, 2, 3, 4)),
        (home, governance.propose_set("block_interval_ms", 500, 100)),
        (home, governance.vote(1, True)),
    ]


def signed_calls() -> list[CheckedTransaction]:
    until_ms = START_MS + 3_600_000
    return [
        client.sign_call(call, key, "street", number, until_ms)
        for number, (key, call) in enumerate(calls(), start=1)
    ]


# -- wire


def plain_value() -> Target:
    values = (
        {"a": [1, -1, 2**63 - 1, -(2**63)], "b": {"c": None, "d": True}, "z": "text ä"},
        [[[[[[[[]]]]]]], 127, 128, 65_536],
        "x" * 40,
        {"k" * 40: "v" * 300, "m": list(range(20))},
    )

    def plain(data: bytes) -> Any:
        return check_plain(decode_plain(data, PLAIN_BYTES_MAX))

    return Target("plain-value", plain, (DecodeError,), tuple(map(encode, values)), encode=encode)


def transaction() -> Target:
    """A transaction from anyone: its form, its signature, and whether the market may see it."""
    app = street().app
    good = signed_calls()

    def admitted(data: bytes) -> CheckedTransaction:
        (result,) = check([data], "street", START_MS)
        if isinstance(result, Refused):
            raise result
        app.check(result)
        return result

    def right(found: CheckedTransaction, data: bytes) -> str | None:
        if found.raw != data:
            return "it is taken for other bytes"
        return plain_problem(found.tx.args)

    return Target(
        "transaction", admitted, (Refused,), tuple(tx.raw for tx in good),
        encode=lambda found: found.raw, check=right, mend=_sign_again,
    )  # fmt: skip


def _sign_again(data: bytes) -> bytes:
    """Let the sender sign whatever the transaction says now: a home may say anything."""
    try:
        tag, tx, _ = msgspec.msgpack.decode(data)
        key = KEYS[tx[2]]
        return encode([tag, tx, key.sign(b"commonwatt/transaction/1\0" + encode(tx))])
    except (msgspec.MsgspecError, EncodeError, ValueError, TypeError, LookupError, RecursionError):
        return data


def transaction_batch() -> Target:
    raws = [tx.raw for tx in signed_calls()]
    mempool = Mempool(
        TransactionVerifier("street"), street().app.check, _nowhere, lambda: START_MS, lambda: None
    )
    # Who brings a million in a row would not be looked at any more.
    mempool._intake = Mock(verdict=lambda *_: True)

    def passed(data: bytes) -> TransactionBatch:
        if not mempool.gossip_check("peer", data):
            raise Told("not passed on")
        mempool.receive("peer", data)
        return decode(data, TransactionBatch, GOSSIP_BYTES_MAX)

    examples = (TransactionBatch(1, raws[:2]), TransactionBatch(2**62, raws[2:3]))
    return Target("transaction-batch", passed, (Told,), tuple(map(encode, examples)), encode=encode)


async def _nowhere(batch: bytes) -> None:
    del batch


def contract_border() -> Target:
    """Values that contracts hand to the host, as JSON."""
    texts = tuple(to_text(call.args).encode() for _, call in calls())
    deep = b'{"a":[[[[[[[1]]]]]]],"b":null,"c":"\\u00e4"}'

    def value(data: bytes) -> Any:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Told("not text") from None
        return check_plain(from_text(text))

    return Target("contract-border", value, (Fault, Told, EncodeError), (*texts, deep), kind="text")


def contract_code() -> Target:
    """A contract's text as it stands in the state."""
    source = contracts.source("tariff")
    examples = (Code("def f():\n    return 1\n", {}), Code(source[:900], {"time": "ab" * 32}))

    def read(data: bytes) -> Code:
        return decode(data, Code, _CODE_BYTES_MAX)

    return Target(
        "contract-code", read, (DecodeError,), tuple(map(encode, examples)), encode=encode
    )


# -- proofs for a reader who trusts nobody


def bill_proof() -> Target:
    server = Server()
    good = encode(server.material())
    true = server.read()
    # A reader that has followed the epochs up to the last, so that one answer is all there is.
    followed = LightClient(server.genesis.chain_id, AuthoritySet(0, server.genesis.authorities))
    for end in server.ends:
        followed.accept(end)

    def proven(data: bytes) -> Any:
        async def proof(address: str, slot: int | None) -> bytes:
            return data

        source: Any = SimpleNamespace(proof=proof, path=server.path)
        reader = BillReader(server.genesis)
        reader._light = followed.copy()
        return finished(reader.fetch(source, HOME, None))

    def same(found: Any, data: bytes) -> str | None:
        # Another quorum of the same set may have signed; nothing else can differ.
        del data
        told = found._replace(signatures=true.signatures)
        return None if told == true else f"proves {found}"

    return Target("bill-proof", proven, (ProofError, ControlError), (good,), check=same)


def prove_bill() -> Target:
    questions = (ProveBill(HOME, None), ProveBill(HOME, 2_000_000))

    def asked(data: bytes) -> ProveBill:
        return decode(data, ProveBill, PROVE_BYTES_MAX)

    return Target("prove-bill", asked, (DecodeError,), tuple(map(encode, questions)), encode=encode)


def receipt_proof() -> Target:
    server = Server()
    txs = [client.sign_call(client.transfer(HOME, n), HOME_KEYS[n], "c", 1, 2) for n in range(1, 6)]
    receipts = [
        Receipt(tx.tx_id, "revert", "no_money", "not so much", 70 + number, ())
        for number, tx in enumerate(txs)
    ]
    texts = [encode(receipt) for receipt in receipts]
    header = msgspec.structs.replace(server.head.header, receipts_root=merkle.list_root(texts))
    true = ReceiptProof(sign(header, 2), 3, txs[3].raw, receipts[3], merkle.prove_item(texts, 3))
    followed = LightClient(server.genesis.chain_id, AuthoritySet(0, server.genesis.authorities))
    for end in server.ends:
        followed.accept(end)

    def proven(data: bytes) -> Any:
        async def receipt(tx_id: bytes) -> bytes:
            return data

        source: Any = SimpleNamespace(receipt=receipt, path=server.path)
        reader = ReceiptReader(server.genesis)
        reader._light = followed.copy()
        return finished(reader.fetch(source, receipts[3].tx_id))

    def same(found: Any, data: bytes) -> str | None:
        del data
        true = (txs[3].tx, receipts[3], 3)
        return None if (found.tx, found.receipt, found.place) == true else f"proves {found}"

    return Target(
        "receipt-proof", proven, (ProofError, ControlError),
        (encode(true),), check=same,
    )  # fmt: skip


def prove_receipt() -> Target:
    def asked(data: bytes) -> ProveReceipt:
        return decode(data, ProveReceipt, QUESTION_BYTES_MAX)

    good = (encode(ProveReceipt(bytes(range(32)))),)
    return Target("prove-receipt", asked, (DecodeError,), good, encode=encode)


def code_change() -> Target:
    """A voted change of code, as it waits in the state for its epoch."""
    changes = (
        CodeChange("deploy", "counter", "def f():\n    return 1\n", {"start": 3}, "ab" * 32),
        CodeChange("upgrade", "tariff", contracts.source("tariff")[:900], {}, "cd" * 32),
    )

    def read(data: bytes) -> CodeChange:
        return decode(data, CodeChange, _CHANGE_BYTES_MAX)

    good = tuple(map(encode, changes))
    return Target("code-change", read, (DecodeError,), good, encode=encode)


def contract_arguments() -> Target:
    """What a person types behind `--args`."""

    def read(data: bytes) -> Any:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Told("not text") from None
        return read_args(text)

    good = (b'{"start": 1}', b'{"a": [1, "x", {"b": null}], "c": true}', b"{}")
    return Target("contract-arguments", read, (Told, ConfigError), good, kind="text")


def state_values() -> Target:
    server = Server()
    values = tuple(value for key, value in server.state.items() if key != "other")

    def read(data: bytes) -> Any:
        error: Exception | None = None
        for reader in (client.read_home, client.read_settled, client.read_bill):
            try:
                return reader(data)
            except (DecodeError, msgspec.ValidationError) as wrong:
                error = error or wrong
        raise error or Told("nothing")

    return Target("state-values", read, (DecodeError, msgspec.ValidationError), values)


# -- control socket


def control_question() -> Target:
    app = street().app
    mempool = Mempool(
        TransactionVerifier("street"), app.check, _nowhere, lambda: START_MS, lambda: None
    )
    server = ControlServer.__new__(ControlServer)
    server._answers = _answers(app, mempool).table()
    raw = signed_calls()[0].raw.hex()
    questions = (
        {"ask": "status"},
        {"ask": "slots", "count": 3},
        {"ask": "slot", "slot": SLOT},
        {"ask": "homes"},
        {"ask": "money"},
        {"ask": "query", "contract": "market", "entry": "book", "args": {"slot": SLOT}},
        {"ask": "query", "contract": "ledger", "entry": "money", "args": {}},
        {"ask": "submit", "transaction": raw},
        {"ask": "transaction", "id": "00" * 32},
        {"ask": "block", "height": 1},
        {"ask": "bill", "address": HOME_KEYS[0].address, "slot": None},
        {"ask": "bill_proof", "address": HOME_KEYS[0].address, "slot": 5},
        {"ask": "path", "epoch": 0, "height": 1},
    )

    def answered(data: bytes) -> Any:
        answer = msgspec.json.decode(finished(server._answer(data)))
        if "error" in answer:
            if answer["code"] == "internal":
                raise AssertionError("the node could not answer")
            raise Told(answer["code"])
        # What is answered is as long as what the node holds, not as the question.
        return answer.keys() == {"ok"}

    words = tuple(name.encode() for name in server._answers)
    return Target(
        "control-question", answered, (Told,), tuple(map(_line, questions)), kind="text",
        words=(*words, b"market", b"settlement", b"registry", b"governance", b"tariff"),
    )  # fmt: skip


def _answers(app: Application, mempool: Mempool) -> Answers:
    material = Server().material()

    async def nothing(*_: Any) -> None:
        return None

    async def proof(*_: Any) -> Any:
        return material

    async def path(*_: Any) -> Any:
        return Headers(())

    status: Any = SimpleNamespace(snapshot=lambda: {"name": "home"})
    store: Any = SimpleNamespace(height_of=nothing, block=nothing, first_height=1, height=9)
    bills: Any = SimpleNamespace(proof=proof, path=path)
    receipts: Any = SimpleNamespace(proof=nothing)
    doorkeeper: Any = SimpleNamespace(waiting=list)
    return Answers(status, None, app, mempool, store, Finality(), bills, receipts, doorkeeper)


def control_answer() -> Target:
    answers = (
        {"ok": {"name": "home", "height": 7, "peers": [{"peer_id": "x", "inbound": True}]}},
        {"ok": None},
        {"ok": [[1, -2.5, "x"], {}]},
        {"ok": "00ff" * 20},
    )

    def answered(data: bytes) -> Any:
        problem_of(data)
        value = answer_of(data)
        # What carries a proof is hexadecimal.
        served_bytes(value)
        return value

    return Target(
        "control-answer", answered, (ControlError,), tuple(map(_line, answers)), kind="text",
        words=(b"ok", b"error", b"code"),
    )  # fmt: skip


# -- the network's own framing


def peer_addresses() -> Target:
    known = [_address(number) for number in range(4)]
    examples = (PeerAddresses(known[:1], known[1:]), PeerAddresses([], []))
    peer = peer_key(0).peer_id

    def taken(data: bytes) -> PeerAddresses:
        found = decode(data, PeerAddresses, EXCHANGE_BYTES_MAX)
        for address in told_by(peer, found.own, "10.1.1.1"):
            check_peer(address)
        return found

    return Target(
        "peer-addresses", taken, (DecodeError,), tuple(map(encode, examples)), encode=encode
    )


def _address(number: int) -> str:
    hosts = ("ip4/10.0.0.1", "ip6/fe80::1", "dns4/home-1", "dns/home.lan", "ip4/0.0.0.0")
    return f"/{hosts[number % 5]}/tcp/{4_001 + number}/p2p/{peer_key(number).peer_id}"


def multiaddress() -> Target:
    def checked(data: bytes) -> str:
        text = data.decode("utf-8", "surrogateescape")
        try:
            return check_peer(text)
        except NetworkError:
            host, _, port = check_listen(text)
            return f"{host}:{port}"

    examples = (*(_address(n).encode() for n in range(5)), b"/ip4/0.0.0.0/tcp/0", b"/ip6/::1/tcp/1")
    return Target(
        "multiaddress", checked, (NetworkError,), examples, kind="text",
        words=(b"ip4", b"ip6", b"dns4", b"tcp", b"udp", b"p2p", b"unix", b"memory"),
    )  # fmt: skip


def account_address() -> Target:
    def checked(data: bytes) -> str:
        text = data.decode("utf-8", "surrogateescape")
        if not is_address(text):
            raise Told("no address")
        return text

    examples = (HOME_KEYS[0].address.encode(), HOME_KEYS[1].address.encode())
    return Target(
        "account-address",
        checked,
        (Told,),
        examples,
        kind="text",
        encode=lambda found: found.encode(),
    )


class _Stream:
    """A stream that holds bytes and then ends."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)
        self.muxed_conn: Any = SimpleNamespace(peer_id=ID.from_base58(peer_key(1).peer_id))

    async def read(self, size: int = -1) -> bytes:
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)

    async def write(self, data: bytes) -> None:
        del data


def sent_frames() -> Target:
    """The frames of a message stream, one after the other, to its end."""
    frames = [_streams.frame("vote", b"x" * size) for size in (0, 3, 200)]

    def read(data: bytes) -> list[tuple[str, bytes]]:
        async def every() -> list[tuple[str, bytes]]:
            reader, found = _streams.Reader(_Stream(data)), []
            while reader._buffer or not found:
                found.append(_streams.unframe(await reader.sized(SEND_BYTES_MAX + 256)))
            return found

        return finished(every())

    def back(found: list[tuple[str, bytes]]) -> bytes:
        return b"".join(_streams.frame(name, data) for name, data in found)

    return Target(
        "sent-frames", read, (FrameError, trio.BrokenResourceError),
        (frames[0], b"".join(frames), frames[2]), kind="bytes", encode=back,
    )  # fmt: skip


def request_answer() -> Target:
    examples = (b"\0\0\0\0\5hello", b"\0\0\0\0\0", b"\1\0\0\0\0", b"\2\0\0\0\1x")

    def answered(data: bytes) -> bytes:
        try:
            return finished(_streams.ask(_Stream(data), b"question", 65_536))
        except NetworkError as error:
            if "peer" not in str(error):
                raise
            return b""

    allowed = (FrameError, trio.BrokenResourceError)
    return Target("request-answer", answered, allowed, examples, kind="bytes")


def negotiation() -> Target:
    lines = (b"/multistream/1.0.0\n", b"/commonwatt/1/.send\n", b"na\n", b"ls\n")

    def line(data: bytes) -> bytes:
        return finished(_patches._read_delim_bounded(_Stream(data)))

    return Target(
        "negotiation", line, (ParseError, IOException),
        tuple(encode_uvarint(len(text)) + text for text in lines), kind="bytes",
    )  # fmt: skip


class _Ear:
    """Takes what gossip brings."""

    def __init__(self) -> None:
        self.rpcs = 0
        self.arrived = 0
        self.invalid = 0

    def gossip_affordable(self, peer_id: ID, size: int, messages: int) -> bool:
        # As a peer's budget is: a stream of empty RPCs does not go on for ever.
        self.rpcs += 1
        return self.rpcs <= RPCS_MAX

    def gossip_author(self, forwarder: ID, author: bytes) -> bool:
        return True

    def gossip_verdict(self, forwarder: ID, author: bytes, topic: str, data: bytes) -> bool | None:
        return True

    def gossip_arrived(self, forwarder: ID, topic: str, data: bytes) -> None:
        self.arrived += 1

    def gossip_invalid(self, forwarder: ID, reason: str) -> None:
        self.invalid += 1


class _Router:
    """Stands for GossipSub, whose own handlers are behind the guards that `_pubsub` puts first."""

    async def handle_rpc(self, rpc: Any, peer_id: ID) -> None:
        for part in (rpc.control.ihave, rpc.control.graft, rpc.control.prune):
            for item in part:
                str(item.topicID)
        _controls(rpc)

    async def publish(self, forwarder: ID, message: Any) -> None:
        message.ByteSize()


class _Gossip(GuardedPubsub):
    """The reader of a peer's gossip, without a host under it."""

    def __init__(self, own: ID) -> None:
        self._manager = SimpleNamespace(is_running=True)
        self.host = SimpleNamespace(get_id=lambda: own)
        self.router = _Router()
        self.ear = self._ear = _Ear()  # type: ignore[assignment]
        self._topics = {"t", "blocks"}
        self._own_id = own.to_bytes()
        self._heard = set()
        self.peers = {}
        self.seen: set[bytes] = set()
        self.allowed_topics = frozenset(self._topics)
        self.peer_topics = {}
        self._peer_subscription_count = {}
        self._replayed_recent_topics = {}
        self.max_subscriptions_per_peer = 128

    @property
    def manager(self) -> Any:
        return self._manager

    @property
    def my_id(self) -> ID:
        return self.host.get_id()

    def handle_subscription(self, origin_id: ID, sub_message: Any) -> None:
        str(sub_message.topicid)
        if not sub_message.subscribe:
            Pubsub._forget_subscription(self, origin_id, sub_message.topicid)

    def _is_msg_seen(self, msg: Any) -> bool:
        return _patches.message_id(msg) in self.seen

    def _mark_msg_seen(self, msg: Any) -> None:
        self.seen.add(_patches.message_id(msg))


def heard(pubsub: _Gossip, data: bytes) -> _Ear:
    """Let a peer say this; return what was made of it."""
    ear = pubsub.ear = pubsub._ear = _Ear()
    pubsub.seen = set()
    stream = _Stream(data)
    # Every stream ends so; what came whole before has been taken.
    with contextlib.suppress(IOException):
        finished(pubsub._read(stream, stream.muxed_conn.peer_id))
    return ear


def gossip_reader() -> _Gossip:
    return _Gossip(ID.from_base58(peer_key(0).peer_id))


def gossip_rpc() -> Target:
    pubsub = gossip_reader()

    def read(data: bytes) -> int:
        ear = heard(pubsub, data)
        if ear.invalid or not ear.arrived:
            raise Told("nothing arrives")
        return ear.arrived

    examples = tuple(
        bytes(encode_varint_prefixed(rpc.SerializeToString())) for rpc in signed_rpcs()
    )
    return Target(
        "gossip-rpc", read, (Told, ProtobufError, ValueError, IOException), examples, kind="bytes"
    )


def signed_rpcs() -> list[Any]:
    """RPCs that carry a signed message each, with subscriptions and control of every kind."""
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX

    pair = create_new_key_pair(peer_key(1).seed)
    author = ID.from_pubkey(pair.public_key)
    found = []
    for number, data in enumerate((b"x", b"block" * 20)):
        message = rpc_pb2.Message(
            from_id=author.to_bytes(), topicIDs=["t"], data=data, seqno=bytes([number] * 8)
        )
        message.signature = pair.private_key.sign(
            PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
        )
        message.key = pair.public_key.serialize()
        rpc = rpc_pb2.RPC(publish=[message])
        if number:
            rpc.subscriptions.extend(
                [rpc_pb2.RPC.SubOpts(subscribe=bool(n), topicid="t") for n in range(2)]
            )
            rpc.control.CopyFrom(
                rpc_pb2.ControlMessage(
                    ihave=[rpc_pb2.ControlIHave(topicID="t", messageIDs=[b"ab" * 20] * 3)],
                    iwant=[rpc_pb2.ControlIWant(messageIDs=[b"cd" * 20])],
                    graft=[rpc_pb2.ControlGraft(topicID="t")],
                    prune=[rpc_pb2.ControlPrune(topicID="t")],
                )
            )
        found.append(rpc)
    return found


TARGETS: Final = (
    plain_value,
    transaction,
    transaction_batch,
    contract_border,
    contract_code,
    bill_proof,
    prove_bill,
    receipt_proof,
    prove_receipt,
    code_change,
    contract_arguments,
    state_values,
    control_question,
    control_answer,
    peer_addresses,
    multiaddress,
    account_address,
    sent_frames,
    request_answer,
    negotiation,
    gossip_rpc,
)
