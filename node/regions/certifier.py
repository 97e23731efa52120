"""Certificates for contracts: what the two tiers' contracts ask of consensus.

The market knows no blocks and no authorities' signatures; an application of a chain with a second
tier is given these entries of `vm`. Each is a pure function of its arguments. A refusal is a
`Revert` with a stable code, so that it stands in the receipt and nothing has changed.
"""

from typing import Final

from consensus.authorities import AuthoritySet
from consensus.checkpoint import CHECKPOINT_BYTES_MAX, StateProof, verify_checkpoint
from consensus.errors import (
    AuthoritySetError,
    CheckpointRefused,
    EvidenceRefused,
    HeaderRefused,
)
from consensus.evidence import check_evidence
from consensus.light import LightClient, SignedHeader, ends_epoch
from consensus.messages import ConflictingCertificates, header_hash
from market.errors import Fault, Revert
from market.proofs import bytes_of, int_of, text_of
from market.proofs import natives as market_natives
from market.tiers import MAIN_NATIVES
from market.vm import merkle
from market.vm.executor import Native
from market.vm.gas import COST
from market.vm.host import Host
from market.vm.merkle import Proof
from node.regions.replay import digest_of, judge
from wire.codec import Plain, decode, decode_plain
from wire.errors import DecodeError
from wire.keys import address_of

AUDIT: Final = "audit"
# A replay takes about as long as a block of the region; one case is judged in a block.
FRAUD_GAS: Final = 50_000
PART_BYTES_MAX: Final = 8_000
# A set of 32 seats with its quorum's signatures, and room for the header.
SIGNED_HEADER_BYTES_MAX: Final = 3_900
CONFLICT_BYTES_MAX: Final = 3_900


def natives() -> dict[str, Native]:
    """Return all that an application of a chain with a second tier is given."""
    return market_natives() | {
        "checkpoint": checkpoint,
        "header": header,
        "conflict": conflict,
        "set_hash": set_hash,
        "fraud": fraud,
    }


def checkpoint(host: Host, caller: str, args: Plain) -> Plain:
    """Return record and header of an encoded checkpoint that the named set proves (M1 to M5)."""
    authorities = _set_of(args)
    data = _checked_size(bytes_of(args, "data"), CHECKPOINT_BYTES_MAX)
    host.meter.charge(COST["verify_signature"] * authorities.quorum)
    try:
        record, found = verify_checkpoint(data, authorities, text_of(args, "chain_id"), proves)
    except CheckpointRefused as refused:
        raise Revert(refused.code, refused.sentence) from None
    row: dict[str, Plain] = {
        name: getattr(record, name) for name in record.__struct_fields__ if name != "slots"
    }
    row["slots"] = [
        {name: getattr(slot, name) for name in slot.__struct_fields__} for slot in record.slots
    ]
    row["record_hash"] = record.hash
    return row | {
        "epoch": found.epoch,
        "time_ms": found.time_ms,
        "block_hash": header_hash(found).hex(),
        "state_root": found.state_root.hex(),
    }


def header(host: Host, caller: str, args: Plain) -> Plain:
    """Return a header that the named set has certified, with the next set if it ends an epoch.

    The set is that of the header's own epoch; `next_keys` is empty within an epoch.
    """
    authorities = _set_of(args)
    data = _checked_size(bytes_of(args, "data"), SIGNED_HEADER_BYTES_MAX)
    host.meter.charge(COST["verify_signature"] * authorities.quorum)
    try:
        signed = decode(data, SignedHeader, SIGNED_HEADER_BYTES_MAX)
    except (DecodeError, AuthoritySetError) as error:
        raise Revert("malformed", f"no certified header: {error}") from None
    light = LightClient(text_of(args, "chain_id"), authorities)
    try:
        light.accept(signed)
    except HeaderRefused as refused:
        raise Revert("bad_certificate", str(refused)) from None
    found = signed.header
    following = [key.hex() for key in light.authorities.publics] if ends_epoch(found) else []
    return {
        "height": found.height,
        "epoch": found.epoch,
        "time_ms": found.time_ms,
        "block_hash": header_hash(found).hex(),
        "state_root": found.state_root.hex(),
        "next_keys": following,
        "next_addresses": _addresses(light.authorities) if following else [],
    }


def conflict(host: Host, caller: str, args: Plain) -> Plain:
    """Return height and culprits of two certificates of one set for one height."""
    authorities = _set_of(args)
    data = _checked_size(bytes_of(args, "data"), CONFLICT_BYTES_MAX)
    host.meter.charge(2 * COST["verify_signature"] * authorities.quorum)
    try:
        evidence = decode(data, ConflictingCertificates, CONFLICT_BYTES_MAX)
        offence = check_evidence(evidence, authorities, text_of(args, "chain_id"))
    except (DecodeError, EvidenceRefused) as error:
        raise Revert("no_evidence", f"the two certificates prove nothing: {error}") from None
    return {
        "height": offence.height,
        "offenders": [public.hex() for public in offence.offenders],
    }


def fraud(host: Host, caller: str, args: Plain) -> Plain:
    """Judge the proof that the contract `audit` keeps in parts: whether a block does not follow.

    Parameters
    ----------
    args : map
        `folder` and `parts`: where the parts stand, and how many they are; `digest` and `size` of
        the whole; `chain_id`, `epoch`, `keys` and `height`: of the accused region and its block.

    Returns
    -------
    map of `fraud`, `code` and `reason`. Raises `Revert` for what is no proof, at little cost.
    """
    if caller != AUDIT:
        raise Fault("not_keeper", f"only the contract {AUDIT} has fraud proven")
    host.meter.charge(FRAUD_GAS)
    authorities = _set_of(args)
    data = _joined(host, args)
    allowed = {name: one for name, one in natives().items() if name not in MAIN_NATIVES}
    verdict = judge(data, authorities, text_of(args, "chain_id"), int_of(args, "height"), allowed)
    return {"fraud": verdict.fraud, "code": verdict.code, "reason": verdict.reason}


def _joined(host: Host, args: Plain) -> bytes:
    """Return the proof whose parts stand in the caller's folder. Raises `Revert`."""
    folder = f"{AUDIT}/{text_of(args, 'folder')}"
    texts = [
        decode_plain(part, PART_BYTES_MAX)
        for part in map(host.journal.get, host.journal.keys_under(folder))
        if part is not None
    ]
    if len(texts) != int_of(args, "parts"):
        count = int_of(args, "parts")
        raise Revert("not_shown", f"{len(texts)} of the proof's {count} parts have been shown")
    data = bytes_of({"proof": "".join(texts)}, "proof")
    if (len(data), digest_of(data)) != (int_of(args, "size"), text_of(args, "digest")):
        raise Revert("not_shown", "the parts are not those of the proof that was named")
    return data


def set_hash(host: Host, caller: str, args: Plain) -> Plain:
    """Return the hash that headers carry of a set, and the accounts of its keys.

    Raises `Revert` (`bad_set`) for keys that are no set.
    """
    authorities = _set_of(args)
    host.meter.charge_bytes("sha256", 34 * authorities.n)
    return {"hash": authorities.hash.hex(), "addresses": _addresses(authorities)}


def _set_of(args: Plain) -> AuthoritySet:
    keys = args.get("keys") if isinstance(args, dict) else None
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise Revert("bad_set", "keys is a list of public keys in hexadecimal")
    try:
        return AuthoritySet(int_of(args, "epoch"), tuple(bytes.fromhex(key) for key in keys))
    except ValueError as error:
        raise Revert("bad_set", f"these keys are no set of authorities: {error}") from None


def _addresses(authorities: AuthoritySet) -> list[str]:
    return [address_of(public) for public in authorities.publics]


def _checked_size(data: bytes, size_max: int) -> bytes:
    if len(data) > size_max:
        raise Revert("oversized", f"{len(data)} bytes, at most {size_max} are taken")
    return data


def proves(root: bytes, key: str, value: bytes, proof: StateProof) -> bool:
    siblings, key_hash, value_hash = proof.siblings, proof.leaf_key_hash, proof.leaf_value_hash
    return merkle.verify(root, key, value, Proof(siblings, key_hash, value_hash))
