"""What OTLP's metrics, attributes and resources are called in Prometheus.

Sources: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", "OTLP Metric points to Prometheus";
and, where that leaves it open, what Prometheus 3's own OTLP receiver does with the same settings, which bear the same
names: whoever sends the same telemetry to both is to find the same names in both.
"""

from __future__ import annotations

import base64
import enum
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.query.numbers_text import shortest

JOB, INSTANCE = "job", "instance"
TARGET_INFO = "target_info"

HOST_LIKE = (
    *("host.name", "process.pid", "process.executable.name", "container.name"),
    *("k8s.cluster.name", "k8s.namespace.name", "k8s.node.name", "k8s.pod.name", "k8s.container.name"),
)
"""Attributes of resources that tell one from another where there is no ``service.instance.id``."""


class Strategy(enum.StrEnum):
    """How names are made, as Prometheus's ``otlp.translation_strategy`` has it."""

    UNDERSCORES_AND_SUFFIXES = "UnderscoreEscapingWithSuffixes"
    UNDERSCORES = "UnderscoreEscapingWithoutSuffixes"
    SUFFIXES = "NoUTF8EscapingWithSuffixes"
    AS_THEY_ARE = "NoTranslation"

    @property
    def escapes(self) -> bool:
        """Whether what Prometheus's names had no room for before version 3 becomes an underscore."""
        return self in (Strategy.UNDERSCORES_AND_SUFFIXES, Strategy.UNDERSCORES)

    @property
    def adds_suffixes(self) -> bool:
        """Whether names end with unit and type."""
        return self in (Strategy.UNDERSCORES_AND_SUFFIXES, Strategy.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Translation:
    """Settings of the translation, as those of Prometheus's section ``otlp`` of the same names."""

    strategy: Strategy = Strategy.UNDERSCORES_AND_SUFFIXES
    promote_resource_attributes: frozenset[str] = frozenset(HOST_LIKE)
    promote_all_resource_attributes: bool = False
    ignore_resource_attributes: frozenset[str] = frozenset()
    """Those that are not promoted with all others."""
    keep_identifying_resource_attributes: bool = False
    """Whether ``target_info`` has those as well that ``job`` and ``instance`` are made of."""
    promote_scope_metadata: bool = False

    def promotes(self, attribute: str) -> bool:
        """Tell whether an attribute of a resource becomes a label of its series."""
        if self.promote_all_resource_attributes:
            return attribute not in self.ignore_resource_attributes
        return attribute in self.promote_resource_attributes


# -- names of metrics --------------------------------------------------------------------------------------------------

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9:]")
_NOT_IN_NAMES_RUN = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_UNDERSCORE_EITHER = re.compile(r"[^a-zA-Z0-9:_]+")
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9]")
_UNDERSCORES = re.compile(r"_+")
_SPACES = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's White_Space, which Go takes away around units; Python's own ``strip`` takes separators of files as well."""


def metric_name(strategy: Strategy, name: str, unit: str, kind: str, *, monotonic: bool) -> str | None:
    """Return what a metric is called; None where nothing is left that could be a name.

    ``kind`` is ``gauge``, ``sum``, ``histogram``, ``exponential_histogram`` or ``summary``.
    """
    total, ratio = kind == "sum" and monotonic, kind == "gauge" and unit == "1"
    if strategy.escapes:
        found = _escaped(strategy, name, unit, total, ratio)
        return found if found and (found == name or found.strip("_")) else None
    if strategy.adds_suffixes:
        name = _with_suffixes(name, unit, total, ratio)
    return name or None


def _escaped(strategy: Strategy, name: str, unit: str, total: bool, ratio: bool) -> str:
    if strategy.adds_suffixes:
        tokens = [each for each in _NOT_IN_NAMES_RUN.split(name) if each]
        main, per = (_clean(suffix) for suffix in _unit_suffixes(unit))
        main = "" if main in tokens else main
        per = "" if per == "per_" else per.removesuffix("_")
        per = "" if per in tokens else per
        main = main.removesuffix("_") if per else main
        tokens += [suffix for suffix in (main, per) if suffix]
        if total:
            tokens = [*(each for each in tokens if each != "total"), "total"]
        if ratio:
            tokens = [*(each for each in tokens if each != "ratio"), "ratio"]
        name = "_".join(tokens)
    else:
        name = "_".join(token for token in _NOT_UNDERSCORE_EITHER.split(name) if token)
    return f"_{name}" if name[:1].isdigit() else name


def _with_suffixes(name: str, unit: str, total: bool, ratio: bool) -> str:
    main, per = _unit_suffixes(unit)
    outer = [suffix for suffix, there in (("ratio", ratio), ("total", total), (per, bool(per))) if there]
    for suffix in outer:  # what is there already goes to its place at the end
        if name.endswith(suffix) and len(name) > len(suffix) + 1:
            name = name[: -len(suffix) - 1]
    if main and not name.endswith(main):
        name = f"{name}_{main}"
    return "_".join([name, *reversed(outer)])


def _unit_suffixes(unit: str) -> tuple[str, str]:
    """Return what a unit adds to a name: for itself, and for what is behind a slash."""
    main, slash, per = unit.partition("/")
    main, per = main.strip(_SPACES), per.strip(_SPACES)
    main = "" if "{" in main or "}" in main else _UNITS.get(main, main)
    if not slash or not per or "{" in per or "}" in per:
        return main, ""
    per = _PER.get(per, per)
    return main, f"per_{per}" if per else ""


def _clean(suffix: str) -> str:
    return _UNDERSCORES.sub("_", _NOT_IN_NAMES.sub("_", suffix)).removeprefix("_")


def unit_name(unit: str) -> str:
    """Return how a unit is shown among the metadata of a metric."""
    shown = "_".join(suffix for suffix in map(_clean, _unit_suffixes(unit)) if suffix)
    return shown.removeprefix("_").removesuffix("_")


# -- labels ------------------------------------------------------------------------------------------------------------


def label_name(strategy: Strategy, attribute: str) -> str | None:
    """Return the label that an attribute becomes; None where there is no name in it.

    As Prometheus does by default, several underscores stay, and what begins with one gets ``key`` before it.
    """
    if not strategy.escapes:
        return attribute if attribute.strip("_") else None
    name = _NOT_IN_LABELS.sub("_", attribute)
    if name[:1].isdigit():
        name = f"key_{name}"
    elif name.startswith("_") and not name.startswith("__"):
        name = f"key{name}"
    return name if name.strip("_") else None


def text_of(value: Any) -> str:
    """Return the value of an attribute, as the store has it in JSON, as the text of a label.

    Source: what the Collector's ``pcommon.Value.AsString`` does, which Prometheus uses.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _double(value)
        case {"$bytes": str(content)} if len(value) == 1:
            return base64.b64encode(base64.b64decode(content)).decode()
        case {"$double": str(name)} if len(value) == 1:
            return "-0" if name == "-0" else _double(float(name))
        case _:
            return _json(value)


def _double(value: float) -> str:
    if not math.isfinite(value):
        return f"json: unsupported value: {shortest(value)}"
    if value != 0 and (abs(value) < 1e-6 or abs(value) >= 1e21):
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa.removesuffix('.0')}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return shortest(value)


def _json(value: Any) -> str:
    match value:
        case str() | {"$bytes": _}:
            shown = json.dumps(value if isinstance(value, str) else text_of(value), ensure_ascii=False)
            for sign in "<>&\u2028\u2029":
                shown = shown.replace(sign, f"\\u{ord(sign):04x}")
            return shown
        case None:
            return "null"
        case list():
            return f"[{','.join(map(_json, value))}]"
        case {"$kvlist": pairs} if len(value) == 1:
            return _json(dict(pairs))
        case dict() if "$double" not in value:
            return "{" + ",".join(f"{_json(key)}:{_json(item)}" for key, item in sorted(value.items())) + "}"
        case _:
            return text_of(value)


Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class ResourceLabels:
    """What the labels of all series of a resource have in common."""

    own: Labels
    """``job`` and ``instance``, which win over attributes of points."""
    promoted: Labels
    """Other labels, which attributes of points win over."""


def resource_labels(translation: Translation, attributes: Mapping[str, Any]) -> ResourceLabels:
    """Return the labels that a resource gives its series."""
    own = {}
    if job := text_of(attributes.get("service.name")):
        namespace = attributes.get("service.namespace")
        own[JOB] = job if namespace is None else f"{text_of(namespace)}/{job}"
    elif "service.name" in attributes and "service.namespace" in attributes:
        own[JOB] = f"{text_of(attributes['service.namespace'])}/"
    if instance := text_of(attributes.get("service.instance.id")):
        own[INSTANCE] = instance
    promoted = {}
    for key, value in attributes.items():
        if translation.promotes(key) and (name := label_name(translation.strategy, key)) is not None:
            promoted[name] = text_of(value)
    return ResourceLabels(own, {name: value for name, value in promoted.items() if value})


def scope_labels(
    translation: Translation, name: str | None, version: str, schema_url: str, attributes: Mapping[str, Any]
) -> Labels:
    """Return the labels that an instrumentation scope gives its series."""
    if not translation.promote_scope_metadata or not name:
        return {}
    labels = {}
    for key, value in attributes.items():
        if (its := label_name(translation.strategy, f"otel_scope_{key}")) is not None:
            labels[its] = text_of(value)
    labels |= {"otel_scope_name": name, "otel_scope_version": version, "otel_scope_schema_url": schema_url}
    return labels


def series_labels(
    translation: Translation, attributes: Mapping[str, Any], resource: ResourceLabels, scope: Labels
) -> Labels:
    """Return the labels of a series, without the metric's name, ``le`` and ``quantile``."""
    labels: Labels = {}
    for key in sorted(attributes) if len(attributes) > 1 else attributes:
        if key == "__name__" or (name := label_name(translation.strategy, key)) is None:
            continue
        value, before = text_of(attributes[key]), labels.get(name)
        labels[name] = f"{before};{value}" if before else value
    for name, value in resource.promoted.items():
        if not labels.get(name):
            labels[name] = value
    labels |= resource.own
    labels |= scope
    return {name: value for name, value in labels.items() if value} if "" in labels.values() else labels


_IDENTIFYING = ("service.namespace", "service.name", "service.instance.id")


def target_info(translation: Translation, attributes: Mapping[str, Any]) -> Labels | None:
    """Return the labels of a resource's ``target_info``, without the name; None where it has none.

    It has none where there is nothing to tell, or neither ``job`` nor ``instance`` to tell it of.
    """
    if all(key in _IDENTIFYING for key in attributes):
        return None
    own = resource_labels(translation, attributes).own
    told = {
        key: value
        for key, value in attributes.items()
        if translation.keep_identifying_resource_attributes or key not in _IDENTIFYING
    }
    labels = series_labels(translation, told, ResourceLabels(own, {}), {})
    return labels if JOB in labels or INSTANCE in labels else None


# -- the families of a metric ------------------------------------------------------------------------------------------


class Part(enum.Enum):
    """Which of a metric's series in Prometheus it is: one of OTLP may become several."""

    VALUE = ""
    BUCKET = "_bucket"
    SUM = "_sum"
    COUNT = "_count"
    QUANTILE = "quantile"
    NATIVE = "native"
    INFO = "info"


def parts(kind: str) -> Sequence[tuple[Part, str]]:
    """Return the parts of a kind of metric, each with what its name ends with."""
    return _PARTS[kind]


_NUMBER = ((Part.VALUE, ""),)
_PARTS: dict[str, Sequence[tuple[Part, str]]] = {
    "gauge": _NUMBER,
    "sum": _NUMBER,
    "histogram": ((Part.BUCKET, "_bucket"), (Part.SUM, "_sum"), (Part.COUNT, "_count")),
    "exponential_histogram": ((Part.NATIVE, ""),),
    "summary": ((Part.QUANTILE, ""), (Part.SUM, "_sum"), (Part.COUNT, "_count")),
}

_HEX = re.compile(r"_([0-9a-fA-F]{1,6})_|__|_")


def unescaped(label: str) -> str:
    """Return the name that ``U__service_2e_name`` stands for; a name that is not written so as it is.

    Source: Prometheus, "UTF-8 guide", "Querying": a name's other characters are their code points between underscores,
    and an underscore is two.
    """
    if not label.startswith("U__"):
        return label
    found, place, text = [], 0, label[3:]
    while place < len(text):
        if text[place] != "_":
            found.append(text[place])
            place += 1
        elif text.startswith("__", place):
            found.append("_")
            place += 2
        else:
            if (code := _HEX.match(text, place)) is None or code[1] is None or int(code[1], 16) > 0x10FFFF:
                return label
            found.append(chr(int(code[1], 16)))
            place = code.end()
    return "".join(found)


def joined(names: Iterable[Iterable[str]]) -> list[str]:
    """Return names of several lists, each once, sorted."""
    return sorted(set(itertools.chain.from_iterable(names)))
