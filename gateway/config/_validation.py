"""One part of a document made into its settings, and pydantic's errors made into problems with a line."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.base.settings import Settings
from gateway.config import _collector
from gateway.config._document import Document, kind
from gateway.config.errors import Place, shown_name
from gateway.suggestions import suggestion

MASK = "********"
_LONGEST_FOUND = 60
_SHORTEST_REDACTED = 4
"""A shorter secret is left where it stands inside a message: taking out every ``1`` would hide nothing but sense."""

AnySettings = TypeVar("AnySettings", bound=Settings)


def validate(model: type[AnySettings], document: Document, place: Place) -> AnySettings | None:
    """Make settings of the value at a place; a null body takes its defaults.

    Returns ``None`` when it cannot, with everything that is wrong noted in the document.
    """
    body = _value(document, place)
    body = {} if body is None else _without_nulls(model, body)
    while True:
        try:
            return model.model_validate(body)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            # A token such as 0123 came out of substitution as a number. Where text is wanted, it is the text it was.
            if not _back_to_text(body, document, place, errors):
                _note(model, body, document, place, errors)
                return None


def is_own_key(key: str) -> bool:
    """Tell whether a key is the user's own, such as a place for what YAML's anchors repeat: one that begins ``x-``."""
    return key.startswith("x-")


def _value(document: Document, place: Place) -> Any:
    value = document.root
    for step in place:
        value = value[step]
    return value


# -- What the models say -----------------------------------------------------------------------------------------------


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield what an annotation allows: the members of unions, without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the annotations of a model's fields by the name they have in a file."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _inside(annotations: Iterable[Any], step: str | int) -> list[Any]:
    """Return what is allowed one step further in."""
    found: list[Any] = []
    for annotation in annotations:
        if _is_model(annotation):
            if step in (fields := _fields(annotation)):
                found += _alternatives(fields[str(step)])
        elif args := get_args(annotation):
            found += _alternatives(args[-1])
    return found


def _without_nulls(model: type[BaseModel], body: Any) -> Any:
    """Leave out keys of the user's own, and sections that are named and left empty, which then take their defaults."""
    if not isinstance(body, dict):
        return body
    fields, result = _fields(model), {}
    for key, value in body.items():
        if is_own_key(key) and key not in fields:
            continue
        allowed = list(_alternatives(fields.get(key)))
        models = [annotation for annotation in allowed if _is_model(annotation)]
        if len(models) == 1 and value is None and type(None) not in allowed:
            continue
        result[key] = _without_nulls(models[0], value) if len(models) == 1 else value
    return result


def _secrets(annotation: Any, value: Any) -> Iterator[str]:
    allowed = list(_alternatives(annotation))
    if any(isinstance(one, type) and issubclass(one, SecretStr | SecretBytes) for one in allowed):
        yield from _texts(value)
    elif isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            for one in _inside(allowed, step):
                yield from _secrets(one, inner)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


# -- What went wrong ---------------------------------------------------------------------------------------------------


def _known_part(body: Any, error: ErrorDetails) -> Place:
    """Return where an error stands in the file: pydantic's own words for unions and keys taken out."""
    steps: list[str | int] = []
    for step in error["loc"]:
        inside = (isinstance(body, dict) and step in body) or (
            isinstance(body, list) and isinstance(step, int) and step < len(body)
        )
        if inside:
            steps.append(step)
            body = body[step]  # pyright: ignore[reportArgumentType, reportCallIssue] - as looked at above
    if error["type"] == "missing":
        steps.append(error["loc"][-1])
    return tuple(steps)


def _back_to_text(body: Any, document: Document, place: Place, errors: list[ErrorDetails]) -> bool:
    changed = False
    for error in errors:
        steps = _known_part(body, error)
        source = document.substituted.get((*place, *steps))
        if source is None or not steps:
            continue
        holder = body
        for step in steps[:-1]:
            holder = holder[step]
        if not isinstance(holder[steps[-1]], str):
            holder[steps[-1]] = source.text
            changed = True
    return changed


def _note(model: type[Settings], body: Any, document: Document, place: Place, errors: list[ErrorDetails]) -> None:
    messages: dict[Place, list[str]] = {}
    unknown_keys: set[Place] = set()
    for error in errors:
        steps = _known_part(body, error)
        inner = (*place, *steps)
        if any(inner[: len(known)] == known for known in document.unresolved | unknown_keys):
            continue  # it is a problem already, and what stands there is not what was meant
        if error["loc"][-1:] == ("[key]",):
            unknown_keys.add(inner)
        source = document.source_of(inner)
        if source not in (None, inner):
            message = "what was substituted here is not what the setting expects"
        else:
            secret = source is not None or _is_secret(model, steps)
            message = _message(model, place, steps, error, secret=secret)
        if error["type"] not in ("literal_error", "enum"):  # these only list what is expected
            for text in _hidden_texts(model, body, document, place, steps):
                message = message.replace(text, MASK)
        if message not in (known_messages := messages.setdefault(source or inner, [])):
            known_messages.append(message)
    for where, texts in messages.items():
        document.complain(where, ", or ".join(texts))


def _hidden_texts(model: type[BaseModel], body: Any, document: Document, place: Place, steps: Place) -> list[str]:
    """Return the texts that a message about this place may repeat and must not, the longest first."""
    inner = (*place, *steps)
    texts = {
        one.text for at, one in document.substituted.items() if at[: len(inner)] == inner or inner[: len(at)] == at
    }
    annotations: list[Any] = [model]
    for step in steps:
        annotations = _inside(annotations, step)
        body = body.get(step) if isinstance(body, dict) else body[int(step)]
    for annotation in annotations:
        texts.update(_secrets(annotation, body))
    return sorted((text for text in texts if len(text) >= _SHORTEST_REDACTED), key=len, reverse=True)


def _is_secret(model: type[BaseModel], steps: Place) -> bool:
    annotations: list[Any] = [model]
    for step in steps:
        annotations = _inside(annotations, step)
        if any(isinstance(one, type) and issubclass(one, SecretStr | SecretBytes) for one in annotations):
            return True
    return False


def _message(model: type[BaseModel], place: Place, steps: Place, error: ErrorDetails, *, secret: bool) -> str:
    """Say what was found and what was expected; of a secret, only the latter."""
    match error["type"]:
        case "extra_forbidden":
            hint = _collector.setting((*place, *steps))
            return f"unknown setting '{shown_name(steps[-1])}'" + (
                f"; {hint}"
                if hint
                else _misplaced(model, place, steps) or suggestion(str(steps[-1]), _known(model, steps))
            )
        case "missing":
            return f"the setting '{steps[-1]}' is required"
        case "model_type" | "model_attributes_type" | "dict_type":
            expected = "a mapping"
        case "list_type":
            expected = "a list"
        case "string_type":
            expected = "a text"
        case "too_short" if error.get("ctx", {}).get("actual_length") == 0:
            return "empty; expected at least one"
        case _:
            expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            if expected.startswith("expected "):
                expected = expected.removeprefix("expected ")
            elif error["type"] in ("value_error", "assertion_error"):
                return expected if secret else f"{expected}{_found(error['input'], collections=False)}"
    hint = ""
    if not secret and (written := _endpoint(model, steps, error["input"])) is not None:
        hint = f"; write {written}"
        if error["type"] == "string_type":
            expected = "an address"
    elif error["type"] == "string_type" and isinstance(error["input"], bool | int | float):
        hint = "; put it in quotes"
    if secret:
        return f"expected {expected}{hint}"
    return f"expected {expected}{_found(error['input'])}{hint}"


def _models(model: type[BaseModel], steps: Place) -> list[Any]:
    """Return the models that may stand at a place."""
    annotations: list[Any] = [model]
    for step in steps:
        annotations = _inside(annotations, step)
    return [one for one in annotations if _is_model(one)]


def _known(model: type[BaseModel], steps: Place) -> set[str]:
    """Return the names of the settings beside one."""
    return {name for one in _models(model, steps[:-1]) for name in _fields(one)}


def _misplaced(model: type[BaseModel], place: Place, steps: Place) -> str | None:
    """Say where a setting belongs that is known, and is indented too far or not far enough."""
    name = str(steps[-1])
    if name in ("receivers", "processors", "exporters", "extensions", "service") and place[:1] not in (
        (),
        ("service",),
    ):
        return "; it is a section: begin it at the start of the line"
    for depth in range(len(steps) - 1, 0, -1):
        if name in _known(model, steps[:depth]):
            above = (*place, *steps)[len(place) + depth - 2]
            return f"; it is a setting of '{shown_name(above)}': indent it less, to be below that"
    homes = sorted(
        field
        for field in _known(model, steps)
        if any(name in _fields(inner) for inner in _models(model, (*steps[:-1], field)))
    )
    if not homes:
        return None
    quoted = " or ".join(f"'{home}'" for home in homes)
    return f"; it is a setting of {quoted}: indent it further, to be below that"


def _endpoint(model: type[BaseModel], steps: Place, value: object) -> str | None:
    """Return how an address is to be written that lacks something: a port alone, a URL without its scheme."""
    if not steps or steps[-1] != "endpoint" or isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    local = f"127.0.0.1:{text.lstrip(':')}" if text.lstrip(":").isdigit() else text
    candidates = [local.partition("://")[2].partition("/")[0], local, f"http://{local}"]
    fields = [
        field
        for holder in _models(model, steps[:-1])
        for name, field in holder.model_fields.items()
        if (field.alias or name) == "endpoint" and "@" not in text
    ]
    for field, candidate in itertools.product(fields, candidates):
        annotation: Any = field.annotation
        for each in field.metadata:
            annotation = Annotated[annotation, each]
        with contextlib.suppress(ValidationError):
            TypeAdapter(annotation).validate_python(candidate)
            return candidate
    return None


def _found(value: object, *, collections: bool = True) -> str:
    match value:
        case bool():
            text = str(value).lower()
        case int() | float():
            text = str(value)
        case str():
            value = re.sub(r"//\S*@", "//…@", value)  # a password in a URL
            text = repr(value if len(value) <= _LONGEST_FOUND else value[:_LONGEST_FOUND] + "…")
        case None:
            text = "null"
        case _ if collections:
            text = kind(value)
        case _:
            return ""
    return f", found {text}"
