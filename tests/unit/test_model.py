"""The fleet as values: numbers derive from the UID, mistakes come all at once."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import ConfigurationError
from fleet.model import FIRST_UID, LAST_UID, PLACEHOLDERS, Paths, Worker
from fleet.operate import configuration

LEAST = '[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]\n'
uids = st.integers(FIRST_UID, LAST_UID)


def test_numbers_of_worker_1101() -> None:
    """The numbers of the documentation's example, worked out by hand."""
    worker = Worker(uid=1101)
    assert (worker.number, worker.name, worker.interface, worker.alias) == (101, "w1101", "wg101", "fleet:w1101")
    assert (worker.table, worker.prohibit_priority) == (10101, 20101)
    assert worker.placeholder == IPv4Address("10.255.0.101")


@given(uids)
def test_numbers_stay_within_the_marks(uid: int) -> None:
    """Tables keep clear of the kernel's own and names fit an interface, for every UID there may be."""
    worker = Worker(uid=uid)
    assert 10_000 < worker.table < 20_000 < worker.prohibit_priority < 30_000
    assert len(worker.interface) <= 15
    assert worker.placeholder in PLACEHOLDERS
    assert worker.placeholder not in (PLACEHOLDERS.network_address, PLACEHOLDERS.broadcast_address)


@given(uids, uids)
def test_no_two_workers_share_a_number(one: int, other: int) -> None:
    """Interface, table and placeholder tell workers apart."""
    first, second = Worker(uid=one), Worker(uid=other)
    shared = {
        first.interface == second.interface,
        first.table == second.table,
        first.placeholder == second.placeholder,
        first.prohibit_priority == second.prohibit_priority,
    }
    assert shared == {one == other}


@given(uids)
def test_interface_leads_back_to_its_worker(uid: int) -> None:
    """An interface name of ours names its worker."""
    worker = Worker(uid=uid)
    for name in worker.interfaces:
        assert Worker.of_interface(name) == worker
        assert len(name) <= 15


@pytest.mark.parametrize(
    "name", ["wg", "wg0", "wg007", "wg-101", "wg101x", "wg101ss", "wgs", "s", "eth0", "wg99999", "wg+1", "wg١٠١"]
)
def test_foreign_interfaces_are_nobodys(name: str) -> None:
    """Names that only look like ours are not ours."""
    assert Worker.of_interface(name) is None


def test_least_configuration_is_enough() -> None:
    """Resolvers and proof addresses are all that has no default."""
    fleet = configuration.parse(LEAST, "test")
    assert [worker.name for worker in fleet.members] == [f"w{uid}" for uid in range(1101, 1109)]
    assert fleet.browser.driver == "undetected"


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("[reach]\nloopback_ports = [8470]\n", "workers reach port 8470"),
        ("[workers]\nfirst_uid = 1101\n", None),
        ('[hub]\njobs = "none"\n', "the page shows jobs"),
    ],
)
def test_no_worker_reaches_the_hubs_page(rest: str, words: str | None) -> None:
    """Its port is none that `reach.loopback_ports` or a browser opens; another one is taken (control)."""
    jobs = "" if "[hub]" in rest else '[hub]\njobs = "first"\n'
    text = f"{LEAST}{rest}{jobs}[hub.web]\nport = 8470\n"
    if words is None:
        assert configuration.parse(text, "test").hub.web.port == 8470
        text, words = text.replace("8470", str(Worker(uid=1101).browser_ports.devtools)), "workers reach port 10202"
    with pytest.raises(ConfigurationError, match=words):
        configuration.parse(text, "test")


def test_nobody_stops_workers_on_the_page_unless_it_is_said() -> None:
    """`hub.web.acts` names it, beside a token; the error says what is missing, and what acts there are."""
    assert {"stop", "start", "rotate"}.isdisjoint(configuration.parse(LEAST, "test").hub.web.acts)
    text = f'{LEAST}[hub]\njobs = "first"\n[hub.web]\nport = 8470\nacts = ["stop"]\n'
    with pytest.raises(ConfigurationError, match=r"hub\.web: .*the page needs a port and a token_file"):
        configuration.parse(text, "test")
    assert configuration.parse(f'{text}token_file = "/token"\n', "test").hub.web.acts == ("stop",)
    with pytest.raises(ConfigurationError, match=r"hub\.web\.acts\.0: .*'rotate'"):
        configuration.parse(text.replace("stop", "reboot"), "test")


def test_networks_that_may_be_reached_do_not_overlap() -> None:
    """Overlapping and neighbouring networks of `reach.allow` are one; a wrong one is named."""
    fleet = configuration.parse(
        LEAST + '[reach]\nallow = ["10.0.0.0/9", "10.1.0.0/16", "10.128.0.0/9", "fd00::/8"]\n', "test"
    )
    assert fleet.reach.networks == {IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8")}
    with pytest.raises(ConfigurationError, match=r"reach\.allow\.0: .*10\.0\.0\.1/8") as caught:
        configuration.parse(LEAST + '[reach]\nallow = ["10.0.0.1/8"]\nloopback_ports = [0]\n', "test")
    assert "reach.loopback_ports.0: " in caught.value.message


def test_sandbox_goes_only_with_a_second_word() -> None:
    """Chrome's sandbox is off only where a second key says that this is meant; the error names that key."""
    off = f"{LEAST}[browser]\nsandbox = false\n"
    with pytest.raises(ConfigurationError, match=r"browser\.i_know_what_no_sandbox_means: .*browser\.sandbox is false"):
        configuration.parse(off, "fleet.toml")
    assert not configuration.parse(f"{off}i_know_what_no_sandbox_means = true\n", "fleet.toml").browser.sandbox
    assert configuration.parse(LEAST, "fleet.toml").browser.sandbox


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('language = "ko_KR"', "is no language such as ko-KR"),
        ('language = "Korean"', "is no language"),
        ('language = "ko-KR,en"', "is no language"),
        ('time_zone = "Seoul"', "is no time zone"),
        ("window_width = 100", "240"),
        ("window_height = 100000", "7680"),
        ("scale_factor = 0", "0.5"),
        ('mobile = "Pixel"', "boolean"),
    ],
)
def test_how_pages_see_the_browser(line: str, words: str) -> None:
    """A value that Chrome would not take is one error, which names its key."""
    with pytest.raises(ConfigurationError) as caught:
        configuration.parse(f"{LEAST}[browser]\n{line}\n", "fleet.toml")
    (message,) = caught.value.message.splitlines()
    assert f"browser.{line.partition(' ')[0]}: " in message and words in message


def test_last_uid_is_kept() -> None:
    """A range of UIDs that leaves our numbers is refused."""
    with pytest.raises(ConfigurationError, match="above 9999"):
        configuration.parse("[workers]\ncount = 512\nfirst_uid = 9900\n" + LEAST, "test")


def test_worker_is_found_by_name_or_uid() -> None:
    """`w1103` and `1103` are the same worker; another name lists who there is."""
    fleet = configuration.parse(LEAST, "test")
    assert fleet.worker("w1103") == fleet.worker("1103") == Worker(uid=1103)
    with pytest.raises(ConfigurationError) as caught:
        fleet.worker("w1109")
    assert "w1101 to w1108" in caught.value.hint


def test_one_prefix_moves_every_place() -> None:
    """FLEET_ROOT moves all there is."""
    paths, worker = Paths.from_environment({"FLEET_ROOT": "/x"}), Worker(uid=1101)
    places = [place for name in vars(Paths) if isinstance(place := getattr(paths, name), Path)]
    places += [paths.home(worker), paths.spool(worker), paths.launch_spec(worker), paths.worker_lock(worker)]
    assert len(places) > 12
    assert all(place.is_relative_to("/x") for place in places)
    assert Paths.from_environment({}).config == Path("/etc/fleet/fleet.toml")


@pytest.mark.parametrize("stun", ["stun.example.org", "stun.example.org:", "a b:1", ":3478"])
def test_a_stun_server_has_a_port(stun: str) -> None:
    """What is no NAME:PORT is refused with an example; nobody at all is fine."""
    with pytest.raises(ConfigurationError, match=r"verify\.stun: .*NAME:PORT, such as stun"):
        configuration.parse(f'{LEAST}[verify]\nstun = "{stun}"\n', "fleet.toml")
    assert configuration.parse(f'{LEAST}[verify]\nstun = ""\n', "fleet.toml").verify.stun == ""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("203.0.113.0/24", "is no private network; take a part of 10.0.0.0/8"),
        ("0.0.0.0/0", "is no private network"),
        ("10.254.0.0/25", "10.254.0.0/25 has no address for w1130, number 130; a /16 has for all"),
        ("fd00::/64", "IPv4"),
    ],
)
def test_placeholders_are_private_and_enough(network: str, words: str) -> None:
    """Public addresses would be taken from the host; a network that is too small has none for the last worker."""
    text = f'{LEAST}[workers]\ncount = 30\nplaceholders = "{network}"\n'
    with pytest.raises(ConfigurationError, match=r"workers\.placeholders") as caught:
        configuration.parse(text, "test")
    assert words in str(caught.value)
    good = configuration.parse(text.replace(network, "10.254.0.0/24"), "test")
    assert str(good.workers.placeholders) == "10.254.0.0/24"


@pytest.mark.parametrize("name", ["w", "w1000", "w10000", "1101", "w1101 ", "w-101", "w１１０１", "w../1101", ""])
def test_a_worker_is_known_by_its_name_alone(name: str) -> None:
    """Whether it is in this fleet or not; what names no worker leads to no folder."""
    assert Worker.named("w1101") == Worker(uid=1101)
    assert Worker.named(name) is None
