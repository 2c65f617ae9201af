"""`fleet init`: a fleet.toml that `fleet up` accepts, from flags and from typical provider files."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ConfigurationError, UsageError
from fleet.operate import configuration, init

URL, ECHO = "https://shop.example/", "https://echo.example/ip"
CHECKOUT = Path(__file__).resolve().parents[2]


def asked(**flags: Any) -> argparse.Namespace:
    """A parsed command line with FLAGS."""
    usual = {"url": URL, "resolver": [], "exit_echo": [ECHO], "files": [], "workers": None}
    return argparse.Namespace(**{**usual, **flags})


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Standard input is no terminal, and the file goes below tmp_path."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("FLEET_ROOT", str(tmp_path))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([b"[Interface]\nDNS = 10.64.0.1\n"], ["10.64.0.1"]),
        (
            [b"\xef\xbb\xbf[Interface]\r\nDNS=10.64.0.1, fd00::1,lan.example # home\r\nDNS = 10.64.0.2,\r\n"],
            ["10.64.0.1", "10.64.0.2"],
        ),
        (["[interface]\ndns = 10.64.0.1\n".encode("utf-16")], ["10.64.0.1"]),
        ([b"[Interface]\nDNS = fd00::1\n"], ["fd00::1"]),
        ([b"[Interface]\nDNS = 10.0.0.%d\n" % one for one in (1, 2, 3, 4)], ["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        ([b"[Interface]\n# DNS = 10.0.0.1\n# \xb0\xa1\nDNS = 10.0.0.2\n[Peer]\nDNS = 10.0.0.3\n"], ["10.0.0.2"]),
    ],
)
def test_resolvers_come_from_the_files(files: list[bytes], expected: list[str], tmp_path: Path) -> None:
    """Each once, three at most; IPv4 ones if there are any; names and comments are ignored, in any encoding."""
    paths = [tmp_path / f"{number}.conf" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    made = configuration.parse(init.toml(asked(files=[str(path) for path in paths])), "made")
    assert [str(one) for one in made.dns.resolvers] == expected
    assert made.egress.urls == (ECHO,) and made.task.options == {"urls": [URL]}


def test_a_worker_for_each_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key in several files counts once, at most eight workers, and having no key is reported."""
    paths = [tmp_path / f"{number}.conf" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_text(f"[Interface]\nDNS = 10.64.0.1\nPrivateKey = {'abcdefghij'[number // 2]}=\n")
    names = [str(path) for path in paths]
    for files, count in ((names, 8), (names[:6], 3), (names[:2], 1)):
        assert configuration.parse(init.toml(asked(files=files)), "made").workers.count == count
    assert "a=" not in "".join(capsys.readouterr())


def test_the_file_is_written_once(tmp_path: Path) -> None:
    """It loads unchanged, all users may read it, and a second `init` is refused and changes nothing."""
    init.init(asked(resolver=["10.64.0.1"], workers=3))
    path = tmp_path / "etc/fleet/fleet.toml"
    assert configuration.load(path).workers.count == 3 and path.stat().st_mode & 0o777 == 0o644
    before = path.read_text()
    with pytest.raises(ConfigurationError, match="is there already"):
        init.init(asked(resolver=["10.64.0.9"]))
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"url": None}, "--url is missing"),
        ({}, "--resolver is missing"),
        ({"url": "shop", "resolver": ["10.64.0.1"]}, "is no http or https address"),
        ({"resolver": ["nowhere"]}, r"dns\.resolvers\.0.*'nowhere'"),
        ({"resolver": ["10.64.0.1"], "exit_echo": ["http://echo.example/"]}, "is no https address"),
        ({"resolver": ["10.64.0.1"], "workers": 0}, r"workers\.count"),
        ({"resolver": ["10.64.0.1"], "url": "https://www.example.com/"}, "is the example's"),
        ({"files": ["/nowhere/a.conf"]}, "/nowhere/a.conf cannot be read"),
        ({"files": ["/dev/zero"]}, "is no file but a device"),
        ({"files": ["/usr/lib/os-release"]}, "--resolver is missing"),
    ],
)
def test_what_cannot_be_is_refused_by_name(flags: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Each gives one clear error, and nothing is written."""
    with pytest.raises((ConfigurationError, UsageError), match=words):
        init.init(asked(**flags))
    assert not (tmp_path / "etc/fleet").exists()


def test_the_unedited_example_is_refused(tmp_path: Path) -> None:
    """Each placeholder address is refused; with other addresses the file is accepted."""
    path = tmp_path / "etc/fleet/fleet.toml"
    path.parent.mkdir(parents=True)
    text = (CHECKOUT / "docs/fleet.example.toml").read_text()
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        configuration.asked(argparse.Namespace())
    assert [line.split(": ")[1] for line in caught.value.message.splitlines()] == [
        "egress.urls",
        "egress.urls",
        "task.options",
    ]
    path.write_text(
        text.replace("example.com", "shop.test").replace("example.org", "a.test").replace("example.net", "b.test")
    )
    assert configuration.asked(argparse.Namespace())[0].task.options["home"] == "https://www.shop.test/"
