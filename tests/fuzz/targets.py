"""Every decoder of bytes from outside the process, by name."""

from collections.abc import Callable
from typing import Final

from tests.fuzz import (
    anchor_targets,
    chain_targets,
    chaos_targets,
    file_targets,
    joining_targets,
    meter_targets,
    node_targets,
    outer_targets,
    region_targets,
)
from tests.fuzz.judge import Target

BUILDERS: Final[dict[str, Callable[[], Target]]] = {
    build.__name__.replace("_", "-"): build
    for build in (
        *chain_targets.TARGETS,
        *node_targets.TARGETS,
        *file_targets.TARGETS,
        *joining_targets.TARGETS,
        *meter_targets.TARGETS,
        *region_targets.TARGETS,
        *anchor_targets.TARGETS,
        *chaos_targets.TARGETS,
        *outer_targets.TARGETS,
    )
}


def target(name: str) -> Target:
    """Return the decoder of this name, with its examples made."""
    return BUILDERS[name]()


# Which of them stands for what `wire.codec.decode` is asked for, ...
DECODED: Final[dict[str, str]] = {
    "ApplicationState": "application-state",
    "AcceptanceState": "acceptance-state",
    "Answer": "sync-answer",
    "Block": "fetched-block",
    "Certificate": "certificate",
    "Checkpoint": "checkpoint",
    "Code": "contract-code",
    "CodeChange": "code-change",
    "ConflictingCertificates": "conflict-report",
    "ConsensusMessage": "consensus-message",
    "DecidedNotice": "decided-notice",
    "Disclosure": "disclosure-file",
    "EvidenceFile": "evidence-file",
    "EvidenceNotice": "evidence-notice",
    "FraudProof": "fraud-proof",
    "Genesis": "genesis-file",
    "GetCheckpoint": "get-checkpoint",
    "JoinQuestion": "join-question",
    "Manifest": "snapshot-manifest",
    "PeerAddresses": "peer-addresses",
    "Proof": "shown-value",
    "ProveBill": "prove-bill",
    "ProveCheckpoint": "prove-checkpoint",
    "ProveReceipt": "prove-receipt",
    "Question": "sync-question",
    "Record": "checkpoint",
    "ShownGenesis": "shown-genesis",
    "RegionQuestion": "region-question",
    "SignedHeader": "light-header",
    "SignedTransaction": "transaction",
    "SlotDetail": "slot-detail",
    "TransactionBatch": "transaction-batch",
    "_AnchorAnswer": "anchor-proof",
    "_CheckpointAnswer": "shown-checkpoint",
    "_ProofAnswer": "bill-proof",
    "_ReceiptAnswer": "receipt-proof",
    "kind": "wal",
    "object": "plain-value",
    "tuple[Receipt, ...]": "receipts",
}
# ... and for what is parsed by other means, by file.
PARSED: Final[dict[tuple[str, str], str]] = {
    ("hems/agents/desk.py", "msgspec.convert"): "home-memory",
    ("hems/agents/registry.py", "msgspec.convert"): "settings-file",
    ("hems/forecast/weather.py", "csv.reader"): "weather-file",
    ("hems/state.py", "msgspec.convert"): "home-memory",
    ("hems/sources/citylearn.py", "csv.DictReader"): "citylearn-file",
    ("hems/sources/formats.py", "csv.reader"): "long-file",
    ("hems/sources/table.py", "csv.reader"): "long-file",
    ("hems/sources/wide.py", "csv.reader"): "wide-file",
    ("market/client/queries.py", "msgspec.convert"): "state-values",
    ("market/proofs.py", "bytes.fromhex"): "hexadecimal",
    ("node/regions/certifier.py", "bytes.fromhex"): "set-of-keys",
    ("market/vm/host.py", "msgspec.json.Decoder"): "contract-border",
    ("node/api/answers.py", "bytes.fromhex"): "control-question",
    ("node/api/answers.py", "msgspec.convert"): "control-question",
    ("node/api/contracts.py", "json.loads"): "contract-arguments",
    ("node/api/control.py", "msgspec.json.decode"): "control-answer",
    ("node/api/explain.py", "bytes.fromhex"): "control-question",
    ("node/cli/market.py", "bytes.fromhex"): "control-answer",
    ("node/feeder/alarms.py", "csv.DictReader"): "head-file",
    ("node/backup.py", "tarfile.open"): "backup-archive",
    ("node/membership/joining.py", "bytes.fromhex"): "joining-address",
    ("node/membership/invitations.py", "bytes.fromhex"): "invitation-file",
    ("node/membership/invitations.py", "msgspec.json.decode"): "invitation-file",
    ("node/proofs/light.py", "bytes.fromhex"): "control-answer",
    ("node/api/watched.py", "msgspec.convert"): "told-testnet",
    ("node/setup.py", "bytes.fromhex"): "network-key-file",
    ("node/config.py", "msgspec.convert"): "settings-file",
    ("node/config.py", "tomllib.loads"): "settings-file",
    ("node/home/disclosure.py", "bytes.fromhex"): "auditors-key",
    ("node/genesis.py", "bytes.fromhex"): "genesis-file",
    ("node/genesis.py", "json.loads"): "genesis-file",
    ("node/genesis.py", "msgspec.convert"): "genesis-file",
    ("node/health.py", "json.loads"): "control-answer",
    ("node/mqtt/commands.py", "msgspec.json.decode"): "battery-command",
    ("node/mqtt/payload.py", "msgspec.json.decode"): "meter-payload",
    ("node/home/memory.py", "msgspec.convert"): "home-memory",
    ("node/home/memory.py", "msgspec.json.decode"): "home-memory",
    ("node/network/_book.py", "msgspec.json.decode"): "peer-book",
    ("node/network/_pubsub.py", "rpc.ParseFromString"): "gossip-rpc",
    ("node/regions/registration.py", "bytes.fromhex"): "possession-proof",
    ("node/keys/keyfile.py", "bytes.fromhex"): "key-file",
    ("node/keys/keyfile.py", "msgspec.json.decode"): "key-file",
    ("node/web/door.py", "x509.load_pem_x509_certificate"): "tls-files",
    ("study/sweep.py", "msgspec.convert"): "sweep-file",
    ("study/sweep.py", "tomllib.loads"): "sweep-file",
    ("testnet/chaos/draw.py", "msgspec.json.decode"): "chaos-report",
    ("testnet/chaos/journal.py", "msgspec.json.decode"): "chaos-journal",
    ("testnet/chaos/scenario.py", "msgspec.convert"): "chaos-scenario",
    ("testnet/street.py", "json.loads"): "street-file",
    ("testnet/street.py", "msgspec.convert"): "street-file",
}
# Of bytes or values that this process made, or that have been decoded and checked before.
INSIDE: Final = frozenset(
    {
        ("market/terms.py", "bytes.fromhex"),
        ("market/governance.py", "msgspec.convert"),
        ("market/carbon.py", "msgspec.convert"),
        ("market/client/events.py", "msgspec.convert"),
        ("market/invariants.py", "msgspec.msgpack.Decoder"),
        ("market/vm/host.py", "bytes.fromhex"),
        ("market/vm/witness.py", "bytes.fromhex"),
        ("node/membership/arrival.py", "bytes.fromhex"),
        ("node/regions/audits.py", "bytes.fromhex"),
        ("node/cli/invite.py", "bytes.fromhex"),
        ("node/regions/succession.py", "bytes.fromhex"),
        ("market/vm/host.py", "msgspec.msgpack.Decoder"),
        ("study/cells.py", "msgspec.convert"),
        ("study/cells.py", "msgspec.json.decode"),
        ("testnet/up.py", "msgspec.convert"),
        ("testnet/chaos/delayer.py", "msgspec.json.decode"),
        ("testnet/chaos/delayer.py", "struct.unpack_from"),
        ("testnet/chaos/driver.py", "msgspec.json.decode"),
        ("testnet/chaos/targets/containers.py", "msgspec.json.decode"),
        ("wire/codec.py", "msgspec.msgpack.Decoder"),
        ("wire/keys.py", "bytes.fromhex"),
    }
)
# Of an extra that the tests go without: an owner's own file, read by the library's own parser.
OPTIONAL: Final = frozenset({("hems/sources/parquet.py", "pyarrow.parquet.ParquetFile")})
