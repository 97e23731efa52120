"""Who accuses a region of what is right, and who is content with whatever it is drawn for.

An accusation is made of a block that follows, with its proof whole or with one thing wrong; rules
A1 to A6 (docs/spec/regions.md) refuse each of them.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from consensus.messages import Header, header_hash
from market import stateless
from market.client import Call, regions, sign_call
from market.vm import witness
from node.regions.certifier import natives
from node.regions.replay import FraudProof, executed
from tests.sim.tiers import machine as machines
from tests.sim.tiers.replays import Followed, RegionApp, maker_of
from tests.sim.tiers.views import KEY_BASE, entry
from wire.codec import encode
from wire.keys import SigningKey

if TYPE_CHECKING:
    from tests.sim.tiers.chains import Chain, TierState
    from tests.sim.tiers.grid import Grid

LIES_MAX: Final = 2
PARTS_AT_ONCE: Final = 8
RESTING_SHARE: Final = 0.7
UNASKED_SHARE: Final = 0.2
PATIENCE_MS: Final = 6_000
CODE: Final = "vm/"
# A block lists these folders, and reads what stands there.
LISTED: Final = ("market/trades/", "settlement/reading/", "export/out/")


class Lie(NamedTuple):
    """An accusation on its way: what it says, and what is shown for it."""

    key: SigningKey
    region: int
    epoch: int
    height: int
    named: bytes
    shown: bytes


class _Truth(NamedTuple):
    """A block that follows, with the proof of what its execution touches."""

    proof: FraudProof
    app: RegionApp
    earlier: RegionApp
    touched: frozenset[str]


def _hidden(truth: _Truth, rng: Random) -> FraudProof:
    """Something that the block reads is not shown."""
    there = sorted(
        key
        for key in truth.touched
        if key in truth.app.state.app.items and not key.startswith(CODE)
    )
    return _without(truth, rng.choice(there))


def _listed(truth: _Truth, rng: Random) -> FraudProof:
    """One of those in a folder that the block lists is not shown."""
    there = [key for key in truth.app.state.app.items if key.startswith(LISTED)]
    return _without(truth, rng.choice(sorted(truth.touched.intersection(there)) or [""]))


def _without(truth: _Truth, key: str) -> FraudProof:
    base, known = truth.app.loaded(), stateless.program_code()
    shown = set(truth.touched - {key})
    return replace(truth.proof, witness=witness.write(base.state, base.tree, shown, known))


def _of_earlier(truth: _Truth, rng: Random) -> FraudProof:
    """The state shown is the one before."""
    base, known = truth.earlier.loaded(), stateless.program_code()
    shown = witness.write(base.state, base.tree, set(truth.touched), known)
    return replace(truth.proof, witness=shown)


def _other_body(truth: _Truth, rng: Random) -> FraudProof:
    block = truth.proof.block
    return replace(truth.proof, block=replace(block, txs=(*block.txs, rng.randbytes(40))))


def _uncertified(truth: _Truth, rng: Random) -> FraudProof:
    """A block that nobody has signed, which does not follow."""
    block = truth.proof.block
    header = replace(block.header, state_root=rng.randbytes(32))
    return replace(truth.proof, block=replace(block, header=header))


def _few(truth: _Truth, rng: Random) -> FraudProof:
    """The same, with the signatures of the true one."""
    found = _uncertified(truth, rng)
    certificate = found.certificate
    return replace(
        found, certificate=replace(certificate, block_hash=header_hash(found.block.header))
    )


def _other_parent(truth: _Truth, rng: Random) -> FraudProof:
    """A block before it that it does not name, with a state of its own."""
    base = truth.earlier.loaded()
    shown = witness.write(base.state, base.tree, set(truth.touched), stateless.program_code())
    parent = replace(truth.proof.parent, state_root=truth.earlier.state.root)
    return replace(truth.proof, parent=parent, witness=shown)


def _other_genesis(truth: _Truth, rng: Random) -> FraudProof:
    genesis = truth.proof.genesis
    market = replace(genesis.market, penalty_micro_per_kwh=1 + rng.randrange(1_000))
    return replace(truth.proof, genesis=replace(genesis, market=market))


LIES: Final[dict[str, Callable[[_Truth, Random], FraudProof]]] = {
    "A2 nobody signed": _uncertified,
    "A2 few signed": _few,
    "A3 body": _other_body,
    "A3 parent": _other_parent,
    "A4 state": _of_earlier,
    "A4 genesis": _other_genesis,
    "A5 hidden": _hidden,
    "A5 listed": _listed,
    "A6 follows": lambda truth, rng: truth.proof,
}
# Of the proof as bytes, not of what it says.
OTHER_LIES: Final = ("A1 other", "A1 garbage", "A2 height")


class Slanderer:
    """Accuses with money of its own, or as a drawn auditor; and is content, as that one."""

    def __init__(self, grid: "Grid", rng: Random) -> None:
        self._grid, self._rng = grid, rng
        self._nonce = 0
        self._lie: Lie | None = None
        self._seen = False
        self._next_ms = 0
        self.lies = 0

    def act(self) -> None:
        """Go on with what was begun."""
        grid = self._grid
        main = grid.main_state()
        if grid.yea_sayer is not None:
            self._be_content(grid.yea_sayer, main)
        if not grid.faults.slander or grid.now_ms < self._next_ms:
            return
        if self._lie is None:
            if not grid.healed and self.lies < LIES_MAX and self._rng.random() > RESTING_SHARE:
                self._lie, self._seen = self._invented(main), False
                self.lies += self._lie is not None
            return
        self._press(self._lie, main)

    def _be_content(self, key: SigningKey, main: "TierState") -> None:
        for name in main.app.state.keys_under("audit/duty/"):
            duty = entry(main, name)
            region, number = duty["region"], duty["number"]
            if self._lie is not None and (self._lie.key, self._lie.region) == (key, region):
                continue
            is_asked = key.address in duty["drawn"] and key.address not in duty["content"]
            if is_asked or self._rng.random() < UNASKED_SHARE:
                self._send(key, regions.audit_ok(region, number + (self._rng.random() < 0.2)))

    def _press(self, lie: Lie, main: "TierState") -> None:
        self._next_ms = self._grid.now_ms + PATIENCE_MS
        case = entry(main, f"audit/case/{lie.key.address}")
        if case is None and self._seen:
            self._lie = None
        elif case is None:
            self._send(lie.key, regions.accuse(lie.region, lie.epoch, lie.height, lie.named))
            self._seen = entry(main, f"regions/region/{KEY_BASE + lie.region}")["status"] == "left"
        else:
            self._seen = True
            folder = f"audit/part/{lie.key.address}/"
            parts = regions.evidence(lie.shown)
            missing = [
                call
                for n, call in enumerate(parts)
                if main.value(f"{folder}{KEY_BASE + n}") is None
            ]
            for call in missing[:PARTS_AT_ONCE] or [regions.judge()]:
                self._send(lie.key, call)

    def _send(self, key: SigningKey, call: Call) -> None:
        grid = self._grid
        self._nonce = max(grid.now_ms * 64 + 32, self._nonce + 1)
        valid_ms = grid.now_ms + machines.VALID_MS
        grid.tell_main(0, ("call", sign_call(call, key, machines.MAIN_ID, self._nonce, valid_ms)))

    # -- inventing

    def _invented(self, main: "TierState") -> Lie | None:
        grid, rng = self._grid, self._rng
        key, wanted = machines.slanderer_key(), None
        if grid.yea_sayer is not None and rng.random() < 0.5:
            wanted = self._drawn_for(grid.yea_sayer.address, main)
            key = key if wanted is None else grid.yea_sayer
        there = [n for n in grid.chains if n and n not in grid.cheating and wanted in (None, n)]
        if not there:
            return None
        chain = grid.chains[rng.choice(there)]
        truth = self._truth(chain)
        if truth is None:
            return None
        header = truth.proof.block.header
        data = encode(truth.proof)
        name = rng.choice(tuple(grid.mutation.lies) or (*LIES, *OTHER_LIES))
        height, named = header.height, data
        match name:
            case "A1 other":
                # As if it could be thought of later what is shown.
                named = bytes([data[0] ^ 1]) + data[1:]
            case "A1 garbage":
                data = named = rng.randbytes(1 + rng.randrange(5_000))
            case "A2 height":
                height += 1
            case _:
                data = named = encode(LIES[name](truth, rng))
        return Lie(key, chain.number, header.epoch, height, named, data)

    def _drawn_for(self, address: str, main: "TierState") -> int | None:
        for name in main.app.state.keys_under("audit/duty/"):
            duty = entry(main, name)
            if address in duty["drawn"] and address not in duty["content"]:
                return int(duty["region"])
        return None

    def _truth(self, chain: "Chain") -> _Truth | None:
        """A block of the chain's own disks, and what it touches; None: not enough is there."""
        rng, grid = self._rng, self._grid
        database = rng.choice(chain.nodes).database
        heights = [height for height in database.blocks if height - 2 in database.blocks]
        if not heights:
            return None
        height = rng.choice(heights[-8:])
        block, certificate = database.blocks[height]
        parent, before = (database.blocks[height - back][0].header for back in (1, 2))
        app, earlier = self._app(chain, parent), self._app(chain, before)
        if certificate is None or app is None or earlier is None:
            return None
        genesis = chain.machine.genesis
        recorder, state = stateless.recording(app)  # type: ignore[arg-type]
        executed(maker_of(grid, genesis, recorder), block, parent)
        base, known = app.loaded(), stateless.program_code()
        shown = witness.write(base.state, base.tree, state.touched, known)
        proof = FraudProof(genesis, parent, block, certificate, shown)
        return _Truth(proof, app, earlier, frozenset(state.touched))

    def _app(self, chain: "Chain", header: Header) -> RegionApp | None:
        state = chain.state_after(header)
        if state is None:
            return None
        genesis = chain.machine.genesis
        app = RegionApp(self._grid, genesis.market, genesis.founding(), natives())
        app.adopt(Followed(state))
        return app
