"""A period of a home's detail, for one auditor's eyes, held against what the chain settled.

Each slot is sealed by itself to the auditor's X25519 key: an ephemeral key, HKDF-SHA-256 of what
both share, ChaCha20-Poly1305, with chain, home and slot authenticated beside it. The home's meter
signs the whole, the auditor's key in it: a file tells by itself whose it is and for whom, and
nobody passes it on as if it had been made for another.

The auditor's key is derived from an Ed25519 key that it has already, so there is no further file
to keep. It is written as `cwx`, 64 hexadecimal digits, and 8 of their SHA-256: what is disclosed to
a key with a slip in it would be nobody's to read.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hems.sources.live import COVERED_MIN
from node.errors import ConfigError, ProofError
from node.home.detail import DETAIL_BYTES_MAX, DETAIL_SLOTS_MAX, SlotDetail, decode_detail
from wire.codec import Message, decode, encode
from wire.errors import DecodeError
from wire.keys import PUBLIC_KEY_BYTES, SigningKey, address_of, verify

VERSION: Final = 1
DISCLOSURE_BYTES_MAX: Final = 64 << 20
SLOTS_MAX: Final = DETAIL_SLOTS_MAX
PURPOSE: Final = "auditor"
KEY_PREFIX: Final = "cwx"
CHECK_CHARS: Final = 8
KEY_CHARS: Final = len(KEY_PREFIX) + 2 * PUBLIC_KEY_BYTES + CHECK_CHARS
CIPHER_KEY_BYTES: Final = 32
UNHEARD_MAX: Final = 1 - COVERED_MIN
# The cipher's key is made for one message, so its nonce may be nothing.
_NONCE: Final = bytes(12)
_DOMAIN: Final = b"commonwatt/disclosure/1\0"
_KEY_DOMAIN: Final = b"commonwatt/disclosure-key/1\0"
# Lengths tell less if they come in steps.
_PADDED_TO: Final = 128


class SealedSlot(Message, frozen=True, tag="sealed"):
    """A slot's detail, encrypted to the auditor."""

    slot: int
    ephemeral: bytes
    data: bytes


class Period(Message, frozen=True, tag="period"):
    """Slots of one home, for one auditor. `to` is X25519, `meter` Ed25519; slots rise."""

    version: int
    chain_id: str
    home: int
    meter: bytes
    to: bytes
    slots: tuple[SealedSlot, ...]


class Disclosure(Message, frozen=True, tag="disclosure"):
    """A period, signed by the home's meter."""

    period: Period
    signature: bytes


class Reading(NamedTuple):
    """What a home's meter told the chain of a slot. [Wh]"""

    import_wh: int
    export_wh: int


class Finding(NamedTuple):
    """What does not add up in a slot, as a sentence."""

    slot: int
    what: str


# -- keys


def auditor_key(key: SigningKey) -> X25519PrivateKey:
    """Return the key that opens what is disclosed to the owner of a signing key."""
    return X25519PrivateKey.from_private_bytes(key.derive(PURPOSE).seed)


def key_text(key: X25519PrivateKey) -> str:
    """Return a key's public half as it is handed to homes."""
    return _text(key.public_key().public_bytes_raw())


def read_key_text(text: str) -> bytes:
    """Return the public key that a text says. Raises `ConfigError` if it is none."""
    digits = text.strip().lower()
    try:
        if len(digits) != KEY_CHARS or not digits.startswith(KEY_PREFIX):
            raise ValueError
        public = bytes.fromhex(digits[len(KEY_PREFIX) : -CHECK_CHARS])
        if len(public) != PUBLIC_KEY_BYTES:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{text[:KEY_CHARS]!r} is no auditor's key: that is {KEY_PREFIX} and "
            f"{KEY_CHARS - len(KEY_PREFIX)} hexadecimal digits, as `commonwatt meter key` "
            "prints it for the auditor"
        ) from None
    if _text(public) != digits:
        raise ConfigError(f"{text}: a slip in this auditor's key: its last digits do not fit")
    return public


def _text(public: bytes) -> str:
    return KEY_PREFIX + public.hex() + hashlib.sha256(public).hexdigest()[:CHECK_CHARS]


# -- writing


def disclose(
    details: Iterable[SlotDetail], to: bytes, chain_id: str, home: int, meter: SigningKey
) -> bytes:
    """Return the file that discloses these slots to an auditor.

    Parameters
    ----------
    to : the auditor's X25519 key, of `read_key_text`.
    home : the home's number in the registry.
    meter : what signs its readings now.

    Raises
    ------
    ConfigError
        There is no slot, there are too many, or the auditor's key cannot be anybody's.
    """
    chosen = sorted(details, key=lambda detail: detail.slot)
    if not chosen:
        raise ConfigError("there is nothing to disclose: no slot of these days is kept in detail")
    if len(chosen) > SLOTS_MAX:
        raise ConfigError(f"{len(chosen)} slots; at most {SLOTS_MAX} are disclosed at once")
    slots = tuple(_seal(detail, to, chain_id, home) for detail in chosen)
    period = Period(VERSION, chain_id, home, meter.public, to, slots)
    data = encode(Disclosure(period, meter.sign(_DOMAIN + encode(period))))
    if len(data) > DISCLOSURE_BYTES_MAX:
        raise ConfigError(
            f"{len(chosen)} slots come to {len(data)} bytes, a disclosure has at most "
            f"{DISCLOSURE_BYTES_MAX}: choose fewer days"
        )
    return data


def _seal(detail: SlotDetail, to: bytes, chain_id: str, home: int) -> SealedSlot:
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    key = _cipher_key(ephemeral, to, public, to)
    if key is None:
        raise ConfigError("this auditor's key is of no use: everybody could read what it opens")
    data = encode(detail) + b"\x80"
    data += bytes(-len(data) % _PADDED_TO)
    beside = _beside(chain_id, home, detail.slot)
    return SealedSlot(detail.slot, public, ChaCha20Poly1305(key).encrypt(_NONCE, data, beside))


def _cipher_key(
    private: X25519PrivateKey, other: bytes, ephemeral: bytes, recipient: bytes
) -> bytes | None:
    """Return the key of one record, made of what both ends share; None if that is nothing."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        # A point of small order, with which everybody shares the same.
        return None
    derived = HKDF(SHA256(), CIPHER_KEY_BYTES, salt=ephemeral + recipient, info=_KEY_DOMAIN)
    return derived.derive(shared)


def _beside(chain_id: str, home: int, slot: int) -> bytes:
    return _DOMAIN + encode([chain_id, home, slot])


# -- reading


def read_disclosure(data: bytes) -> Period:
    """Decode a file, and check its meter's signature over all of it.

    Whose meter that is, and whether it is that of the home it names, is for `check_origin`.

    Raises
    ------
    ProofError
        It is no such file, was cut off or changed, or is of another version.
    """
    try:
        found = decode(data, Disclosure, DISCLOSURE_BYTES_MAX)
    except DecodeError as error:
        raise ProofError(
            f"this is no disclosure, or it was cut off or changed on its way ({error}); "
            "ask the home for it again"
        ) from None
    period = found.period
    if period.version != VERSION:
        raise ProofError(
            f"a disclosure of version {period.version}; this program reads version {VERSION}"
        )
    numbers = [sealed.slot for sealed in period.slots]
    is_sound = 0 < len(numbers) <= SLOTS_MAX and numbers == sorted(set(numbers))
    if not is_sound or len(period.to) != PUBLIC_KEY_BYTES or not 0 < period.home < 2**31:
        raise ProofError(
            f"a disclosure names a home and its auditor, and holds 1 to {SLOTS_MAX} slots in their "
            "order; this one does not"
        )
    if not verify(period.meter, _DOMAIN + encode(period), found.signature):
        raise ProofError(
            "the signature is not that of the meter it names: the disclosure was changed after it "
            "was signed; ask the home for it again"
        )
    return period


def check_origin(period: Period, chain_id: str, meters: Mapping[int, str]) -> None:
    """Check that a period is of this chain and signed by the meter of the home it names.

    Parameters
    ----------
    meters : addresses of the meters in the registry, by home.

    Raises
    ------
    ProofError
        It is not.
    """
    if period.chain_id != chain_id:
        raise ProofError(
            f"it is of the chain {period.chain_id[:64]!r}, this node's is {chain_id!r}: read it "
            "with a node of that community"
        )
    registered = meters.get(period.home)
    if registered is None:
        raise ProofError(f"it is of home {period.home}, which the registry does not know")
    if address_of(period.meter) != registered:
        raise ProofError(
            f"it says to be of home {period.home} and is signed by another meter than the "
            "registry has for it now; after a change of meters the home discloses anew"
        )


def open_period(period: Period, key: X25519PrivateKey) -> list[SlotDetail]:
    """Decrypt a period's slots.

    Raises
    ------
    ProofError
        It is for another auditor, or a slot does not open, or holds something else.
    """
    if period.to != key.public_key().public_bytes_raw():
        raise ProofError(
            f"it is for the auditor {_text(period.to)}, this key's is {key_text(key)}: open it "
            "with the key that the home was given"
        )
    return [_open(sealed, period, key) for sealed in period.slots]


def _open(sealed: SealedSlot, period: Period, key: X25519PrivateKey) -> SlotDetail:
    what = f"slot {sealed.slot} does not open: the home has sealed it wrongly"
    is_bounded = len(sealed.data) <= DETAIL_BYTES_MAX + 2 * _PADDED_TO
    if not is_bounded or len(sealed.ephemeral) != PUBLIC_KEY_BYTES:
        raise ProofError(what)
    cipher_key = _cipher_key(key, sealed.ephemeral, sealed.ephemeral, period.to)
    if cipher_key is None:
        raise ProofError(what)
    beside = _beside(period.chain_id, period.home, sealed.slot)
    try:
        padded = ChaCha20Poly1305(cipher_key).decrypt(_NONCE, sealed.data, beside)
        detail = decode_detail(padded.rstrip(b"\0").removesuffix(b"\x80"))
    except InvalidTag:
        raise ProofError(what) from None
    except DecodeError as error:
        raise ProofError(f"{what} ({error})") from None
    if detail.slot != sealed.slot:
        raise ProofError(f"slot {sealed.slot} holds the detail of slot {detail.slot}")
    return detail


# -- what does not add up


def compare(details: Sequence[SlotDetail], settled: Mapping[int, Reading]) -> list[Finding]:
    """Hold what a home discloses against its readings on the chain, and against itself.

    Parameters
    ----------
    settled : the home's readings that the chain took, by slot.

    Returns
    -------
    list of Finding
        Empty if all adds up.
    """
    found = []
    for detail in details:
        reading = settled.get(detail.slot)
        if reading is None:
            found.append(Finding(detail.slot, "this node's blocks hold no reading of it"))
        elif reading != (detail.import_wh, detail.export_wh):
            found.append(
                Finding(
                    detail.slot,
                    f"disclosed {detail.import_wh} Wh taken and {detail.export_wh} given, "
                    f"settled {reading.import_wh} and {reading.export_wh}",
                )
            )
        found += [Finding(detail.slot, what) for what in _within(detail)]
    return found


def _within(detail: SlotDetail) -> list[str]:
    found = []
    came = detail.import_wh + detail.pv_wh + detail.discharge_wh
    went = detail.load_wh + detail.charge_wh + detail.curtail_wh + detail.export_wh
    if came != went:
        found.append(f"{came} Wh came from meter, sun and battery, and {went} Wh went")
    moved = sum(detail.devices.values())
    if moved > detail.load_wh:
        found.append(f"its movable loads took {moved} Wh of a load of {detail.load_wh}")
    steps = [step for step in detail.course if step is not None]
    if not detail.known or not steps or len(steps) < len(detail.course):
        return found
    told = [("production", 1, detail.pv_wh)]
    # A load in which movable ones hang is measured without them, as far as they were heard.
    told += [] if detail.devices else [("load", 0, detail.load_wh)]
    for name, place, told_wh in told:
        course_wh = sum(step[place] for step in steps)
        # Each step is rounded by itself, and made up by itself where a tenth of it was not heard.
        if abs(course_wh - told_wh) > len(steps) + max(course_wh, told_wh) * UNHEARD_MAX:
            found.append(f"its course adds up to {course_wh} Wh of {name}, the slot to {told_wh}")
    return found
