"""Shadow schemas: OTLP's messages declared anew, with the parts that are of no interest left as bytes.

A shadow message reads and writes the same bytes as the published one, and costs only what it looks into. A schema is
text. A line that is not indented names a message, those below it are its fields: name, number, type; then ``*`` for
repeated, ``?`` for explicit presence, ``|group`` for membership in a oneof. What a schema leaves out is carried along.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = re.compile(r"  (?P<name>\w+) = (?P<number>\d+) (?P<type>\w+)(?P<mark>\*|\?|\|(?P<group>\w+))?")


def messages(schema: str) -> dict[str, Any]:
    """Return the message classes that a schema describes, by name."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="obs_hub_shadow.proto", package="obs_hub_shadow", syntax="proto3")
    for line in filter(None, schema.splitlines()):
        match = _FIELD.fullmatch(line)
        if match is None:
            message = file.message_type.add(name=line)
            continue
        field = message.field.add(
            name=match["name"],
            number=int(match["number"]),
            label=kinds.LABEL_REPEATED if match["mark"] == "*" else kinds.LABEL_OPTIONAL,
        )
        if match["type"][0].isupper():
            field.type = kinds.TYPE_MESSAGE
            field.type_name = f".{file.package}.{match['type']}"
        else:
            field.type = kinds.Type.Value(f"TYPE_{match['type'].upper()}")
        # Explicit presence is a oneof of one member, as protoc itself writes it.
        field.proto3_optional = match["mark"] == "?"
        group = f"_{match['name']}" if field.proto3_optional else match["group"]
        if group:
            groups = [oneof.name for oneof in message.oneof_decl]
            if group not in groups:
                message.oneof_decl.add(name=group)
                groups.append(group)
            field.oneof_index = groups.index(group)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for message in file.message_type
    }
