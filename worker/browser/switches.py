"""Chrome's switches and policies, with the reasons.

Policies apply only to the worker: the launcher puts them into the worker's private /etc.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import JsonValue

from fleet.errors import ConfigurationError
from fleet.model import BrowserSettings

Network = IPv4Network | IPv6Network

DROP = (
    "--no-sandbox",  # undetected-chromedriver always adds it
    "--test-type",
    "--lang",
    "--window-size",
    "--start-maximized",
    "--log-level",
    "--disable-features",  # Chrome heeds only the last one
    "data:,",  # ChromeDriver's own first page
    "--disable-popup-blocking",  # a window that a page opens would take the tab's place and input
)
"""Prefixes of arguments that the wrapper removes from those that a driver gives to Chrome."""

_ALWAYS = [
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-auto-reload",  # an error page that reloads itself would hide a lost page
    "--password-store=basic",  # does not ask a desktop's keyring
    "--log-level=2",
    # Two renderers with pages of the address bar, which is never used: half of the cost of a start and a short page
    # (Chrome 156). And a spare renderer for the next site.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,SpareRendererForSitePerProcess",
]

_MOUSE = "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
"""A pointer that can hover and is fine (third_party/blink/public/mojom/webpreferences)."""
_NETWORK: dict[str, JsonValue] = {
    "BuiltInDnsClientEnabled": False,  # ignore changes of resolv.conf; use only the tunnel's resolvers
    "DnsOverHttpsMode": "off",
    "WebRtcIPHandling": "disable_non_proxied_udp",
    "WebRtcLocalIpsAllowedUrls": [],
    "WebRtcTextLogCollectionAllowed": False,
    "ProxySettings": {"ProxyMode": "direct"},  # no proxy of the host, and no search for one (WPAD)
    "WPADQuickCheckEnabled": False,
    "QuicAllowed": True,
    "IntranetRedirectBehavior": 1,  # no look-ups of made-up names
}
"""Policies about where packets may go and which resolvers are asked."""
_SILENCE: dict[str, JsonValue] = {
    "NetworkPredictionOptions": 2,  # no connections that a page did not request
    "SearchSuggestEnabled": False,
    "SafeBrowsingProtectionLevel": 0,
    "AlternateErrorPagesEnabled": False,
    "BrowserNetworkTimeQueriesEnabled": False,
    "ComponentUpdatesEnabled": False,
    "MetricsReportingEnabled": False,
    "UrlKeyedAnonymizedDataCollectionEnabled": False,
    "DomainReliabilityAllowed": False,
    "ChromeVariations": 2,
    "BackgroundModeEnabled": False,
    "BrowserSignin": 0,
    "SyncDisabled": True,
    "TranslateEnabled": False,
    "SpellCheckServiceEnabled": False,
    "PasswordManagerEnabled": False,
    "AutofillAddressEnabled": False,
    "AutofillCreditCardEnabled": False,
    "PromotionsEnabled": False,
    "DefaultBrowserSettingEnabled": False,
    "EnableMediaRouter": False,
    "PrintingEnabled": False,  # the dialog of print() takes all input from the page
    "ExtensionInstallBlocklist": ["*"],
    "DefaultDirectSocketsSetting": 2,  # no device of the host, and no raw sockets
    "DefaultWebBluetoothGuardSetting": 2,
    "AudioCaptureAllowed": False,
    "VideoCaptureAllowed": False,
}
"""Policies against what Chrome would send, keep or offer of its own accord."""
LOCAL = ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "metadata.google.internal", "file://*")  # noqa: S104
"""Where no tab may navigate to. The format has no address ranges: netctl's table blocks the rest."""


def add(settings: BrowserSettings) -> list[str]:
    """The switches that the wrapper puts before the driver's own.

    The wrapper adds them because undetected-chromedriver interprets the words `headless` and `lang`
    in any argument that it sees.
    """
    language = settings.language
    made = [
        *_ALWAYS,
        "--headless=new",
        f"--lang={language}",
        f"--accept-lang={','.join(dict.fromkeys((language, language.partition('-')[0], 'en')))}",
        f"--window-size={settings.window_width},{settings.window_height}",
    ]
    if not settings.mobile:
        # Without a display Chrome finds no mouse, and pages take the machine for a telephone: (hover: none).
        made.append(f"--blink-settings={_MOUSE}")
    if not settings.sandbox:
        made.append("--no-sandbox")
    # Added here because ChromeDriver takes every argument for a switch. Without an address Chrome opens its page for
    # new tabs, or the distribution's, which takes 12 s on a dead network.
    return [*made, "about:blank"]


def policies(authorities: Iterable[Path], reachable: Iterable[Network] = ()) -> dict[str, JsonValue]:
    """The managed policies: the browser sends only what a page requests, and looks names up through the system.

    Pages reach no private addresses except those in REACHABLE. An older Chrome ignores unknown policies.
    """
    return {**_NETWORK, **_reach(reachable), **_SILENCE, "CACertificates": _encoded(authorities)}


def _reach(reachable: Iterable[Network]) -> dict[str, JsonValue]:
    """Local Network Access: block what a page loads from private addresses (Chrome 139; the split pair from 146)."""
    everywhere: dict[str, JsonValue] = {
        f"{what}BlockedForUrls": ["*"] for what in ("LocalNetworkAccess", "LocalNetwork", "LoopbackNetwork")
    }
    # The exceptions are addresses and not pages: these addresses count as public.
    exceptions: list[JsonValue] = [f"{_in_brackets(network)}=public" for network in reachable]
    return {
        **everywhere,
        "LocalNetworkAccessIpAddressSpaceOverrides": exceptions,
        "URLBlocklist": list(LOCAL),  # Local Network Access does not restrict navigations of a tab
    }


def _in_brackets(network: Network) -> str:
    address, _, length = str(network).partition("/")
    return f"[{address}]/{length}" if network.version == 6 else f"{address}/{length}"


def _encoded(authorities: Iterable[Path]) -> list[JsonValue]:
    return [base64.b64encode(der).decode() for path in authorities for der in certificates(path)]


def certificates(path: Path) -> list[bytes]:
    """The certificates in the PEM file at PATH, as DER; raises ConfigurationError when it cannot be read."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"browser.certificate_authorities: {path}: {error.strerror or error}",
            hint="a PEM file with one or more certificates",
        ) from error
    return context.get_ca_certs(binary_form=True)
