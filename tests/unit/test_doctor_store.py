"""What the doctor says of a store that does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import doctor
from gateway.cli.options import StorePlace
from gateway.config import load
from gateway.datadir import DataDir


def test_of_a_store_that_comes_with_the_hub_it_names_the_log_not_a_setting_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = StorePlace(f"host={tmp_path}/postgres/socket user=obs_hub dbname=obs_hub")
    monkeypatch.setattr(doctor, "find_store", lambda *_: ended)
    (finding,) = doctor._examine_store(load(None), DataDir(tmp_path))
    assert (finding.ok, finding.subject) == (False, "store")
    assert str(tmp_path / "postgres" / "log") in finding.advice
    assert "dsn" not in finding.advice
