"""A file that is none of a configuration: what is wrong with it is said, and what is in it is not."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.extensions.tokens.token_file import TokenFile, TokenFileError

SECRET = "hunter2hunter2"
FILES = {
    "shadow": f"root:$6${SECRET}$abcdef:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "passwd": f"root:x:0:0:{SECRET}:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n",
    "env": f"PASSWORD={SECRET}\nexport TOKEN='{SECRET}'\n",
    "pgpass": f"db.example.com:5432:*:hub:{SECRET}\n",
    "pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}AAAA\n-----END PRIVATE KEY-----\n",
    "netrc": f"machine example.com login me password {SECRET}\n",
    "one secret": SECRET,
    "a key": f"? {SECRET}+/=\n: 1\n",
    "an alias": f"a: *{SECRET}\n",
    "an anchor twice": f"a: &{SECRET} 1\nb: *{SECRET}x\n",
    "a tag": f"receivers: !{SECRET} {{}}\n",
    "a handle": f"a: !{SECRET}!x 1\n",
    "a local tag": f"exporters: {{x: !<{SECRET}> 1}}\n",
    "an escape": f'a: "\\\\{SECRET}" "\\q{SECRET}"\n',
    "a directive": f"%{SECRET} 1\n---\na: 1\n",
    "tabs": f"a:\n\t{SECRET}: 1\n",
    "a list": f"- {SECRET}\n",
    "json": f'{{"auths": {{"registry": {{"auth": "{SECRET}=="}}}}}}',
    "kubeconfig": f"users:\n- user: {{token: {SECRET}}}\n",
    "a component": f"receivers: {{'{SECRET}:x:1': }}\n",
    "a type": f"exporters: {{'{SECRET}$': }}\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_nothing_of_it_is_repeated(tmp_path: Path, content: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert SECRET not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [*FILES.values(), f'{{"{SECRET}": 1}}', f'{{"tokens": [{{"{SECRET}": 1}}]}}',
    f'{{"version": "{SECRET}"}}', f'{{"tokens": [{{"id": "{SECRET}"}}]}}'])  # fmt: skip
def test_nor_by_the_file_of_tokens(tmp_path: Path, content: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    with pytest.raises(TokenFileError) as caught:
        TokenFile(file).read()
    assert SECRET not in str(caught.value)


def test_a_name_that_is_mistyped_is_still_shown(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("exportes: {}\nreceivers: {otpl/second: }\n")
    with pytest.raises(ConfigError, match="unknown section 'exportes'; did you mean 'exporters'"):
        load(file)
