"""How a component says what it is: its settings, how it is made, and what the hub has to know of it before.

A component is found by an entry point that names such a declaration, usually in the ``factory`` module of its package:

.. code-block:: toml

    [project.entry-points."obs_hub.exporters"]
    kafka = "my_exporters.kafka.factory:COMPONENT"

The declaration is imported to check a configuration that names the type, so what is heavy is imported within
``create``, which is called only to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gateway.base.settings import Settings
from gateway.component.batch import Signal

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

    from gateway.component.documents import DocumentSource
    from gateway.component.interfaces import Consumer, Exporter, Processor, Receiver, Service
    from gateway.net.access import Authenticator
    from gateway.net.http_bodies import Bodies

ALL_SIGNALS = frozenset(Signal)


class ProcessorSettings(Settings):
    """Base of the settings of processors that not every pipeline can have, as they are set."""

    def signals(self) -> frozenset[Signal]:
        """Return the signals of the pipelines that it can be in, of those that its type takes."""
        return ALL_SIGNALS


def _no_meter() -> Meter:
    from opentelemetry.metrics import NoOpMeter

    return NoOpMeter("")


def _no_tracer() -> Tracer:
    from opentelemetry.trace import NoOpTracer

    return NoOpTracer()


def _bodies() -> Bodies:
    from gateway.net.http_bodies import Bodies

    return Bodies()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a component is given of the hub that it becomes a part of. Every default is that of a hub without it."""

    signals: frozenset[Signal] = ALL_SIGNALS
    """Those that the hub has pipelines for; of a receiver, those that it is in a pipeline of; of a processor, that of
    its pipeline."""
    pipeline: str = ""
    """The pipeline that a processor is a part of, such as ``logs/audit``."""
    state_dir: Path | None = None
    """Where the component may keep what it has to remember; it makes the directory when it needs it. One process has
    it at a time. None: nothing outlasts this process."""
    data_dir: Path | None = None
    """The hub's own directory: for what components share."""
    embedded_dsn: str | None = None
    """The connection string of the embedded PostgreSQL, where that runs."""
    meter: Meter = field(default_factory=_no_meter)
    """For metrics about itself."""
    tracer: Tracer = field(default_factory=_no_tracer)
    """For spans about itself."""
    authenticators: Mapping[str, Authenticator] = field(default_factory=dict)
    """Those that listeners may ask for, by the name of their extension."""
    bodies: Bodies = field(default_factory=_bodies, repr=False)
    """Bounds what arrives over HTTP at all listeners of the process together."""
    reuse_port: bool = False
    """Whether listeners share their addresses with other processes (``SO_REUSEPORT``): then each must."""

    @property
    def signal(self) -> Signal:
        """That of the pipeline which a processor is a part of."""
        (signal,) = self.signals
        return signal

    def within(self, pipeline: str, signal: Signal) -> Context:
        """Return what a processor of a pipeline is given."""
        return replace(self, pipeline=pipeline, signals=frozenset({signal}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A type of receiver, processor, exporter, extension or source of documents; which one its class says.

    ``settings`` is the class that its part of the configuration is validated by, ``signals`` those that it can give or
    take. ``create`` makes one, given its name in the configuration (``kafka`` or ``kafka/audit``) and its settings.
    """

    settings: type[Settings]
    create: Callable[..., Any]
    signals: frozenset[Signal] = ALL_SIGNALS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverComponent(Component):
    """A type of receiver. One that ``listens`` is sent to by others and runs in every worker of a hub; another emits
    something itself, and runs once."""

    create: Callable[[str, Any, Consumer, Context], Receiver]
    listens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorComponent(Component):
    """A type of processor. Each pipeline that names one has one made of its own.

    Its settings may narrow, by a method ``signals``, which pipelines they can stand in (`ProcessorSettings`).
    """

    create: Callable[[str, Any, Context], Processor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterComponent(Component):
    """A type of exporter. Its settings are `ExporterSettings`, for the layers around it."""

    create: Callable[[str, Any, Context], Exporter]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceComponent(Component):
    """A type of source of documents, which pipelines read (`gateway.component.documents`).

    Its settings are `DocumentSettings`, with a field of the type's own name.
    """

    create: Callable[[str, Any], DocumentSource]
    signals: frozenset[Signal] = frozenset({Signal.LOGS})


def _never(name: str, settings: Any, context: Any) -> Service:
    raise NotImplementedError(f"{name} is no part of a hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionComponent(Component):
    """A type of extension: a service beside the pipelines, unless it says otherwise.

    What its ``create`` is given is a `Context`, which for a service is `gateway.extensions.view.HubView`.
    """

    create: Callable[[str, Any, Any], Service | Authenticator] = _never
    signals: frozenset[Signal] = frozenset()
    authenticates: bool = False
    """Whether it is asked who a client is, and has no life of its own."""
    shows_others: bool = False
    """Whether it serves what other services have, and so is made after them: the API front."""
    command: str = ""
    """The command of ``obs-hub`` that is all that reads its settings. Such a one is no part of the hub, and never
    made."""
