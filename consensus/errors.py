"""The errors of `consensus/`.

ConsensusError
├── AuthoritySetError      keys that cannot be an authority set
├── CertificateRefused     a certificate that does not prove what it claims
├── HeaderRefused          a header that cannot follow what is trusted
├── ProofRefused           a state proof that proves nothing
├── SnapshotRefused        a snapshot that is not what its manifest or its block says
├── EvidenceRefused        evidence that convicts nobody
├── CheckpointRefused      what a region shows the main chain, and does not prove; with a code
├── BlockRefused           a block that may not follow its parent; carries a stable code
└── InvariantError         what must never be: a bug here, or more than f faulty authorities

What peers send is refused with one of those before the last, or dropped and reported to the driver
as `events.Misbehaved`. An `InvariantError` is never a peer's fault alone: the node must stop.
"""


class ConsensusError(Exception):
    """Something of the agreement is not as it must be."""


class AuthoritySetError(ConsensusError, ValueError):
    """The keys cannot be an authority set."""


class CertificateRefused(ConsensusError):
    """The certificate does not prove what it claims."""


class HeaderRefused(ConsensusError):
    """The header cannot follow the trusted one."""


class ProofRefused(ConsensusError):
    """The proof does not show what is claimed of the state."""


class SnapshotRefused(ConsensusError):
    """The snapshot is not what its manifest, or the certified header, says."""


class EvidenceRefused(ConsensusError):
    """The evidence does not convict anybody."""


class BlockRefused(ConsensusError):
    """The block may not follow its parent: a stable code, and a sentence that says why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class CheckpointRefused(ConsensusError):
    """What a region shows does not prove what it says: a stable code, and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class InvariantError(ConsensusError):
    """What must never happen has: a bug, or more than f authorities are faulty."""
