"""Which options each task accepts, as the tasks declared them (worker.tasks.declared). Jobs are checked against this
when they are accepted. None of the tasks' code runs here, so their own validators are not applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError

from fleet.settings.mistakes import hidden
from fleet.settings.web_address import WebAddress

Schema = Mapping[str, Any]
_MOST_TOLD = 5
_LONGEST = 200
_LIMITS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "pattern": "pattern",
}
_PLAIN: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}


class _Table(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _has_its_keys_alone(cls, given: object) -> object:
        known = [field.alias for field in cls.model_fields.values()]
        if cls.model_config.get("extra") == "forbid" and isinstance(given, dict):
            for name in sorted(map(str, given.keys() - {*known})):
                words = {"name": name[:50], "known": ", ".join(map(str, known))}
                raise PydanticCustomError("unknown", "there is no '{name}'; there are {known}", words)
        return given


class Declared:
    """The TASKS by name, with the JSON Schema of their options; None: the task accepts anything."""

    def __init__(self, tasks: Mapping[str, Any]) -> None:
        self._tasks = tasks
        self._models: dict[str, Any] = {}
        self._modules = {name.partition(":")[0] for name in tasks if ":" in name}

    def check(self, task: str, options: Mapping[str, Any]) -> None:
        """Raise ValueError, with what is allowed, for a TASK or OPTIONS that the worker would refuse."""
        if not self._tasks:
            return
        if task not in self._tasks:
            module, colon, _ = task.partition(":")
            if colon and module not in self._modules:  # a module that only workers import
                return
            known = ", ".join(name for name, schema in self._tasks.items() if schema is not None)
            raise ValueError(f"task: there is no {task[:100]!r}; there are {known}")
        schema = self._tasks[task]
        if schema is None:
            return
        if task not in self._models:
            self._models[task] = create_model("Options", value=(_Kinds(schema).of(schema), ...))
        try:
            self._models[task].model_validate({"value": {**options}})
        except ValidationError as error:
            raise ValueError("; ".join(_wrong(one) for one in error.errors()[:_MOST_TOLD])) from None


UNKNOWN = Declared({})
"""For commands without a declaration."""


def _wrong(item: Any) -> str:
    place = [str(part) for part in item["loc"][1:] if not str(part).startswith(_TAG)]
    value = "" if item["type"] in ("missing", "unknown") else f" (it is {repr(item['input'])[:_LONGEST]})"
    words = item["msg"].removeprefix("Value error, ")
    return hidden(f"{'.'.join(['arguments', *place])}: {words[:1].lower()}{words[1:]}{value}")


_TAG = "kind:"


def _group(given: object) -> str:
    return _TAG + ("table" if isinstance(given, dict) else "list" if isinstance(given, list | tuple) else "plain")


class _Kinds:
    """Python types for SCHEMA, as lax as the task itself: "5" is a number.

    An unknown part accepts anything.
    """

    def __init__(self, schema: Schema) -> None:
        self._named: Mapping[str, Schema] = schema.get("$defs", {})
        self._made: dict[str, Any] = {}

    def of(self, schema: Schema) -> Any:
        if name := str(schema.get("$ref", "")).removeprefix("#/$defs/"):
            if name not in self._made:
                self._made[name] = Any  # within itself
                self._made[name] = self.of(self._named[name])
            return self._made[name]
        if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
            plain = all(isinstance(one, str | int | bool | None) for one in choices)
            return Literal[tuple(choices)] if plain else Any
        if several := schema.get("anyOf") or schema.get("oneOf"):
            return self._union(several)
        if schema.get("type") == "object":
            return self._table(schema) if "properties" in schema else self._mapping(schema)
        return self._plain(schema)

    def _plain(self, schema: Schema) -> Any:
        kind = schema.get("type")
        limits = {_LIMITS[name]: value for name, value in schema.items() if name in _LIMITS}
        if kind == "array":
            return Annotated[list[self.of(schema.get("items", {}))], Field(**limits)]  # type: ignore[misc]
        if kind == "string" and "format" in schema:
            return WebAddress if schema["format"] == "web-address" else Any
        return Annotated[_PLAIN[kind], Field(**limits)] if kind in _PLAIN else None if kind == "null" else Any

    def _union(self, several: list[Schema]) -> Any:
        groups: dict[str, list[Any]] = {}
        for one in several:
            made = self.of(one)
            if made is Any:
                return Any
            kind = {"object": "table", "array": "list"}.get(self._seen(one).get("type", ""), "plain")
            groups.setdefault(_TAG + kind, []).append(made)
        if len(groups) == 1:
            return Union[tuple(*groups.values())]  # noqa: UP007 - made of values
        tagged = tuple(Annotated[Union[tuple(kinds)], Tag(tag)] for tag, kinds in groups.items())  # noqa: UP007
        words = f"input should be a {' or '.join(tag.removeprefix(_TAG) for tag in groups)} value"
        choose = Discriminator(_group, custom_error_type="kind", custom_error_message=words)
        return Annotated[Union[tagged], choose]  # noqa: UP007

    def _seen(self, schema: Schema) -> Schema:
        return self._named.get(str(schema.get("$ref", "")).removeprefix("#/$defs/"), schema)

    def _mapping(self, schema: Schema) -> Any:
        patterns: Mapping[str, Schema] = schema.get("patternProperties", {})
        for pattern, values in patterns.items():
            return dict[Annotated[str, Field(pattern=pattern)], self.of(values)]  # type: ignore[misc]
        values = schema.get("additionalProperties", {})
        return dict[Any, self.of(values)] if isinstance(values, dict) else dict[Any, Any]  # type: ignore[misc]

    def _table(self, schema: Schema) -> Any:
        needed = schema.get("required", ())
        fields: dict[str, Any] = {
            f"field_{number}": (self.of(kind), Field(default=... if name in needed else None, alias=name))
            for number, (name, kind) in enumerate(schema["properties"].items())
        }
        closed: ConfigDict = {"extra": "forbid" if schema.get("additionalProperties") is False else "ignore"}
        return create_model("Table", __base__=type("Closed", (_Table,), {"model_config": closed}), **fields)
