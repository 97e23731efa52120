"""Signed transactions: a call of one contract entry by one account.

Signed are the bytes `DOMAIN + canonical encoding of Transaction`; their hash is the id, so an id
names what was asked for, whoever relays it. `check` does all that needs no state: size, encoding,
chain, expiry, signature. Nonce and balance are the market's to judge.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from wire.codec import Message, check_plain, decode, encode, plain_problem
from wire.errors import DecodeError
from wire.keys import SigningKey, address_of, verify_many

TRANSACTION_BYTES_MAX: Final = 8_192
NAME_CHARS_MAX: Final = 64
# A signature lives at most this long: the window in which a node must remember an id it has seen.
VALIDITY_MS_MAX: Final = 2 * 3_600_000

_DOMAIN: Final = b"commonwatt/transaction/1\0"


class Transaction(Message, frozen=True, tag="tx"):
    """What an account asks for. `nonce` must exceed the account's last one; gaps are allowed."""

    chain_id: str
    sender: bytes
    nonce: int
    valid_until_ms: int
    contract: str
    entry: str
    args: dict[str, Any]


class SignedTransaction(Message, frozen=True, tag="stx"):
    """A transaction and its sender's signature."""

    tx: Transaction
    signature: bytes


class CheckedTransaction(NamedTuple):
    """A transaction whose form and signature have been checked, with what that worked out."""

    tx: Transaction
    tx_id: bytes
    sender: str
    raw: bytes


class Refused(Exception):
    """A transaction that is not taken, with a stable code and a sentence for its owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def sign(tx: Transaction, key: SigningKey) -> CheckedTransaction:
    """Sign `tx` with its sender's key.

    Raises
    ------
    EncodeError
        The arguments are not plain.
    ValueError
        The key is not the sender's.
    """
    if tx.sender != key.public:
        raise ValueError("a transaction is signed by its sender's key")
    check_plain(tx.args)
    body = _signed_bytes(tx)
    raw = encode(SignedTransaction(tx, key.sign(body)))
    return CheckedTransaction(tx, hashlib.sha256(body).digest(), key.address, raw)


def id_of(tx: Transaction) -> bytes:
    """Return a transaction's id: whoever knows the id can tell what was asked for from all else."""
    return hashlib.sha256(_signed_bytes(tx)).digest()


def check(raws: Iterable[bytes], chain_id: str, now_ms: int) -> list[CheckedTransaction | Refused]:
    """Check untrusted transactions, all that can be known without state.

    The signatures are verified in one batch; run it in a thread for many. The result has one
    element per input, in order.
    """
    results: list[CheckedTransaction | Refused] = []
    items: list[tuple[bytes, bytes, bytes]] = []
    places: list[int] = []
    for raw in raws:
        try:
            signed = decode(raw, SignedTransaction, TRANSACTION_BYTES_MAX)
            _check_form(signed.tx, chain_id, now_ms)
        except DecodeError as error:
            results.append(Refused("malformed", str(error)))
            continue
        except Refused as refused:
            results.append(refused)
            continue
        tx = signed.tx
        body = _signed_bytes(tx)
        places.append(len(results))
        items.append((tx.sender, body, signed.signature))
        tx_id = hashlib.sha256(body).digest()
        results.append(CheckedTransaction(tx, tx_id, address_of(tx.sender), raw))
    for place, good in zip(places, verify_many(items), strict=True):
        if not good:
            results[place] = Refused("bad_signature", "the signature is not the sender's")
    return results


def check_validity(tx: Transaction, now_ms: int) -> None:
    """Refuse a transaction that has expired at `now_ms`, or is signed for too far ahead."""
    if tx.valid_until_ms < now_ms:
        raise Refused("expired", f"it was valid until {tx.valid_until_ms} ms, now is {now_ms} ms")
    if tx.valid_until_ms > now_ms + VALIDITY_MS_MAX:
        raise Refused("valid_too_long", f"at most {VALIDITY_MS_MAX} ms ahead may be signed for")


def _signed_bytes(tx: Transaction) -> bytes:
    return _DOMAIN + encode(tx)


def _check_form(tx: Transaction, chain_id: str, now_ms: int) -> None:
    if tx.chain_id != chain_id:
        raise Refused("wrong_chain", f"made for {tx.chain_id[:64]!r}, this chain is {chain_id!r}")
    if len(tx.sender) != 32:
        raise Refused("malformed", f"a sender is a 32-byte key, not {len(tx.sender)} bytes")
    if not 0 < tx.nonce < 2**63:
        raise Refused("bad_nonce", "a nonce is a positive 63-bit integer")
    check_validity(tx, now_ms)
    for name in (tx.contract, tx.entry):
        if not 0 < len(name) <= NAME_CHARS_MAX or not name.isascii():
            raise Refused("malformed", f"a name has 1 to {NAME_CHARS_MAX} ASCII characters")
    problem = plain_problem(tx.args)
    if problem:
        raise Refused("malformed", f"the arguments are no plain values: {problem}")
