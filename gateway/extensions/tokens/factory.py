"""What the extension ``tokens`` is, and how the assembly makes it."""

from __future__ import annotations

from gateway.component.declaration import Context, ExtensionComponent
from gateway.extensions.tokens.config import TokensConfig
from gateway.net.access import Authenticator


def create(name: str, config: TokensConfig, context: Context) -> Authenticator:
    """Make the authenticator. The file is first read when somebody asks to be let in."""
    from gateway.extensions.tokens.authenticator import TokenAuthenticator
    from gateway.extensions.tokens.limits import Failures
    from gateway.extensions.tokens.token_file import TokenFile
    from gateway.extensions.tokens.watched_tokens import WatchedTokens

    failures = Failures(config.failures.limit, config.failures.window.total_seconds())
    return TokenAuthenticator(WatchedTokens(TokenFile(config.path(context.data_dir))), failures)


COMPONENT = ExtensionComponent(settings=TokensConfig, create=create, authenticates=True)
