import nacl.bindings
import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from wire.errors import KeyFormatError
from wire.keys import SigningKey, address_of, is_address, peer_id_of, verify, verify_many

SEED = bytes(range(32))


def test_rfc_8032_vector() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey(seed)
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06")
    assert verify(key.public, b"", key.sign(b""))


def test_the_peer_id_is_the_one_libp2p_makes_of_the_same_key() -> None:
    for seed in (SEED, bytes(32), b"\xff" * 32):
        expected = ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58()
        assert SigningKey(seed).peer_id == expected


def test_addresses_have_one_form() -> None:
    key = SigningKey(SEED)
    assert key.address == address_of(key.public)
    assert is_address(key.address)
    for wrong in ("", "cw", key.address[:-1], key.address + "0", "xx" + key.address[2:]):
        assert not is_address(wrong)
    assert not is_address(key.address.upper())


def test_derived_keys_differ_by_purpose_and_are_repeatable() -> None:
    key = SigningKey(SEED)
    meter = key.derive("meter")
    assert meter.address == SigningKey(SEED).derive("meter").address
    assert len({meter.address, key.address, key.derive("spare").address}) == 3


def test_nothing_secret_is_printed() -> None:
    key = SigningKey(SEED)
    assert key.seed.hex() not in repr(key)
    assert key.seed == SEED


def test_verification_refuses_and_never_raises() -> None:
    key = SigningKey(SEED)
    good = (key.public, b"message", key.sign(b"message"))
    changed = good[2][:-1] + bytes([good[2][-1] ^ 1])
    bad = [
        (key.public, b"messagf", good[2]),
        (key.public, b"message", changed),
        (key.public, b"message", b""),
        (key.public[:-1], b"message", good[2]),
        (SigningKey.generate().public, b"message", good[2]),
    ]
    assert verify_many([good, *bad]) == [True, False, False, False, False, False]


def test_small_order_keys_verify_nothing() -> None:
    # With the neutral element as public key, OpenSSL accepts R = the base point and s = 1 for any
    # message; libsodium does not. This is why one verifier serves the whole project.
    neutral = b"\x01" + bytes(31)
    base = nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(b"\x01" + bytes(31))
    assert not verify(neutral, b"anything", base + b"\x01" + bytes(31))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_wrong_lengths_are_named(length: int) -> None:
    for make in (SigningKey, address_of, peer_id_of):
        with pytest.raises(KeyFormatError, match=f"not {length}"):
            make(bytes(length))
