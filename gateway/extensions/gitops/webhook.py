"""What GitHub's webhooks say: whether a delivery is GitHub's, and which repositories it is about.

Source of the rules: GitHub documentation, "Validating webhook deliveries", "Webhook events and payloads".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from gateway.extensions.gitops.config import Repository
from gateway.extensions.gitops.git import is_object_id

_DELIVERY = re.compile(r"[A-Za-z0-9-]{1,100}")
_EVENT = re.compile(r"[A-Za-z_]{1,50}")
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_MEDIA_TYPES = ("application/json", "application/x-www-form-urlencoded")
_MOST_TEXT = 200


class MalformedDeliveryError(Exception):
    """A delivery with a good signature that makes no sense."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a delivery: the repositories to reconcile, by name, or the reason why none."""

    repositories: tuple[str, ...] = ()
    reason: str = ""
    about: dict[str, Any] = field(default_factory=dict)


def signed(body: bytes, signature: str | None, secrets: Sequence[str]) -> bool:
    """Tell whether ``X-Hub-Signature-256`` is that of the body with one of the secrets.

    It takes as long whichever secret it is, and however much of the signature is right.
    """
    presented = (signature or "").encode("utf-8", "replace")
    good = False
    for secret in secrets:
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        good |= hmac.compare_digest(expected.encode(), presented)
    return good


def is_signature(text: str | None) -> bool:
    """Tell whether ``X-Hub-Signature-256`` is a signature at all."""
    return text is not None and _SIGNATURE.fullmatch(text) is not None


def is_delivery_id(text: str | None) -> bool:
    """Tell whether ``X-GitHub-Delivery`` is such as GitHub sends."""
    return text is not None and _DELIVERY.fullmatch(text) is not None


def is_event(text: str | None) -> bool:
    """Tell whether ``X-GitHub-Event`` is the name of an event."""
    return text is not None and _EVENT.fullmatch(text) is not None


def media_type(content_type: str) -> str | None:
    """Return which of the content types that GitHub offers it is; None: none of them."""
    name = content_type.partition(";")[0].strip().lower()
    return name if name in _MEDIA_TYPES else None


def parse(body: bytes, content_type: str) -> dict[str, Any]:
    """Read a delivery, in either of the content types that GitHub offers. Raises `MalformedDeliveryError`."""
    try:
        text = body.decode("utf-8")
        if media_type(content_type) == "application/x-www-form-urlencoded":
            text = parse_qs(text, strict_parsing=True, max_num_fields=10)["payload"][0]
        payload = json.loads(text)
    except (ValueError, KeyError, RecursionError):
        raise MalformedDeliveryError("the delivery is not JSON; choose application/json at GitHub") from None
    if not isinstance(payload, dict):
        raise MalformedDeliveryError("the delivery is not a JSON object")
    return payload


def decide(event: str, payload: Mapping[str, Any], repositories: Mapping[str, Repository]) -> Decision:
    """Decide what a delivery asks for."""
    match event:
        case "ping":
            return Decision(reason="pong: the webhook is set up")
        case "push":
            return _push(payload, repositories)
        case "pull_request":
            return _pull_request(payload, repositories)
        case _:
            return Decision(reason=f"the event {_short(event)!r} asks for nothing; push and pull_request do")


def _push(payload: Mapping[str, Any], repositories: Mapping[str, Repository]) -> Decision:
    ref = _text(payload.get("ref"))
    if not ref.startswith("refs/heads/"):
        return Decision(reason=f"{_short(ref)!r} is not a branch")
    if payload.get("deleted") is True:
        return Decision(reason="the branch was deleted")
    return _match(
        _text(_inner(payload, "repository", "full_name")),
        ref.removeprefix("refs/heads/"),
        repositories,
        {"revision": _revision(payload.get("after")), "sender": _short(_text(_inner(payload, "sender", "login")))},
    )


def _pull_request(payload: Mapping[str, Any], repositories: Mapping[str, Repository]) -> Decision:
    pull_request = _mapping(payload.get("pull_request"))
    if payload.get("action") != "closed" or pull_request.get("merged") is not True:
        return Decision(reason="the pull request was not merged")
    number = payload.get("number")
    return _match(
        _text(_inner(payload, "repository", "full_name")),
        _text(_inner(pull_request, "base", "ref")),
        repositories,
        {
            "revision": _revision(pull_request.get("merge_commit_sha")),
            "pull_request": number if isinstance(number, int) else None,
            "sender": _short(_text(_inner(payload, "sender", "login"))),
        },
    )


def _match(full_name: str, branch: str, repositories: Mapping[str, Repository], about: dict[str, Any]) -> Decision:
    ours = {
        name: repository
        for name, repository in repositories.items()
        if repository.github is not None and repository.github.lower() == full_name.lower()
    }
    if not ours:
        return Decision(reason=f"no repository is configured for {_short(full_name)!r}")
    followed = tuple(name for name, repository in ours.items() if repository.branch == branch)
    if not followed:
        branches = ", ".join(sorted({repository.branch for repository in ours.values()}))
        return Decision(reason=f"the branch {_short(branch)!r} is not followed; {branches} is")
    return Decision(followed, about={"branch": branch, **about})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _inner(payload: Mapping[str, Any], section: str, key: str) -> Any:
    return _mapping(payload.get(section)).get(key)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _revision(value: Any) -> str | None:
    """A revision is for people to read: what is rolled out is what a fetch finds."""
    return value if isinstance(value, str) and is_object_id(value) else None


def _short(text: str) -> str:
    return text[:_MOST_TEXT]
