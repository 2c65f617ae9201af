"""`fleet page`."""

from __future__ import annotations

import argparse
import time

from fleet import look, snapshot
from fleet.errors import ConfigurationError
from fleet.terminal import console


def link(arguments: argparse.Namespace) -> None:
    web = snapshot.read(arguments.settings).fleet.hub.web
    if not (web.port and web.token_file):
        raise ConfigurationError("a link is made with the page's token", hint="set hub.web.port and hub.web.token_file")
    try:
        token = look.token_in(web.token_file)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", "") or "is not ASCII"
        hint = "the user fleet-hub must be able to read it"
        raise ConfigurationError(f"hub.web.token_file: {web.token_file}: {words}", hint=hint) from None
    until = int(time.time() + arguments.hours * 3600)
    if not (made := look.link(token, until)):
        raise ConfigurationError(f"hub.web.token_file: {web.token_file}: has less than {look.LEAST_TOKEN} characters")
    address = f"http://127.0.0.1:{web.port}{made}/"
    console.answer(arguments, {"address": address, "until": until}, address)
