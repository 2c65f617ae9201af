"""Chrome's switches and policies, and why each is there.

Policies hold for the worker alone: the launcher shows them in the worker's private /etc.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable
from pathlib import Path

from pydantic import JsonValue

from fleet.errors import ConfigurationError
from fleet.model import BrowserSettings

DROP = (
    "--no-sandbox",  # undetected-chromedriver adds it, whatever it is told
    "--test-type",
    "--lang",
    "--window-size",
    "--start-maximized",
    "--log-level",
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
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--log-level=2",
]


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
    if not settings.sandbox:
        made.append("--no-sandbox")
    return made


def policies(authorities: Iterable[Path]) -> dict[str, JsonValue]:
    """The managed policies: nothing but what a page asks for leaves the browser, names go through the system."""
    return {
        "BuiltInDnsClientEnabled": False,  # no reaction to a changed resolv.conf; only the tunnel's resolvers
        "DnsOverHttpsMode": "off",
        "WebRtcIPHandling": "disable_non_proxied_udp",
        "CACertificates": [base64.b64encode(der).decode() for path in authorities for der in certificates(path)],
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
    }


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
