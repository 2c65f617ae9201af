"""Decodes the bytes of a client file, whatever machine wrote it, and recognises files of other kinds.

Windows writes byte order marks, UTF-16 and code page 949; text copied from a chat or a web page has no-break spaces and
zero-width characters. None of these belongs into a client file.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

_ARCHIVE = "is a compressed archive: unpack it, and import the .conf files in it"
_PICTURE = "is a picture: import the .conf file and not its QR code"
_KINDS = {
    b"PK\x03\x04": "is a ZIP archive: unpack it, and import the .conf files in it",
    b"7z\xbc\xaf": "is a 7z archive: unpack it, and import the .conf files in it",
    b"Rar!": "is a RAR archive: unpack it, and import the .conf files in it",
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), _ARCHIVE),
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF"), _PICTURE),
    b"%PDF": "is a PDF document: import the .conf file",
    b"\xd0\xcf\x11\xe0": "is a document of an office program: import the .conf file",
    b"{\\rtf": "is rich text (RTF): save it as plain text",
    b"SQLite format 3": "is a database: import .conf files",
    b"\x01\0\0\0\xd0\x8c\x9d\xdf": "is encrypted for one user of Windows: in WireGuard, Export all tunnels to zip",
}
_TAR, _TAR_AT = b"ustar", 257
_SHOWN = "; `wg showconf INTERFACE` writes its [Interface] and [Peer] while it is up: add its `Address =`, import that"
_SHAPES = {
    r"^\[(connection|wireguard-peer\..*)\]": f"is a connection of NetworkManager{_SHOWN}",
    r"^\[(netdev|wireguardpeer)\]": f"is of systemd-networkd{_SHOWN}",
    r"^config\s+(interface|wireguard_\w+)\b": f"is of OpenWrt{_SHOWN}",
    r"^interface:\s*\S+\s*$": f"is what `wg show` prints{_SHOWN}",
    r"^\s*(<ca>|client\s*$|dev\s+tun|remote\s+\S+\s+\d+)": "is of OpenVPN: get the provider's WireGuard files",
    r"\A\s*<": "is a web page or XML: was the provider's log-in page saved in its place? Get the .conf file",
    r"\A\s*(\[\s*)?[{]": "is JSON: get the .conf file",
    r"\A\s*-----BEGIN ": "is a key or a certificate of another kind: get the .conf file",
    r"\A\s*(wireguard|wg|vless|vmess|ss|trojan)://": "is a link of another program: get the .conf file",
}
_OTHERS = {re.compile(pattern, re.IGNORECASE | re.MULTILINE): what for pattern, what in _SHAPES.items()}
_CONTROL = re.compile(r"[^\t\n\v\f\r\x1c-\x1e\x85\x20-\x7e\xa0-\U0010ffff]")


def plain(data: bytes) -> str:
    """DATA as text of ordinary characters; raises ValueError saying what it is when it is no client file."""
    if not data.strip():
        raise ValueError("is empty")
    for magic, what in _KINDS.items():
        if data.startswith(magic):
            raise ValueError(what)
    if data.startswith(_TAR, _TAR_AT):
        raise ValueError("is an archive: unpack it, and import the .conf files in it")
    text = ordinary(_decoded(data))
    if _CONTROL.search(text):
        raise ValueError("is no text")
    for shape, what in _OTHERS.items():
        if shape.search(text):
            raise ValueError(what)
    return text


def ordinary(text: str) -> str:
    """TEXT with wide, composed and blank characters normalised (NFKC), and without those that have no width (Cf)."""
    return "".join(one for one in unicodedata.normalize("NFKC", text) if unicodedata.category(one) != "Cf")


def _decoded(data: bytes) -> str:
    for encoding in _encodings(data):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("is no text")


def _encodings(data: bytes) -> tuple[str, ...]:
    """The encodings to try. UTF-16 has a zero byte beside each ASCII letter; else only comments are not ASCII."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    if b"\0" in data:
        return ("utf-16-be",) if data[:1] == b"\0" else ("utf-16-le",)
    return "utf-8-sig", "cp949", "latin-1"
