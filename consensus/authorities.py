"""The authority set of an epoch, and certificates: a quorum of it in one struct."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from consensus.errors import AuthoritySetError, CertificateRefused
from consensus.messages import (
    AUTHORITIES_MAX,
    PRECOMMIT,
    PREVOTE,
    Certificate,
    Unsigned,
    Vote,
    vote_signed_bytes,
)
from wire.codec import Message, encode
from wire.keys import PUBLIC_KEY_BYTES, verify

Verifier: TypeAlias = Callable[[bytes, bytes, bytes], bool]
Signer: TypeAlias = Callable[[bytes], bytes | None]
PublicKey: TypeAlias = Annotated[
    bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)
]

_SET_DOMAIN: Final = b"commonwatt/authorities/1\0"


class AuthoritySet(Message, frozen=True, tag="aut"):
    """The public keys of one epoch's authorities, in the order of their index.

    Raises
    ------
    AuthoritySetError
        No key, too many, one twice, or one of another length.
    """

    epoch: Unsigned
    publics: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.publics) <= AUTHORITIES_MAX:
            raise AuthoritySetError(
                f"a set has 1 to {AUTHORITIES_MAX} authorities, not {len(self.publics)}"
            )
        if len(set(self.publics)) != len(self.publics):
            raise AuthoritySetError("an authority is in the set twice")
        for public in self.publics:
            if len(public) != PUBLIC_KEY_BYTES:
                raise AuthoritySetError(
                    f"an authority is a {PUBLIC_KEY_BYTES}-byte key, not {len(public)} bytes"
                )

    @property
    def n(self) -> int:
        """How many authorities there are."""
        return len(self.publics)

    @property
    def f(self) -> int:
        """How many of them may be faulty: ⌊(n−1)/3⌋."""
        return (self.n - 1) // 3

    @property
    def quorum(self) -> int:
        """How many must agree: ⌈(n+f+1)/2⌉, so that two quorums share an honest authority."""
        return (self.n + self.f + 2) // 2

    @property
    def hash(self) -> bytes:
        """What headers carry as `authorities_hash`; it binds the epoch too."""
        return hashlib.sha256(_SET_DOMAIN + encode(self)).digest()

    def proposer(self, height: int, round_: int) -> int:
        """Return the index of the authority that proposes in this round (R3)."""
        return (height + round_) % len(self.publics)

    def index_of(self, public: bytes) -> int | None:
        """Return the index of a key, None if it is no authority."""
        return self.publics.index(public) if public in self.publics else None


def build_certificate(
    chain_id: str,
    epoch: int,
    height: int,
    round_: int,
    block_hash: bytes,
    votes: Mapping[int, Vote],
) -> Certificate:
    """Make a certificate of votes by voter, which are all for this block hash and round."""
    voters = sorted(votes)
    bitmap = 0
    for voter in voters:
        bitmap |= 1 << voter
    signatures = tuple(votes[voter].signature for voter in voters)
    return Certificate(chain_id, epoch, height, round_, block_hash, bitmap, signatures)


def certificate_votes(certificate: Certificate, kind: int) -> list[Vote]:
    """Take a certificate apart into its votes; the inverse of `build_certificate`."""
    return [
        Vote(
            kind,
            certificate.epoch,
            certificate.height,
            certificate.round,
            certificate.block_hash,
            voter,
            signature,
        )
        for voter, signature in zip(
            voters_of(certificate.bitmap), certificate.signatures, strict=True
        )
    ]


def same_subject(one: Certificate, other: Certificate) -> bool:
    """Tell whether the signatures of two certificates of one kind cover the same bytes."""
    return (
        one.block_hash == other.block_hash
        and one.round == other.round
        and one.height == other.height
        and one.epoch == other.epoch
        and one.chain_id == other.chain_id
    )


def voters_of(bitmap: int) -> list[int]:
    """Return the indices of a bitmap's bits, ascending."""
    return [index for index in range(bitmap.bit_length()) if bitmap >> index & 1]


def verify_certificate(
    certificate: Certificate,
    authorities: AuthoritySet,
    chain_id: str,
    kind: int = PRECOMMIT,
    verifier: Verifier = verify,
    known: Mapping[int, Vote] | None = None,
) -> None:
    """Check that a quorum of distinct authorities signed the certificate's block hash.

    Parameters
    ----------
    kind : int
        `PRECOMMIT` for a proof of finality, `PREVOTE` for a proof of lock.
    known : mapping of int to Vote, optional
        Verified votes by voter for the same kind, round and value: their signatures, where equal,
        are not verified again.

    Raises
    ------
    CertificateRefused
        Of another chain or epoch, of strangers, of too few, or with a wrong signature.
    """
    if kind not in (PREVOTE, PRECOMMIT):
        raise CertificateRefused(f"a certificate is of prevotes or precommits, not of kind {kind}")
    if certificate.chain_id != chain_id:
        raise CertificateRefused(f"it is of chain {certificate.chain_id!r}, not {chain_id!r}")
    if certificate.epoch != authorities.epoch:
        raise CertificateRefused(
            f"it is of epoch {certificate.epoch}, the set of epoch {authorities.epoch}"
        )
    if certificate.bitmap >> authorities.n:
        raise CertificateRefused(f"it names authorities beyond the {authorities.n} of the set")
    voters = voters_of(certificate.bitmap)
    if len(voters) != len(certificate.signatures):
        raise CertificateRefused(
            f"it names {len(voters)} authorities and has {len(certificate.signatures)} signatures"
        )
    if len(voters) < authorities.quorum:
        raise CertificateRefused(f"{len(voters)} signed, the quorum is {authorities.quorum}")
    signed = vote_signed_bytes(
        kind,
        chain_id,
        certificate.epoch,
        certificate.height,
        certificate.round,
        certificate.block_hash,
    )
    for voter, signature in zip(voters, certificate.signatures, strict=True):
        vote = known.get(voter) if known else None
        if vote is not None and vote.signature == signature:
            continue
        if not verifier(authorities.publics[voter], signed, signature):
            raise CertificateRefused(f"the signature of authority {voter} is wrong")
