"""Puts cookies and local storage into a new browser, and reads them from one that ends.

Only a page of a site can access its local storage: an empty page is served in its place, without asking the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from fleet.errors import ConfigurationError
from worker.browser.cdp import Refused
from worker.browser.tab import Tab
from worker.logins import Cookie, Place, State, Stored

_SECONDS = 10.0


def restore(tab: Tab, known: State) -> None:
    """Put KNOWN into TAB; raises ConfigurationError for cookies that Chrome does not accept."""
    try:
        tab.command("Network.setCookies", {"cookies": [one.model_dump(exclude_none=True) for one in known.cookies]})
    except Refused:
        raise ConfigurationError(
            "browser.state: Chrome does not accept its cookies", hint="the name or domain of one is invalid"
        ) from None
    if not known.origins:
        return
    with tab.standing_in():
        for place in known.origins:
            tab.go(f"{place.origin}/", seconds=_SECONDS)
            tab.ask("store", [[one.name, one.value] for one in place.localStorage])
        tab.go("about:blank", seconds=_SECONDS)


def taken(tab: Tab, sites: Sequence[str]) -> State:
    """The cookies and local storage of SITES in TAB."""
    hosts = [str(urlsplit(site).hostname) for site in sites]
    every = tab.command("Network.getAllCookies")["cookies"]
    # A partitioned cookie (CHIPS) is valid only inside another site, so it is no log-in at its own.
    cookies = [one for one in every if _is_for(one["domain"], hosts) and "partitionKey" not in one]
    places = []
    with tab.standing_in():
        for site in sites:
            tab.go(f"{site}/", seconds=_SECONDS)
            stored = tuple(Stored(name=name, value=value) for name, value in tab.ask("stored"))
            places.append(Place(origin=site, localStorage=stored))
        tab.go("about:blank", seconds=_SECONDS)
    made = tuple(Cookie.model_validate(one) for one in cookies)
    return State(cookies=made, origins=tuple(one for one in places if one.localStorage))


def _is_for(domain: str, hosts: Sequence[str]) -> bool:
    """Whether a cookie of DOMAIN is sent to one of HOSTS (RFC 6265, 5.1.3)."""
    bare = domain.removeprefix(".")
    return any(host == bare or (domain.startswith(".") and host.endswith(domain)) for host in hosts)
