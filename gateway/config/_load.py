"""From a file to a `Config`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.base.settings import ExporterSettings, Settings
from gateway.component import Signal
from gateway.component.declaration import Component, ExtensionComponent, ProcessorSettings
from gateway.components import COMPONENTS, SECTIONS, ComponentError, Registry, type_of
from gateway.config import _collector
from gateway.config._document import Document, kind, read
from gateway.config._overrides import NO_OVERRIDES, Overrides
from gateway.config._validation import MASK, is_own_key, validate
from gateway.config.errors import ConfigError, Place, Problem, shown_name
from gateway.config.service import PipelineSettings, ServiceSettings, signal_of
from gateway.config.substitution import SCHEMES, Scheme
from gateway.net.listeners import listeners_in, split_endpoint
from gateway.net.proxies import is_local
from gateway.store import StoreSettings
from gateway.suggestions import near, suggestion

DEFAULT_FILE = Path(__file__).with_name("default.yaml")
DEFAULT_YAML = DEFAULT_FILE.read_text(encoding="utf-8")
"""What runs when there is no configuration file."""
STARTER_YAML = Path(__file__).with_name("starter.yaml").read_text(encoding="utf-8")
"""A file to begin with, which says the same and what people change first."""

_SECTIONS = (*SECTIONS, "service")
_ELSEWHERE = {"connectors": "the gateway has no connectors"}
"""Sections that the Collector has besides."""

_NAME = re.compile(r"(?P<type>[A-Za-z]\w*)(/\S+)?", re.ASCII)


NO_FRONT = (
    "there is no page and no API: for them, define 'api' and 'tokens' under 'extensions' as `obs-hub config init` "
    "writes them, and name both in service.extensions"
)
"""What is said of a configuration that is valid, and of which somebody may miss something."""


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration, every default filled in.

    ``receivers``, ``processors``, ``exporters`` and ``extensions`` hold the settings of all that are defined, by name
    (``otlp`` or ``otlp/internal``); `used_receivers`, `used_processors` and `used_exporters` are those that a pipeline
    names. ``source`` is ``None``
    for the embedded default. ``secret_places`` are the values that came from a secret source.
    """

    receivers: dict[str, Settings]
    exporters: dict[str, Settings]
    service: ServiceSettings
    source: Path | None = None
    warnings: tuple[Problem, ...] = ()
    secret_places: frozenset[Place] = frozenset()
    extensions: dict[str, Settings] = field(default_factory=dict)
    processors: dict[str, Settings] = field(default_factory=dict)
    lacking: tuple[Problem, ...] = ()
    """What `load` was to do without: values that could not be had, in whose place the references stand."""
    overrides: Overrides = NO_OVERRIDES
    """What options said instead of the file."""

    def read_again(self) -> Config:
        """Return what the file says now, and the options still. Raises `ConfigError`."""
        return load(self.source, overrides=self.overrides)

    @property
    def used_receivers(self) -> dict[str, frozenset[Signal]]:
        """The receivers that pipelines name, each with the signals it is wanted for."""
        return self._used("receivers")

    @property
    def used_processors(self) -> dict[str, frozenset[Signal]]:
        """The processors that pipelines name, each with the signals that it is given."""
        return self._used("processors")

    @property
    def used_exporters(self) -> dict[str, frozenset[Signal]]:
        """The exporters that pipelines name, each with the signals it is given."""
        return self._used("exporters")

    @property
    def has_front(self) -> bool:
        """Whether there is a page, and an API that commands such as ``obs-hub pipeline run`` ask."""
        return any(COMPONENTS.extensions[type_of(name)].shows_others for name in self.service.extensions)

    def when_full(self, exporter: str) -> Literal["refuse", "drop_oldest"]:
        """Return what an exporter does when its spool is full: what its settings say, or by its place in the pipelines.

        The oldest is dropped only where others keep all that it is given. Nobody else has what a store is given, or an
        exporter without a store beside it, or Loki beside a store that keeps events only.
        """
        settings = self.exporters[exporter]
        if isinstance(settings, ExporterSettings) and settings.spool.when_full != "auto":
            return "drop_oldest" if settings.spool.when_full == "drop_oldest" else "refuse"
        signals = {signal_of(name) for name, _ in self._pipelines_to(exporter)}
        return "drop_oldest" if signals and signals == self.kept_by_others(exporter) else "refuse"

    def kept_by_others(self, exporter: str) -> frozenset[Signal]:
        """Return the signals that an exporter is given beside a store, so that others keep all that it is given."""
        if self._is_store(exporter):
            return frozenset()
        mine = self._pipelines_to(exporter)
        kept = {
            name for name, each in mine if self._is_covered(name, each, lambda one: self._others_keep(one, exporter))
        }
        return frozenset(signal_of(name) for name, _ in mine) - {
            signal_of(name) for name, _ in mine if name not in kept
        }

    def kept_logs(self, store: str) -> Literal["all", "events"]:
        """Return which logs a store keeps. One that is told nothing keeps events only where Loki gets the same logs."""
        settings = self.exporters[store]
        if not isinstance(settings, StoreSettings):
            return "all"
        if settings.logs != "auto":
            return settings.logs
        mine = [(name, each) for name, each in self._pipelines_to(store) if signal_of(name) is Signal.LOGS]

        def is_kept(pipeline: str) -> bool:
            return any(map(self._keeps_logs, self.service.pipelines[pipeline].exporters))

        return "events" if mine and all(self._is_covered(name, each, is_kept) for name, each in mine) else "all"

    def _pipelines_to(self, exporter: str) -> list[tuple[str, PipelineSettings]]:
        return [(name, each) for name, each in self.service.pipelines.items() if exporter in each.exporters]

    def _is_covered(self, name: str, pipeline: PipelineSettings, keeps: Callable[[str], bool]) -> bool:
        """Tell whether all that goes through a pipeline is kept: in it, or in another that gets the same and more."""
        return keeps(name) or any(
            keeps(other)
            for other, each in self.service.pipelines.items()
            if other != name
            and signal_of(other) is signal_of(name)
            and not each.processors
            and set(each.receivers) >= set(pipeline.receivers)
        )

    def _others_keep(self, pipeline: str, exporter: str) -> bool:
        """Tell whether other exporters of a pipeline keep all that goes through it."""
        others = [name for name in self.service.pipelines[pipeline].exporters if name != exporter]
        stores = [name for name in others if self._is_store(name)]
        if signal_of(pipeline) is not Signal.LOGS or "all" in map(self.kept_logs, stores):
            return bool(stores)
        # Loki keeps what a store leaves out.
        return bool(stores) and any(map(self._keeps_logs, others))

    def _is_store(self, exporter: str) -> bool:
        return isinstance(self.exporters.get(exporter), StoreSettings)

    def _keeps_logs(self, exporter: str) -> bool:
        settings = self.exporters.get(exporter)
        return isinstance(settings, ExporterSettings) and settings.keeps_logs

    def _used(self, section: str) -> dict[str, frozenset[Signal]]:
        used: dict[str, frozenset[Signal]] = {}
        for pipeline, settings in self.service.pipelines.items():
            for name in filter(getattr(self, section).__contains__, getattr(settings, section)):
                used[name] = used.get(name, frozenset()) | {signal_of(pipeline)}
        return used


def resolve_path(option: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Find the configuration file: ``--config``, else ``OBSHUB_CONFIG``, else none."""
    if option is not None:
        return option
    return Path(named) if (named := environ.get("OBSHUB_CONFIG")) else None


def load(
    path: Path | None,
    *,
    registry: Registry = COMPONENTS,
    schemes: Mapping[str, Scheme] | None = None,
    lenient: bool = False,
    overrides: Overrides = NO_OVERRIDES,
) -> Config:
    """Read and check a configuration file, or the embedded default when there is none.

    ``overrides`` are what options of a command say instead of the file; they are checked as if they stood there.
    ``lenient`` is for commands that have none of the hub's secrets and need none: what cannot be substituted is
    noted as lacking, and a component that is not valid without it is left out.

    Raises `ConfigError` with everything that is wrong with it.
    """
    source, name = (DEFAULT_FILE, "default.yaml") if path is None else (path, str(path))
    document = read(source, SCHEMES if schemes is None else schemes, name)
    lacking = []
    if lenient:
        lacking = [problem for problem in document.problems if problem.place in document.unresolved]
        document.problems = [problem for problem in document.problems if problem.place not in document.unresolved]
    _check_sections(document, registry)
    overrides.apply(document)
    receivers = _components(document, "receivers", registry.receivers)
    processors = _components(document, "processors", registry.processors)
    exporters = _components(document, "exporters", registry.exporters)
    extensions = _components(document, "extensions", registry.extensions)
    service = _service(document)
    _check_pipelines(document, "receivers", registry.receivers)
    _check_pipelines(document, "processors", registry.processors, processors)
    _check_pipelines(document, "exporters", registry.exporters)
    if service is not None:
        _check_extensions(document, service, registry)
        _check_authenticators(document, "receivers", receivers, service)
        _check_authenticators(document, "extensions", extensions, service)
    if document.problems or service is None:
        raise ConfigError(document.problems or lacking)
    config = Config(
        receivers,
        exporters,
        service,
        source=path,
        secret_places=frozenset(place for place, one in document.substituted.items() if one.secret),
        extensions=extensions,
        processors=processors,
        lacking=tuple(lacking),
        overrides=overrides,
    )
    return _with_warnings(config, document, registry)


def _misplaced_section(name: str, registry: Registry) -> str | None:
    """Say where something belongs that stands at the start of a line and is no section."""
    homes = [section for section in SECTIONS if type_of(name) in getattr(registry, section)]
    if name in ServiceSettings.model_fields:
        homes.append("service")
    quoted = " or ".join(f"'{home}'" for home in homes)
    return f"; it belongs below {quoted}: indent it" if homes else None


def _check_sections(document: Document, registry: Registry) -> None:
    for section, body in document.root.items():
        if section in _ELSEWHERE:
            names = list(body) if isinstance(body, dict) else []
            for name in names:
                advice = _collector.connector(type_of(name))
                document.complain((section, name), f"the gateway has no {section.removesuffix('s')} for this; {advice}")
            if not names:
                document.complain((section,), _ELSEWHERE[section])
        elif section not in _SECTIONS and not is_own_key(section):
            hint = _misplaced_section(section, registry) or suggestion(section, _SECTIONS)
            document.complain((section,), f"unknown section '{shown_name(section)}'{hint}")
        elif body is not None and not isinstance(body, dict):
            document.complain((section,), f"expected a mapping, found {kind(body)}")


def _section(document: Document, section: str) -> dict[str, Any]:
    body = document.root.get(section)
    return body if isinstance(body, dict) else {}


def _components(document: Document, section: str, known: Mapping[str, Component]) -> dict[str, Settings]:
    """Validate each component of a section by the settings of its type."""
    singular = section.removesuffix("s")
    found: dict[str, Settings] = {}
    above: tuple[str, type[Settings]] | None = None
    for name in _section(document, section):
        place = (section, name)
        if is_own_key(name):
            continue
        if not _NAME.fullmatch(name):
            document.complain(
                place, f"'{shown_name(name)}' is not a name of a component; expected 'type' or 'type/name'"
            )
            continue
        if (component := _look_up(type_of(name), known)) is None:
            advice = _collector.component(section, type_of(name))
            if above is not None and name in above[1].model_fields:
                advice = f"it is a setting of '{above[0]}': indent it further, below that"
            if name in _SECTIONS:
                advice = "it is a section: begin it at the start of the line"
            if advice is None:
                meant = f"did you mean '{near(type_of(name), known)[0]}'? " if near(type_of(name), known) else ""
                advice = f"{meant}known: {', '.join(sorted(known))}" if known else "there are none yet"
            document.complain(place, f"unknown {singular} '{shown_name(type_of(name))}'; {advice}")
            continue
        if isinstance(component, str):
            document.complain(place, component)
            continue
        above = (name, component.settings)
        if settings := validate(component.settings, document, place):
            found[name] = settings
            for each in settings.contradictions():
                if each.refused:
                    document.complain((*place, *each.place), each.message)
    return found


def _look_up(kind: str, known: Mapping[str, Component]) -> Component | str | None:
    """Return the type of that name, None where there is none, or why it cannot be used."""
    try:
        return known.get(kind)
    except ComponentError as error:
        return str(error)


def _service(document: Document) -> ServiceSettings | None:
    if "service" not in document.root:
        document.complain((), "the section 'service' is required: its pipelines say what goes where")
        return None
    body = document.root["service"]
    return validate(ServiceSettings, document, ("service",)) if body is None or isinstance(body, dict) else None


def _named(document: Document, section: str) -> Iterator[tuple[Place, str, str]]:
    """Yield each name in a list of the pipelines, with its place and the pipeline's name.

    They are read from the document rather than from the settings, which there are none of as long as anything else in
    the service section is wrong.
    """
    service = _section(document, "service").get("pipelines")
    for pipeline, body in service.items() if isinstance(service, dict) else ():
        names = body.get(section) if isinstance(body, dict) else None
        place = ("service", "pipelines", pipeline, section)
        for index, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and (*place, index) not in document.unresolved:
                yield (*place, index), str(pipeline), name


def _check_pipelines(
    document: Document,
    section: str,
    known: Mapping[str, Component],
    made: Mapping[str, Settings] = MappingProxyType({}),
) -> None:
    """Check that what the pipelines name is defined, is named once, and has to do with the pipeline's signal.

    ``made`` are the settings of those that may narrow which signals they take.
    """
    singular = section.removesuffix("s")
    defined = _section(document, section)
    seen: set[tuple[str, str]] = set()
    for place, pipeline, name in _named(document, section):
        try:
            signal = signal_of(pipeline)
        except ValueError:
            continue  # which is a problem already
        component = _look_up(type_of(name), known)
        shown = MASK if document.source_of(place) else name
        if name not in defined:
            hint = suggestion(name, defined) if defined else f"; '{section}' defines none"
            if component is None and (advice := _collector.component(section, type_of(name))):
                hint = f"; {advice}"
            document.complain(place, f"the {singular} '{shown}' is not defined under '{section}'{hint}")
        elif (pipeline, name) in seen:
            document.complain(place, f"the {singular} '{shown}' is named twice in this pipeline")
        elif component is not None and not isinstance(component, str):
            signals = component.signals
            if isinstance(narrowed := made.get(name), ProcessorSettings):
                signals &= narrowed.signals()
            if signal not in signals:
                verb = "gives" if section == "receivers" else "takes"
                listed = " and ".join(sorted(signals))
                document.complain(place, f"the {singular} '{shown}' {verb} {listed}, not {signal.value}")
        seen.add((pipeline, name))


def _check_extensions(document: Document, service: ServiceSettings, registry: Registry) -> None:
    defined = _section(document, "extensions")
    for index, name in enumerate(service.extensions):
        place = ("service", "extensions", index)
        if name not in defined:
            shown = MASK if document.source_of(place) else name
            hint = suggestion(name, defined) if defined else "; 'extensions' defines none"
            document.complain(place, f"the extension '{shown}' is not defined under 'extensions'{hint}")
        elif name in service.extensions[:index]:
            document.complain(place, f"the extension '{name}' is named twice")
        elif isinstance(known := _look_up(type_of(name), registry.extensions), ExtensionComponent) and known.command:
            document.complain(
                place, f"the extension '{name}' is run by `{known.command}`, not by the hub; leave it out"
            )


def _check_authenticators(
    document: Document, section: str, components: Mapping[str, Settings], service: ServiceSettings
) -> None:
    """Check that a listener asks for authentication by an extension that runs."""
    for name, settings in components.items():
        for inner, listener in listeners_in(settings):
            if listener.auth is not None and (wanted := listener.auth.authenticator) not in service.extensions:
                place = (section, name, *inner, "auth", "authenticator")
                shown = MASK if document.source_of(place) else wanted
                document.complain(
                    place,
                    f"the authenticator '{shown}' is not named in service.extensions"
                    f"{suggestion(wanted, service.extensions)}",
                )


def _with_warnings(config: Config, document: Document, registry: Registry) -> Config:
    warnings = [
        document.problem(
            (section, name), f"the {section.removesuffix('s')} '{name}' is in no pipeline and will not run"
        )
        for section, defined, used in (
            ("receivers", config.receivers, config.used_receivers),
            ("processors", config.processors, config.used_processors),
            ("exporters", config.exporters, config.used_exporters),
        )
        for name in defined
        if name not in used
    ]
    warnings += [
        document.problem((section, name, *each.place), each.message)
        for section in SECTIONS
        for name, settings in getattr(config, section).items()
        for each in settings.contradictions()
        if not each.refused
    ]
    warnings += [
        document.problem(("extensions", name), f"the extension '{name}' is not in service.extensions and will not run")
        for name in config.extensions
        if name not in config.service.extensions and not registry.extensions[type_of(name)].command
    ]
    warnings += [
        document.problem(
            ("exporters", name),
            f"the exporter '{name}' sends {signal_of(of)} to this hub's own {listener}, from where they come back to "
            "it without end",
        )
        for of, pipeline in config.service.pipelines.items()
        for name in filter(config.exporters.__contains__, pipeline.exporters)
        for listener in filter(config.receivers.__contains__, pipeline.receivers)
        if _leads_to(config.exporters[name], config.receivers[listener])
    ]
    return replace(config, warnings=tuple(warnings))


def _leads_to(exporter: Settings, receiver: Settings) -> bool:
    """Tell whether an exporter evidently sends to a receiver of the same hub."""
    endpoint = getattr(exporter, "endpoint", None)
    if not isinstance(endpoint, str) or not is_local(endpoint):
        return False
    ports = {split_endpoint(listener.endpoint)[1] for _, listener in listeners_in(receiver)}
    return urlsplit(endpoint).port in ports
