"""Sends alerts: a signed webhook (standardwebhooks.com), an e-mail, or through apprise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate
from importlib.util import find_spec
from urllib.parse import urlsplit

from pydantic import JsonValue

from fleet import visible
from fleet.errors import ConfigurationError
from fleet.outside.calls import Later, Refused, Web
from fleet.outside.pointers import found, text
from fleet.settings.alerts import APPRISE, AlertSettings, AlertTargetSettings
from hub.alerts.processes import asked
from hub.alerts.rules import AGAIN, BEGUN, OVER, UNREAD
from hub.delivery.outbox import Delivery
from hub.delivery.signing import secret_of, signed
from hub.delivery.targets import document

_WORDS = {BEGUN: "begun", OVER: "over", AGAIN: "still lasts"}
_LONGEST_VALUE = 200
_LOG_IN_FIRST = 530


class Teller:
    """Sends alerts of RULES. Raises ConfigurationError for a file that cannot be read, or a target that is not set."""

    def __init__(self, rules: Mapping[str, AlertSettings], targets: Mapping[str, AlertTargetSettings]) -> None:
        self._rules, self._targets = rules, targets
        self._secrets = {name: _secret(name, one) for name, one in targets.items()}
        web = {name: one for name, one in targets.items() if not one.is_mail and one.url != APPRISE}
        self._webs = {name: Web(f"hub.alert_targets.{name}", one) for name, one in web.items()}
        for name, rule in rules.items():
            if missing := [one for one in rule.targets if one not in targets]:
                words = f"hub.alerts.{name}.targets: there is no [hub.alert_targets.{missing[0]}]"
                raise ConfigurationError(words, hint="add that table, or remove the name from targets")

    async def carry(self, run: Delivery) -> JsonValue:
        """Send the alert of RUN; its target names the rule and the recipient. Raises Later or Refused."""
        _, rule, what, name = run.target.split(":")
        if rule not in self._rules or name not in self._targets:
            raise Refused(f"fleet.toml no longer has an alert {rule} to {name}")
        told = message(rule, self._rules[rule], what, run)
        once = f"{run.job}.{run.fence}.{rule}.{what}"
        if name in self._webs:
            return await self._post(name, told, once)
        if self._targets[name].url == APPRISE:
            return await self._apprise(name, told)
        await asyncio.to_thread(self._mail, name, told, once)
        return None

    async def _post(self, name: str, told: Mapping[str, JsonValue], once: str) -> JsonValue:
        body = json.dumps(told).encode()
        headers = {"content-type": "application/json", **signed(once, body, self._secrets[name])}
        answer = await self._webs[name].ask("POST", self._targets[name].url, once, content=body, headers=headers)
        return {"status": answer.status}

    async def _apprise(self, name: str, told: Mapping[str, JsonValue]) -> JsonValue:
        title = visible.line(str(told["words"]))[:_LONGEST_VALUE]
        question = {"url": self._secrets[name], "title": title, "body": _lines(told)}
        try:
            answer = await asked("hub.alerts.apprising", question, seconds=self._targets[name].timeout_seconds)
        except asyncio.TimeoutError:
            raise Later(f"not sent within {self._targets[name].timeout_seconds:g} s") from None
        except ValueError as error:
            raise Later(str(error)) from None
        if answer.get("sent") is None:
            raise Refused(f"hub.alert_targets.{name}.secret_file: apprise knows no service with this address")
        if answer["sent"] is not True:
            raise Later("apprise could not send it; its message is not logged, because it may contain the address")
        return None

    def _mail(self, name: str, told: Mapping[str, JsonValue], once: str) -> None:
        target = self._targets[name]
        letter = EmailMessage()
        letter["From"], letter["To"] = target.sender, ", ".join(target.recipients)
        letter["Subject"], letter["Date"] = str(told["words"])[:200], formatdate()
        # So a mailbox can recognise a message that it gets twice.
        letter["Message-ID"] = f"<{once}@{target.sender.partition('@')[2]}>"
        letter.set_content(_lines(told))
        try:
            self._send(target, self._secrets[name], letter)
        except smtplib.SMTPAuthenticationError as error:  # without the server's text, which may contain the password
            raise Later(f"the server refused the log-in: {error.smtp_code}") from None
        except smtplib.SMTPResponseException as error:
            kind = Refused if 500 <= error.smtp_code < 600 and error.smtp_code != _LOG_IN_FIRST else Later
            raise kind(visible.line(f"{error.smtp_code} {error.smtp_error!r}")[:500]) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Later(visible.line(f"{type(error).__name__}: {error}")[:500]) from None

    def _send(self, target: AlertTargetSettings, secret: str, letter: EmailMessage) -> None:
        parts, trust = urlsplit(target.url), ssl.create_default_context()
        host, seconds = parts.hostname or "", target.timeout_seconds
        server = (
            smtplib.SMTP_SSL(host, parts.port or 465, timeout=seconds, context=trust)
            if parts.scheme == "smtps"
            else smtplib.SMTP(host, parts.port or 587, timeout=seconds)
        )
        try:
            if parts.scheme == "smtp" and not target.insecure:
                server.starttls(context=trust)
            if secret:
                server.login(*secret.split(":", 1))
            server.send_message(letter)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                server.quit()  # the message is delivered, whatever happens here
        finally:
            server.close()


def message(name: str, rule: AlertSettings, what: str, run: Delivery) -> dict[str, JsonValue]:
    """The message about RUN."""
    kind = what.partition("-")[0]
    told, about = document(run), run.key or f"job {run.job}"
    limit = "" if rule.than is None else f" {rule.than:g}"
    state = f", {_WORDS[kind]}" if kind in _WORDS else ""
    value, words = found(told, rule.value), f"{rule.value} {rule.when}{limit}{state}"
    if rule.when == "picture":
        value, words = f"{what.partition('-')[2]} %", f"picture differs by more than{limit} %"
    words = f"{words}: {text(value)[:_LONGEST_VALUE]}"
    if kind == UNREAD:
        value, words = None, "a picture could not be compared; the hub's log says why (alert.picture_unread)"
    return {
        # People read it in terminals and mail programs that would obey control characters and direction marks.
        "words": visible.line(f"{name}: {about}: {words}"),
        "alert": name,
        "what": kind,
        "value": value if len(text(value)) <= 4000 else None,
        **{key: told[key] for key in ("job", "fence", "key", "site", "outcome", "exit", "worker", "ended_at")},
    }


def _lines(told: Mapping[str, JsonValue]) -> str:
    return "\n".join(f"{key}: {visible.line(text(value))}" for key, value in told.items()) + "\n"


def _secret(name: str, target: AlertTargetSettings) -> str:
    secret = secret_of(f"hub.alert_targets.{name}.secret_file", target.secret_file)
    if target.is_mail and secret and ":" not in secret:
        raise ConfigurationError(f"hub.alert_targets.{name}.secret_file: {target.secret_file} holds no `user:password`")
    if target.url == APPRISE and find_spec("apprise") is None:
        raise ConfigurationError(f"hub.alert_targets.{name}: apprise is not installed", hint="sudo bin/setup --extras")
    return secret
