import ast
from pathlib import Path

import pytest

from gateway.base import child_environment

ROOT = Path(__file__).parents[3]
OURS = {
    "PATH": "/usr/bin",
    "HOME": "/home/hub",
    "LC_ALL": "C",
    "PGPASSWORD": "made-up",
    "PGSSLMODE": "verify-full",
    "OBSHUB_WEBHOOK_SECRET": "made-up",
    "BAO_SECRET_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "HELM_KUBETOKEN": "made-up",
    "KUBECONFIG": "/etc/kubeconfig",
    "https_proxy": "http://proxy.example.com",
}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((), {"PATH", "LC_ALL"}),
        (child_environment.USER, {"PATH", "LC_ALL", "HOME"}),
        (child_environment.SYSTEMD, {"PATH", "LC_ALL"}),
        (child_environment.POSTGRESQL, {"PATH", "LC_ALL", "HOME", "PGPASSWORD", "PGSSLMODE"}),
        (child_environment.GIT, {"PATH", "LC_ALL", "HOME", "https_proxy"}),
        (child_environment.KUBERNETES, {"PATH", "LC_ALL", "HOME", "https_proxy", "KUBECONFIG"}),
    ],
)
def test_a_program_gets_what_it_needs_and_nothing_else(groups: tuple[str, ...], expected: set[str]) -> None:
    assert set(child_environment.environment(*groups, inherited=OURS)) == expected


def test_what_is_given_wins() -> None:
    assert child_environment.environment(given={"LC_ALL": "de_DE", "X": "1"}, inherited=OURS)["LC_ALL"] == "de_DE"
    assert child_environment.environment(inherited={})["PATH"]


def test_every_program_that_is_run_has_an_environment_of_its_own() -> None:
    calls = 0
    for folder in ("gateway", "exporters", "receivers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                name = ast.unparse(node.func)
                if name in ("subprocess.run", "subprocess.Popen", "asyncio.create_subprocess_exec"):
                    calls += 1
                    given = {keyword.arg for keyword in node.keywords}
                    # None stands for ``**options``, of which there is one: that of the embedded server.
                    assert given & {"env", None}, f"{path.relative_to(ROOT)}:{node.lineno} hands on all variables"
                assert not name.startswith(("os.spawn", "os.exec", "os.system", "os.popen", "subprocess.check"))
                assert name not in ("subprocess.call", "asyncio.create_subprocess_shell", "os.posix_spawn")
    assert calls >= 9
