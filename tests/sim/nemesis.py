"""Does harm from time to time: crashes, damage, partitions, wrong clocks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.world import World

# Nobody's crash lasts longer, except that of those who are dead.
DOWN_MS_MAX = 12_000
DUEL_DOWN_MS_MAX = 2_000
# Effects and disk operations until a crash.
FUSE_MAX = 40
DUEL_FUSE_MAX = 8


class Nemesis:
    """What it may do is what the run's faults say."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def begin(self) -> None:
        """Strike for the first time in a while."""
        self._world.later(self._world.rng.randint(500, 4_000), ("nemesis",))

    def strike(self) -> None:
        """Do some harm, and come back."""
        world = self._world
        if world.network.faults.duel_rounds:
            self._harm_duellist()
            world.later(world.rng.randint(200, 3_000), ("nemesis",))
        else:
            self._do_harm()
            world.later(world.rng.randint(500, 6_000), ("nemesis",))

    def down_ms(self) -> int:
        """How long a crashed process stays away."""
        is_duel = self._world.network.faults.duel_rounds > 0
        return self._world.rng.randint(100, DUEL_DOWN_MS_MAX if is_duel else DOWN_MS_MAX)

    def _harm_duellist(self) -> None:
        rng, faults = self._world.rng, self._world.network.faults
        if not faults.crashes:
            return
        if faults.rot and self._world.frail_slots and rng.random() < 0.4:
            self._damage(wipe=False)
            return
        self._light(rng.choice(self._world.nodes), DUEL_FUSE_MAX)

    def _do_harm(self) -> None:
        world = self._world
        rng, faults = world.rng, world.network.faults
        choice = rng.random()
        if choice < 0.3 and faults.partitions:
            world.network.groups = [rng.randint(0, 1) for _ in world.nodes]
        elif choice < 0.5:
            world.network.groups = None
        elif choice < 0.8 and faults.crashes:
            self._light(rng.choice(world.nodes), FUSE_MAX)
        elif choice < 0.85 and faults.skew_ms:
            # Somebody sets a clock: it may go back.
            rng.choice(world.nodes).skew_ms = rng.randint(-faults.skew_ms, faults.skew_ms)
        elif choice < 0.95 and faults.rot and world.frail_slots:
            self._damage(wipe=False)
        elif faults.wipe and world.frail_slots:
            self._damage(wipe=True)

    def _light(self, node: "SimNode", fuse_max: int) -> None:
        if node.up:
            node.fuse = self._world.rng.randrange(fuse_max)

    def _damage(self, wipe: bool) -> None:
        world = self._world
        node = world.nodes[world.rng.choice(world.frail_slots)]
        if node.up:
            node.crash()
            world.later(self.down_ms(), ("up", node.slot))
        if wipe:
            node.wipe()
        else:
            node.log.rot(world.rng)
