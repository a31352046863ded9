"""THE registry: every receiver, exporter and extension there is.

A new exporter is one new module plus one line here. Settings classes and factories are named rather than imported, so
that checking a configuration loads nothing that it does not mention.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from gateway.base.settings import Settings
from gateway.component import Consumer, Exporter, Receiver, Signal
from gateway.component.interfaces import Service
from gateway.net.access import Authenticator, Authenticators
from gateway.net.http_bodies import Bodies

if TYPE_CHECKING:
    from gateway.extensions.api.view import HubView

Kind = TypeVar("Kind")

ALL = frozenset(Signal)
METRICS = frozenset({Signal.METRICS})
LOGS = frozenset({Signal.LOGS})
NO_SIGNAL: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True)
class Component(Generic[Kind]):
    """A type of receiver, exporter or extension.

    ``settings_path`` and ``factory_path`` are written ``package.module:name``; ``signals`` are those it can give or
    take; a receiver that ``listens`` is one that others send to; an extension that is a ``service`` has a life of its
    own, while the others are authenticators. An extension with a ``command`` is no part of the hub: that command of
    ``obs-hub`` is all that reads its settings, and it has no factory.
    """

    settings_path: str
    factory_path: str = ""
    signals: frozenset[Signal] = ALL
    listens: bool = False
    service: bool = False
    command: str = ""

    @property
    def settings(self) -> type[Settings]:
        """The class that its part of the configuration is validated by."""
        return cast("type[Settings]", _imported(self.settings_path))

    @property
    def factory(self) -> Callable[..., Kind]:
        """The function that makes one. Importing it may load much, so look it up only to run it."""
        return cast("Callable[..., Kind]", _imported(self.factory_path))


@dataclass(frozen=True, slots=True)
class Registry:
    """The types of components that a configuration may name."""

    receivers: Mapping[str, Component[Receiver]] = field(default_factory=dict)
    exporters: Mapping[str, Component[Exporter]] = field(default_factory=dict)
    extensions: Mapping[str, Component[Any]] = field(default_factory=dict)


COMPONENTS = Registry(
    receivers={
        "otlp": Component("receivers.otlp.config:OtlpReceiverConfig", "receivers.otlp.factory:create", listens=True),
        "hostmetrics": Component(
            "receivers.hostmetrics.config:HostMetricsConfig", "receivers.hostmetrics.factory:create", METRICS
        ),
        "journald": Component("receivers.journald.config:JournaldConfig", "receivers.journald.factory:create", LOGS),
    },
    exporters={
        "timescale": Component("exporters.timescale.config:TimescaleConfig", "exporters.timescale.factory:create"),
        "loki": Component("exporters.loki.config:LokiConfig", "exporters.loki.factory:create", LOGS),
        "otlp": Component("exporters.otlp.config:OtlpExporterConfig", "exporters.otlp.factory:create"),
    },
    extensions={
        "tokens": Component(
            "gateway.extensions.tokens.config:TokensConfig", "gateway.extensions.tokens.factory:create", NO_SIGNAL
        ),
        "api": Component(
            "gateway.extensions.api.config:ApiConfig",
            "gateway.extensions.api.factory:create",
            NO_SIGNAL,
            service=True,
        ),
        "gitops": Component(
            "gateway.extensions.gitops.config:GitOpsConfig",
            "gateway.extensions.gitops.factory:create",
            NO_SIGNAL,
            service=True,
        ),
        "gate": Component("gateway.extensions.gate.config:GateConfig", signals=NO_SIGNAL, command="obs-hub gate run"),
        "pipelines": Component(
            "gateway.extensions.document_pipelines.config:PipelinesConfig",
            "gateway.extensions.document_pipelines.factory:create",
            NO_SIGNAL,
            service=True,
        ),
    },
)


def type_of(name: str) -> str:
    """Return the type of a component by its name: ``otlp`` for ``otlp`` and for ``otlp/internal``."""
    return name.partition("/")[0]


def listens(name: str) -> bool:
    """Tell whether a receiver takes what others send, rather than emitting something itself."""
    return COMPONENTS.receivers[type_of(name)].listens


def signals_of(receiver: str) -> frozenset[Signal]:
    """Return the signals that a receiver of that name can give."""
    return COMPONENTS.receivers[type_of(receiver)].signals


def create_receiver(
    name: str,
    settings: Settings,
    consumer: Consumer,
    *,
    signals: Collection[Signal] = tuple(Signal),
    authenticators: Authenticators | None = None,
    bodies: Bodies | None = None,
    reuse_port: bool = False,
    state_dir: Path | None = None,
) -> Receiver:
    """Make the receiver of that name.

    ``signals`` are those that there are pipelines for; ``authenticators`` are those that its listeners may ask for;
    ``bodies`` bounds what arrives over HTTP. With ``reuse_port`` several processes may listen on its addresses.
    ``state_dir`` is where an emitter keeps how far it has come; it makes the directory when it needs it.
    """
    component = COMPONENTS.receivers[type_of(name)]
    if component.listens:
        return component.factory(
            name,
            settings,
            consumer,
            signals=signals,
            authenticators=authenticators,
            bodies=bodies,
            reuse_port=reuse_port,
        )
    return component.factory(name, settings, state_dir)


def create_exporter(name: str, settings: Settings, embedded_dsn: str | None = None) -> Exporter:
    """Make the exporter of that name. ``embedded_dsn`` is the embedded PostgreSQL's, where it runs."""
    return COMPONENTS.exporters[type_of(name)].factory(name, settings, embedded_dsn)


def is_service(extension: str) -> bool:
    """Tell whether an extension has a life of its own, rather than being asked who a client is."""
    return COMPONENTS.extensions[type_of(extension)].service


def serves_others(extension: str) -> bool:
    """Tell whether a service shows what other services have, and so is made after them: the API front."""
    return type_of(extension) == "api"


def create_authenticator(name: str, settings: Settings, data_dir: Path | None) -> Authenticator:
    """Make the authenticator of that name. ``data_dir`` is where it keeps what it is not told to keep elsewhere."""
    authenticator: Authenticator = COMPONENTS.extensions[type_of(name)].factory(settings, data_dir)
    return authenticator


def create_service(name: str, settings: Settings, view: HubView, authenticators: Authenticators) -> Service:
    """Make the extension of that name that has a life of its own. ``view`` is the hub as it may see it."""
    service: Service = COMPONENTS.extensions[type_of(name)].factory(name, settings, view, authenticators)
    return service


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
