import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codec import decode, encode
from wire.errors import EncodeError
from wire.keys import SigningKey
from wire.transaction import (
    TRANSACTION_BYTES_MAX,
    VALIDITY_MS_MAX,
    CheckedTransaction,
    Refused,
    SignedTransaction,
    Transaction,
    check,
    sign,
)

KEY = SigningKey(bytes(range(32)))
NOW_MS = 1_700_000_000_000


def make(**changes: object) -> Transaction:
    tx = Transaction("street", KEY.public, 1, NOW_MS + 60_000, "market", "post_order", {"slot": 7})
    return msgspec.structs.replace(tx, **changes)


def one(raw: bytes) -> CheckedTransaction | Refused:
    return check([raw], "street", NOW_MS)[0]


def resigned(tx: Transaction) -> bytes:
    """Sign without the checks of `sign`, as an attacker would."""
    body = b"commonwatt/transaction/1\0" + encode(tx)
    return encode(SignedTransaction(tx, KEY.sign(body)))


def test_a_signed_transaction_passes_with_the_same_id() -> None:
    signed = sign(make(), KEY)
    assert one(signed.raw) == signed
    assert signed.sender == KEY.address


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chain_id": "other"}, "wrong_chain"),
        ({"sender": b"short"}, "malformed"),
        ({"nonce": 0}, "bad_nonce"),
        ({"nonce": -1}, "bad_nonce"),
        ({"nonce": 2**63}, "bad_nonce"),
        ({"valid_until_ms": NOW_MS - 1}, "expired"),
        ({"valid_until_ms": NOW_MS + VALIDITY_MS_MAX + 1}, "valid_too_long"),
        ({"contract": ""}, "malformed"),
        ({"entry": "x" * 65}, "malformed"),
        ({"args": {"price": 0.5}}, "malformed"),
    ],
)
def test_each_refusal_has_its_code(changes: dict[str, object], code: str) -> None:
    refused = one(resigned(make(**changes)))
    assert isinstance(refused, Refused)
    assert refused.code == code


def test_a_stranger_cannot_sign_for_another() -> None:
    tx = make(sender=SigningKey.generate().public)
    with pytest.raises(ValueError, match="sender's key"):
        sign(tx, KEY)
    refused = one(resigned(tx))
    assert isinstance(refused, Refused)
    assert refused.code == "bad_signature"


def test_a_batch_keeps_its_order_and_one_bad_spoils_none() -> None:
    good = [sign(make(nonce=n), KEY).raw for n in (1, 2, 3)]
    other = resigned(make(chain_id="other"))
    forged = encode(
        msgspec.structs.replace(decode(good[0], SignedTransaction, 9999), signature=b"")
    )
    results = check([good[0], b"junk", good[1], forged, other, good[2]], "street", NOW_MS)
    codes = [r.code if isinstance(r, Refused) else r.tx.nonce for r in results]
    assert codes == [1, "malformed", 2, "bad_signature", "wrong_chain", 3]


def test_size_is_bounded() -> None:
    refused = one(sign(make(args={"note": "x" * TRANSACTION_BYTES_MAX}), KEY).raw)
    assert isinstance(refused, Refused)
    assert "at most 8192" in refused.message


def test_floats_cannot_be_signed() -> None:
    with pytest.raises(EncodeError, match="float"):
        sign(make(args={"price": 0.5}), KEY)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_byte_goes_unseen(place: int, value: int) -> None:
    signed = sign(make(), KEY)
    place %= len(signed.raw)
    changed = signed.raw[:place] + bytes([value]) + signed.raw[place + 1 :]
    result = one(changed)
    if changed != signed.raw:
        assert isinstance(result, Refused)
