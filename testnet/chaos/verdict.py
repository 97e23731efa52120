"""From what was seen to what it means: one check per promise, each passed or not, with figures."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from node.status import summary_ms
from testnet.chaos.anchoring import Main
from testnet.chaos.audit import Audit
from testnet.chaos.plan import Plan, Strike
from testnet.chaos.scenario import Demands, Wipe
from testnet.chaos.watch import Heads, Latency, Sample

# Blocks are on their way for so long: who is where the furthest was then is at the head.
WAY_S: Final = 1.0
# Memory of a shorter life than this says nothing about its growth.
STRETCH_MIN_S: Final = 1_800.0
# Fewer transactions say nothing about a percentile.
LATENCIES_MIN: Final = 10
BEFORE, DURING, AFTER = "before", "during", "after"


class Struck(NamedTuple):
    """A strike as it was done: seconds since the run's start. `nodes` recover from `ended_s`."""

    strike: Strike
    began_s: float
    ended_s: float


class Check(NamedTuple):
    """One promise: kept or not, and the figures."""

    name: str
    passed: bool
    said: str


class Recovery(NamedTuple):
    """How one strike ended. [s]

    `up_s`: from its end until all its nodes answered, such as a process takes to start; `took_s`:
    from there until all were at the head. None: that never came.
    """

    struck: Struck
    up_s: float | None
    took_s: float | None
    allowed_s: float


class Phase(NamedTuple):
    """A part of the run: its blocks per second, longest gap and finality."""

    name: str
    begin_s: float
    end_s: float
    blocks: int
    gap_s: float
    finality_ms: dict[str, float | int | None]

    @property
    def rate(self) -> float:
        """Blocks per second."""
        return self.blocks / (self.end_s - self.begin_s) if self.end_s > self.begin_s else 0.0


class Load(NamedTuple):
    """What a node took: memory at its most and at the end [MiB], CPU over its time up [%]."""

    rss_max_mib: float
    rss_last_mib: float
    cpu_percent: float


class Growth(NamedTuple):
    """How memory grew over the longest life of a node's process, as a straight line. [MiB, s]"""

    mib_per_h: float
    begin_s: float
    begin_mib: float
    end_s: float


class Seen(NamedTuple):
    """All that a run has shown. Times are seconds since its start; blocks' by the run's clock.

    `calm_s`: when the grid was up; `began_s`, `over_s`: the disturbed time's beginning and end;
    `quiet_s`: so long no block need come when there is nothing to say; `main`: None on a grid of
    one chain; `lies`: how many messages each byzantine node has changed.
    """

    plan: Plan
    calm_s: float
    began_s: float
    over_s: float
    finished_s: float
    level: bool
    strikes: Sequence[Struck]
    samples: dict[str, list[Sample]]
    latencies: Sequence[Latency]
    problems: Sequence[str]
    blocks_s: dict[int, float]
    books: Audit
    quiet_s: float
    bursts: Sequence[dict[str, Any]] = ()
    main: Main | None = None
    lies: Mapping[str, int] = {}


class Verdict(NamedTuple):
    """The whole judgement."""

    checks: list[Check]
    recoveries: list[Recovery]
    phases: list[Phase]
    loads: dict[str, Load]
    growths: dict[str, Growth]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(check.passed for check in self.checks)


def judge(seen: Seen) -> Verdict:
    """Hold what was seen against what is promised and what the scenario demands."""
    demands = seen.plan.scenario.demands
    recoveries = [_recovery(seen, struck, demands) for struck in seen.strikes]
    phases = [
        _phase(seen, BEFORE, seen.calm_s, seen.began_s),
        _phase(seen, DURING, seen.began_s, seen.over_s),
        _phase(seen, AFTER, seen.over_s, seen.finished_s),
    ]
    books = seen.books
    growths = _growths(seen)
    checks = [
        _none("agreement", [*seen.problems, *books.different], f"{books.compared} heights equal"),
        _liveness("liveness", seen, seen.plan, list(seen.blocks_s.values()), seen.quiet_s),
        _none("nothing lost", books.lost, f"{books.sought} decided transactions in every chain"),
        _none("money", books.money, "conserved at every node"),
        _none("energy", books.energy, f"{books.slots} slots balance"),
        _recovered(seen, recoveries),
        *_tiers(seen, demands),
        *_lies(seen),
        *_bursts(seen),
        *_finality(phases, demands),
        *_rate(phases, demands),
        *_growth(growths, demands),
    ]
    loads = {name: load_of(samples) for name, samples in seen.samples.items()}
    return Verdict(checks, recoveries, phases, loads, growths)


def _none(name: str, problems: Sequence[str], well: str) -> Check:
    if not problems:
        return Check(name, True, well)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Check(name, False, problems[0] + more)


# -- liveness


def _liveness(
    name: str, seen: Seen, plan: Plan, moments_s: Sequence[float], quiet_s: float
) -> Check:
    """Blocks must come while a quorum can work; while none can, there is nothing to ask."""
    longest, where = 0.0, 0.0
    lived_s = 0.0
    for begin_s, end_s in _must_live(seen, plan, moments_s):
        lived_s += end_s - begin_s
        gap_s, at_s = longest_gap(moments_s, begin_s, end_s)
        if gap_s > longest:
            longest, where = gap_s, at_s
    said = f"longest gap {longest:.1f} s (at {where:.0f} s) in {lived_s:.0f} s with a quorum"
    allowed_s = plan.scenario.demands.gap_s + quiet_s
    return Check(name, longest <= allowed_s, f"{said}; at most {allowed_s:g} s")


def _must_live(seen: Seen, plan: Plan, moments_s: Sequence[float]) -> list[tuple[float, float]]:
    """Return the spans in which a quorum can work. After one without, a recovery's time is left."""
    demands = plan.scenario.demands
    patience_s = max(demands.recovery_s, demands.wiped_s if plan.uses(Wipe) else 0.0)
    spans = [(seen.calm_s, seen.began_s, True)]
    spans += [(seen.began_s + b, seen.began_s + e, works) for b, e, works in plan.able()]
    # What is done takes a moment longer than planned.
    spans[-1] = (spans[-1][0], seen.over_s, spans[-1][2])
    spans.append((seen.over_s, seen.finished_s, True))
    found: list[tuple[float, float]] = []
    halted = False
    for begin_s, end_s, works in spans:
        if not works:
            halted = True
            continue
        if halted:
            # The first block after a halt is the recovery's matter: so long is no gap.
            first = [s for s in moments_s if s >= begin_s]
            begin_s = min([begin_s + patience_s, *first])
            halted = False
        if found and found[-1][1] >= begin_s - 1e-6:
            found[-1] = (found[-1][0], end_s)
        elif begin_s < end_s:
            found.append((begin_s, end_s))
    return found


def longest_gap(moments_s: Sequence[float], begin_s: float, end_s: float) -> tuple[float, float]:
    """Return the longest time without a moment from begin to end, and when it began."""
    inside = [begin_s, *sorted(m for m in moments_s if begin_s < m < end_s), end_s]
    gaps = [(later - earlier, earlier) for earlier, later in pairwise(inside)]
    return max(gaps)


# -- recovery


def _recovery(seen: Seen, struck: Struck, demands: Demands) -> Recovery:
    """Say how a strike's nodes came back. One that is struck again before counts from then."""
    allowed_s = demands.wiped_s if isinstance(struck.strike.fault, Wipe) else demands.recovery_s
    heads = Heads(seen.samples)
    up_s = level_s = struck.ended_s
    for name in struck.strike.nodes:
        until_s = min([seen.finished_s, *_again(seen, struck, name)])
        up = [s for s in seen.samples[name] if struck.ended_s < s.at_s < until_s and s.up]
        level = [s.at_s for s in up if s.height >= heads.at(s.at_s - WAY_S)]
        if level:
            up_s, level_s = max(up_s, up[0].at_s), max(level_s, level[0])
        elif until_s >= seen.finished_s:
            return Recovery(struck, up[0].at_s - struck.ended_s if up else None, None, allowed_s)
    return Recovery(struck, up_s - struck.ended_s, level_s - up_s, allowed_s)


def _again(seen: Seen, struck: Struck, name: str) -> list[float]:
    """Return when a node was struck after this."""
    return [
        other.began_s
        for other in seen.strikes
        if other is not struck and name in other.strike.nodes and other.began_s >= struck.ended_s
    ]


def _recovered(seen: Seen, recoveries: Sequence[Recovery]) -> Check:
    missed = [r for r in recoveries if r.took_s is None or r.took_s > r.allowed_s]
    if not seen.level:
        return Check("recovery", False, "not all nodes were at the head in the end")
    if missed:
        first = missed[0]
        took = "never" if first.took_s is None else f"after {first.took_s:.1f} s"
        more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
        said = f"{first.struck.strike.title}: at the head {took}{more}"
        return Check("recovery", False, f"{said}; at most {first.allowed_s:g} s")
    took_s = [r.took_s for r in recoveries if r.took_s is not None]
    said = f"{len(took_s)} strikes, longest {max(took_s, default=0.0):.1f} s"
    if took_s:
        said += f", median {statistics.median(took_s):.1f} s"
    return Check("recovery", True, said)


# -- the main chain


def _tiers(seen: Seen, demands: Demands) -> list[Check]:
    """What the second tier promises: it goes on, its keepers catch up, and checkpoints arrive."""
    main, roster = seen.main, seen.plan.roster
    if main is None:
        return []
    everybody = (*roster.names, *roster.outside)
    theirs = roster._replace(names=everybody, authorities=main.authorities)
    plan = seen.plan._replace(roster=theirs)
    return [
        _liveness("main chain", seen, plan, main.rises_s(), main.quiet_s),
        _main_recovery(seen, main, demands),
        *_anchored(seen, main, demands),
    ]


def _main_recovery(seen: Seen, main: Main, demands: Demands) -> Check:
    """Hold when the region's nodes that keep the main chain were at its head after all faults."""
    allowed_s = demands.wiped_s if seen.plan.uses(Wipe) else demands.recovery_s
    longest_s, took_s = 0.0, _levelled(main, seen.plan.roster.names, seen.over_s)
    for name, one_s in took_s.items():
        if one_s is None:
            return Check("main recovery", False, f"{name} never came to the main chain's head")
        longest_s = max(longest_s, one_s)
    said = f"{len(took_s)} of the region's nodes at the head after {longest_s:.1f} s"
    return Check("main recovery", longest_s <= allowed_s, f"{said}; at most {allowed_s:g} s")


def _levelled(main: Main, names: Sequence[str], over_s: float) -> dict[str, float | None]:
    """Return how soon after a moment, once it answered, each keeper was at the main head."""
    heads, found = Heads(main.heights), dict[str, float | None]()
    for name in names:
        if name not in main.heights:
            continue
        after = [one for one in main.heights[name] if one.at_s > over_s]
        level = (one.at_s for one in after if one.height >= heads.at(one.at_s - WAY_S))
        at_s = next(level, None)
        found[name] = None if at_s is None else at_s - after[0].at_s
    return found


def lagging(main: Main, names: Sequence[str], over_s: float) -> bool:
    """Tell whether one of these has not been seen at the main chain's head since a moment."""
    return None in _levelled(main, names, over_s).values()


def owed(main: Main, over_s: float) -> bool:
    """Tell whether the main chain has still to anchor what the region had closed by a moment.

    Nothing is owed for a region that it had not anchored anything of yet.
    """
    then, now = main.at(over_s), main.checkpoints[-1:]
    return then.anchored > 0 and any(one.anchored < then.closed for one in now)


def _anchored(seen: Seen, main: Main, demands: Demands) -> list[Check]:
    """Hold how soon after all faults the region's checkpoints were anchored."""
    began, over = main.at(seen.began_s), main.at(seen.over_s)
    if not began.anchored:
        return []
    allowed_s = demands.anchored_s
    said = (
        f"{over.closed - began.closed} closed and {over.anchored - began.anchored} anchored while "
        "disturbed"
    )
    arrived_s = main.anchored_s(over.closed, seen.over_s)
    if arrived_s is None:
        said += f"; {over.closed} never came, {main.checkpoints[-1].anchored} is the last"
        return [Check("checkpoints", False, said)]
    took_s = arrived_s - seen.over_s
    said += f", the last of them {took_s:.1f} s after the end"
    return [Check("checkpoints", took_s <= allowed_s, f"{said}; at most {allowed_s:g} s")]


# -- figures


def _phase(seen: Seen, name: str, begin_s: float, end_s: float) -> Phase:
    inside = [moment for moment in seen.blocks_s.values() if begin_s <= moment < end_s]
    took_ms = [one.took_ms for one in seen.latencies if begin_s <= one.at_s < end_s]
    gap_s = longest_gap(inside, begin_s, end_s)[0]
    return Phase(name, begin_s, end_s, len(inside), gap_s, summary_ms(took_ms))


def _bursts(seen: Seen) -> list[Check]:
    """What nodes accepted in a burst must be in a block, however many came at once."""
    checks = []
    for told in seen.bursts:
        accepted, committed = told["accepted"], told["committed"]
        refused = sum(told["refused"].values())
        said = f"{committed} of {accepted} accepted orders committed, {refused} refused"
        checks.append(Check("burst", 0 < accepted == committed, said))
    return checks


def _lies(seen: Seen) -> list[Check]:
    """An authority that was to lie must have lied, or nothing was tried."""
    honest = sorted(name for name, count in seen.lies.items() if not count)
    if honest:
        return [Check("byzantine", False, f"{honest[0]} has told nothing but the truth")]
    count = sum(seen.lies.values())
    return [Check("byzantine", True, f"{count} messages changed")] if seen.lies else []


def _finality(phases: Sequence[Phase], demands: Demands) -> list[Check]:
    if not demands.finality_p95_ms:
        return []
    told = phases[1].finality_ms
    count, p95 = told["count"], told["p95"]
    if not isinstance(count, int) or count < LATENCIES_MIN or p95 is None:
        return [Check("finality", False, f"only {count} transactions were decided while disturbed")]
    allowed = demands.finality_p95_ms
    said = f"p95 {p95:.0f} ms of {count} while disturbed; at most {allowed} ms"
    return [Check("finality", p95 <= allowed, said)]


def _rate(phases: Sequence[Phase], demands: Demands) -> list[Check]:
    if not demands.block_rate_percent:
        return []
    before, during = phases[0].rate, phases[1].rate
    percent = 100 * during / before if before else 0.0
    said = f"{percent:.0f} % of the undisturbed; at least {demands.block_rate_percent:g} %"
    return [Check("block rate", percent >= demands.block_rate_percent, said)]


def _growths(seen: Seen) -> dict[str, Growth]:
    """Return how memory grew at the nodes that were up for long enough, once it was disturbed."""
    return {
        name: growth
        for name, samples in seen.samples.items()
        if (growth := growth_of([s for s in samples if s.at_s >= seen.began_s])) is not None
    }


def _growth(growths: Mapping[str, Growth], demands: Demands) -> list[Check]:
    """Hold how fast memory grows against what is allowed."""
    allowed = demands.rss_mib_per_h
    if not allowed:
        return []
    if not growths:
        minutes = STRETCH_MIN_S / 60
        return [Check("memory", False, f"no node was up for {minutes:.0f} minutes without a break")]
    worst = max(growths, key=lambda name: growths[name].mib_per_h)
    slope = growths[worst].mib_per_h
    said = f"{worst} grows by {slope:.2f} MiB/h, most of {len(growths)} nodes"
    return [Check("memory", slope <= allowed, f"{said}; at most {allowed:g}")]


def growth_of(samples: Sequence[Sample]) -> Growth | None:
    """Return the slope (least squares) of memory over the longest life of a node's process.

    None if that is shorter than `STRETCH_MIN_S`.
    """
    lives: list[list[Sample]] = []
    for sample in samples:
        if not sample.up:
            continue
        if not lives or sample.uptime_s < lives[-1][-1].uptime_s:
            lives.append([])
        lives[-1].append(sample)
    longest = max(lives, key=lambda life: life[-1].at_s - life[0].at_s, default=[])
    if len(longest) < 2 or longest[-1].at_s - longest[0].at_s < STRETCH_MIN_S:
        return None
    begin_s, end_s = longest[0].at_s, longest[-1].at_s
    slope, begin_mib = statistics.linear_regression(
        [(sample.at_s - begin_s) / 3600 for sample in longest],
        [sample.rss_mib for sample in longest],
    )
    return Growth(slope, begin_s, begin_mib, end_s)


def load_of(samples: Sequence[Sample]) -> Load:
    """Return what a node took; a process that began anew counts from nothing."""
    up = [sample for sample in samples if sample.up]
    if not up:
        return Load(0.0, 0.0, 0.0)
    cpu_s = time_s = 0.0
    for one, two in pairwise(up):
        if two.uptime_s >= one.uptime_s:
            cpu_s += two.cpu_s - one.cpu_s
            time_s += two.at_s - one.at_s
    percent = 100 * cpu_s / time_s if time_s else 0.0
    return Load(max(sample.rss_mib for sample in up), up[-1].rss_mib, round(max(percent, 0.0), 1))
