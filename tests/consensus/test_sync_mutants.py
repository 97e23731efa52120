"""Seeded bugs in catching up: the tests beside this one must find each of them."""

from collections.abc import Callable, Iterator

import pytest

from consensus import light, sync, sync_events, sync_snapshot
from consensus.authorities import AuthoritySet
from consensus.errors import ConsensusError
from consensus.light import LightClient, SignedHeader
from consensus.messages import BLOCK_BYTES_MAX, Block, Header
from consensus.sync import Sync
from consensus.sync_peers import Peer
from tests.consensus import test_light, test_sync
from tests.consensus.sync_world import LIES, SyncWorld
from wire.codec import decode
from wire.errors import DecodeError

Patch = Callable[[pytest.MonkeyPatch], None]

_following_set = light._following_set


def _forget_set(signed: SignedHeader, authorities: AuthoritySet) -> AuthoritySet:
    """Follows the header and not the set that it announces."""
    _following_set(signed, authorities)
    return authorities


def _any_set(signed: SignedHeader, authorities: AuthoritySet) -> AuthoritySet:
    """Believes whatever set is shown."""
    return signed.next_authorities or authorities


def _only_height(self: LightClient, header: Header) -> None:
    """Does not look at the parent's hash, nor at the time."""
    if header.height <= self.height:
        raise light.HeaderRefused(f"header {header.height} is not after header {self.height}")


def _any_block(raw: bytes, block_hash: bytes) -> object:
    """Believes that a block is the one asked for."""
    try:
        return decode(raw, Block, BLOCK_BYTES_MAX)
    except DecodeError as error:
        return str(error)


def _no_timeouts(m: pytest.MonkeyPatch) -> None:
    on_timer = Sync._on_timer

    def patched(self: Sync, event: sync_events.TimerFired) -> None:
        if event.timer.kind != sync_events.TIMER_REQUEST:
            on_timer(self, event)

    m.setattr(Sync, "_on_timer", patched)


def _accuses_the_silent(m: pytest.MonkeyPatch) -> None:
    on_timer = Sync._on_timer

    def patched(self: Sync, event: sync_events.TimerFired) -> None:
        request = self._requests.get(event.timer.request)
        on_timer(self, event)
        if request is not None:
            self.drop(request.peer, "silent")

    m.setattr(Sync, "_on_timer", patched)


def _keeps_refused_blocks(m: pytest.MonkeyPatch) -> None:
    m.setattr(Sync, "_on_block_refused", lambda self, event: setattr(self, "_applying", 0))


def _asks_one_peer(m: pytest.MonkeyPatch) -> None:
    m.setattr(sync, "REQUESTS_MAX", 1)


def _applies_out_of_order(m: pytest.MonkeyPatch) -> None:
    def apply_next(self: Sync) -> None:
        for height, body in self._bodies.items():
            certificate = self._window[height].certificate
            self._effects.append(sync_events.Apply(body.block, certificate))

    m.setattr(Sync, "_apply_next", apply_next)


def _trusts_the_manifest(m: pytest.MonkeyPatch) -> None:
    def compare(self: sync_snapshot.SnapshotFetch, host: Sync) -> None:
        if self._manifest is not None and self._signed is not None:
            host.emit(sync_events.OpenSpool(self._manifest))

    m.setattr(sync_snapshot.SnapshotFetch, "_compare", compare)


def _keeps_a_forged_snapshot(m: pytest.MonkeyPatch) -> None:
    m.setattr(Sync, "condemn_snapshot", lambda self, fetch, reason: None)


def _believes_claims(m: pytest.MonkeyPatch) -> None:
    m.setattr(Peer, "retract", lambda self: None)
    m.setattr(Peer, "doubt", lambda self: None)


def _keeps_old_sets(m: pytest.MonkeyPatch) -> None:
    """Believes whoever has been an authority before."""
    accept = LightClient.accept

    def patched(self: LightClient, signed: SignedHeader) -> None:
        trusted = self.authorities
        old = vars(self).setdefault("old", [])
        try:
            accept(self, signed)
        except ConsensusError:
            for authorities in old:
                self.authorities = authorities
                try:
                    accept(self, signed)
                except ConsensusError:
                    continue
                return
            self.authorities = trusted
            raise
        if self.authorities != trusted:
            old.append(trusted)

    m.setattr(LightClient, "accept", patched)


MUTANTS: dict[str, Patch] = {
    "old epoch's certificate accepted": _keeps_old_sets,
    "sync accepts unlinked header": lambda m: m.setattr(
        LightClient, "_check_after_head", _only_height
    ),
    "light client skips set change": lambda m: m.setattr(light, "_following_set", _forget_set),
    "any next set": lambda m: m.setattr(light, "_following_set", _any_set),
    "no certificates": lambda m: m.setattr(light, "verify_certificate", lambda *_, **__: None),
    "any chunk": lambda m: m.setattr(sync_snapshot, "chunk_is_good", lambda *_: True),
    "any block": lambda m: m.setattr(sync, "block_of", _any_block),
    "no timeouts": _no_timeouts,
    "the silent are dropped": _accuses_the_silent,
    "refused blocks kept": _keeps_refused_blocks,
    "one request at a time": _asks_one_peer,
    "out of order": _applies_out_of_order,
    "manifest not compared": _trusts_the_manifest,
    "forged snapshot kept": _keeps_a_forged_snapshot,
    "claims always believed": _believes_claims,
}


# Those that only peers who lie bring to light, which takes a second or two.
LATE = {"any chunk", "sync accepts unlinked header", "claims always believed"}


def hunts() -> Iterator[tuple[str, Callable[[], object]]]:
    """The tests that take no argument, then those among liars; each with its name."""
    for module in (test_light, test_sync):
        for name, test in vars(module).items():
            if name.startswith("test_") and not getattr(test, "pytestmark", None):
                yield f"{module.__name__.split('.')[-1]}.{name}", test
    for lie in LIES:
        yield f"among peers that lie: {lie}", lambda lie=lie: _in_blocks_or_snapshot(lie)
    for seed in range(20):
        yield (
            f"any mixture of peers, seed {seed}",
            lambda seed=seed: test_sync.test_any_mixture_of_peers(seed),
        )


def _in_blocks_or_snapshot(lie: str) -> None:
    test_sync.test_each_lie_is_outlived(lie=lie, snapshot_behind=0)
    test_sync.test_each_lie_is_outlived(lie=lie, snapshot_behind=100)
    if lie in ("unlinked", "uncertified", "reordered", "wrong_body", "garbage"):
        test_sync.test_a_lie_in_blocks_is_found_and_ends_the_peer(lie)
    if lie in ("wrong_chunk", "wrong_manifest", "snapshot", "foreign_manifest"):
        test_sync.test_a_lie_in_a_snapshot_is_found_and_another_peer_serves(lie)


def hunt(name: str) -> tuple[int, str] | None:
    """Return after how many hunts a mutant is killed, and by which; None: it lives."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        patch.setattr(SyncWorld.run, "__defaults__", (120_000,))
        for count, (what, run) in enumerate(hunts(), 1):
            try:
                run()
            except (AssertionError, ConsensusError, pytest.fail.Exception):
                return count, what
    return None


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LATE else []) for name in MUTANTS],
)
def test_every_mutant_is_killed(name: str) -> None:
    assert hunt(name) is not None, f"{name} lives"


@pytest.mark.slow
def test_without_a_mutant_nothing_is_found() -> None:
    for _, run in hunts():
        run()
