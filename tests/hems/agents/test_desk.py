"""Between home and agent: names, own agents, memory over restarts, and answers that cannot be."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from hems import civil
from hems.agents.base import (
    Agent,
    AgentSettings,
    NoMemory,
    Outcome,
    Revision,
    Situation,
    Standing,
)
from hems.agents.desk import MEMORY_BYTES_MAX, Desk
from hems.agents.registry import BUILT_IN, agent_class
from hems.bid import Band, BidSettings, Order
from hems.config import CommunityHome, HomeConfig
from hems.devices import Battery
from hems.errors import AgentError, ConfigError
from hems.home import HomeEnergyManager, MarketView
from hems.state import HomeState
from tests.hems.test_home import MARKET, SLOT_MS, START_MS, Fixed

BAND = Band(100_000, 300_000)
SITUATION = Situation(0, SLOT_MS, BAND, surplus_wh=500, export_room_wh=500)
OWN = """
import msgspec
from hems.agents.base import Agent, AgentSettings
from hems.bid import Order

class Settings(AgentSettings, frozen=True, kw_only=True):
    price: int = 123_000

class Memory(msgspec.Struct):
    seen: int = 0

class Stubborn(Agent):
    Settings = Settings
    Memory = Memory

    def orders(self, situation):
        return [Order("ask", 1 + self.memory.seen, self.settings.price)]

    def observe(self, outcome):
        self.memory.seen += 1

broken = 3
"""
ENTRY_POINTS = """[commonwatt.agents]
stubborn = their_agents:Stubborn
number = their_agents:broken
lost = their_agents.nowhere:Agent
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install somebody's package with agents of their own."""
    (tmp_path / "their_agents.py").write_text(OWN)
    about = tmp_path / "their_agents-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-agents\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_agents", raising=False)


def desk(name: str = "mpc", saved: dict[str, Any] | None = None, **settings: Any) -> Desk:
    return Desk(name, settings, BidSettings(), saved or {})


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_agent_has_defaults_and_answers_a_plain_situation(name: str) -> None:
    agent = agent_class(name)()
    assert isinstance(agent, Agent)
    for situation in (SITUATION, SITUATION._replace(surplus_wh=0, need_wh=300)):
        made = desk(name)
        assert len(made.orders(situation)) <= 1
        assert made.revise(situation, []) == Revision() or name == "mpc"
        made.observe(Outcome(0, BAND, low_micro_per_kwh=1, high_micro_per_kwh=2))


@pytest.mark.usefixtures("installed")
def test_an_own_agent_is_found_by_its_entry_point() -> None:
    made = desk("stubborn", price=150_000)
    assert made.orders(SITUATION) == [Order("ask", 1, 150_000)]
    made.observe(Outcome(0, BAND))
    again = desk("stubborn", saved=msgspec.json.decode(msgspec.json.encode(made.saved)))
    assert again.orders(SITUATION) == [Order("ask", 2, 123_000)]
    home = HomeEnergyManager(
        HomeConfig(source=CommunityHome(home=0), agent="stubborn", agent_settings={"price": 7}),
        source=Fixed(100, 0),
    )
    assert home.plan_slot(START_MS, SLOT_MS, MARKET).orders == [Order("ask", 1, 7)]


@pytest.mark.usefixtures("installed")
def test_agents_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"agent 'ca': .*mpc, ce, .*lost, number, stubborn"):
        desk("ca")
    with pytest.raises(ConfigError, match=r"'lost': their_agents.nowhere:Agent cannot be loaded"):
        desk("lost")
    with pytest.raises(ConfigError, match=r"'number': .*no subclass"):
        desk("number")


def test_settings_are_the_agents_own() -> None:
    with pytest.raises(ConfigError, match=r"'ce' has no setting 'mode'; it has seed, spread"):
        desk("ce", mode="literal")
    with pytest.raises(ConfigError, match="agent 'ce': spread 3"):
        desk("ce", spread=3)
    with pytest.raises(ConfigError, match=r"agent 'hu_producer': .*mode"):
        desk("hu_producer", mode="uphill")
    with pytest.raises(ConfigError, match=r"in \[home.bidding\].*move 'shading' there"):
        desk("mpc", shading=0.1)


def test_memory_is_the_same_after_a_restart() -> None:
    def live(restarts: bool) -> list[tuple[list[Order], dict[str, Any]]]:
        made = desk("hu_producer", seed=4)
        lived = []
        for number in range(12):
            start = number * SLOT_MS
            orders = made.orders(SITUATION._replace(slot_start_ms=start))
            sold_wh = 500 - 20 * number
            earned = sold_wh * orders[0].price_micro_per_kwh // 1000
            made.observe(Outcome(start, BAND, sold_wh=sold_wh, earned_micro=earned))
            lived.append((orders, made.saved))
            if restarts:
                plain = msgspec.json.decode(msgspec.json.encode(made.saved))
                made = desk("hu_producer", saved=plain, seed=4)
        return lived

    straight = live(restarts=False)
    assert live(restarts=True) == straight
    assert len({orders[0].price_micro_per_kwh for orders, _ in straight}) > 3


def test_another_agent_begins_anew_and_a_damaged_memory_is_refused() -> None:
    made = desk("hu_producer")
    made.orders(SITUATION)
    assert desk("hu_consumer", saved=made.saved).saved["memory"]["pending"] == {}
    with pytest.raises(ConfigError, match="what agent 'hu_producer' remembers cannot be read"):
        desk("hu_producer", saved={**made.saved, "memory": {"cycles": "many"}})
    with pytest.raises(ConfigError, match="cannot be read"):
        desk("hu_producer", saved={"name": "hu_producer"})


class Answering(Agent):
    """Answers what a test says."""

    answer: ClassVar[Callable[[], Any]]
    Memory: ClassVar[type[msgspec.Struct]] = NoMemory

    def orders(self, situation: Situation) -> list[Order]:
        answer: list[Order] = type(self).answer()
        return answer

    def revise(self, situation: Situation, standing: Any) -> Revision:
        answer: Revision = type(self).answer()
        return answer


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Any]) -> Desk:
    monkeypatch.setattr("hems.agents.desk.agent_class", lambda name: Answering)
    monkeypatch.setattr("hems.agents.registry.agent_class", lambda name: Answering)
    monkeypatch.setattr(Answering, "answer", staticmethod(answer), raising=False)
    return desk("mine")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: 1 / 0, "agent 'mine': ZeroDivisionError"),
        (lambda: None, "TypeError"),
        (lambda: [Order("ask", 0, 5)], "whole Wh, 1 or more"),
        (lambda: [Order("ask", 5.0, 5)], "whole Wh, 1 or more"),  # type: ignore[arg-type]
        (lambda: [Order("ask", True, 5)], "whole Wh, 1 or more"),
        (lambda: [Order("ask", 5, -1)], "0 or more"),
        (lambda: [Order("sell", 5, 1)], "a bid or an ask"),  # type: ignore[arg-type]
        (lambda: [("ask", 5, 1)], "answers"),
        (lambda: [Order("ask", 5, 1), Order("bid", 5, 1)], "takes one side"),
        (lambda: [Order("ask", 5, 1)] * 9, "9 orders for a slot; 8 are taken"),
    ],
)
def test_a_wrong_answer_loses_the_slot_with_the_agents_name(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Any], words: str
) -> None:
    with pytest.raises(AgentError, match=words):
        answering(monkeypatch, answer).orders(SITUATION)


def test_asks_beyond_what_may_be_sold_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = [Order("ask", 300, 1), Order("ask", 300, 2), Order("ask", 1, 3)]
    made = answering(monkeypatch, lambda: asks)
    assert made.orders(SITUATION) == [Order("ask", 300, 1), Order("ask", 200, 2)]
    standing = [Standing("0-1", Order("ask", 100, 9)), Standing("0-2", Order("ask", 150, 9))]
    made = answering(monkeypatch, lambda: Revision(("0-1",), tuple(asks)))
    # The one that stays counts.
    assert made.revise(SITUATION, standing).post == (Order("ask", 300, 1), Order("ask", 50, 2))
    with pytest.raises(AgentError, match="'0-1', which does not stand"):
        made.revise(SITUATION, [])


def test_an_agent_remembers_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hoard(msgspec.Struct):
        text: str = "x" * MEMORY_BYTES_MAX

    monkeypatch.setattr(Answering, "Memory", Hoard)
    with pytest.raises(AgentError, match="remembers more than"):
        answering(monkeypatch, list)


def test_a_final_outcome_is_heard_once() -> None:
    made = desk("hu_speculator")
    for start in (0, 0, SLOT_MS, 0):
        made.observe(Outcome(start, BAND, low_micro_per_kwh=5, high_micro_per_kwh=5))
    assert made.saved["memory"]["prices"] == [5, 5]


def test_the_example_of_the_docs_works(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "hems.md").read_text()
    example = text.split("### An agent of one's own")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(example, "docs/hems.md", "exec"), names)
    monkeypatch.setattr("hems.agents.desk.agent_class", lambda name: names["Patient"])
    monkeypatch.setattr("hems.agents.registry.agent_class", lambda name: names["Patient"])
    made = desk("patient", step_micro_per_kwh=5_000)
    assert made.orders(SITUATION) == [Order("ask", 500, 150_000)]
    made.observe(Outcome(0, BAND, sold_wh=1))
    made.observe(Outcome(SLOT_MS, BAND))
    made.observe(Outcome(2 * SLOT_MS, BAND))
    assert made.orders(SITUATION) == [Order("ask", 500, 145_000)]
    stands = [Standing("0-1", Order("ask", 0, 9), 5), Standing("0-2", Order("ask", 5, 9))]
    assert made.revise(SITUATION, stands) == Revision()
    assert made.revise(SITUATION._replace(surplus_wh=0), stands) == Revision(("0-2",))


# -- in the home ---------------------------------------------------------------------------------


def storage(name: str = "hu_speculator", **settings: Any) -> HomeEnergyManager:
    config = HomeConfig(
        source=CommunityHome(home=0), battery=Battery(), agent=name, agent_settings=settings
    )
    return HomeEnergyManager(config, source=Fixed(0, 0))


def test_a_speculators_battery_takes_what_it_bought_and_gives_what_it_sold() -> None:
    home = storage()
    home.plan_slot(START_MS, SLOT_MS, MARKET)
    stored = home.state.stored_uwh
    home.commit(START_MS, 400)
    bought = home.deliver(START_MS, SLOT_MS, MARKET)
    assert (bought.charge_wh, bought.import_wh, bought.export_wh) == (400, 400, 0)
    home.commit(START_MS + SLOT_MS, -300)
    sold = home.deliver(START_MS + SLOT_MS, SLOT_MS, MARKET)
    assert (sold.discharge_wh, sold.export_wh, sold.import_wh) == (300, 300, 0)
    # And without contracts it keeps what it has, where a plan would feed it in.
    idle = home.deliver(START_MS + 2 * SLOT_MS, SLOT_MS, MARKET)
    assert (idle.charge_wh, idle.discharge_wh, idle.export_wh) == (0, 0, 0)
    assert home.state.stored_uwh > stored
    plain = storage("mpc")
    plain.state = HomeState(home.state.stored_uwh, START_MS)
    plain.commit(START_MS, 400)
    # A plan stores what it bought only where feeding in brings less than keeping.
    dear = MARKET._replace(feed_in_micro_per_kwh=170_000)
    assert plain.deliver(START_MS, SLOT_MS, dear).charge_wh < 400


class Listening(Agent):
    """Keeps what it is told."""

    Settings: ClassVar[type[msgspec.Struct]] = AgentSettings
    told: ClassVar[list[Situation]] = []

    def orders(self, situation: Situation) -> list[Order]:
        self.told.append(situation)
        return []


def told(
    monkeypatch: pytest.MonkeyPatch, home: Callable[[], HomeEnergyManager], market: MarketView
) -> Situation:
    monkeypatch.setattr("hems.agents.desk.agent_class", lambda name: Listening)
    monkeypatch.setattr("hems.agents.registry.agent_class", lambda name: Listening)
    made = home()
    made.commit(START_MS, 500)
    made.commit(START_MS + SLOT_MS, 200)
    made.plan_slot(START_MS, SLOT_MS, market)
    made.plan_slot(START_MS + SLOT_MS, SLOT_MS, market)
    return Listening.told[-1]


def test_the_agent_is_told_what_the_battery_can_yet_do(monkeypatch: pytest.MonkeyPatch) -> None:
    situation = told(monkeypatch, lambda: storage("any"), MARKET)
    # 2500 W for a quarter of an hour is 625 Wh; 200 of the slot are bought already. Stored are
    # 1000 + 500 * 0.95, of which 500 stay in: 926 Wh come out at 0.95, the power allows 625, and
    # what comes in need not.
    assert situation.charge_room_wh == 425
    assert situation.discharge_room_wh == 825
    assert situation.contracted_wh == 200
    assert situation.export_room_wh == 1_000_000


def test_the_agent_is_told_what_may_be_sold_and_what_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noon = START_MS + 12 * civil.HOUR_MS

    def sunny() -> HomeEnergyManager:
        config = HomeConfig(source=CommunityHome(home=0), agent="any")
        return HomeEnergyManager(config, source=Fixed(100, 700))

    market = MARKET._replace(export_cap_w=2_000)
    monkeypatch.setattr("hems.agents.desk.agent_class", lambda name: Listening)
    monkeypatch.setattr("hems.agents.registry.agent_class", lambda name: Listening)
    home = sunny()
    home.plan_slot(noon, SLOT_MS, market)
    assert Listening.told[-1].export_room_wh == 500
    assert (Listening.told[-1].need_wh, Listening.told[-1].surplus_wh) == (0, 600)
    home.commit(noon, -200)
    home.plan_slot(noon, SLOT_MS, market)
    assert Listening.told[-1].export_room_wh == 300
    assert (Listening.told[-1].need_wh, Listening.told[-1].surplus_wh) == (0, 400)


def test_the_agents_memory_is_part_of_the_homes_state() -> None:
    config = HomeConfig(source=CommunityHome(home=0), agent="hu_consumer")
    home = HomeEnergyManager(config, source=Fixed(200, 0))
    (first,) = home.plan_slot(START_MS, SLOT_MS, MARKET).orders
    home.observe([Outcome(START_MS, Band(100_000, 177_000), low_micro_per_kwh=0)])
    plain = msgspec.json.decode(msgspec.json.encode(home.state.to_plain()))
    again = HomeEnergyManager(config, HomeState.from_plain(plain), Fixed(200, 0))
    (second,) = again.plan_slot(START_MS + SLOT_MS, SLOT_MS, MARKET).orders
    assert second.price_micro_per_kwh == first.price_micro_per_kwh + 1_000
    # Delivery and contracts leave it as it is.
    remembered = again.state.agent
    again.commit(START_MS + SLOT_MS, 10)
    again.deliver(START_MS, SLOT_MS, MARKET)
    assert again.state.agent == remembered
    assert (
        "agent"
        not in HomeEnergyManager(
            HomeConfig(source=CommunityHome(home=0)), source=Fixed(200, 0)
        ).state.to_plain()
    )


def test_the_default_agent_revises_when_the_slot_has_changed() -> None:
    home = HomeEnergyManager(HomeConfig(source=CommunityHome(home=0)), source=Fixed(200, 0))
    (order,) = home.plan_slot(START_MS, SLOT_MS, MARKET).orders
    stands = [Standing("8-1", order)]
    assert home.revise_slot(START_MS, SLOT_MS, MARKET, stands) == Revision()
    # 120 of its 200 Wh were bought in a round: the other 80 stand, and are what is still wanted.
    home.commit(START_MS, 120)
    left = [Standing("8-1", order._replace(energy_wh=80), 120)]
    assert home.revise_slot(START_MS, SLOT_MS, MARKET, left) == Revision()
    home.commit(START_MS, 200)
    assert home.revise_slot(START_MS, SLOT_MS, MARKET, left) == Revision(("8-1",), ())
    level = MarketView(lambda _: 100_000, 100_000)
    assert home.revise_slot(START_MS, SLOT_MS, level, left) == Revision(("8-1",), ())
