"""The OpenAPI document of what is under /api."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from fleet import VERSION
from hub.web.acting import Acts
from hub.web.cards import Fleet, Run
from hub.web.closer import Exits, Moment, One, Watched
from hub.web.keys import Keys
from hub.web.view import Whole


class Results(BaseModel, frozen=True):
    """A page of runs; `next` is `from` of the next one, "" at the end."""

    runs: tuple[Run, ...]
    next: str


_LISTED: dict[str, tuple[tuple[str, ...], Any]] = {
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
    "/api/jobs": (("after", "state", "site"), dict[str, Any]),
}


def described() -> dict[str, Any]:
    """All of it."""
    paths = {path: {"get": _operation(path, *each)} for path, each in _LISTED.items()}
    many = {name: {"schema": {"type": "string"}} for name in ("application/jsonl", "text/csv")}
    added = {"requestBody": {"required": True, "content": many}, "security": [{"token": []}]}
    paths["/api/jobs"]["post"] = {**_operation("", (), list[dict[str, Any]]), **added}
    return {
        "openapi": "3.1.0",
        "info": {"title": "fleet", "version": VERSION},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(path: str, names: tuple[str, ...], kind: Any) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema()
    places = {name: "path" if f"{{{name}}}" in path else "query" for name in names}
    parameters = [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
        for name, place in places.items()
    ]
    content = {"application/json": {"schema": schema}}
    return {"parameters": parameters, "responses": {"200": {"description": "as asked", "content": content}}}
