"""Schemas reduced to what matters to who reads or writes the data, so that two of them can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect


class Shape(msgspec.Struct, frozen=True):
    """One value: the JSON types it may have, and what those are made of."""

    types: frozenset[str]
    format: str | None = None
    enum: frozenset[Any] | None = None
    properties: dict[str, Shape] = {}
    required: frozenset[str] = frozenset()
    items: Shape | None = None


def shape(schema: dict[str, Any]) -> Shape:
    """The shape of a JSON Schema, of those keywords that our contracts use."""
    enum = schema.get("enum")
    kind = schema.get("type", sorted({_type_of(value) for value in enum or ()}))
    return Shape(
        types=frozenset([kind] if isinstance(kind, str) else kind),
        format=schema.get("format"),
        enum=frozenset(enum) - {None} if enum else None,
        properties={name: shape(part) for name, part in schema.get("properties", {}).items()},
        required=frozenset(schema.get("required", ())),
        items=shape(schema["items"]) if "items" in schema else None,
    )


def shape_of(struct: type[msgspec.Struct]) -> Shape:
    """The shape of what msgspec writes and reads for a struct."""
    return _shape_of(inspect.type_info(struct))


def _shape_of(info: inspect.Type) -> Shape:
    match info:
        case inspect.StructType(fields=fields):
            return Shape(
                frozenset({"object"}),
                properties={field.encode_name: _shape_of(field.type) for field in fields},
                required=frozenset(field.encode_name for field in fields if field.required),
            )
        case inspect.UnionType(types=types):
            [filled] = [_shape_of(t) for t in types if not isinstance(t, inspect.NoneType)]
            return msgspec.structs.replace(filled, types=filled.types | {"null"})
        case inspect.ListType(item_type=item):
            return Shape(frozenset({"array"}), items=_shape_of(item))
        case inspect.LiteralType(values=values):
            return Shape(frozenset(_type_of(value) for value in values), enum=frozenset(values))
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return msgspec.structs.replace(_shape_of(inner), format=(extra or {}).get("format"))
    kind, form = _PLAIN[type(info)]
    return Shape(frozenset({kind}), format=form)


_PLAIN: dict[type[inspect.Type], tuple[str, str | None]] = {
    inspect.StrType: ("string", None),
    inspect.IntType: ("integer", None),
    inspect.BoolType: ("boolean", None),
    inspect.DateTimeType: ("string", "date-time"),  # msgspec.json.schema says so only of those with an offset
    inspect.DateType: ("string", "date"),
    inspect.UUIDType: ("string", "uuid"),
}


def _type_of(value: Any) -> str:
    return {str: "string", bool: "boolean", int: "integer", type(None): "null"}[type(value)]


def unread(reader: Shape, written: Shape, at: str = "$") -> Iterator[str]:
    """Why a reader of one shape cannot take everything that is written in another; nothing when it can."""
    if not written.types <= reader.types and not (written.types == {"integer"} and "number" in reader.types):
        yield f"{at}: may be {sorted(written.types - reader.types)}"
    if reader.format not in (None, written.format):
        yield f"{at}: is {written.format}, not {reader.format}"
    if reader.enum is not None and not (written.enum is not None and written.enum <= reader.enum):
        yield f"{at}: may be {sorted(written.enum - reader.enum) if written.enum else 'any value'}"
    for name in sorted(reader.required - written.required):
        yield f"{at}.{name}: may be absent"
    for name, part in reader.properties.items():
        if name in written.properties:
            yield from unread(part, written.properties[name], f"{at}.{name}")
    if reader.items and written.items:
        yield from unread(reader.items, written.items, f"{at}[]")


def unheard(reader: Shape, written: Shape, at: str = "$") -> Iterator[str]:
    """What one shape has and the other has not: a reader that waits for it waits in vain."""
    for name, part in reader.properties.items():
        if name not in written.properties:
            yield f"{at}.{name}: is never written"
        else:
            yield from unheard(part, written.properties[name], f"{at}.{name}")


def broken_for_readers(old: Shape, new: Shape) -> list[str]:
    """Why who reads by the old schema cannot read what is written by the new one."""
    return [*unread(old, new), *unheard(old, new)]


def broken_for_writers(old: Shape, new: Shape) -> list[str]:
    """Why what is written by the old schema is not taken, or not understood, by the new one."""
    return [*unread(new, old), *unheard(old, new)]
