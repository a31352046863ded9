"""The assembly: from a configuration to a running hub, and back to nothing.

It is the only module that knows every part. A hub starts from the store outwards, so that whoever is let in finds
everything ready, and stops from the listeners inwards, so that whatever was let in is answered for.
"""

from __future__ import annotations

import asyncio
import enum
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import structlog
from opentelemetry.trace import Tracer

from gateway import components
from gateway.base.settings import ExporterSettings, Settings
from gateway.component import Consumer, Receiver, Signal
from gateway.component.declaration import Context
from gateway.component.interfaces import Reconfigurable, Service
from gateway.config import Config
from gateway.config.service import signal_of
from gateway.data_paths import dead_letter_directory, receiver_directory, spool_directory, spools
from gateway.datadir import DataDir, read_running
from gateway.extensions.view import HubView
from gateway.net.access import Authenticator
from gateway.net.destination import EmitterSettings, destination, names_endpoint
from gateway.net.handover import Handover
from gateway.net.listeners import ListenerSettings, from_here, listeners_in
from gateway.net.remote import close, consumer_of
from gateway.pipeline import Delivery, Instruments, Pipeline
from gateway.pipeline.dead_letters import DeadLetters
from gateway.pipeline.graph import Branch, Graph
from gateway.pipeline.spool import Spool, status
from gateway.secrets.rotation import Rotation
from gateway.store import StoreSettings
from gateway.telemetry import SelfTelemetry, elsewhere

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Role(enum.Enum):
    """Which receivers a process runs: with several workers, those that listen run in each, emitters and services in the
    first process. Each has the pipelines and exporters of its own."""

    ALL = "all"
    LISTENERS = "listeners"
    EMITTERS = "emitters"


def needs_embedded(config: Config) -> bool:
    """Tell whether an exporter in use stores into the embedded PostgreSQL, because it names no server."""
    return any(store.connection_string is None for store in _stores(config))


def embedded_port(config: Config) -> int | None:
    """Return the port that the embedded PostgreSQL is to let readers in by, where an exporter in use says so."""
    return next((store.embedded_port for store in _stores(config) if store.embedded_port is not None), None)


def configured_dsn(config: Config) -> str | None:
    """Return the connection string of the first exporter that names a PostgreSQL server."""
    return next((found for store in _stores(config) if (found := store.connection_string)), None)


def configured_reader_dsn(config: Config) -> str | None:
    """Return the connection string by which the store of `configured_dsn` is read, where one is configured."""
    return next((found for store in _stores(config) if (found := store.reader_connection_string)), None)


def _stores(config: Config) -> Iterator[StoreSettings]:
    """Yield the settings of the stores in use."""
    used = (config.exporters[name] for name in config.used_exporters)
    return (settings for settings in used if isinstance(settings, StoreSettings))


def check_destinations(config: Config) -> None:
    """Find what cannot work of where emitters and the hub's own telemetry send to, before anything is started.

    Raises `gateway.net.destination.DestinationError`.
    """
    for name in config.used_receivers:
        settings = config.receivers[name]
        if isinstance(settings, EmitterSettings):
            for signal in components.receiver(name).signals:
                if names_endpoint(settings, signal):
                    destination(settings, signal)
    telemetry = config.service.telemetry
    for signal, enabled in ((Signal.METRICS, telemetry.metrics.enabled), (Signal.TRACES, telemetry.traces.enabled)):
        if enabled:
            elsewhere(telemetry, signal)


def import_all(config: Config) -> None:
    """Import what the listeners of a configuration need, what they pass through and what they give to; open nothing."""
    used = [components.receiver(name) for name in config.used_receivers if components.receiver(name).listens]
    used_by_them = [
        *(components.processor(name) for name in config.used_processors),
        *(components.exporter(name) for name in config.used_exporters),
        *(each for each in map(components.extension, config.service.extensions) if each.authenticates),
    ]
    for component in (*used, *used_by_them):
        components.import_all(component)


class Hub:
    """Receivers, pipeline and exporters of one process, as the configuration wires them."""

    def __init__(
        self,
        config: Config,
        *,
        embedded_dsn: str | None = None,
        data_dir: Path | None = None,
        role: Role = Role.ALL,
        worker: int = 0,
        processes: int = 1,
        reuse_port: bool = False,
    ) -> None:
        self._config = config
        self._stopped = False
        service = config.service
        self._grace: timedelta = service.delivery.shutdown_grace
        self._handover: Handover | None = None
        self._telemetry = SelfTelemetry(service.telemetry, self._own)
        instruments = Instruments(self._telemetry.meter)
        self._deliveries = {
            name: make_delivery(
                name,
                exporter_settings(config, name),
                embedded_dsn,
                data_dir,
                worker,
                instruments,
                self._telemetry.tracer,
                processes=processes,
                kept_by_others=config.kept_by_others(name),
            )
            for name in config.used_exporters
        }
        for delivery in self._deliveries.values():
            _observe(delivery, instruments)
        context = Context(
            signals=service.signals,
            data_dir=data_dir,
            embedded_dsn=embedded_dsn,
            meter=self._telemetry.meter,
            tracer=self._telemetry.tracer,
            reuse_port=reuse_port,
        )
        self._context = replace(context, authenticators=_authenticators(config, context))
        graph = make_graph(config, self._deliveries, context)
        bounds = service.delivery
        self._pipeline = Pipeline(graph, bounds.max_in_flight, instruments, bounds.max_batch_size)
        self._consumers: dict[str, Consumer] = {}
        self._receivers: dict[str, Receiver] = {
            name: components.receiver(name).create(
                name,
                config.receivers[name],
                self._consumer_of(name),
                replace(
                    self._context,
                    signals=signals,
                    state_dir=None if data_dir is None else receiver_directory(data_dir, name),
                ),
            )
            for name, signals in config.used_receivers.items()
            if role is Role.ALL or components.receiver(name).listens == (role is Role.LISTENERS)
        }
        self._services: dict[str, Service] = {}
        if role is not Role.LISTENERS:
            self._make_services(shared=role is Role.EMITTERS)
        self._rotation: asyncio.Task[None] | None = None
        self.rotated: Callable[[], None] = lambda: None
        """Is called when a secret was rotated."""

    @property
    def endpoints(self) -> dict[str, str]:
        """Where this hub listens: for each receiver and protocol (``otlp grpc``), and each service, the address."""
        receivers = {
            f"{name} {protocol}": address
            for name, receiver in self._receivers.items()
            for protocol, address in receiver.endpoints.items()
        }
        return receivers | {name: at for each in self._services.values() for name, at in each.endpoints.items()}

    def _own(self, signal: Signal) -> Handover | None:
        """Where what this process says of itself is handed to; None where there is no pipeline for it, or not yet."""
        return self._handover if signal in self._context.signals else None

    def _consumer_of(self, receiver: str) -> Consumer:
        """Return what a receiver hands its batches to: the pipelines, or for an emitter where it was told to send."""
        settings, its = self._config.receivers[receiver], components.receiver(receiver)
        entry = self._pipeline.entry(receiver)
        if its.listens or not isinstance(settings, EmitterSettings):
            return entry
        self._consumers[receiver] = consumer_of(settings, its.signals, entry)
        return self._consumers[receiver]

    def _make_services(self, *, shared: bool) -> None:
        config, data_dir, embedded_dsn = self._config, self._context.data_dir, self._context.embedded_dsn
        view = HubView(
            **{each.name: getattr(self._context, each.name) for each in fields(Context)},
            config=config,
            consumer=self._pipeline,
            deliveries={} if shared else self._deliveries,
            dropped=lambda: self._pipeline.dropped,
            endpoints=lambda: _all_endpoints(self, data_dir),
            find_dsn=lambda: embedded_dsn or configured_dsn(config),
            make_operations=lambda: self._telemetry.operations,
            services=self._services,
            shared=shared,
        )
        names = [name for name in config.service.extensions if not components.extension(name).authenticates]
        for name in sorted(names, key=lambda name: components.extension(name).shows_others):
            service = components.extension(name).create(name, config.extensions[name], view)
            self._services[name] = cast("Service", service)

    async def start(self) -> None:
        """Start everything. Raises `OSError` when an address is taken, and then has stopped what it had started."""
        try:
            await self._pipeline.start()
            for delivery in self._deliveries.values():
                await delivery.start()
            self._handover = Handover(self._pipeline, asyncio.get_running_loop(), own_telemetry=True)
            # Listeners first: where an address is taken, nothing is emitted.
            for receiver in sorted(self._receivers.values(), key=lambda each: not _listens(each)):
                await receiver.start()
            for service in self._services.values():
                await service.start()
            self._follow_secrets()
        except BaseException:
            await self.stop()
            raise

    def _follow_secrets(self) -> None:
        """Begin to follow the secrets of the configuration, where it has any."""
        if not self._config.secret_places:
            return
        from gateway.secrets.access import AccessError, cache_seconds

        try:
            interval = cache_seconds(os.environ)
        except AccessError as error:  # without OpenBao nobody has read it yet
            _log.warning("secrets are read again once a minute", reason=str(error))
            interval = 60.0
        self._rotation = asyncio.create_task(
            Rotation(self._config, self._config.read_again, self._reconfigure, interval, lambda: self.rotated()).run()
        )

    def _reconfigure(self, section: str, name: str, settings: Settings) -> bool:
        """Hand new settings to a component that can take them while it runs."""
        component: object = None
        if section == "exporters" and (delivery := self._deliveries.get(name)):
            component = delivery.exporter
        elif section == "receivers":
            component = self._receivers.get(name)
        elif section == "extensions":
            component = self._services.get(name)
        elif section == "processors":
            return self._pipeline.reconfigure(name, settings)
        return isinstance(component, Reconfigurable) and component.reconfigure(settings)

    async def stop(self) -> None:
        """Stop everything within the configured grace.

        Emitters flush, listeners take nothing new, what is in flight is stored and answered for, exporters end. A
        second call does nothing.
        """
        if self._stopped:
            return
        self._stopped = True
        if self._rotation is not None:
            self._rotation.cancel()
        deadline = time.monotonic() + self._grace.total_seconds()

        def left(share: float = 1.0) -> float:
            return max((deadline - time.monotonic()) * share, 0.1)

        emitters = [each for each in self._receivers.values() if not _listens(each)]
        listeners = [each for each in self._receivers.values() if _listens(each)]
        for service in reversed(self._services.values()):
            await self._bounded(service.stop(left(0.3)), f"stopping {service.name}")
        for receiver in emitters:
            await self._bounded(receiver.stop(left(0.3)), f"stopping {receiver.name}")
            if (consumer := self._consumers.get(receiver.name)) is not None:
                await self._bounded(close(consumer), f"disconnecting {receiver.name}")
        await self._bounded(asyncio.to_thread(self._telemetry.flush_and_stop, left(0.3)), "flushing telemetry")
        if self._handover is not None:
            self._handover.close()
        await asyncio.gather(
            *(self._bounded(receiver.stop(left(0.8)), f"stopping {receiver.name}") for receiver in listeners)
        )
        if not await self._pipeline.drain(left(0.8)):
            _log.warning("the time to finish is over; batches still in flight are refused, their senders keep them")
        await self._bounded(self._pipeline.stop(), "stopping the processors")
        for delivery in self._deliveries.values():
            await self._bounded(delivery.stop(), f"stopping {delivery.exporter.name}")

    async def _bounded(self, step: Awaitable[object], what: str) -> None:
        """Await one step of the shutdown; what fails is logged, because the steps after it must still be done."""
        try:
            await step
        except Exception:
            _log.exception("a step of the shutdown failed", step=what)


def _listens(receiver: Receiver) -> bool:
    return components.receiver(receiver.name).listens


def _authenticators(config: Config, context: Context) -> dict[str, Authenticator]:
    """Make the extensions that know who clients are."""
    names = [name for name in config.service.extensions if components.extension(name).authenticates]
    made = {name: components.extension(name).create(name, config.extensions[name], context) for name in names}
    return cast("dict[str, Authenticator]", made)


def make_graph(config: Config, deliveries: Mapping[str, Delivery], context: Context) -> Graph:
    """Make the pipelines of a configuration, each with processors of its own, to those of its exporters that run."""
    return Graph(
        [
            Branch(
                name,
                signal_of(name),
                tuple(deliveries[each] for each in pipeline.exporters if each in deliveries),
                frozenset(pipeline.receivers),
                tuple(
                    components.processor(each).create(
                        each, config.processors[each], context.within(name, signal_of(name))
                    )
                    for each in pipeline.processors
                ),
            )
            for name, pipeline in config.service.pipelines.items()
        ]
    )


def _all_endpoints(hub: Hub, data_dir: Path | None) -> dict[str, str]:
    """Return where a hub listens, in whichever of its processes."""
    running = None if data_dir is None else read_running(DataDir(data_dir))
    return (running.endpoints if running else {}) | hub.endpoints


def _open_grpc(settings: Settings) -> ListenerSettings | None:
    """Return the gRPC listener of a receiver that takes telemetry from everybody who reaches it, if it has one."""
    for place, listener in listeners_in(settings):
        if place[-1:] == ("grpc",) and listener.auth is None and listener.tls is None:
            return listener
    return None


def open_grpc_endpoint(config: Config) -> str | None:
    """Return where such a listener of this configuration is reached from this machine, if there is one."""
    for name in config.used_receivers:
        listener = _open_grpc(config.receivers[name])
        if listener is not None:
            return f"http://{from_here(listener.endpoint)}"
    return None


def exporter_settings(config: Config, name: str) -> Settings:
    """Return the settings by which an exporter is made, with what it is not told worked out from its place.

    What a store keeps of logs, `Config.kept_logs` says; what an exporter does when its spool is full,
    `Config.when_full`.
    """
    settings = config.exporters[name]
    if isinstance(settings, ExporterSettings):
        spool = settings.spool.model_copy(update={"when_full": config.when_full(name)})
        settings = settings.model_copy(update={"spool": spool})
    if isinstance(settings, StoreSettings):
        settings = settings.model_copy(update={"logs": config.kept_logs(name)})
    return settings


def make_delivery(
    name: str,
    settings: Settings,
    embedded_dsn: str | None,
    data_dir: Path | None,
    worker: int,
    instruments: Instruments,
    tracer: Tracer,
    *,
    processes: int | None = None,
    kept_by_others: Collection[Signal] = (),
) -> Delivery:
    """Make an exporter with its layers. Without a data directory it has no spool and keeps no dead letters.

    The first of so many ``processes`` of a hub delivers what those left that are no more. ``kept_by_others`` are the
    signals that it is given beside a store.
    """
    context = Context(embedded_dsn=embedded_dsn, data_dir=data_dir, meter=instruments.meter, tracer=tracer)
    exporter = components.exporter(name).create(name, settings, context)
    assert isinstance(settings, ExporterSettings)
    spool = dead_letters = None

    def former() -> list[Path]:
        if data_dir is None or processes is None or worker:
            return []
        return [each for its_name, each in spools(data_dir) if its_name == name and int(each.name) >= processes]

    if data_dir is not None:
        dead_letters = DeadLetters(dead_letter_directory(data_dir, name), settings.dead_letters.max_size)
        if settings.spool.enabled:
            spool = Spool(spool_directory(data_dir, name) / str(worker), settings.spool)
    return Delivery(
        exporter,
        instruments,
        tracer,
        settings=settings,
        spool=spool,
        dead_letters=dead_letters,
        former=former,
        kept_by_others=kept_by_others,
    )


def warn_of_spools_without_exporter(config: Config, data_dir: Path) -> None:
    """Log what the configuration at hand delivers nowhere: an exporter that is not used any more, or has no spool."""
    for name, directory in spools(data_dir):
        settings = config.exporters.get(name)
        used = name in config.used_exporters and isinstance(settings, ExporterSettings) and settings.spool.enabled
        if not used and (size := status(directory).size):
            _log.warning(
                "a spool holds batches for an exporter that has none in this configuration: they stay there; deliver "
                "them with a configuration that has it, or by `obs-hub spool drain`",
                exporter=name,
                spool=str(directory),
                bytes=size,
            )


def _observe(delivery: Delivery, instruments: Instruments) -> None:
    """Report what an exporter and the layers around it say of themselves."""
    exporter, spool, letters = delivery.exporter, delivery.spool, delivery.dead_letters

    attributes = {"exporter": exporter.name}

    def reader(name: str) -> Callable[[], float]:
        return lambda: exporter.gauges()[name]

    for name in exporter.gauges():
        instruments.observe(name, "{entry}", f"Reported by exporter {exporter.name}", reader(name), attributes)

    instruments.observe(
        "obs_hub.circuit.open",
        "1",
        "1 while the destination is left alone",
        lambda: int(delivery.circuit_open),
        attributes,
    )
    if spool is not None:
        instruments.observe(
            "obs_hub.spool.size",
            "By",
            "Bytes in the spool",
            lambda: sum(each.size for each in delivery.spools),
            attributes,
        )
        instruments.observe(
            "obs_hub.spool.damaged",
            "1",
            "Places where the spool lost something: damaged, cut short, missing",
            lambda: delivery.damaged,
            attributes,
        )
        instruments.observe(
            "obs_hub.spool.unremoved",
            "{segment}",
            "Segments of the spool that were delivered and cannot be removed",
            lambda: sum(each.unremoved for each in delivery.spools),
            attributes,
        )
        instruments.observe(
            "obs_hub.spool.dropped.batches",
            "{batch}",
            "Batches dropped because the spool was full, ever",
            lambda: spool.dropped.batches,
            attributes,
        )
        instruments.observe(
            "obs_hub.spool.dropped.records",
            "{record}",
            "Records dropped because the spool was full, ever",
            lambda: spool.dropped.records,
            attributes,
        )
    if letters is not None:
        instruments.observe(
            "obs_hub.dead_letters.count", "{batch}", "Dead letters", lambda: letters.usage().count, attributes
        )
        instruments.observe(
            "obs_hub.dead_letters.size", "By", "Bytes of dead letters on disk", lambda: letters.usage().size, attributes
        )
