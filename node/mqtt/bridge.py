"""Between a broker and a home: its meters and its owner's commands in, its state out.

A broker that goes away takes nothing with it: the home goes on, what it cannot hear goes stale, and
it is tried again with growing pauses. What a message says is never believed beyond its number.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiomqtt
import msgspec

from hems.sources.live import Channel, LiveSource
from market.errors import QueryError
from node.errors import ConfigError
from node.home.household import Household
from node.keys.secret import read_secret
from node.mqtt.commands import Commands
from node.mqtt.devices import DeviceListener
from node.mqtt.discovery import OFFLINE, ONLINE, Topics, announcements
from node.mqtt.payload import PayloadError, number_of
from node.mqtt.settings import (
    COUNTERS,
    POWERS,
    BatteryMeter,
    DeviceMeter,
    Meter,
    MqttSection,
)

log = logging.getLogger("commonwatt.mqtt")

MICRO: Final = 1_000_000
CONNECT_S: Final = 10.0
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
# The state is told when it has changed, so often at most; and anew after this long.
TELL_EVERY_S: Final = 2.0
TELL_AGAIN_S: Final = 60.0
INCOMING_MAX: Final = 1_000


class Bridge:
    """Speaks with one broker for one home.

    Parameters
    ----------
    settings : MqttSection
    directory : Path
        What the settings' paths are relative to.
    at : Topics
    title, currency, version : str
        As the home shall be announced.
    household : Household
    source : LiveSource or None
        Where readings go; None for a home that is measured otherwise.
    market_ms : callable
        The market's time, which is that of readings. [ms]

    Raises
    ------
    ConfigError
        A file of the settings cannot be read.
    """

    def __init__(
        self,
        settings: MqttSection,
        directory: Path,
        at: Topics,
        title: str,
        currency: str,
        version: str,
        household: Household,
        source: LiveSource | None,
        market_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._at = at
        self._announced = (title, currency, version)
        self._household = household
        self._source = source
        self._market_ms = market_ms
        self._password = None
        if settings.password_file:
            self._password = read_secret(directory / settings.password_file, "password")
        self._tls = _tls(settings, directory)
        self._meters: list[tuple[Channel, Meter | BatteryMeter | DeviceMeter]] = []
        self._battery = settings.battery if source is not None else None
        self._devices = DeviceListener({}, household.devices, None)
        if source is not None:
            named: list[tuple[Channel, Meter | BatteryMeter | DeviceMeter | None]] = [
                ("load", settings.load),
                ("pv", settings.pv),
                ("battery", settings.battery),
                *settings.devices.items(),
            ]
            self._devices = DeviceListener(settings.devices, household.devices, source)
            self._meters = [(channel, meter) for channel, meter in named if meter is not None]
        self.commands = Commands(at, household, settings.stale_s, market_ms=market_ms)
        self.is_connected = False
        self._wake = asyncio.Event()

    def applied(self, *_: object) -> None:
        """Note that a block was applied, which may have changed what there is to tell."""
        self._wake.set()

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        pause_s = RETRY_S_MIN
        while True:
            try:
                async with self._connected() as client:
                    log.info("speaking with the broker at %s", self._where)
                    pause_s = RETRY_S_MIN
                    await self._serve(client)
            except (aiomqtt.MqttError, OSError, TimeoutError) as error:
                log.log(
                    logging.WARNING if pause_s == RETRY_S_MIN else logging.DEBUG,
                    "no broker at %s (%s); its readings go stale, it is tried again",
                    self._where,
                    error or type(error).__name__,
                )
            _obey_cancellation()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiomqtt.Client]:
        settings = self._settings
        will = aiomqtt.Will(self._at.availability, OFFLINE, qos=1, retain=True)
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username or None,
            password=self._password,
            identifier=self._at.identity,
            will=will,
            timeout=CONNECT_S,
            tls_context=self._tls,
            max_queued_incoming_messages=INCOMING_MAX,
        )
        async with client:
            self.is_connected = True
            try:
                yield client
            finally:
                self.is_connected = False
                # The will is for a connection that is lost; this one may be ended in order.
                with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                    await client.publish(self._at.availability, OFFLINE, qos=1, retain=True)

    async def _serve(self, client: aiomqtt.Client) -> None:
        heard = {meter.topic for _, meter in self._meters} | self.commands.topics
        if self._battery is not None:
            heard.add(self._battery.soc_topic)
        heard |= self._devices.topics
        for topic in heard:
            await client.subscribe(topic, qos=1)
        if self._settings.discovery:
            battery, loads = self._household.battery.rated, self._household.devices.loads
            for topic, config in announcements(
                self._settings.discovery, self._at, *self._announced, battery, loads
            ):
                await client.publish(topic, config, qos=1, retain=True)
        await client.publish(self._at.availability, ONLINE, qos=1, retain=True)
        _obey_cancellation()
        telling = asyncio.create_task(self._tell(client))
        try:
            await self._listen(client)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self.heard(message.topic.value, message.payload, bool(message.retain))

    def heard(self, topic: str, payload: object, is_retained: bool = False) -> None:
        """Take a message in: a reading, or a command. What is neither is counted."""
        if topic in self.commands.topics:
            if self.commands.heard(topic, payload, is_retained):
                self._wake.set()
            return
        # What the broker has kept was true at some time, and nobody says when.
        if self._source is None or is_retained:
            return
        now_ms = self._market_ms()
        for channel, meter in self._meters:
            if meter.topic != topic:
                continue
            try:
                value = number_of(payload, meter.field)
            except PayloadError as error:
                self._source.note(channel, error.kind, now_ms)
                continue
            if isinstance(meter, BatteryMeter):
                sign = -1 if meter.discharging_positive else 1
                self._source.heard_power(channel, now_ms, sign * value * POWERS[meter.unit])
            elif meter.is_power:
                self._source.heard_power(channel, now_ms, value * POWERS[meter.unit])
            else:
                self._source.heard_counter(channel, now_ms, value * COUNTERS[meter.unit])
            self._wake.set()
        if self._battery is not None and self._battery.soc_topic == topic:
            self._heard_soc(self._source, payload, self._battery.soc_field, now_ms)
        if self._devices.heard(topic, payload, now_ms):
            self._wake.set()

    def _heard_soc(self, source: LiveSource, payload: object, field: str, now_ms: int) -> None:
        try:
            source.heard_soc(now_ms, number_of(payload, field) / 100)
        except PayloadError as error:
            source.note("battery", error.kind, now_ms)
        else:
            self._wake.set()

    async def _tell(self, client: aiomqtt.Client) -> None:
        told: dict[str, Any] | None = None
        loop = asyncio.get_running_loop()
        told_s = loop.time()
        while True:
            self._wake.clear()
            state = self.state()
            if state != told or loop.time() - told_s > TELL_AGAIN_S:
                payload = msgspec.json.encode(state)
                await client.publish(self._at.state, payload, qos=1, retain=True)
                told, told_s = state, loop.time()
            setpoint_w = state.get("setpoint_w")
            if setpoint_w is not None:
                # Not kept by the broker: an inverter that comes back later asks nobody's past.
                await client.publish(self._at.setpoint, str(setpoint_w), qos=1)
            for topic, asked in self._devices.asked(self._at, self._market_ms()):
                await client.publish(topic, asked, qos=1)
            _obey_cancellation()
            await asyncio.sleep(TELL_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_AGAIN_S):
                    await self._wake.wait()

    def state(self) -> dict[str, Any]:
        """Return what is shown of the home; None where it is not known."""
        found: dict[str, Any] = {"trading": "ON" if self._household.trades else "OFF"}
        found |= self._meters_state() | self._household.battery.state()
        try:
            home, prices = self._household.snapshot(), self._household.price_now()
        except QueryError:
            # Not a home of the chain yet.
            return found
        full_wh = home["battery_wh"]
        return found | {
            "grid_price": prices.tariff_micro_per_kwh / MICRO,
            "feed_in_price": prices.feed_in_micro_per_kwh / MICRO,
            "sell_price": prices.suggested_sell_micro_per_kwh / MICRO,
            "buy_price": prices.suggested_buy_micro_per_kwh / MICRO,
            "bought_kwh": home["bought_wh"] / 1_000,
            "sold_kwh": home["sold_wh"] / 1_000,
            "bill": home["total_micro"] / MICRO,
            "saved": home["saved_micro"] / MICRO,
            "balance": home["balance_micro"] / MICRO,
            "soc": round(100 * home["stored_wh"] / full_wh) if full_wh else None,
        }

    def _meters_state(self) -> dict[str, Any]:
        if self._source is None:
            return {}
        now_ms, found = self._market_ms(), dict[str, Any]()
        stale = []
        if self._devices.meters:
            found["devices"] = self._devices.state(now_ms)
        for channel, _ in self._meters:
            last = self._source.last(channel)
            is_stale = last is None or self._source.is_stale(channel, now_ms)
            if channel == "battery":
                is_stale |= self._source.soc(now_ms) is None
            if channel in self._devices.meters:
                is_stale |= not self._devices.is_believed(channel, now_ms)
                stale += [channel] if is_stale else []
                continue
            stale += [channel] if is_stale else []
            found[f"{channel}_w"] = None if last is None or is_stale else round(last.power_w)
        return found | {"readings": f"stale: {', '.join(stale)}" if stale else "ok"}


def _obey_cancellation() -> None:
    """Raise a cancellation that the client has swallowed.

    It waits by `asyncio.wait_for`, and CPython 3.11's loses one that comes with the answer; and its
    own end may fail, in place of the cancellation that has ended it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _tls(settings: MqttSection, directory: Path) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    try:
        return ssl.create_default_context(
            cafile=str(directory / settings.ca_file) if settings.ca_file else None
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"mqtt.ca_file: {settings.ca_file} cannot be used ({error})") from None
