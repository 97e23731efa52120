"""What the benchmarks of real processes make of what these report."""

from typing import Any

from bench import throughput, tiers, web
from bench.figures import Figure, Said
from testnet.street import StreetPlan


def figures_of(said: list[Said]) -> dict[str, Figure]:
    return {one.name: one for one in said if isinstance(one, Figure)}


def test_a_rate_is_held_against_the_bound_of_the_signatures() -> None:
    found: dict[str, Any] = {
        "orders_per_s": 500.0,
        "orders_per_block": 490.0,
        "block_s": 1.02,
        "cpu_us_per_order": [400.0, 500.0, 450.0, 420.0],
        "cores_used": 1.5,
        "finality_ms": {"p50": 900.0, "p95": 2_600.0, "count": 1_000},
        "executed": {"decided": 1_000, "posted": 1_000},
        "waiting_first_half": 10.0,
        "waiting_second_half": 11.0,
        "refused": {},
        "counts": {},
        "poster_late_s": 0.1,
    }
    paced = figures_of(list(throughput.of_run("at 80 %", found, 5_000.0, 1_000.0)))
    assert paced["at 80 %, orders/s"].ratio == 0.1
    assert paced["at 80 %, CPU per order and node"].median == 435.0
    assert not paced["at 80 %, final after, p95"].reached
    assert paced["at 80 %, orders/s"].aim is None
    # With a backlog waiting, the wait is in it, and of that nothing was promised.
    waiting = figures_of(list(throughput.of_run("sustained", found, 5_000.0, 1_000.0)))
    assert waiting["sustained, final after, p95"].aim is None
    assert (waiting["sustained, orders/s"].aim, waiting["sustained, orders/s"].reached) == (
        1e3,
        False,
    )


def test_reads_are_held_against_the_control_socket() -> None:
    by_http = {path: [4.0, 5.0, 6.0] for path in web.READS}
    by_socket = {path: [2.0, 2.5, 3.0] for path, asked in web.READS.items() if asked}
    rss = [180.0, 168.0, 150.0, 152.0]
    found = figures_of(list(web.of_reads(by_http, by_socket, ([100.0], [50.0]), rss)))
    assert found["/v1/status"].ratio == 2.0
    assert found["/metrics"].ratio is None
    assert found["all reads, p95"].median == 6.0
    assert found["memory with API and dashboard"].ratio == 180 / 151
    assert found["memory with the API"].ratio == 168 / 151
    without = figures_of(list(web.of_reads(by_http, by_socket, None, rss)))
    assert found.keys() - without.keys() == {"first paint", "a block shown after its event"}


def test_a_grids_report_becomes_figures() -> None:
    plan = StreetPlan(homes=24, regions=3, time_lapse=60)
    names = [name for group in tiers.regions_of(plan) for name in group.names]
    times = {"p50": 1_500.0, "p95": 3_000.0, "count": 9}
    report: dict[str, Any] = {
        **dict.fromkeys(
            ("money_conserved", "state_roots_equal", "energy_balanced", "bills_add_up"), True
        ),
        "slots": 3,
        "anchored": 9,
        "audited": 9,
        "exported_wh": 100,
        "anchoring_blocks": {"1": 8, "3": 1},
        "anchoring_ms": times,
        "auditing_ms": times,
        "nodes": [{"id": name, "rss_mib": 150.0, "cpu_s": 2.0, "uptime_s": 20.0} for name in names],
        "neutral": [],
    }
    said = list(tiers.of_report(report, plan))
    found = figures_of(said)
    assert "8 of 9 records within 2 main blocks, the latest in block 3" in said
    # A slot of a quarter of an hour is 15 s here.
    assert (found["audited, p95"].ratio, found["audited, p95"].aim) == (0.2, 15_000)
    assert found["anchored, p95"].aim == 2 * tiers.main_interval_ms(plan)
    assert len(found["both chains, memory"].values) + len(
        found["region only, memory"].values
    ) == len(names)
    assert "main chain only, CPU" not in found
