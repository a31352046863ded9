"""How the assembly makes the extension ``tokens``."""

from __future__ import annotations

from pathlib import Path

from gateway.extensions.tokens.authenticator import TokenAuthenticator
from gateway.extensions.tokens.config import TokensConfig
from gateway.extensions.tokens.limits import Failures
from gateway.extensions.tokens.token_file import TokenFile
from gateway.extensions.tokens.watched_tokens import WatchedTokens
from gateway.net.access import Authenticator


def create(config: TokensConfig, data_dir: Path | None) -> Authenticator:
    """Make the authenticator. The file is first read when somebody asks to be let in."""
    failures = Failures(config.failures.limit, config.failures.window.total_seconds())
    return TokenAuthenticator(WatchedTokens(TokenFile(config.path(data_dir))), failures)
