"""The settings of the journal receiver, and the words that journalctl is called with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from receivers.journald.config import JournaldConfig
from receivers.journald.journalctl import Found, Journalctl
from receivers.journald.units import full_name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"priority": "loud"}, "'emerg', 'alert'"),
        ({"matches": ["kernel"]}, "expected FIELD=value, such as _TRANSPORT=kernel"),
        ({"matches": ["--flush=1"]}, "expected FIELD=value"),
        ({"fields": ["request-id"]}, "expected the name of a journal field"),
        ({"directory": "/a", "files": ["/b"]}, "directory and files name different journals"),
        ({"start_at": "middle"}, "'end' or 'beginning'"),
        ({"batch": {"timeout": "0s"}}, "should be greater than"),
        ({"follow": True}, "Extra inputs"),
    ],
    ids=str,
)
def test_mistakes_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JournaldConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("nginx", "nginx.service"),
        ("nginx.service", "nginx.service"),
        ("backup.timer", "backup.timer"),
        ("docker-*", "docker-*"),
        ("foo.bar", "foo.bar.service"),
    ],
)
def test_units_are_named_as_systemctl_names_them(unit: str, name: str) -> None:
    assert full_name(unit) == name


def test_the_journal_itself_looks_up_what_it_can(tmp_path: Path) -> None:
    def arguments(**settings: Any) -> list[str]:
        program = Journalctl(JournaldConfig.model_validate({"journalctl_path": "true", **settings}))
        return [*program._where, *program._what, *program._follow]

    # Not by --user-unit, which finds only the units of the user who asks.
    assert {"_SYSTEMD_UNIT=nginx.service", "_SYSTEMD_USER_UNIT=nginx.service", "+"} <= set(arguments(units=["nginx"]))
    # journalctl takes a pattern for the units there are at that moment; later ones would be missed.
    assert not [each for each in arguments(units=["nginx", "docker-*"]) if "nginx" in each]
    assert "--priority=warning" in arguments(priority="warning")
    assert "--namespace=*" in arguments(namespace="*")
    assert "--file=/var/log/a*" in arguments(files=["/var/log/a*"])
    assert "_TRANSPORT=kernel" in arguments(matches=["_TRANSPORT=kernel"])
    # Without this, --follow would show the current boot only; with it, also other machines' journals.
    assert {"--merge", "--boot=all"} <= set(arguments(directory=tmp_path))
    assert "--merge" not in arguments()


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        ("s=a;i=20;b=b", 15),
        ("s=a;i=11;b=b", 0),
        ("s=a;i=10;b=b", 0),
        ("s=other;i=20;b=b", None),
        ("s=a;i=xyz;b=b", None),
        ("s=a", None),
    ],
)
def test_how_many_entries_were_lost_is_known_within_one_sequence(found: str, missing: int | None) -> None:
    assert Found(found).missing("s=a;i=10;b=b;m=1") == missing
