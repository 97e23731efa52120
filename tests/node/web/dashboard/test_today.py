"""What a household's day has come to, and when its loads run next."""

from typing import Any

from node.web.dashboard import texts
from node.web.dashboard.flows import delivered
from node.web.dashboard.today import devices_card, today_card
from node.web.dashboard.words import Local, energy
from tests.node.web.dashboard.samples import SLOT_MS, Chain, asking, delivery, site_of

MIDNIGHT_MS = 19_000 * 96 * SLOT_MS
LOCAL = Local([(0, 0)])


def day(*rows: dict[str, Any]) -> Any:
    return delivered([delivery(0) | {"slot_ms": SLOT_MS} | row for row in rows])


def slot(place: int, **values: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("pv_wh", "charge_wh", "discharge_wh", "import_wh", "export_wh"), 0)
    return {"slot_start_ms": MIDNIGHT_MS + place * SLOT_MS, "traded_wh": 0} | nothing | values


def test_a_day_begins_at_midnight_and_adds_up() -> None:
    past = day(
        slot(-1, load_wh=7_000, import_wh=7_000),
        slot(0, load_wh=400, import_wh=400, traded_wh=300),
        slot(1, load_wh=600, pv_wh=1_600, export_wh=1_000, traded_wh=-250),
    )
    said = str(today_card(past, MIDNIGHT_MS + 3 * SLOT_MS, LOCAL))
    assert "Since 00:00." in said
    for word, wh in (
        (texts.HOUSE, 1_000),
        (texts.SUN, 1_600),
        (texts.FROM_STREET, 300),
        (texts.FROM_GRID, 100),
        (texts.TO_STREET, 250),
        (texts.TO_GRID, 750),
    ):
        assert f"<dt>{word}</dt><dd>{energy(wh)}</dd>" in said
    assert texts.OWN_SHARE.format(share="60\N{NARROW NO-BREAK SPACE}%") in said


def test_a_day_of_which_nothing_is_known_is_not_told() -> None:
    assert today_card(day(slot(-1, load_wh=5)), MIDNIGHT_MS, LOCAL) is None
    # Charging from outside is more than the house took: no share is below nothing.
    past = day(slot(0, load_wh=100, import_wh=900, charge_wh=800))
    said = str(today_card(past, MIDNIGHT_MS, LOCAL))
    assert texts.OWN_SHARE.format(share="0\N{NARROW NO-BREAK SPACE}%") in said


def test_loads_are_told_when_they_run_next() -> None:
    devices = {
        "devices": [
            {"name": "heat_pump", "plugged": None},
            {"name": "car", "plugged": True},
            {"name": "van", "plugged": False},
        ]
    }
    plan = {
        "starts_ms": [MIDNIGHT_MS + place * SLOT_MS for place in range(6)],
        "lengths_ms": [SLOT_MS] * 6,
        # What is over counts no more; of two runs the next one is told.
        "device_wh": {"heat_pump": [100, 200, 300, 0, 0, 9], "car": [50, 0, 0, 0, 700, 800]},
    }
    said = str(devices_card(devices, plan, MIDNIGHT_MS + SLOT_MS + 1, LOCAL))
    pump, car, van = said.split("<li ")[1:]
    assert "heat pump" in pump
    assert f'<b>{energy(500)}</b><span class="dim line">now–00:45</span>' in pump
    assert f'<b>{energy(1_500)}</b><span class="dim line">01:00–01:30</span>' in car
    assert texts.NOT_PLANNED in van
    assert texts.NOT_PLUGGED in van
    evening = str(devices_card(devices, plan, MIDNIGHT_MS - SLOT_MS, LOCAL))
    assert "tomorrow 00:00–00:45" in evening
    assert devices_card(None, plan, MIDNIGHT_MS, LOCAL) is None
    assert devices_card({"devices": []}, plan, MIDNIGHT_MS, LOCAL) is None
    assert texts.NOT_PLANNED in str(devices_card(devices, None, MIDNIGHT_MS, LOCAL))


async def test_the_home_s_page_has_the_day_and_the_loads() -> None:
    chain = Chain()
    async with asking(site_of(chain), chain) as http:
        home = (await http.get("/")).text
        community = (await http.get("/community")).text
    assert texts.TODAY in home
    assert texts.DEVICES in home
    # 310,000 of 2,310,000 micro; what is more than all of it is told as an amount.
    assert texts.SAVED_OF.format(share="13\N{NARROW NO-BREAK SPACE}%") in home
    assert texts.APPLICATIONS in community
    status = chain.values["status"]

    def paid(asked: Any) -> Any:
        found = status(asked)
        return found | {"home": found["home"] | {"grid_only_micro": 260_000}}

    chain.values |= {"status": paid, "applications": []}
    async with asking(site_of(chain), chain) as http:
        assert "would have cost 0.26" in (await http.get("/")).text
        assert texts.APPLICATIONS not in (await http.get("/community")).text
