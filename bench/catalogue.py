"""All benchmarks, in the order in which `python -m bench` runs them."""

from typing import Final, Literal, NamedTuple

# process: in one process; streets: daemons of real processes, whose figures need the cores for
# themselves; data: needs measurements that are not in the repository; peers: makes other programs'
# environments from the package index.
Kind = Literal["process", "streets", "data", "peers"]


class Entry(NamedTuple):
    """A benchmark: its module below `bench`, its kind, and its settings under `--quick`."""

    name: str
    kind: Kind
    quick: str = ""


CATALOGUE: Final = (
    Entry("core", "process", "--nodes 4"),
    Entry("vm", "process", "--rounds 5"),
    Entry("matching", "process", "10,000"),
    Entry("order", "process", "--blocks 4"),
    Entry("region", "process", "--homes 100 --keep-slots 24"),
    Entry("checkpoints", "process", "--regions 100"),
    Entry("exchange_load", "process", "--regions 100"),
    Entry("audit", "process", "--homes 8,50"),
    Entry("per_home", "process", "--regions 1,10 --slots 4"),
    Entry("day", "process", "--users 10 --rounds 1"),
    Entry("scale", "process", "--homes 10,50 --regions 1,3 --slots 2"),
    Entry("plan", "process", "--rounds 50"),
    Entry("street", "process", "--days 1 --seeds 1"),
    Entry("exchange", "process", "--homes 4 --slots 48"),
    Entry("agents", "process", "--homes 6 --seeds 1 --only ce"),
    Entry("forecast", "data", "--models blend --day-ahead --homes 2"),
    Entry("sensors", "data", "--faults 20"),
    Entry("hems_memory", "data", "--models blend"),
    Entry("meters", "data", "--trials 4"),
    Entry("pseudonyms", "data", "--days 28"),
    Entry("worth", "data", "--days 28 --homes home_10006414"),
    Entry("sync", "process", "--blocks 200 --height 200 --repeats 1"),
    Entry("network", "streets", "--seconds 5"),
    Entry("idle", "streets", "--homes 6 --seconds 20"),
    Entry("grid", "streets", "--slots 4"),
    Entry("web", "streets", "--homes 6 --rounds 10"),
    Entry("throughput", "streets", "--seconds 10"),
    Entry("flood", "streets", "--seconds 5 --capacity 300"),
    Entry("strangers", "streets", "--strangers 20 --minutes 0.2"),
    Entry("gate", "streets", "--homes 100 --rounds 1"),
    Entry("mechanisms", "streets", "--slots 4 high_low"),
    Entry("sealed", "streets", "--slots 3"),
    Entry("tiers", "streets", "--slots 3"),
    Entry("peers.pymarket_auctions", "peers", "--rounds 1"),
    Entry("peers.emhass_plans", "peers", "--days 5"),
    Entry("peers.emhass_forecasts", "peers", "--homes 1 --days 14"),
)
NAMES: Final = tuple(entry.name for entry in CATALOGUE)
