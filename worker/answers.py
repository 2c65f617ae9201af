"""The table of what a site's answer means. The first row that fits counts. (failures.py has the table of errors.)

refused   the site does not want this visitor: it is not asked again, nor through another exit
limited   it asks to be left alone for a while: it is not asked before that is over
absent    there is no such page
failed    something is wrong with the site, which may pass

The fleet only observes. It never reacts to these with another exit, another browser or another name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.errors import Answered, PageFailed
from fleet.outside.rest import retry_after
from fleet.result import MOST_REST_SECONDS

UNTOLD_SECONDS = 60.0
"""How long a site is left alone that is `limited` and names no time; it doubles with each one in a row."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    outcome: str
    why: str
    status: str
    """A regular expression that matches the whole status."""
    header: str = ""
    """`name: pattern`; the pattern is searched in the header's value."""

    def fits(self, status: int, headers: Mapping[str, str]) -> bool:
        name, _, pattern = self.header.partition(": ")
        told = not name or (name in headers and re.search(pattern, headers[name], re.IGNORECASE) is not None)
        return told and re.fullmatch(self.status, str(status)) is not None


RULES = (
    Rule("refused", "the site asks for a proof that a person is there", ".*", "cf-mitigated: challenge"),
    Rule("refused", "the site asks for a proof that a person is there", ".*", "x-amzn-waf-action: challenge|captcha"),
    Rule("limited", "too many requests", "429|420|430"),
    Rule("limited", "the site is not available now", "503|509|529"),
    Rule("failed", "a part of the page, which nobody asked for", "206", "content-range: ."),
    Rule("refused", "the site wants a log-in", "401|407"),
    Rule("refused", "the site refuses this visitor", "402|403|451|999"),
    Rule("absent", "there is no such page", "404|410"),
    Rule("failed", "the site does not take this request", "4.."),
    Rule("failed", "the site has failed", "5.."),
    Rule("failed", "no status of HTTP", "[6789].."),
)


def judge(url: str, status: int | None, headers: Mapping[str, str]) -> None:
    """Raise Answered for an answer other than the page, PageFailed for a failure of the site."""
    rule = next((rule for rule in RULES if rule.fits(status or 200, headers)), None)
    if rule is None:
        return
    if rule.outcome == "failed":
        raise PageFailed(url, f"HTTP_{status}")
    seconds = retry_after(headers.get("retry-after", ""), MOST_REST_SECONDS) if rule.outcome == "limited" else None
    raise Answered(rule.outcome, f"status {status}: {rule.why}", url=url, retry_after_seconds=seconds)
