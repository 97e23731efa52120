"""A key at rest: encrypted by a passphrase, or plain.

A plain key file is 64 hexadecimal digits. An encrypted one is one line of JSON:

    {"commonwatt-key":1,"kdf":"scrypt","n":32768,"r":8,"p":3,"salt":"…","cipher":
     "chacha20-poly1305","nonce":"…","address":"cw…","sealed":"…"}

scrypt (RFC 7914) makes the cipher's key of the passphrase; everything in front of `sealed` is
authenticated with it, so nobody can lower the cost or put another home's key there unseen. The
address is legible: a key file tells whose it is without its passphrase.
"""

import secrets
import unicodedata
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from node.durable import replace_file
from node.errors import ConfigError
from node.keys.secret import read_secret
from wire.errors import KeyFormatError
from wire.keys import SEED_BYTES, SigningKey

VERSION: Final = 1
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
CIPHER_KEY_BYTES: Final = 32
PASSPHRASE_CHARS_MIN: Final = 12
PASSPHRASE_CHARS_MAX: Final = 1_024
# What a file may ask of who reads it: 128 MiB, and eight times as long as with p = 1.
N_MIN: Final = 2**14
N_MAX: Final = 2**17
R: Final = 8
P_MAX: Final = 8


class Cost(NamedTuple):
    """How dear one guess at a passphrase is: scrypt's N and p; r is 8."""

    n: int
    p: int


# 32 MiB, which a Raspberry Pi has: OWASP's Password Storage Cheat Sheet holds it equal to 128 MiB
# with p = 1.
COST: Final = Cost(2**15, 3)

_Hex = Annotated[str, Meta(pattern="^[0-9a-f]*$")]


class SealedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an encrypted key file says. Bytes are hexadecimal."""

    version: Literal[1] = msgspec.field(name="commonwatt-key")
    kdf: Literal["scrypt"]
    n: Annotated[int, Meta(ge=N_MIN, le=N_MAX)]
    r: Literal[8]
    p: Annotated[int, Meta(ge=1, le=P_MAX)]
    salt: Annotated[_Hex, Meta(min_length=2 * SALT_BYTES, max_length=2 * SALT_BYTES)]
    cipher: Literal["chacha20-poly1305"]
    nonce: Annotated[_Hex, Meta(min_length=2 * NONCE_BYTES, max_length=2 * NONCE_BYTES)]
    address: Annotated[str, Meta(pattern="^cw[0-9a-f]{40}$")]
    sealed: Annotated[
        _Hex,
        Meta(
            min_length=2 * (SEED_BYTES + TAG_BYTES),
            max_length=2 * (SEED_BYTES + TAG_BYTES),
        ),
    ]

    @property
    def header(self) -> bytes:
        """What is authenticated beside the key itself."""
        values = [getattr(self, name) for name in self.__struct_fields__[:-1]]
        return b"commonwatt/key-file/1\0" + msgspec.json.encode(values)


class StoredKey:
    """What stands in a key file: a key, or what a passphrase makes one of.

    Attributes
    ----------
    address : str
        Whose it is, legible without the passphrase.
    """

    __slots__ = ("_content", "_path", "address")

    def __init__(self, path: Path, content: SigningKey | SealedKey) -> None:
        self._path = path
        self._content = content
        self.address = content.address

    @property
    def is_encrypted(self) -> bool:
        """Whether it takes a passphrase."""
        return isinstance(self._content, SealedKey)

    def open(self, passphrase: str) -> SigningKey:
        """Return the key; the passphrase of a plain one is not looked at.

        Raises
        ------
        ConfigError
            The passphrase is another. The message shows neither.
        """
        if isinstance(self._content, SigningKey):
            return self._content
        found = _unsealed(self._content, passphrase)
        if found is None:
            raise ConfigError(
                f"{self._path}: this passphrase does not open it, or the file has been changed; "
                "what helps is the right passphrase, a backup or the recovery code"
            )
        return found

    @property
    def plain(self) -> SigningKey | None:
        """The key if it is not encrypted."""
        return self._content if isinstance(self._content, SigningKey) else None


def load(path: Path) -> StoredKey:
    """Read a key file; of an encrypted one, what its form and bounds tell.

    Raises
    ------
    ConfigError
        It is missing, open to others, or not a key. The message never shows what it holds.
    """
    text = read_secret(path, "key")
    if text.startswith("{"):
        return StoredKey(path, _decoded(path, text))
    try:
        return StoredKey(path, SigningKey(bytes.fromhex(text)))
    except (ValueError, KeyFormatError):
        raise ConfigError(
            f"{path}: not a key; it holds 64 hexadecimal digits, or what `commonwatt key encrypt` "
            "makes of them. A backup or the recovery code brings it back"
        ) from None


def _decoded(path: Path, text: str) -> SealedKey:
    try:
        return msgspec.json.decode(text, type=SealedKey)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Not why: a part of what the file holds could be in it.
        raise ConfigError(
            f"{path}: not a whole key file of version {VERSION}; it was cut off or changed. "
            "A backup or the recovery code brings it back"
        ) from None


def text_of(key: SigningKey, passphrase: str | None = None, cost: Cost | None = None) -> str:
    """Return what a key file holds, without the line's end: encrypted if there is a passphrase.

    Raises
    ------
    ConfigError
        The passphrase is too short or too long.
    """
    if passphrase is None:
        return key.seed.hex()
    check_passphrase(passphrase)
    cost = cost or COST
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    blank = SealedKey(
        version=VERSION,
        kdf="scrypt",
        n=cost.n,
        r=R,
        p=cost.p,
        salt=salt.hex(),
        cipher="chacha20-poly1305",
        nonce=nonce.hex(),
        address=key.address,
        sealed="",
    )
    cipher = ChaCha20Poly1305(_stretched(passphrase, salt, cost))
    sealed = cipher.encrypt(nonce, key.seed, blank.header)
    return msgspec.json.encode(msgspec.structs.replace(blank, sealed=sealed.hex())).decode()


def _unsealed(content: SealedKey, passphrase: str) -> SigningKey | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    secret = _stretched(passphrase, bytes.fromhex(content.salt), Cost(content.n, content.p))
    try:
        seed = ChaCha20Poly1305(secret).decrypt(
            bytes.fromhex(content.nonce), bytes.fromhex(content.sealed), content.header
        )
    except InvalidTag:
        return None
    key = SigningKey(seed)
    return key if key.address == content.address else None


def _stretched(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # The same letters typed at another keyboard may be other code points.
    typed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=CIPHER_KEY_BYTES, n=cost.n, r=R, p=cost.p).derive(typed)


def check_passphrase(passphrase: str) -> None:
    """Raise `ConfigError` for a passphrase that none should be made of; it is not shown."""
    if not PASSPHRASE_CHARS_MIN <= len(passphrase) <= PASSPHRASE_CHARS_MAX:
        raise ConfigError(
            f"a passphrase has {PASSPHRASE_CHARS_MIN} to {PASSPHRASE_CHARS_MAX} characters; "
            "five words drawn by chance make a good one"
        )


def replace_key(path: Path, key: SigningKey, passphrase: str | None) -> None:
    """Put a key into its file in place of what is there, whole or not at all.

    Raises
    ------
    ConfigError
        It cannot be written, or the passphrase is none.
    """
    line = text_of(key, passphrase) + "\n"
    try:
        replace_file(path, line.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
