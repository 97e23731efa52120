"""What the machine does for contracts of the two tiers: hashes and proofs over state.

These are entries of `vm`, beside those of `deployment.py`, of chains that have a second tier. What
needs signatures of blocks is consensus' work: it is given to the application from outside
(`node/regions/certifier.py`), since this room knows no certificates.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from market.errors import Fault, Revert
from market.vm import merkle
from market.vm.executor import Native
from market.vm.gas import COST
from market.vm.host import Host
from market.vm.merkle import Proof
from wire.codec import Plain, decode, decode_plain
from wire.errors import DecodeError

# As hexadecimal text both have to fit into one transaction.
PROOF_BYTES_MAX: Final = 3_000
PROVEN_BYTES_MAX: Final = 2_000
ROOTED_VALUES_MAX: Final = 5_000


def natives() -> dict[str, Native]:
    """Return the entries by name."""
    return {
        "value_hash": value_hash,
        "folder_root": folder_root,
        "proven": proven,
        "absent": absent,
    }


def value_hash(host: Host, caller: str, args: Plain) -> Plain:
    """Return the SHA-256 of what the calling contract keeps at `key`, in hexadecimal."""
    key = text_of(args, "key")
    data = host.journal.get(f"{caller}/{key}")
    if data is None:
        raise Fault("bad_key", f"{caller} keeps nothing at {key[:64]}")
    host.meter.charge_bytes("sha256", len(data))
    return hashlib.sha256(data).hexdigest()


def folder_root(host: Host, caller: str, args: Plain) -> Plain:
    """Return the Merkle root of all that stands in a folder of any contract, in hexadecimal."""
    folder = text_of(args, "folder")
    if not folder.endswith("/"):
        raise Fault("bad_key", "a root is of a folder: text that ends in /")
    found: dict[str, bytes | None] = {}
    for key in host.journal.keys_under(folder):
        value = host.journal.get(key)
        host.meter.charge_bytes("sha256", len(value or b""))
        found[key] = value
    if len(found) > ROOTED_VALUES_MAX:
        raise Fault("batch_size", f"a root is of at most {ROOTED_VALUES_MAX} values")
    return merkle.root_of(merkle.update(None, found)).hex()


def proven(host: Host, caller: str, args: Plain) -> Plain:
    """Return the value that a state root of another chain proves at a key.

    `root`, `value` and `proof` are hexadecimal. Raises `Revert` (`not_proven`).
    """
    key = text_of(args, "key")
    root, value, data = (bytes_of(args, name) for name in ("root", "value", "proof"))
    host.meter.charge(COST["verify_signature"])
    try:
        proof = decode(data, Proof, PROOF_BYTES_MAX)
        found = decode_plain(value, PROVEN_BYTES_MAX)
    except DecodeError as error:
        raise Revert("not_proven", f"no value with its proof: {error}") from None
    if not merkle.verify(root, key, value, proof):
        raise Revert("not_proven", f"the state root does not prove that this stands at {key}")
    return found


def absent(host: Host, caller: str, args: Plain) -> Plain:
    """Tell that a state root of another chain proves that nothing stands at a key.

    `root` and `proof` are hexadecimal. Raises `Revert` (`not_proven`).
    """
    key = text_of(args, "key")
    root, data = (bytes_of(args, name) for name in ("root", "proof"))
    host.meter.charge(COST["verify_signature"])
    try:
        proof = decode(data, Proof, PROOF_BYTES_MAX)
    except DecodeError as error:
        raise Revert("not_proven", f"no proof of absence: {error}") from None
    if not merkle.verify(root, key, None, proof):
        raise Revert("not_proven", f"the state root does not prove that nothing stands at {key}")
    return True


def text_of(args: Plain, name: str) -> str:
    """Return a text of a native's arguments. Raises `Fault`."""
    value = args.get(name) if isinstance(args, Mapping) else None
    if type(value) is not str:
        raise Fault("bad_arguments", f"the machine's entry takes a text named {name}")
    return value


def int_of(args: Plain, name: str) -> int:
    """Return an integer of a native's arguments. Raises `Fault`."""
    value = args.get(name) if isinstance(args, Mapping) else None
    if type(value) is not int:
        raise Fault("bad_arguments", f"the machine's entry takes an integer named {name}")
    return value


def bytes_of(args: Plain, name: str) -> bytes:
    """Return the bytes of a hexadecimal text, which is a user's. Raises `Revert`."""
    text = text_of(args, name)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise Revert("malformed", f"{name} is no hexadecimal text") from None
    if data.hex() != text:
        raise Revert("malformed", f"{name} is hexadecimal text in small letters, without spaces")
    return data
