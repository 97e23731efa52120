"""Ed25519 keys, and the two names made from one: the account's address and the libp2p peer id.

Every signature of the project is made and checked here, by libsodium (PyNaCl). OpenSSL accepts
small-order keys that libsodium refuses; two verifiers in one network would be a fork waiting for
its block (docs/adr/0004).
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import nacl.bindings
import nacl.exceptions
import nacl.utils

from wire.errors import KeyFormatError

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
ADDRESS_PREFIX: Final = "cw"
PEER_ID_CHARS_MAX: Final = 64
ADDRESS_CHARS: Final = len(ADDRESS_PREFIX) + 40

_ADDRESS_DOMAIN: Final = b"commonwatt/address/1\0"
# A libp2p peer id is the identity multihash of the protobuf {type: Ed25519, data: key}, in base58.
_PEER_ID_HEADER: Final = bytes.fromhex("002408011220")
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class SigningKey:
    """One Ed25519 key pair, made from a 32-byte seed. Never printed: `repr` shows the address."""

    __slots__ = ("_secret", "address", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise KeyFormatError(f"a key seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.address = address_of(self.public)

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new random key."""
        return cls(nacl.utils.random(SEED_BYTES))

    @property
    def seed(self) -> bytes:
        """The 32 bytes to keep secret; the key can be made from them again."""
        return self._secret[:SEED_BYTES]

    @property
    def peer_id(self) -> str:
        """The libp2p peer id of this key, base58."""
        return peer_id_of(self.public)

    def derive(self, purpose: str) -> "SigningKey":
        """Return the key of this home for another purpose (`"meter"`), by HMAC-SHA-256."""
        message = b"commonwatt/derive/" + purpose.encode()
        return SigningKey(hmac.digest(self.seed, message, "sha256"))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`, which starts with its domain tag."""
        return nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey({self.address})"


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is `public`'s over `message`. Any malformed input is just False."""
    if len(public) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except (nacl.exceptions.CryptoError, ValueError):
        return False
    return True


def verify_many(items: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """Check many `(public, message, signature)`; safe to run in a thread.

    libsodium runs with the interpreter's lock released, so a batch in a worker thread leaves the
    event loop free.
    """
    return [verify(public, message, signature) for public, message, signature in items]


def address_of(public: bytes) -> str:
    """Return the account address of a public key: `cw` and 40 hexadecimal digits."""
    if len(public) != PUBLIC_KEY_BYTES:
        raise KeyFormatError(f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
    return ADDRESS_PREFIX + hashlib.sha256(_ADDRESS_DOMAIN + public).hexdigest()[:40]


def is_address(text: str) -> bool:
    """Tell whether `text` has the form of an account address."""
    digits = text[len(ADDRESS_PREFIX) :]
    return (
        len(text) == ADDRESS_CHARS
        and text.startswith(ADDRESS_PREFIX)
        and all(digit in "0123456789abcdef" for digit in digits)
    )


def public_key_of_peer(peer_id: str) -> bytes | None:
    """Return the Ed25519 public key that a peer id (base58) holds, None if it is no such id."""
    if len(peer_id) > PEER_ID_CHARS_MAX:
        return None
    number = 0
    for letter in peer_id:
        digit = _BASE58.find(letter)
        if digit < 0:
            return None
        number = number * 58 + digit
    size = len(_PEER_ID_HEADER) + PUBLIC_KEY_BYTES
    if number >> 8 * size:
        return None
    data = number.to_bytes(size, "big")
    public = data[len(_PEER_ID_HEADER) :]
    # Only one text is a key's: with zeros in front it would be another peer of the same key.
    return public if peer_id_of(public) == peer_id else None


def peer_id_of(public: bytes) -> str:
    """Return the libp2p peer id (base58) of an Ed25519 public key."""
    if len(public) != PUBLIC_KEY_BYTES:
        raise KeyFormatError(f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
    number = int.from_bytes(_PEER_ID_HEADER + public, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    # The leading zero byte of the identity multihash is the leading "1".
    return "1" + "".join(reversed(digits))
