"""`[keys.source]`: what may stand there; each mistake is one line that names its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import ConfigurationError
from fleet.operate import configuration
from fleet.settings.keys import KeyServiceSettings

EXAMPLE = (Path(__file__).parents[2] / "docs/fleet.example.toml").read_text()
GOOD = """
[keys.source]
allocate = "https://keys.example/allocate?ask=1"
release = "https://keys.example/release"
"""


def read(text: str) -> KeyServiceSettings:
    """The table in TEXT, beside what every fleet.toml has."""
    found = configuration.parse(EXAMPLE + text, "fleet.toml").keys.source
    assert found
    return found


def test_two_addresses_are_enough() -> None:
    """The rest has its defaults; without the table keys come from files alone."""
    found = read(GOOD)
    assert (found.minutes, found.send_back, found.fields.config) == (60, {"public_key": "/public_key"}, None)
    assert configuration.parse(EXAMPLE, "fleet.toml").keys.source is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('release = "http://keys.example/release"', "keys.source.release: value error, is no https address"),
        (
            'release = "https://me:secret@keys.example/"',
            "keys.source.release: value error, no address holds a name or a password",
        ),
        ('release = "keys.example"', "keys.source.release: value error, 'keys.example' is no http or https address"),
        ('status = "ftp://keys.example"', "keys.source.status: value error, 'ftp://keys.example' is no"),
        ('status = "https://"', "keys.source.status: value error, 'https://' names no host"),
        ('servers = ["a b"]', "keys.source.servers.0:"),
        ("minutes = 1", "keys.source.minutes:"),
        ("ahead = -1", "keys.source.ahead:"),
        (
            'fields = { private_key = "private_key" }',
            "keys.source.fields.private_key: value error, 'private_key' is no",
        ),
        ('fields = { privat = "/a" }', "keys.source.fields.privat: there is no such key"),
        ('send_back = { key = "/private_key" }', "send_back.key is, or holds, the private key"),
        ('send_back = { all = "" }', "send_back.all is, or holds, the private key"),
        ('fields = { config = "/config" }\nsend_back = { all = "/config" }', "send_back.all is, or holds, the private"),
        ("send_back = {}", "keys.source.send_back:"),
    ],
)
def test_a_mistake_names_its_key(line: str, said: str) -> None:
    """One line with file, key and what is wrong, and no password in it."""
    name = line.partition(" ")[0]
    kept = [one for one in GOOD.splitlines() if not one.startswith(f"{name} ")]
    with pytest.raises(ConfigurationError) as raised:
        read("\n".join([*kept, line]))
    assert f"fleet.toml: {said}" in raised.value.message or said in raised.value.message
    assert "secret" not in raised.value.message
    assert len(raised.value.message.splitlines()) == 1


def test_http_is_allowed_by_name() -> None:
    """With insecure_http an address may be one of http."""
    assert read(GOOD.replace("https:", "http:") + "insecure_http = true\n").allocate.startswith("http:")
