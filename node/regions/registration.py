"""How a region comes to be known to the main chain: what its founders prove, and who says yes.

Each authority of a region's genesis signs that it holds its key and means this very chain; the
sponsor puts the proofs into one transaction, with bond and escrow; a quorum of the main chain's
authorities approves it (docs/spec/regions.md).
"""

import hashlib
from collections.abc import Mapping, Sequence

from market.client import Call, regions
from node.errors import ConfigError, GenesisError
from node.genesis import Genesis
from wire.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey


def prove_possession(genesis: Genesis, key: SigningKey) -> bytes:
    """Return an authority's signature that it holds its key and means this region."""
    text = regions.possession_text(genesis.chain_id, genesis.hash.hex())
    return key.sign(hashlib.sha256(text.encode()).digest())


def proofs_of(texts: Sequence[str]) -> dict[bytes, bytes]:
    """Read proofs as `commonwatt region prove` prints them: KEY=SIGNATURE, in hexadecimal.

    Raises
    ------
    ConfigError
        One of them is none.
    """
    found = {}
    for text in texts:
        public, _, signature = text.partition("=")
        try:
            proof = bytes.fromhex(public), bytes.fromhex(signature)
        except ValueError:
            proof = b"", b""
        if tuple(map(len, proof)) != (PUBLIC_KEY_BYTES, SIGNATURE_BYTES):
            raise ConfigError(
                f"{text[:24]!r} is no proof: it is KEY=SIGNATURE, as `region prove` prints it"
            )
        found[proof[0]] = proof[1]
    return found


def keys_of(texts: Sequence[str]) -> list[bytes]:
    """Read public keys in hexadecimal. Raises `ConfigError` for what is none."""
    found = []
    for text in texts:
        try:
            public = bytes.fromhex(text)
        except ValueError:
            public = b""
        if len(public) != PUBLIC_KEY_BYTES:
            raise ConfigError(f"{text[:24]!r} is no public key: it has 64 hexadecimal digits")
        found.append(public)
    return found


def registration(
    genesis: Genesis, name: str, proofs: Mapping[bytes, bytes], escrow_micro: int
) -> Call:
    """Return the sponsor's transaction that registers a region.

    Parameters
    ----------
    genesis : Genesis
        The region's own.
    name : str
        For people.
    proofs : mapping of bytes to bytes
        `prove_possession` of each authority, by its public key.
    escrow_micro : int
        What is put up for trade with other regions, beside the bond. [micro]

    Raises
    ------
    GenesisError
        The chain is no region, or one of its authorities has proven nothing.
    """
    member = genesis.market.region
    if member is None:
        raise GenesisError(
            f"chain {genesis.chain_id} is no region: its genesis names no main chain"
        )
    return regions.register(
        member.region,
        name,
        genesis.chain_id,
        genesis.hash.hex(),
        genesis.authorities,
        proven(genesis, proofs),
        escrow_micro,
    )


def proven(genesis: Genesis, proofs: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the proofs of all authorities of a genesis, in their order.

    Raises
    ------
    GenesisError
        One of them has proven nothing.
    """
    missing = [key.hex() for key in genesis.authorities if key not in proofs]
    if missing:
        raise GenesisError(f"authority {missing[0]} has not proven that it holds its key")
    return [proofs[key] for key in genesis.authorities]
