"""The errors of `node/`.

NodeError
├── StartError         the daemon cannot start; one line says what and where, exit code 2
│   ├── ConfigError        a setting is unknown, missing or out of range
│   ├── LockedError        the data directory is in use by another process
│   ├── GenesisError       the genesis is unreadable, or another one than the data's
│   └── StoreError         the database is damaged or of another version
├── ControlError       the daemon's control socket refused, or nobody answers there
│   ├── UnknownError       nothing of that name or number is here
│   └── AbsentError        this node, or its market, has nothing of that kind
├── PeerError          a neighbour that was asked cannot be reached, or does not answer
├── ProofError         what was served does not prove what it claims
├── BadBlock           a neighbour's block or certificate cannot be; it is to blame
├── BadSnapshot        a neighbour's snapshot is not the certified state; it is to blame
├── MeteringError      the head meter's readings, or the homes', cannot be held against each other
└── InvariantError     something that must never be is; the node stops before it votes
"""


class NodeError(Exception):
    """Something is wrong with this node."""


class StartError(NodeError):
    """The daemon cannot start as it is set up."""


class ConfigError(StartError):
    """A setting is unknown, missing or out of range."""


class LockedError(StartError):
    """The data directory is in use by another process."""


class GenesisError(StartError):
    """The genesis is unreadable, invalid, or not the one the data was made with."""


class StoreError(StartError):
    """The database is damaged or of another version."""


class ControlError(NodeError):
    """The control socket refused the question, or nobody answers."""


class UnknownError(ControlError):
    """Nothing of the name or number that was asked for is here."""


class AbsentError(ControlError):
    """This node, or its market, has nothing of the kind that was asked for."""


class PeerError(NodeError):
    """A neighbour that was asked cannot be reached, or does not answer."""


class ProofError(NodeError):
    """What was served does not prove what it claims: somebody lies, or is too old."""


class BadBlock(NodeError):
    """A block or certificate from a neighbour that cannot be; the neighbour is to blame."""


class BadSnapshot(NodeError):
    """A snapshot whose pairs are not the certified state; whoever offered it is to blame."""


class MeteringError(NodeError):
    """The head meter's readings, or the homes', cannot be held against each other."""


class InvariantError(NodeError):
    """Something that must never be is: the node stops rather than go on wrong."""
