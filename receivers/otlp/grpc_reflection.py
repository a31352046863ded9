"""Server reflection: what is served here, told to tools such as grpcurl, which need no ``.proto`` file then.

Both versions of the service are answered, ``v1`` and ``v1alpha``, whose messages are the same. A client asks for as
long as it likes within one call, and everybody may ask: all there is to hear is published anyway.

Source: gRPC's ``doc/server-reflection.md`` and ``src/proto/grpc/reflection``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from gateway.component import Signal
from gateway.otlp.services import SERVICES
from receivers.otlp.grpc_call import Call, Method
from receivers.otlp.grpc_messages import StatusError
from receivers.otlp.refusal import malformed, overloaded
from receivers.otlp.stream_limit import StreamLimit

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
"""The packages that the service is in."""

_MOST_CLIENTS = 64
"""Calls at once, of all clients: people ask, and an answer is a thousand times as long as its question."""

_MOST_OF_A_QUESTION = 4096
_MOST_UNSENT = 256 * 2**10
"""Bytes of a question, and of answers that a client has asked for and does not take."""

_FIELDS: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "ServerReflectionRequest": (
        ("host", 1, "string", ""),
        ("file_by_filename", 3, "string", "message_request"),
        ("file_containing_symbol", 4, "string", "message_request"),
        ("file_containing_extension", 5, "ExtensionRequest", "message_request"),
        ("all_extension_numbers_of_type", 6, "string", "message_request"),
        ("list_services", 7, "string", "message_request"),
    ),
    "ExtensionRequest": (("containing_type", 1, "string", ""), ("extension_number", 2, "int32", "")),
    "ServerReflectionResponse": (
        ("valid_host", 1, "string", ""),
        ("original_request", 2, "ServerReflectionRequest", ""),
        ("file_descriptor_response", 4, "FileDescriptorResponse", "message_response"),
        ("all_extension_numbers_response", 5, "ExtensionNumberResponse", "message_response"),
        ("list_services_response", 6, "ListServiceResponse", "message_response"),
        ("error_response", 7, "ErrorResponse", "message_response"),
    ),
    "FileDescriptorResponse": (("file_descriptor_proto", 1, "bytes", "*"),),
    "ExtensionNumberResponse": (("base_type_name", 1, "string", ""), ("extension_number", 2, "int32", "*")),
    "ListServiceResponse": (("service", 1, "ServiceResponse", "*"),),
    "ServiceResponse": (("name", 1, "string", ""),),
    "ErrorResponse": (("error_code", 1, "int32", ""), ("error_message", 2, "string", "")),
}
"""The messages: name, number, type and oneof of each field; ``*`` is a repeated one."""


def _file(package: str) -> descriptor_pb2.FileDescriptorProto:
    """Describe the service itself, which tools ask about like any other."""
    kinds = descriptor_pb2.FieldDescriptorProto
    name = f"{package.replace('.', '/')}/reflection.proto"
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for field_name, number, kind, mark in fields:
            label = kinds.LABEL_REPEATED if mark == "*" else kinds.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if kind in _FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
            if mark not in ("", "*"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name=mark)
                field.oneof_index = 0
    file.service.add(name="ServerReflection").method.add(
        name="ServerReflectionInfo",
        input_type=f".{package}.ServerReflectionRequest",
        output_type=f".{package}.ServerReflectionResponse",
        client_streaming=True,
        server_streaming=True,
    )
    return file


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for package in VERSIONS:
        pool.Add(_file(package))
    return pool


_OWN = _pool()
_Question: Any = message_factory.GetMessageClass(_OWN.FindMessageTypeByName(f"{VERSIONS[0]}.ServerReflectionRequest"))
_Answer: Any = message_factory.GetMessageClass(_OWN.FindMessageTypeByName(f"{VERSIONS[0]}.ServerReflectionResponse"))


class Reflection:
    """Tells of the services of ``signals`` and of health."""

    def __init__(self, signals: Collection[Signal] = tuple(Signal), seats: StreamLimit | None = None) -> None:
        self._seats = seats or StreamLimit(_MOST_CLIENTS)
        self._open: set[Call] = set()
        reflection = [f"{package}.ServerReflection" for package in VERSIONS]
        exports = [SERVICES[signal].grpc_name for signal in signals]
        self._services = sorted([*exports, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, *reflection])
        self._files: dict[str, Any] = {}
        for service in exports:
            self._know(descriptor_pool.Default().FindFileContainingSymbol(service))
        self._know(health_pb2.DESCRIPTOR)
        for name in reflection:
            self._know(_OWN.FindFileContainingSymbol(name))

    def methods(self) -> dict[str, Method]:
        """Return what is answered, by path."""
        return {f"/{package}.ServerReflection/ServerReflectionInfo": self for package in VERSIONS}

    def admit(self, call: Call) -> _Conversation:
        """Let a client ask. Raises `StatusError` when too many do."""
        leave = self._seats.take(call.connection)
        if leave is None:
            raise StatusError.of(overloaded("too many clients ask for reflection", 60))
        self._open.add(call)

        def release() -> None:
            self._open.discard(call)
            leave()

        return _Conversation(self, call, release)

    def refused(self, reason: str) -> None:
        """Count nothing: a question is no telemetry."""

    def stop(self) -> None:
        """End the calls that are under way: one of them would make every shutdown last."""
        for call in tuple(self._open):
            call.finish()

    def answer(self, message: bytes) -> bytes:
        """Answer a ``ServerReflectionRequest``. Raises `StatusError` for what is none."""
        try:
            question = _Question.FromString(message)
        except DecodeError:
            raise StatusError.of(malformed("the message is no ServerReflectionRequest")) from None
        answer = _Answer(valid_host=question.host, original_request=question)
        kind = question.WhichOneof("message_request")
        asked: Any = None if kind is None else getattr(question, kind)
        files: list[Any] | None = None
        if kind == "list_services":
            for name in self._services:
                answer.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            files = self._with_imports(self._files.get(asked))
        elif kind == "file_containing_symbol":
            files = self._with_imports(self._file_of(asked))
        elif kind == "all_extension_numbers_of_type" and self._file_of(asked) is not None:
            answer.all_extension_numbers_response.base_type_name = asked  # proto3 has no extensions
        elif kind is None:
            _fail(answer, grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing")
        else:
            files = []
        if files:
            answer.file_descriptor_response.file_descriptor_proto.extend(each.serialized_pb for each in files)
        elif files is not None:
            what = asked.containing_type if kind == "file_containing_extension" else asked
            _fail(answer, grpc.StatusCode.NOT_FOUND, f"not found: {what[:200]}")
        return bytes(answer.SerializeToString())

    def _know(self, file: Any) -> None:
        if file.name not in self._files:
            self._files[file.name] = file
            for imported in file.dependencies:
                self._know(imported)

    def _file_of(self, symbol: str) -> Any:
        """Return the file that has a symbol, of those that are served; None when none of them has."""
        for pool in (descriptor_pool.Default(), _OWN):
            file = _find(pool, symbol)
            if file is not None and file.name in self._files:
                return file
        return None

    def _with_imports(self, file: Any) -> list[Any]:
        """Return a file and all that it needs, each once, what is needed after what needs it."""
        needed: dict[str, Any] = {}

        def need(each: Any) -> None:
            if each.name not in needed:
                for imported in each.dependencies:
                    need(imported)
                needed[each.name] = each

        if file is not None:
            need(file)
        return list(reversed(needed.values()))


def _find(pool: Any, symbol: str) -> Any:
    """Return the file of a message, enum, service or method; None where there is none."""
    with contextlib.suppress(KeyError):
        return pool.FindFileContainingSymbol(symbol)
    with contextlib.suppress(KeyError):  # methods are not among what pools find
        service, _, method = symbol.rpartition(".")
        return pool.FindServiceByName(service).methods_by_name[method].containing_service.file
    return None


def _fail(answer: Any, code: grpc.StatusCode, message: str) -> None:
    answer.error_response.error_code = code.value[0]
    answer.error_response.error_message = message


class _Conversation:
    """One client's call, with as many questions as it has."""

    most = _MOST_OF_A_QUESTION

    def __init__(self, reflection: Reflection, call: Call, release: Callable[[], None]) -> None:
        self._reflection = reflection
        self._call = call
        self.release = release

    def resize(self, size: int) -> None:
        if size > self.most:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"a question has at most {self.most} bytes")

    async def answer(self, message: bytes) -> None:
        raise AssertionError("what has a reply to each message is not asked for one to all")

    def reply(self, message: bytes) -> bytes:
        if self._call.unsent > _MOST_UNSENT:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the answers are not taken")
        return self._reflection.answer(message)
