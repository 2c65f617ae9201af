"""The lab, on which other tests depend, checked with other tools than those that make it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tenacity

from fleet.errors import ConfigurationError, ForeignObject, TryLater
from lab.net import LAUNCH, Lab
from lab.places import lock

SITE = "https://shop.example"
ASK = """
import sys
import dns.resolver
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = [sys.argv[1]]
print(*[resolver.resolve(name, "A")[0] for name in sys.argv[2:]])
"""
STUN = """
import ipaddress, socket, struct, sys
host = sys.argv[1]
asking = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(5)
asking.sendto(struct.pack("!HHI", 1, 0, 0x2112A442) + b"transaction1", (host, 3478))
answer = asking.recv(100)
kind, length, attribute, size, family, port = struct.unpack_from("!HHxxxxxxxxxxxxxxxxHHxBH", answer)
assert (kind, attribute, answer[8:20], length) == (0x101, 0x20, b"transaction1", size + 4), answer
assert port ^ 0x2112 == asking.getsockname()[1]
mask = (0x2112A442).to_bytes(4, "big") + b"transaction1"
print(ipaddress.ip_address(bytes(one ^ other for one, other in zip(answer[28:], mask))))
"""


def until(question: str, answer: object) -> None:
    """Raise with QUESTION unless ANSWER is true: the last state of a wait."""
    assert answer, question


soon = tenacity.retry(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(0.02), reraise=True)


@pytest.fixture
def own(root: None) -> Iterator[Lab]:
    """A small lab for one test, not up yet; removed afterwards."""
    made = Lab(f"u{os.getpid() % 10_000}", servers=1, keys=2)
    yield made
    made.down()


def curl(lab: Lab, host: str, *arguments: str) -> str:
    """What curl prints inside HOST; the certificate must be the lab's."""
    done = lab.run(host, ["curl", "-sS", "--max-time", "10", "--cacert", str(lab.places.authority), *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_up_and_down_twice_each(own: Lab, traces: Callable[[str], list[str]]) -> None:
    """`up` on a standing lab changes nothing, `down` leaves no trace, and again `down` is no error."""
    own.up()
    before = {one.pid for one in own.status().processes}
    own.up()
    assert {one.pid for one in own.status().processes} == before
    assert own.status().state == "up"
    own.down()
    assert traces(own.name) == []
    assert own.status().state == "down"
    own.down()


def test_up_with_other_numbers_is_refused(own: Lab) -> None:
    """A running lab is not removed under its users because `up` asks for another size."""
    own.up()
    with pytest.raises(ConfigurationError, match="other numbers"):
        Lab(own.name, servers=2, keys=2).up()


def test_down_after_a_killed_up(own: Lab) -> None:
    """SIGKILL in the middle of `up` leaves parts; `down` removes all of them, and `up` works in spite of them."""
    for ending in (own.down, own.up):
        command = [sys.executable, "-I", str(LAUNCH), "lab", "up", "--servers", "1", "--lab", own.name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as up:

            @soon
            def half_way() -> None:
                until("the first server was not started", list((own.places.root / "log").glob("wireguard-*")))

            half_way()
            up.kill()
        assert not own.places.ready.exists()
        ending()
    assert own.status().state == "up"


def test_down_ends_what_runs_inside_whoever_started_it(own: Lab) -> None:
    """Programs inside a host are ended too, also one that has moved to a namespace of its own."""
    own.up()
    inside = ["sh", "-c", "echo in; exec sleep 600"]
    started = [own.popen("host", [*way, *inside], stdout=subprocess.PIPE) for way in ([], ["unshare", "--net"])]
    assert [one.stdout and one.stdout.readline() for one in started] == ["in\n"] * 2
    handles = [os.pidfd_open(one.pid) for one in started]
    own.down()
    assert select.select(handles, [], [], 0)[0] == handles
    assert [one.wait(5) for one in started] == [-signal.SIGKILL] * 2


def test_a_broken_lab_is_made_again(own: Lab) -> None:
    """When a server has died, status says which, with exit code 1, and `up` repairs it."""
    own.up()
    (site,) = (one for one in own.status().processes if "lab.site" in one.command)
    os.kill(site.pid, signal.SIGKILL)

    @soon
    def noticed() -> None:
        until("status does not see it", own.status().missing == (f"lab.site in {own.name}-web",))

    noticed()
    command = [sys.executable, "-I", str(LAUNCH), "lab", "status", "--json", "--lab", own.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "broken")
    own.up()
    assert own.status().state == "up"


def test_one_up_at_a_time(own: Lab) -> None:
    """While one process makes or removes the lab, a second one fails with an error that names the first."""
    with lock(own.name, "lab"), pytest.raises(TryLater, match=f"process {os.getpid()} holds"):
        own.up()


def test_foreign_namespace_is_refused_and_untouched(own: Lab) -> None:
    """A foreign namespace with the lab's name is reported and left alone, also by `down`."""
    foreign = f"{own.name}-web"
    subprocess.run(["ip", "netns", "add", foreign], check=True)
    try:
        with pytest.raises(ForeignObject, match=foreign):
            own.up()
        own.down()
        assert Path("/run/netns", foreign).exists()
    finally:
        subprocess.run(["ip", "netns", "delete", foreign], check=True)


def test_a_late_starter_of_an_earlier_life_stays_out(own: Lab) -> None:
    """If a lab is made again while a program is being started in it, the program ends instead of entering."""
    own.up()
    late = own.command("host", ["echo", "in"])
    own.down()
    own.up()
    done = subprocess.run(late, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "was removed while echo" in done.stderr


def test_exec_gives_the_programs_exit_code_and_the_host(lab: Lab) -> None:
    """`lab exec HOST -- CMD` runs inside HOST and ends as CMD does."""
    command = [sys.executable, "-I", str(LAUNCH), "lab", "exec", "web", "--lab", lab.name, "--"]
    done = subprocess.run([*command, "ip", "-json", "address"], capture_output=True, text=True, check=True)
    addresses = {one["local"] for link in json.loads(done.stdout) for one in link["addr_info"]}
    assert "203.0.113.80" in addresses
    assert subprocess.run([*command, "sh", "-c", "exit 7"], check=False).returncode == 7


def test_the_host_reaches_the_shop_without_a_tunnel(lab: Lab) -> None:
    """By name over the ISP's resolver, IPv4 and IPv6, and the shop sees the uplink's addresses."""
    assert curl(lab, "host", "-4", f"{SITE}/ip") == "198.51.100.10"
    assert curl(lab, "host", "-6", f"{SITE}/ip") == "2001:db8:1::10"
    assert "query[A] shop.example from 198.51.100.10" in lab.places.queries("isp").read_text()


def test_host_has_a_resolver_and_a_wireguard_folder_of_its_own(lab: Lab) -> None:
    """Inside, /etc/resolv.conf names the ISP's resolver and /run/wireguard is the lab's."""
    assert lab.run("host", ["cat", "/etc/resolv.conf"]).stdout.startswith("nameserver 198.51.100.53\n")
    lab.run("host", ["touch", "/run/wireguard/probe"])
    assert (lab.places.at("host") / "wireguard/probe").exists()
    assert not Path("/run/wireguard/probe").exists()
    lab.run("host", ["rm", "/run/wireguard/probe"], check=True)  # the lab goes on to other tests


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_tunnel_made_by_hand_works(lab: Lab, number: int) -> None:
    """With a key of each server: the inner DNS answers, the site sees the exit address, the ISP sees no DNS query."""
    with tunnel(lab, f"vpn{number}-01.conf", f"h{number}", ("198.18.0.53", "203.0.113.80")):
        asked = lab.places.queries("isp").read_text()
        question = [sys.executable, "-c", ASK, "198.18.0.53", "shop.example"]
        assert lab.run("host", question).stdout == "203.0.113.80\n"
        assert curl(lab, "host", "--resolve", "shop.example:443:203.0.113.80", f"{SITE}/ip") == f"203.0.113.1{number}"
        assert lab.places.queries("isp").read_text() == asked
        assert f"from 198.18.{number}.11" in lab.places.queries(f"vpn{number}").read_text()


def test_keys_are_files_that_only_root_reads(lab: Lab) -> None:
    """Three servers of ten keys, every file 0600, each with its exit address as a comment."""
    files = sorted(lab.places.keys.iterdir())
    assert len(files) == 30
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert files[0].read_text().startswith("# ExitAddress = 203.0.113.11\n[Interface]\n")


def test_the_shop_speaks_http2(lab: Lab) -> None:
    """ALPN selects HTTP/2: over HTTP/1.1 most requests would survive an address event."""
    written = curl(lab, "host", "-o", "/dev/null", "-w", "%{http_version} %{ssl_verify_result}", f"{SITE}/")
    assert written == "2 0"


def test_pages_load_slow_things_that_no_cache_keeps(lab: Lab) -> None:
    """Each page has at least 30 sub-resources of 300 ms each, all `no-store`."""
    for page in ("/", "/search?q=%EC%BB%A4%ED%94%BC"):
        text = curl(lab, "host", f"{SITE}{page}")
        assert text.count("/asset/") >= 30
        assert 'id="seen-address">' in text
    for thing in ("/asset/image/5.svg", "/asset/text/shop.css", "/asset/text/cart.js"):
        headers = curl(lab, "host", "-D", "-", "-o", "/dev/null", "-w", "took=%{time_starttransfer}", f"{SITE}{thing}")
        assert "cache-control: no-store" in headers
        assert 0.3 <= float(headers.rpartition("took=")[2]) < 0.9


def test_search_finds_products_in_korean(lab: Lab) -> None:
    """A query gives `.item`s with name and price; the page shows the caller's address."""
    text = curl(lab, "host", "-4", "-G", "--data-urlencode", "q=커피", f"{SITE}/search")
    assert text.count('class="item"') == 12
    assert "‘커피’ 검색 결과 12개" in text
    assert text.count("커피 ") >= 12
    assert 'id="seen-address">198.51.100.10<' in text
    assert curl(lab, "host", f"{SITE}/search?q=").count('class="item"') == 0


def test_the_access_log_says_who_asked_for_what(lab: Lab) -> None:
    """One JSON line per request, written before the answer is sent."""
    curl(lab, "host", "-4", f"{SITE}/ip?mark")
    last = json.loads(lab.places.access_log.read_text().splitlines()[-1])
    assert (last["address"], last["path"], last["query"], last["protocol"]) == ("198.51.100.10", "/ip", "mark", "2")


def test_browsers_draw_readable_korean(lab: Lab, tmp_path: Path) -> None:
    """Two syllables give two different pictures, and neither is the glyph of a missing character."""
    script = """
      const draw = text => { const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
        pen.font = "40px 'Noto Sans CJK KR', sans-serif"; pen.fillText(text, 10, 60); return canvas.toDataURL(); };
      document.title = new Set(["한", "글", "\\uFFFF", ""].map(draw)).size;"""
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><script>{script}</script>", encoding="utf-8")
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = lab.run("host", [*browser, "--dump-dom", page.as_uri()], timeout=60)
    assert "<title>4</title>" in done.stdout


def test_names_that_tell_who_asks(lab: Lab) -> None:
    """The echo name, and any below it, is the resolver's own address: the ISP's, or the exit of the tunnel."""
    names = ["whoami.example", "a.b.whoami.example"]
    for host, resolver, seen in (("host", "198.51.100.53", "203.0.113.1"), ("vpn2", "198.18.0.53", "203.0.113.12")):
        done = lab.run(host, [sys.executable, "-c", ASK, resolver, *names])
        assert done.stdout.split() == [seen, seen], done.stderr
    assert "a.b.whoami.example 203.0.113.12\n" in lab.places.queries("web").read_text()


def test_a_name_that_is_bound_anew(lab: Lab) -> None:
    """The first answer is the shop, later ones the address in the name; no resolver caches the first answer."""
    names = ["a9fea9fe.once.rebind.example"] * 3
    done = lab.run("host", [sys.executable, "-c", ASK, "198.51.100.53", *names])
    assert done.stdout.split() == ["203.0.113.80", "169.254.169.254", "169.254.169.254"], done.stderr


def test_stun_tells_the_callers_address(lab: Lab) -> None:
    """A binding request is answered with where it came from, on IPv4 and IPv6."""
    for target, seen in (("203.0.113.80", "198.51.100.10"), ("2001:db8:2::80", "2001:db8:1::10")):
        assert lab.run("host", [sys.executable, "-c", STUN, target]).stdout.strip() == seen


def test_the_host_has_a_lan_with_cloud_metadata(lab: Lab) -> None:
    """A neighbour on the LAN and the metadata address answer the host; its uplink is still seen by its own address."""
    for target in ("192.168.77.1", "169.254.169.254", "fd00:77::1"):
        assert lab.run("host", ["ping", "-c1", "-W5", target]).returncode == 0, target


def test_a_tunnel_carries_ipv6_when_asked_for(root: None) -> None:
    """With a key's two addresses the shop sees the server's exit of each version; other labs have keys of one."""
    made = Lab(f"v{os.getpid() % 10_000}", servers=1, keys=1, ipv6=True)
    try:
        made.up()
        text = (made.places.keys / "vpn1-01.conf").read_text()
        assert text.startswith("# ExitAddress = 203.0.113.11\n# ExitAddress = 2001:db8:2::1001\n[Interface]\n")
        assert "\nAddress = 198.18.1.11/32, 2001:db8:98:1::b/128\n" in text
        assert "\nAllowedIPs = 0.0.0.0/0, ::/0\n" in text
        with tunnel(made, "vpn1-01.conf", "six", ("203.0.113.80", "2001:db8:2::80")):
            assert curl(made, "host", "-4", "-k", "https://203.0.113.80/ip") == "203.0.113.11"
            assert curl(made, "host", "-6", "-k", "https://[2001:db8:2::80]/ip") == "2001:db8:2::1001"
    finally:
        made.down()


@contextlib.contextmanager
def tunnel(lab: Lab, key: str, suffix: str, targets: tuple[str, ...]) -> Iterator[str]:
    """A tunnel made by hand with the key in that file, which leads to TARGETS; its name."""
    lines = (lab.places.keys / key).read_text().splitlines()
    (addresses,) = (line.removeprefix("Address = ").split(", ") for line in lines if line.startswith("Address"))
    plain = "\n".join(line for line in lines if not line.startswith(("Address", "DNS")))
    name = f"{lab.name}{suffix}"
    device = lab.popen("host", ["wireguard-go", "-f", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        @soon
        def there() -> None:
            until("no socket", lab.places.wireguard_socket("host", name).exists())

        there()
        steps = [["wg", "setconf", name, "/dev/stdin"]]
        steps += [["ip", "address", "add", address, "dev", name] for address in addresses]
        steps += [["ip", "link", "set", name, "up"], *(["ip", "route", "add", to, "dev", name] for to in targets)]
        for step in steps:
            done = lab.run("host", step, input=plain)
            assert done.returncode == 0, done.stderr
        yield name
    finally:
        device.terminate()
        device.wait(5)
