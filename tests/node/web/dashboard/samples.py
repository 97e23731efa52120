"""Answers of a home that trades in a region, of one that has just begun, and of a main chain."""

from collections.abc import Mapping
from typing import Any

import httpx

from hems.delivery import Delivery
from market import client
from market.client.queries import Place
from node.api.control import Answer
from node.api.watched import Watched, WatchedFault, WatchedNode
from node.errors import AbsentError, UnknownError
from node.web.app import Access, Served, build_app
from node.web.dashboard.asks import Asks
from node.web.dashboard.site import Site, dashboard_routes
from node.web.stream import Stream

SLOT_MS = 900_000
NOW_SLOT = 1_957_930
SLOTS = 40
HOMES = 6
EVIL = "<script>alert(1)</script>"
ACCESS = Access(("localhost", "127.0.0.1"), "t" * 32, True)
NAMES = ["home-01", EVIL, *(f"home-{number:02d}" for number in range(3, HOMES + 1))]


def address_of(number: int) -> str:
    """Return a home's account."""
    return f"cw{number:040x}"


def wave(place: int, period: int, low: int, high: int) -> int:
    """Return something that rises and falls."""
    up = place % period
    return low + (high - low) * min(up, period - up) * 2 // period


def at(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "time_ms": 1_795_310_771_307,
        "market_ms": NOW_SLOT * SLOT_MS + 450_000,
        "market_time": "2025-11-03 13:37",
        "slot": NOW_SLOT,
        "first_slot": NOW_SLOT - 40,
        "mechanism": "high_low",
        "currency": "AUD",
    }


def starts(slot: int) -> dict[str, Any]:
    return {"slot": slot, "start_ms": slot * SLOT_MS, "starts": "2025-11-03 13:30"}


def summary(slot: int, status: str = "settled") -> client.SlotSummary:
    """Return a slot in which three trades were made."""
    fields = dict.fromkeys(client.SlotSummary.__struct_fields__, 0)
    fields |= {
        "slot": slot,
        "rounds": 1,
        "tariff_micro_per_kwh": 541_100 if slot % 20 > 10 else 277_100,
        "feed_in_micro_per_kwh": 100_000,
        "bids": 3,
        "asks": 4,
        "trades": 3,
        "traded_wh": wave(slot, 16, 100, 900),
        "low_micro_per_kwh": 150_000 + 1_000 * (slot % 30),
        "high_micro_per_kwh": 160_000 + 1_500 * (slot % 30),
        "import_wh": wave(slot, 16, 300, 1_400),
        "grid_wh": 120,
        "imported_wh": 60 * (slot % 3),
    }
    return client.SlotSummary(**{**fields, "status": status})  # type: ignore[arg-type]


def order(slot: int, number: int, home: int, side: str) -> dict[str, Any]:
    price = 240_000 - 22_000 * number if side == "buy" else 120_000 + 20_000 * number
    return {
        "order_id": f"{slot}-{home * 10 + number}",
        "slot": slot,
        "home": home,
        "home_name": NAMES[home - 1],
        "side": side,
        "energy_wh": 200 + 40 * number,
        "residual_wh": 40 * number,
        "price_micro_per_kwh": price,
        "time_ms": 1,
        "margin_micro": 1,
    }


def book(slot: int) -> dict[str, Any]:
    return starts(slot) | {
        "status": "open" if slot > NOW_SLOT else "cleared",
        "gate_closes": "2025-11-03 13:25",
        "bids": [order(slot, number, number + 1, "buy") for number in range(4)],
        "asks": [order(slot, number, number + 3, "sell") for number in range(4)],
    }


def trades(slot: int) -> list[dict[str, Any]]:
    return [
        {
            "slot": slot,
            "buyer": buyer,
            "seller": seller,
            "buyer_name": NAMES[buyer - 1],
            "seller_name": NAMES[seller - 1] if seller else "grid",
            "bid_id": f"{slot}-{buyer * 10 + buyer - 1}",
            "ask_id": f"{slot}-{seller * 10 + seller - 3}" if seller else "grid",
            "energy_wh": 100 * buyer,
            "price_micro_per_kwh": 181_000,
            "cost_micro": 18_100 * buyer,
            "fee_micro": 0,
        }
        for buyer, seller in ((1, 3), (2, 4), (2, 5), (1, 0))
    ]


def delivery(slot: int) -> dict[str, Any]:
    load, pv = wave(slot, 24, 60, 300), wave(slot + 5, 40, 0, 500)
    net = pv - load
    charge, discharge = max(0, min(net, 120)), max(0, min(-net, 60))
    meter = net - charge + discharge
    return Delivery(
        slot_start_ms=slot * SLOT_MS,
        slot_ms=SLOT_MS,
        load_wh=load,
        pv_wh=pv,
        charge_wh=charge,
        discharge_wh=discharge,
        curtail_wh=0,
        import_wh=max(-meter, 0),
        export_wh=max(meter, 0),
        stored_wh=wave(slot, 30, 900, 4_500),
        traded_wh=-meter // 2,
        baseline_import_wh=0,
        baseline_export_wh=0,
        known=True,
    )._asdict()


def plan() -> dict[str, Any]:
    slots = range(NOW_SLOT, NOW_SLOT + 50)
    deliveries = [delivery(slot) for slot in slots]
    columns = ("load_wh", "pv_wh", "charge_wh", "discharge_wh", "curtail_wh")
    return {
        "starts_ms": [slot * SLOT_MS for slot in slots],
        "lengths_ms": [SLOT_MS] * 50,
        **{name: [row[name] for row in deliveries] for name in columns},
        "import_wh": [row["import_wh"] for row in deliveries],
        "export_wh": [row["export_wh"] for row in deliveries],
        "stored_wh": [row["stored_wh"] for row in deliveries],
        "traded_wh": [0] * 50,
        "device_wh": {"car": [10] * 50, "other_car": [0] * 50},
    }


def forecast() -> dict[str, Any]:
    slots = range(NOW_SLOT, NOW_SLOT + 96)

    def band(low: int, high: int) -> dict[str, list[int]]:
        mean = [wave(slot, 48, low, high) for slot in slots]
        return {
            "mean_wh": mean,
            "low_wh": [value * 2 // 3 for value in mean],
            "high_wh": [value * 3 // 2 for value in mean],
        }

    times = {"starts_ms": [slot * SLOT_MS for slot in slots], "lengths_ms": [SLOT_MS] * 96}
    return times | {"load": band(60, 300), "pv": band(0, 500)}


def home_of(number: int) -> dict[str, Any]:
    can = (15_000, 10_000, 5_000, 5_000, Place(0, 0, False), 0)
    names = (address_of(number), f"cwmeter{number}", NAMES[number - 1], "prosumer")
    total = dict.fromkeys(client.Total.__struct_fields__, 0)
    total |= {"bought_wh": 4_200, "sold_wh": 3_100 * number}
    total |= {"total_micro": 2_000_000, "grid_only_micro": 2_000_000 + 310_000 * number}
    return {
        "home": client.Home(number, *names, *can),
        "account": client.Account(address_of(number), 1, 0, 0),
        "total": client.Total(**total),
    }


def bill(slot: int, number: int) -> client.Bill:
    fields = dict.fromkeys(client.Bill.__struct_fields__, 0)
    fields |= {"slot": slot, "home": number, "read": number != 4, "import_wh": 300}
    fields |= {"total_micro": 50_000, "grid_only_micro": 80_000}
    return client.Bill(**fields)  # type: ignore[arg-type]


def status(height: int, home: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": EVIL,
        "version": "0.1.0",
        "chain_id": "region-1",
        "address": address_of(1),
        "listens": ["/ip4/127.0.0.1/tcp/4600/p2p/12D3"],
        "genesis_hash": "ab" * 32,
        "state_root": "cd" * 32,
        "block_hash": "ef" * 32,
        "block_time_ms": 1_795_310_771_307,
        "epoch": 1,
        "height": height,
        "behind": 0,
        "mempool": 2,
        "peers": [{"peer_id": "p", "address": "", "rtt_ms": 2.1}, {"rtt_ms": None}],
        "finality_ms": {"count": 3, "p50": 981.0, "p95": 1_102.0},
        "home": home,
    }


def blocks(height: int) -> list[dict[str, Any]]:
    return [
        {
            "height": one,
            "epoch": 1,
            "hash": "ab" * 32,
            "time_ms": one * 1_000,
            "proposer": one % 4,
            "transactions": one % 7,
            "round": int(one % 11 == 0),
            "signers": [place for place in range(4) if (one + place) % 5],
        }
        for one in range(height, max(-1, height - 40), -1)
    ]


REGIONS = [
    {
        "number": number,
        "name": EVIL if number == 2 else f"Region {number}",
        "status": "live" if number != 3 else "proposed",
        "anchored": 30 + number,
        "audited": 28 + number,
    }
    for number in (1, 2, 3)
]
BETWEEN = {
    "first_slot": 1_958_000,
    "last_slot": 1_958_023,
    "flows": [
        {"seller": 2, "buyer": 1, "energy_wh": 1_250, "cost_micro": 300_000, "fee_micro": 12_500},
        {"seller": 1, "buyer": 3, "energy_wh": 90, "cost_micro": 20_000, "fee_micro": 900},
    ],
}
EPOCH = {"epoch": 1, "addresses": [address_of(number) for number in (1, 2, 3, 4)], "quorum": 3}


def watched(now_s: float = 95.0) -> dict[str, Any]:
    """Return what is seen of a grid of two chains of which one node is struck, another starts."""
    nodes = [
        WatchedNode(EVIL, "region-1", 125, 3, True, True, True, []),
        WatchedNode("home-02", "region-1", 124, 3, True, False, True, [(20.5, 41.0)]),
        WatchedNode(
            "home-03", "region-1", 118, 0, True, False, False, [(20.5, 30.0), (80.0, None)]
        ),
        WatchedNode("home-04", "", 0, 0, False, False, False, []),
        WatchedNode("neutral-01", "main-1", 60, 2, True, True, True, []),
    ]
    faults = [
        WatchedFault("partition", f"{EVIL} | home-02, home-03", [0, 1, 2], 20.0, 40.0),
        WatchedFault("kill", "home-03", [2], 79.6, None),
    ]
    heads = [(float(at_s), 40 + at_s) for at_s in range(0, 95, 5)]
    return {"watched": Watched("f-lost", now_s, nodes, heads, faults), "told_s_ago": 0.4}


class Chain:
    """A table of answers, whose height the tests may move on.

    Parameters
    ----------
    absent : sequence of str
        Questions that this node has no answer to.
    """

    def __init__(self, height: int = 125) -> None:
        self.height = height
        self.watched = 1
        self.asked: list[str] = []
        self.values: dict[str, Any] = self._trading()

    def without(self, *names: str, error: type[Exception] = AbsentError) -> "Chain":
        """Have no answer to some questions."""
        self.values |= {name: error("nothing of that kind is here") for name in names}
        return self

    def _trading(self) -> dict[str, Any]:
        home = {
            "number": 1,
            "slot": NOW_SLOT,
            "market_ms": NOW_SLOT * SLOT_MS + 450_000,
            "battery_wh": 5_000,
            "stored_wh": 2_168,
            "balance_micro": 200_024_599,
            "held_micro": 49_458,
            "bought_wh": 4_200,
            "sold_wh": 3_100,
            "total_micro": 2_000_000,
            "grid_only_micro": 2_310_000,
            "saved_micro": 310_000,
        }
        settled = [summary(NOW_SLOT - back) for back in range(SLOTS, 0, -1)]
        return {
            "status": lambda _: status(self.height, home),
            "homes": [home_of(number) for number in range(1, HOMES + 1)],
            "slots": lambda asked: settled[-asked["count"] :],
            "slot": lambda asked: {"bills": [bill(asked["slot"], n) for n in range(1, HOMES + 1)]},
            "latencies": [900.0, 1_000.0, 1_102.0],
            "blocks": lambda _: {"blocks": blocks(self.height), "next_before": None},
            "market_book": self._book,
            "market_trades": self._trades,
            "market_prices": lambda asked: {
                "at": at(self.height),
                "slots": [
                    starts(NOW_SLOT + place)
                    | {
                        "tariff_micro_per_kwh": 277_100,
                        "feed_in_micro_per_kwh": 100_000,
                        "suggested_buy_micro_per_kwh": 180_000 + place,
                    }
                    for place in range(asked["slots"])
                ],
            },
            "deliveries": [delivery(NOW_SLOT - back) for back in range(SLOTS, 0, -1)],
            "plan": plan(),
            "forecast": forecast(),
            "devices": {
                "batteries": [],
                "devices": [
                    {"name": name, "kind": kind, "plugged": plugged}
                    for name, kind, plugged in (
                        ("car", "car", True),
                        ("other_car", "car", False),
                        (EVIL, "appliance", None),
                    )
                ],
            },
            "applications": [
                client.register_home(
                    address_of(7), "cwmeter7", EVIL, "prosumer", 1, 1, pv_w=5_000
                ).args
            ],
            "account": {
                "home": {"number": 1},
                "orders": [order(NOW_SLOT + 1, number, 1, "sell") for number in range(3)],
            },
            "regions": REGIONS,
            "flows": BETWEEN,
            "region": REGIONS[0] | {"inside": {"closed": 33}},
            "query": self._query,
            "testnet": watched(),
        }

    def _book(self, asked: Mapping[str, Any]) -> Any:
        slot = asked.get("slot")
        opened = [book(NOW_SLOT + 1), book(NOW_SLOT + 2)] if slot is None else [book(slot)]
        return {"at": at(self.height), "slots": opened, "left_off": 0}

    def _trades(self, asked: Mapping[str, Any]) -> Any:
        slot = NOW_SLOT if asked.get("slot") is None else asked["slot"]
        status = "settled" if slot < NOW_SLOT else "open" if slot > NOW_SLOT else "cleared"
        elsewhere = {"home": 3, "home_name": NAMES[2], "sold_wh": 192, "bought_wh": 0}
        return starts(slot) | {
            "at": at(self.height),
            "finality": "audited" if slot < NOW_SLOT else "regional",
            "summary": summary(slot, status),
            "trades": trades(slot) if slot <= NOW_SLOT else [],
            "elsewhere": [elsewhere | {"income_micro": 32_811, "cost_micro": 0}],
        }

    def _query(self, asked: Mapping[str, Any]) -> Any:
        known = {
            ("tariff", "table"): [[0, 660]],
            ("governance", "authorities"): EPOCH,
            ("governance", "proposals"): [{"kind": "set", "status": EVIL}],
        }
        return known[asked["contract"], asked["entry"]]

    def table(self) -> dict[str, Answer]:
        """Return the answers by the question's name."""
        return {name: self._answer(name) for name in self.values}

    def _answer(self, name: str) -> Answer:
        async def answer(question: Mapping[str, Any]) -> Any:
            self.asked.append(name)
            value = self.values[name]
            if isinstance(value, Exception):
                raise value
            return value(question) if callable(value) else value

        return answer


def begun() -> Chain:
    """Return the answers of a home whose chain has made no block yet."""
    chain = Chain(height=0).without("plan", "forecast", error=UnknownError)

    nothing = dict.fromkeys(client.SlotSummary.__struct_fields__, 0)

    empty = client.SlotSummary(**{**nothing, "slot": NOW_SLOT, "status": "open"})  # type: ignore[arg-type]
    chain.values |= {
        "slots": [],
        "latencies": [],
        "deliveries": [],
        "market_book": lambda asked: {
            "slots": []
            if asked.get("slot") is None
            else [book(asked["slot"]) | {"bids": [], "asks": []}]
        },
        "market_trades": lambda asked: (
            starts(asked.get("slot") or NOW_SLOT)
            | {"at": at(0), "finality": None, "summary": empty, "trades": [], "elsewhere": []}
        ),
        "account": AbsentError("no account"),
        "applications": [],
    }
    return chain.without("regions", "region", "flows")


def main_chain() -> Chain:
    """Return the answers of a node that keeps a main chain only."""
    chain = Chain().without(
        *("homes", "slots", "slot", "market_book", "market_trades", "market_prices"),
        *("plan", "forecast", "deliveries", "devices", "applications", "account", "region"),
    )
    chain.values["status"] = lambda _: status(chain.height, None)
    return chain


def site_of(chain: Chain, main: Chain | None = None, is_main: bool = False) -> Site:
    """Return a site over answers."""
    other = None if main is None else Asks(main.table())
    own = Asks(chain.table())
    return Site(own, other, lambda: chain.height, not is_main, is_main, lambda: chain.watched)


def app_of(site: Site, chain: Chain, stream: Stream | None = None, access: Access = ACCESS) -> Any:
    """Return the application of a node with a dashboard."""
    table = chain.table()
    served = [Served(table, Stream() if stream is None else stream)]
    return build_app(served, table, lambda: 0, lambda: "up 1\n", access, dashboard_routes(site))


def asking(site: Site, chain: Chain) -> httpx.AsyncClient:
    """Return a client of the application in the same process."""
    transport = httpx.ASGITransport(app_of(site, chain))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")
