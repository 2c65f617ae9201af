"""Chrome's switches and policies, and why each is there.

Policies hold for the worker alone: the launcher shows them in the worker's private /etc.
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
    "--no-sandbox",  # undetected-chromedriver adds it, whatever it is told
    "--test-type",
    "--lang",
    "--window-size",
    "--start-maximized",
    "--log-level",
    "--disable-features",  # Chrome hears the last one alone
    "data:,",  # ChromeDriver's own first page
    "--disable-popup-blocking",  # a page's window would take the tab's place, and its input
)
"""Beginnings of arguments that no driver may give to Chrome; the wrapper takes them out."""

_ALWAYS = [
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-auto-reload",  # an error page that loads itself again would hide a lost page
    "--password-store=basic",  # asks no keyring of a desktop
    "--log-level=2",
    # Chrome's own pages in two renderers, for an address bar that no one types into: half of all that a start and a
    # short page cost (Chrome 156). And a renderer kept for the next site.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,SpareRendererForSitePerProcess",
]

_MOUSE = "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
"""What can hover and is fine (third_party/blink/public/mojom/webpreferences)."""
_NETWORK: dict[str, JsonValue] = {
    "BuiltInDnsClientEnabled": False,  # no reaction to a changed resolv.conf; only the tunnel's resolvers
    "DnsOverHttpsMode": "off",
    "WebRtcIPHandling": "disable_non_proxied_udp",
    "WebRtcLocalIpsAllowedUrls": [],
    "WebRtcTextLogCollectionAllowed": False,
    "ProxySettings": {"ProxyMode": "direct"},  # none of the host's, and no look for one (WPAD)
    "WPADQuickCheckEnabled": False,
    "QuicAllowed": True,
    "IntranetRedirectBehavior": 1,  # no look-ups of made-up names
}
"""Where packets may go and who is asked for names."""
_SILENCE: dict[str, JsonValue] = {
    "NetworkPredictionOptions": 2,  # no connections a page did not ask for
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
    "DefaultDirectSocketsSetting": 2,  # no device of the host's, and no socket but the web's
    "DefaultWebBluetoothGuardSetting": 2,
    "AudioCaptureAllowed": False,
    "VideoCaptureAllowed": False,
}
"""What Chrome would send, keep or offer of its own accord."""
LOCAL = ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "metadata.google.internal", "file://*")  # noqa: S104
"""What no tab may be navigated to. The format knows no ranges of addresses: netctl's table holds the rest."""


def add(settings: BrowserSettings) -> list[str]:
    """The switches the wrapper puts in front of the driver's own.

    They are added there because undetected-chromedriver interprets the words `headless` and `lang`
    inside any argument it sees.
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
        # Without a screen Chrome finds no mouse, and pages take the machine for a telephone: (hover: none).
        made.append(f"--blink-settings={_MOUSE}")
    if not settings.sandbox:
        made.append("--no-sandbox")
    # ChromeDriver takes every argument for a switch. With no address Chrome opens its page for new tabs, or the
    # distribution's, which takes 12 s on a dead network.
    return [*made, "about:blank"]


def policies(authorities: Iterable[Path], reachable: Iterable[Network] = ()) -> dict[str, JsonValue]:
    """The managed policies: nothing but what a page asks for leaves the browser, names go through the system.

    Pages reach no private address but those in REACHABLE. An older Chrome ignores what it does not know.
    """
    return {**_NETWORK, **_reach(reachable), **_SILENCE, "CACertificates": _encoded(authorities)}


def _reach(reachable: Iterable[Network]) -> dict[str, JsonValue]:
    """Local Network Access: whatever a page loads from private addresses (Chrome 139; the split pair from 146)."""
    everywhere: dict[str, JsonValue] = {
        f"{what}BlockedForUrls": ["*"] for what in ("LocalNetworkAccess", "LocalNetwork", "LoopbackNetwork")
    }
    # An exception is made of addresses, and not of pages: they count as public.
    exceptions: list[JsonValue] = [f"{_in_brackets(network)}=public" for network in reachable]
    return {
        **everywhere,
        "LocalNetworkAccessIpAddressSpaceOverrides": exceptions,
        "URLBlocklist": list(LOCAL),  # a tab itself is no matter of Local Network Access
    }


def _in_brackets(network: Network) -> str:
    address, _, length = str(network).partition("/")
    return f"[{address}]/{length}" if network.version == 6 else f"{address}/{length}"


def _encoded(authorities: Iterable[Path]) -> list[JsonValue]:
    return [base64.b64encode(der).decode() for path in authorities for der in certificates(path)]


def certificates(path: Path) -> list[bytes]:
    """The certificates in the PEM file at PATH, as DER; raises ConfigurationError when there are none."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"browser.certificate_authorities: {path}: {error.strerror or error}",
            hint="a PEM file with one or more certificates",
        ) from error
    return context.get_ca_certs(binary_form=True)
