"""The OpenAPI document of the addresses for programs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fleet import VERSION
from hub.web.acting import Acts
from hub.web.cards import Fleet, Run
from hub.web.closer import Exits, Moment, One, Watched
from hub.web.keys import Keys
from hub.web.states import Health, Pressed
from hub.web.view import Whole


class Results(BaseModel, frozen=True):
    """A page of runs; `next` is the `from` of the next page, "" at the end."""

    runs: tuple[Run, ...]
    next: str


class Jobs(BaseModel, frozen=True):
    """A page of jobs that can still run; `next` is the `after` of the next page, "" at the end."""

    jobs: tuple[dict[str, Any], ...]
    next: str


class Receipt(BaseModel, frozen=True):
    """How a job was added: `new`, or `there` or `done` if its key was known."""

    job: int
    added: str


class Refusal(BaseModel, frozen=True):
    """Why a request was refused."""

    error: str


_Kind = type[BaseModel]
_LISTED: dict[str, tuple[tuple[str, ...], _Kind]] = {
    "/api/fleet": ((), Fleet),
    "/api/results": (("from", "outcome", "site"), Results),
    "/api/results/{job}.{fence}": (("job", "fence"), Whole),
    "/api/watches/{job}": (("job",), Watched),
    "/api/workers/{name}": (("name",), One),
    "/api/sites/{name}": (("name",), One),
    "/api/exits": ((), Exits),
    "/api/keys": ((), Keys),
    "/api/acts": ((), Acts),
    "/api/around/{job}.{fence}": (("job", "fence"), Moment),
    "/api/jobs": (("after", "state", "site"), Jobs),
}
_STATES: dict[str, _Kind] = {"/healthz": Health, "/pressure": Pressed}
"""Their answers have the same form with 200 and 503."""
_WRONG = {"400": "the question is wrong", "404": "there is no such thing", "503": "the database does not answer"}
_UNSENT = {"400": "a job is wrong", "401": "the token is needed", "403": "there is no token", "413": "too much at once"}
_PLACE = "#/components/schemas/{model}"


def described() -> dict[str, Any]:
    """The whole document."""
    kinds: list[_Kind] = [kind for _, kind in _LISTED.values()]
    kinds += [*_STATES.values(), Receipt, Refusal]
    named, every = models_json_schema([(kind, "serialization") for kind in dict.fromkeys(kinds)], ref_template=_PLACE)
    schemas: dict[_Kind, Any] = {kind: schema for (kind, _), schema in named.items()}  # type: ignore[misc]

    def answers(good: Any, words: dict[str, str], other: Any) -> dict[str, Any]:
        said = {code: {"description": text, "content": _json(other)} for code, text in words.items()}
        return {"200": {"description": "as asked", "content": _json(good)}, **said}

    wrong = schemas[Refusal]
    paths: dict[str, Any] = {
        path: {"get": {"parameters": _parameters(path, names), "responses": answers(schemas[kind], _WRONG, wrong)}}
        for path, (names, kind) in _LISTED.items()
    }
    for path, kind in _STATES.items():
        paths[path] = {
            "get": {"responses": answers(schemas[kind], {"503": "not so; `reason` says why"}, schemas[kind])}
        }
    many = {name: {"schema": {"type": "string"}} for name in ("application/jsonl", "text/csv")}
    receipts = {"type": "array", "items": schemas[Receipt]}
    paths["/api/jobs"]["post"] = {
        "requestBody": {"required": True, "content": many},
        "security": [{"token": []}],
        "responses": answers(receipts, _UNSENT, wrong),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "fleet", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": every.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _parameters(path: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    places = {name: "path" if f"{{{name}}}" in path else "query" for name in names}
    return [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
        for name, place in places.items()
    ]
