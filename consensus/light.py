"""The light client: follows headers by their certificates, and what they prove of the state.

It holds one trusted authority set and one header, and moves forward only. Within an epoch a
certificate is enough, so heights may be skipped; from epoch to epoch the last header of each must
be shown, with the set that it announces (S2). Genesis names the first set. What a set signs proves
as much as its authorities are honest: more than f faulty ones, also of an old set, can deceive
whoever has seen nothing newer.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta

from consensus.authorities import AuthoritySet, Verifier, verify_certificate
from consensus.errors import CertificateRefused, HeaderRefused, ProofRefused
from consensus.messages import PROTOCOL_VERSION, Certificate, Header, header_hash
from wire.codec import Message
from wire.keys import verify

# One question's headers: the run that is asked for, or the way over as many epochs.
HEADERS_MAX: Final = 128
# The longest epoch that any genesis may have (`market.genesis`).
EPOCH_BLOCKS_MAX: Final = 100_000

# `verifier(root, key, value or None, proof) -> bool`, such as `market.vm.merkle.verify`.
ProofVerifier: TypeAlias = Callable[[bytes, str, bytes | None, Any], bool]


class SignedHeader(Message, frozen=True, tag="shd"):
    """A header with its certificate; the last of an epoch brings the next authority set too."""

    header: Header
    certificate: Certificate
    next_authorities: AuthoritySet | None = None


SignedHeaders: TypeAlias = Annotated[tuple[SignedHeader, ...], Meta(max_length=HEADERS_MAX)]


def ends_epoch(header: Header) -> bool:
    """Tell whether another set decides the height after this header."""
    return header.next_authorities_hash != header.authorities_hash


class LightClient:
    """What is known to be final, without executing anything.

    Parameters
    ----------
    chain_id : str
    authorities : AuthoritySet
        The set that decides the height after `head`: of genesis, or of whatever is trusted.
    head : Header, optional
        The last trusted header; nothing before the genesis set's first header.
    verifier : callable
        `verifier(public, message, signature) -> bool`.
    """

    def __init__(
        self,
        chain_id: str,
        authorities: AuthoritySet,
        head: Header | None = None,
        verifier: Verifier = verify,
    ) -> None:
        self.chain_id = chain_id
        self.authorities = authorities
        self.head = head
        self._head_hash = header_hash(head) if head is not None else None
        self._verifier = verifier

    @property
    def height(self) -> int:
        """Height of the last trusted header; 0 if there is none."""
        return self.head.height if self.head is not None else 0

    def copy(self) -> "LightClient":
        """Return a client that knows the same and goes its own way."""
        return LightClient(self.chain_id, self.authorities, self.head, self._verifier)

    def at(self, head: Header, authorities: AuthoritySet) -> "LightClient":
        """Return a client at a header that is trusted otherwise, such as by executing its block."""
        return LightClient(self.chain_id, authorities, head, self._verifier)

    def accept(self, signed: SignedHeader) -> None:
        """Take a later header over as the head, if its certificate proves it (S1, S2).

        Raises
        ------
        HeaderRefused
            It is not of this chain, not later, not linked, not signed by the trusted set, further
            on than its epoch can be long, or does not show the set that it announces. Nothing has
            changed.
        """
        header, certificate = signed.header, signed.certificate
        if (header.version, header.chain_id) != (PROTOCOL_VERSION, self.chain_id):
            raise HeaderRefused(
                f"version {header.version} of chain {header.chain_id!r}, "
                f"not {PROTOCOL_VERSION} of {self.chain_id!r}"
            )
        self._check_after_head(header)
        authorities = self.authorities
        if header.epoch != authorities.epoch or header.authorities_hash != authorities.hash:
            raise HeaderRefused(
                f"header {header.height} is of epoch {header.epoch}, the trusted set is that of "
                f"epoch {authorities.epoch}"
            )
        if header.height > (header.epoch + 1) * EPOCH_BLOCKS_MAX:
            raise HeaderRefused(
                f"header {header.height} of epoch {header.epoch}: an epoch has at most "
                f"{EPOCH_BLOCKS_MAX} blocks"
            )
        block_hash = header_hash(header)
        if certificate.block_hash != block_hash or certificate.height != header.height:
            raise HeaderRefused(f"the certificate is not that of header {header.height}")
        following = _following_set(signed, authorities)
        try:
            verify_certificate(certificate, authorities, self.chain_id, verifier=self._verifier)
        except CertificateRefused as refused:
            raise HeaderRefused(f"the certificate of header {header.height}: {refused}") from None
        self.head, self._head_hash, self.authorities = header, block_hash, following

    def check_state(
        self, key: str, value: bytes | None, proof: object, verifier: ProofVerifier
    ) -> None:
        """Check that the state after the head holds `value` at `key` (None: nothing) (S3).

        Raises
        ------
        ProofRefused
            It is not shown, or no header is trusted yet.
        """
        if self.head is None:
            raise ProofRefused("no header has been accepted that could prove anything")
        if not verifier(self.head.state_root, key, value, proof):
            raise ProofRefused(f"{key!r} is not proven by the state root of block {self.height}")

    def _check_after_head(self, header: Header) -> None:
        if header.height <= self.height:
            raise HeaderRefused(f"header {header.height} is not after header {self.height}")
        if self.head is None:
            return
        if header.time_ms <= self.head.time_ms:
            raise HeaderRefused(f"header {header.height} is not later than header {self.height}")
        if header.height == self.height + 1 and header.parent_hash != self._head_hash:
            raise HeaderRefused(f"header {header.height} is not linked to header {self.height}")


def _following_set(signed: SignedHeader, authorities: AuthoritySet) -> AuthoritySet:
    """Return the set that decides the height after this header."""
    header, following = signed.header, signed.next_authorities
    if header.next_authorities_hash == authorities.hash:
        if following is not None:
            raise HeaderRefused(f"header {header.height} announces no other set")
        return authorities
    if following is None:
        raise HeaderRefused(f"the set that header {header.height} announces is not shown")
    if following.epoch != authorities.epoch + 1 or following.hash != header.next_authorities_hash:
        raise HeaderRefused(f"the set shown is not the one that header {header.height} announces")
    return following
