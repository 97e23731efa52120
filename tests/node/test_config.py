"""Settings: what is known, what wins, what is refused and how."""

import string
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hems.bid import BidSettings
from hems.config import CommunityHome, ConstantHome, HomeConfig, ReplayHome
from hems.devices import Battery
from hems.devices.loads import Appliance, Car, HeatPump
from hems.neighbourhood import built_in
from node.config import Config, NetworkSection, NodeSection, load_config, settings_text
from node.errors import ConfigError

HOME = '[home.source]\nkind = "community"\nhome = 1\n'


def write(directory: Path, text: str) -> Path:
    file = directory / "node.toml"
    file.write_text(text)
    return file


def refused(directory: Path, text: str, environment: dict[str, str] | None = None) -> str:
    """Return the one line with which a file is refused."""
    file = write(directory, text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, environment or {})
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_defaults_come_without_a_file() -> None:
    assert load_config(None, {}) == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[nod]\nname = 'x'",
            ["unknown section [nod]", "node, network, sync, main, web, mqtt, home"],
        ),
        ("name = 'x'", ["unknown section [name]"]),
        ("[node]\nnam = 'x'", ["unknown key 'nam' in [node]", "name, genesis, data, key"]),
        ("[node]\nkind = 'x'", ["unknown key 'kind' in [node]"]),
        ("[network]\nport = 1", ["unknown key 'port' in [network]", "listen, announce"]),
        ("node = 3", ["[node] is a table, not int"]),
        ("[home]\nsun = 1", ["unknown key 'sun' in [home]", "source, zone, battery"]),
        (HOME + "sun = 1", ["unknown key 'sun' in [home.source]", "kind, home, seed"]),
        (HOME + "[home.battery]\nsize = 1", ["unknown key 'size' in [home.battery]"]),
        ("[home]\nagent = 3\n" + HOME, ["home.agent", "str"]),
        (HOME + "[home.agent_settings]\nx = []", ["home.agent_settings"]),
        (HOME + "[home.bidding]\nx = 1", ["unknown key 'x' in [home.bidding]", "shading"]),
        ("[home.source]\nkind = 'sun'", ["home.source.kind is one of community, replay"]),
        ("[home.source]\nkind = [1]", ["home.source.kind is one of community, replay"]),
        ("[home.source]\nhome = 1", ["home.source.kind is one of community, replay"]),
        ("[home]\nsource = 3", ["[home.source] is a table, not int"]),
        ("[home]\nbattery = 3", ["[home.battery] is a table, not int"]),
        ("[home]\nzone = 'UTC'", ["home: ", "missing required field `source`"]),
        (HOME + "[home.battery]\ncapacity_wh = 'x'", ["home.battery.capacity_wh", "int"]),
        (HOME + "[home.battery]\ncapacity_wh = 0", ["capacity_wh 0"]),
        ("[home]\nzone = 'Mars/Base'\n" + HOME, ["Mars/Base"]),
        ("[node]\nname = 3", ["node.name", "str"]),
        ("[node]\nlog_level = 'loud'", ["log_level", "debug, info, warning, error"]),
        ("[node]\nlog_levels = ['net=info']", ["node.log_levels", "'net=info' names no part"]),
        ("[node]\nlog_format = 'xml'", ["node.log_format", "text, json"]),
        ("[network]\nlisten = 'localhost:80'", ["'localhost:80' is not a multiaddress"]),
        ("[network]\nbootstrap = ['x']", ["'x' is not a multiaddress"]),
        ("[network]\nbootstrap = '/ip4/1.2.3.4/tcp/1'", ["network.bootstrap"]),
        ("[node", ["not TOML"]),
        ("[node]\nname = 'a'\nname = 'b'", ["not TOML"]),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    line = refused(tmp_path, text)
    for word in ["node.toml", *words]:
        assert word in line


def test_a_missing_or_binary_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read \(No such file"):
        load_config(tmp_path / "absent.toml", {})
    file = tmp_path / "node.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"node\.toml: not TOML"):
        load_config(file, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[home]\nx = " + "[" * 2_000, "not TOML: nested too deep"),
        ("[sync]\nsnapshot_every = " + "9" * 5_000, "not TOML"),
        ("[sync]\nsnapshot_every = " + "9" * 50, "sync.snapshot_every"),
        ('[node]\ndata = "a\\u0000b"', "node.data is the path of a file"),
        ("[node]\nkey = ''", "node.key is the path of a file"),
        ("#" * 16_385, "more than the 16384 characters"),
        ("a." * 4_000 + "b = 1", "a key of more than 64 parts"),
        ("x = {'a' . \"b\"" + " . c" * 64 + " = 1}", "a key of more than 64 parts"),
    ],
    ids=["deep", "long number", "large number", "NUL", "no path", "long", "dots", "quotes"],
)
def test_what_a_damaged_file_holds_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


def test_numbers_come_from_the_environment_too() -> None:
    assert load_config(None, {"COMMONWATT_SYNC_SNAPSHOT_EVERY": "7"}).sync.snapshot_every == 7
    for text in ("x", "", "٣", "1" * 5_000, "1.5"):
        with pytest.raises(ConfigError, match=r"sync\.snapshot_every"):
            load_config(None, {"COMMONWATT_SYNC_SNAPSHOT_EVERY": text})
    with pytest.raises(ConfigError, match="COMMONWATT_NODE_NAME is not text"):
        load_config(None, {"COMMONWATT_NODE_NAME": "\udcff"})


def test_environment_overrides_the_file_and_flags_override_both(tmp_path: Path) -> None:
    file = write(tmp_path, "[node]\nname = 'file'\nlog_level = 'error'\nkey = 'k'\n")
    environment = {
        "COMMONWATT_NODE_NAME": "environment",
        "COMMONWATT_NODE_LOG_LEVEL": "debug",
        "COMMONWATT_NETWORK_BOOTSTRAP": "/ip4/1.2.3.4/tcp/1/p2p/x, /dns4/a/tcp/2/p2p/y",
        "HOME": "/root",
    }
    flags = {"node.name": "flag", "network.announce": ("/ip4/9.9.9.9/tcp/9",)}
    config = load_config(file, environment, flags)
    assert config.node == NodeSection(name="flag", log_level="debug", key="k")
    assert config.network == NetworkSection(
        announce=("/ip4/9.9.9.9/tcp/9",),
        bootstrap=("/ip4/1.2.3.4/tcp/1/p2p/x", "/dns4/a/tcp/2/p2p/y"),
    )
    assert load_config(file, {}).node.name == "file"


def test_an_unknown_variable_of_ours_is_refused(tmp_path: Path) -> None:
    line = refused(tmp_path, "", {"COMMONWATT_NODE_NAMES": "x"})
    assert "unknown COMMONWATT_NODE_NAMES" in line
    assert "COMMONWATT_NODE_LOG_LEVELS, COMMONWATT_NODE_METER_KEY, COMMONWATT_NODE_NAME" in line


def test_wrong_values_of_environment_and_flags_are_refused(tmp_path: Path) -> None:
    assert "log_level" in refused(tmp_path, "", {"COMMONWATT_NODE_LOG_LEVEL": "x"})
    with pytest.raises(ConfigError, match="unknown key 'lisen'"):
        load_config(None, {}, {"network.lisen": "x"})


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "[node]\nkey = 'a/b.key'\ndata = '/var/x'\n"), {})
    assert config.path(config.node.key) == tmp_path / "a/b.key"
    assert config.path(config.node.data) == Path("/var/x")


def read_back(directory: Path, config: Config) -> Config:
    return load_config(write(directory, settings_text(config)), {})


def test_the_text_of_every_built_in_home_reads_back(tmp_path: Path) -> None:
    for place, home in enumerate(built_in(20, seed=7).homes):
        config = Config(node=NodeSection(name=f"home-{place}"), home=home)
        assert read_back(tmp_path, config).home == home


addresses = st.lists(
    st.text(string.ascii_letters + string.digits, min_size=1).map(lambda t: f"/dns4/{t}/tcp/1"),
    max_size=3,
).map(tuple)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
fractions = st.floats(0.01, 1.0)
sources = st.one_of(
    st.builds(
        CommunityHome,
        home=st.integers(0, 10**6),
        seed=st.integers(0, 2**31),
        pv_peak_w=st.integers(0, 20_000),
        load_type=st.none() | st.integers(0, 14),
    ),
    st.builds(
        ReplayHome,
        path=texts,
        home=texts,
        data_date=st.dates(date(1990, 1, 1)),
        market_date=st.dates(date(1990, 1, 1)),
        last_date=st.none() | st.dates(),
        pv_scale=st.floats(0.001, 100.0),
        pv=st.none() | st.builds(CommunityHome, home=st.integers(0, 9)),
    ),
    st.builds(ConstantHome, load_w=st.integers(0, 10**6), pv_w=st.integers(0, 10**6)),
)
homes = st.builds(
    HomeConfig,
    source=sources,
    zone=st.sampled_from(["Australia/Sydney", "UTC", "Europe/Berlin"]),
    battery=st.none()
    | st.builds(
        Battery,
        capacity_wh=st.integers(1, 10**6),
        charge_efficiency=fractions,
        discharge_efficiency=fractions,
        grid_charging=st.booleans(),
    ),
    import_cap_w=st.none() | st.integers(0, 10**6),
    devices=st.dictionaries(
        st.sampled_from(["car", "heat-pump", "washer_2"]),
        st.builds(Car, trip_wh=st.integers(0, 9000))
        | st.builds(Appliance, profile_w=st.lists(st.integers(1, 3000), min_size=1).map(tuple))
        | st.just(HeatPump(cooling=True)),
    ),
    bidding=st.just(BidSettings()),
    agent=texts,
    agent_settings=st.dictionaries(
        st.from_regex(r"\A[a-z_]{1,9}\Z"),
        st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
        max_size=3,
    ),
)


@settings(max_examples=60, deadline=None)
@given(name=texts, listen=addresses, bootstrap=addresses, home=st.none() | homes)
def test_any_settings_text_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    listen: tuple[str, ...],
    bootstrap: tuple[str, ...],
    home: HomeConfig | None,
) -> None:
    network = NetworkSection(announce=listen, bootstrap=bootstrap)
    config = Config(node=NodeSection(name=name), network=network, home=home)
    back = read_back(tmp_path_factory.getbasetemp(), config)
    assert (back.node, back.network, back.home) == (config.node, config.network, config.home)


def test_a_misspelt_setting_of_a_named_device_is_named(tmp_path: Path) -> None:
    head = "[home.source]\nkind = 'community'\nhome = 0\n"
    line = refused(tmp_path, f"{head}[home.devices.car]\nkind = 'car'\ntripwh = 5")
    assert "unknown key 'tripwh' in [home.devices.car]" in line
    line = refused(tmp_path, f"{head}[home.devices.car]\nkind = 'bus'")
    assert "home.devices.car.kind is one of appliance" in line
    line = refused(tmp_path, f"{head}[home.battery]\n[home.more_batteries.shed]\ncapacity = 5")
    assert "unknown key 'capacity' in [home.more_batteries.shed]" in line
    line = refused(tmp_path, f"{head}[home.devices.car]\nkind = 'car'\nsoc_target = 2.0")
    assert "soc_target 2.0: a fraction" in line


def test_sync_takes_heights_only(tmp_path: Path) -> None:
    line = refused(tmp_path, "[sync]\nsnapshot_every = -1")
    assert "sync.snapshot_every is -1, allowed are 0 to" in line


def test_the_web_section_by_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[node]\n")
    assert load_config(file, {}).web is None
    environment = {
        "COMMONWATT_WEB_LISTEN": "[::1]:80",
        "COMMONWATT_WEB_HOSTS": "house, [::2]",
        "COMMONWATT_WEB_OPEN_READS": "true",
        "COMMONWATT_WEB_DASHBOARD": "true",
    }
    web = load_config(file, environment).web
    assert web is not None
    assert (web.address, web.hosts, web.open_reads) == (("::1", 80), ("house", "[::2]"), True)
    assert web.dashboard


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('listen = "4680"', "web.listen is an IP address and a port such as"),
        ('listen = "localhost:4680"', "web.listen is an IP address and a port such as"),
        ('listen = "::1:4680"', "an IPv6 address stands in brackets"),
        ('listen = "127.0.0.1:70000"', "a port is 0 to 65535"),
        ('hosts = ["http://house"]', "a host's name stands without scheme and port"),
        ('token_file = ""', "web.token_file is the path of a file"),
        ("open_reads = 1", "web.open_reads: Expected `bool`"),
        ("port = 1", "unknown key 'port' in .web.; known are listen, token_file, hosts"),
    ],
)
def test_a_web_section_that_cannot_be(tmp_path: Path, setting: str, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f"[web]\n{setting}\n")
    with pytest.raises(ConfigError, match=said):
        load_config(file, {})
