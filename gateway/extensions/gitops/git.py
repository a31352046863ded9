"""A clone, handled with care: nothing of its owner's is thrown away, and nothing that was pushed is executed.

Git runs without hooks, without asking anybody, and without the variables that would point it elsewhere. What came over
the network reaches its command line only as full object ids. Everything else there is from the configuration.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

from gateway.base.child_environment import GIT, environment
from gateway.base.exit_status import ended_with
from gateway.base.redaction import without_credentials
from gateway.extensions.gitops import process, stale_locks
from gateway.extensions.gitops.config import Repository

GOOD = "refs/obs-hub/good"
"""The last revision whose steps all succeeded. As a ref it is kept from git's garbage collection."""
FAILED = "refs/obs-hub/failed"
"""The revision whose steps failed last; it is not tried again by itself."""
SEEN = "refs/obs-hub/seen"
"""The revision of the remote that the branch was last brought to."""
RETURNING = "refs/obs-hub/returning"
"""The revision that is being returned to; there while that is not finished."""

MOVING = "refs/obs-hub/moving"
"""The revision that the branch is being brought to; there while git may be at it, or was killed at it."""

_UNDER_WAY = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "REBASE_HEAD": "rebase",
}
"""Refs that are there while the owner is in the middle of something."""

_FORWARD = ("merge", "--ff-only", "--quiet", "--no-autostash")
_ANYWHERE = ("reset", "--quiet", "--keep")
_TIMEOUT = timedelta(minutes=2)
_MOST_OUTPUT = 4 * 2**20
_NAMES_AT_ONCE = 1000
_BRANCH = "# branch.head "
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HTTP_USER = re.compile(r"https?://([^/\s]+)@")
_OPTIONS = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never"),
    *("-c", "gc.autoDetach=false", "-c", "advice.detachedHead=false", "-c", "core.quotePath=false"),
    # Names that other file systems take for .git, and repositories that were pushed as files, with a config of theirs.
    *("-c", "core.protectHFS=true", "-c", "core.protectNTFS=true", "-c", "safe.bareRepository=explicit"),
    *("-c", "submodule.recurse=false", "-c", "fetch.recurseSubmodules=false", "-c", "core.pager=cat"),
)


class GitError(Exception):
    """Git refused. The message says what was tried, what git said, and what to do."""


class ReconcileRefusedError(Exception):
    """The clone is in a state that only its owner can decide about. The message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class State:
    """How a clone stands to its remote.

    ``branch`` is None on a detached head. ``ahead`` and ``behind`` count commits between HEAD and the remote's branch
    as it was last fetched; ``upstream`` is None when it never was. ``under_way`` is what the owner is in the middle of,
    such as a merge. ``dirty`` are the first paths that differ. The other fields are the refs of these names.
    """

    head: str | None
    branch: str | None
    upstream: str | None
    good: str | None
    failed: str | None
    seen: str | None = None
    returning: str | None = None
    moving: str | None = None
    under_way: str | None = None
    ahead: int = 0
    behind: int = 0
    dirty: tuple[str, ...] = ()


def is_object_id(text: str) -> bool:
    """Tell whether a text is a full object id, SHA-1 or SHA-256."""
    return _OBJECT_ID.fullmatch(text) is not None


class Git:
    """Git on one clone."""

    def __init__(self, repository: Repository, extra: dict[str, str] | None = None) -> None:
        self.repository = repository
        self.path = repository.path
        self.upstream = f"refs/remotes/{repository.remote}/{repository.branch}"
        variables = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",  # its messages are read here
            **(extra or {}),
        }
        if repository.ssh_key is not None:
            ssh = ["ssh", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", str(repository.ssh_key)]
            variables["GIT_SSH_COMMAND"] = shlex.join(ssh)
        self._env = environment(*GIT, given=variables)
        self._folders: list[Path] = []

    async def run(
        self,
        *arguments: str,
        ok: tuple[int, ...] = (0,),
        cwd: Path | None = None,
        at_most: timedelta = _TIMEOUT,
        stdin: str = "",
    ) -> tuple[int, str]:
        """Run git; return its exit code and what it wrote to standard output. Raises `GitError`."""
        out, errors = bytearray(), bytearray()

        def keep(to: bytearray, chunk: bytes) -> None:
            if len(to) < _MOST_OUTPUT:
                to += chunk

        argv = ["git", *_OPTIONS, *arguments]
        try:
            code = await process.run(
                argv,
                cwd=cwd or self.path,
                env=self._env,
                at_most=at_most,
                sink=lambda chunk: keep(out, chunk),
                stderr=lambda chunk: keep(errors, chunk),
                stdin=stdin.encode("utf-8", "surrogateescape"),
            )
        except process.ProgramError as error:
            raise GitError(f"git {arguments[0]} in {self.path}: {error}") from None
        if code not in ok:
            said = codecs.decode(bytes(errors or out), "utf-8", "replace")
            raise GitError(_explained(self.path, arguments[0], code, without_credentials(said)))
        return code, codecs.decode(bytes(out), "utf-8", "surrogateescape")

    async def read(self, *arguments: str, stdin: str = "") -> str:
        """Run git and return its standard output, without the last line's end."""
        return (await self.run(*arguments, stdin=stdin))[1].rstrip("\n")

    async def test(self, *arguments: str) -> bool:
        """Run a git command that answers yes or no by its exit code."""
        return (await self.run(*arguments, ok=(0, 1)))[0] == 0

    async def objects(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return the ids of what names stand for, as git reads names (`gitrevisions`); None where there is no such."""
        found: dict[str, str | None] = {}
        for start in range(0, len(names), _NAMES_AT_ONCE):
            some = names[start : start + _NAMES_AT_ONCE]
            asked = "".join(f"{name}\n" for name in some)
            answers = (await self.read("cat-file", "--batch-check=%(objectname)", stdin=asked)).split("\n")
            for name, said in zip(some, answers, strict=True):
                if not is_object_id(said) and said != f"{name} missing":
                    raise GitError(f"{name} in {self.path} is unclear: git says {said[:100]!r}")
                found[name] = said if is_object_id(said) else None
        return found

    async def commits(self, *refs: str) -> dict[str, str | None]:
        """Return the commits that refs stand for, None where there is no such ref."""
        found = await self.objects([f"{ref}^{{commit}}" for ref in refs])
        return dict(zip(refs, found.values(), strict=True))

    async def set_refs(self, changes: Mapping[str, str | None]) -> None:
        """Let refs stand for commits, or for nothing: all of them, or none."""
        await self._update_refs(
            f"delete {ref}" if new is None else f"update {ref} {new}" for ref, new in changes.items()
        )

    async def _update_refs(self, commands: Iterable[str]) -> None:
        if asked := "".join(f"{command}\n" for command in commands):
            await self.run("update-ref", "--stdin", stdin=asked)

    async def is_ancestor(self, ancestor: str, of: str) -> bool:
        """Tell whether a commit is in another's history, or is that commit."""
        return await self.test("merge-base", "--is-ancestor", ancestor, of)

    # -- looking -------------------------------------------------------------------------------------------------

    async def check_clone(self) -> list[str]:
        """Check that the path is a whole clone whose remote leads where it should. Returns its `credentials`.

        Raises `ReconcileRefusedError` when it is not, `GitError` when git cannot say.
        """
        if not self.path.is_dir():
            raise ReconcileRefusedError(
                f"there is no clone at {self.path}: clone it there, or set url so that the hub does"
            )
        if await self._look_where():
            top = await self.read("rev-parse", "--show-toplevel")
            raise ReconcileRefusedError(f"{self.path} is inside the clone {top}: set path to that")
        remote, url = self.repository.remote, self.repository.url
        addresses = await self._addresses()
        urls = [value for key, value in addresses if key == f"remote.{remote}.url"]
        found = urls[-1].strip() if urls else ""
        if not found:
            raise ReconcileRefusedError(f"the clone {self.path} has no remote {remote}: `git remote add {remote} URL`")
        if url is not None and found != url:
            raise ReconcileRefusedError(
                f"the remote {remote} of {self.path} leads to {without_credentials(found)}, and url says "
                f"{without_credentials(url)}: make them the same"
            )
        return _credentials_in(addresses)

    async def state(self) -> State:
        """Look at the clone as it is, without asking the remote. Raises `GitError`."""
        state = await self._refs()
        untracked = "no" if self.repository.allow_untracked else "normal"
        options = (
            "--porcelain=v2",
            "-z",
            "--branch",
            "--no-ahead-behind",
            "--no-renames",
            f"--untracked-files={untracked}",
        )
        entries = [*filter(None, (await self.read("status", *options)).split("\0"))]
        found = (entry.removeprefix(_BRANCH) for entry in entries if entry.startswith(_BRANCH))
        branch = next(found, "(detached)")
        dirty = await self._dirty([entry for entry in entries if not entry.startswith("# ")])
        return replace(state, branch=None if branch == "(detached)" else branch, dirty=dirty)

    async def _refs(self) -> State:
        """Look at the refs alone: as if there were no branch, and nothing dirty. Raises `GitError`."""
        revisions = await self.commits("HEAD", self.upstream, GOOD, FAILED, SEEN, RETURNING, MOVING, *_UNDER_WAY)
        head, upstream, good, failed, seen, returning, moving, *under_way = revisions.values()
        ahead = behind = 0
        if head and upstream and head != upstream:
            counts = await self.read("rev-list", "--left-right", "--count", f"{head}...{upstream}")
            ahead, behind = (int(count) for count in counts.split())
        busy = next((what for what, revision in zip(_UNDER_WAY.values(), under_way, strict=True) if revision), None)
        return State(head, None, upstream, good, failed, seen, returning, moving, busy, ahead, behind)

    async def after_fetch(self, state: State) -> State:
        """Look at the refs again, and keep what was found in the work tree. Raises `GitError`."""
        return replace(await self._refs(), branch=state.branch, dirty=state.dirty)

    async def reclaim(self) -> list[Path]:
        """Remove what a git that was killed has left locked, and return it. The caller holds the clone."""
        return await asyncio.to_thread(stale_locks.reclaim, self.path, await self.folders())

    async def _dirty(self, status: Iterable[str]) -> tuple[str, ...]:
        found = []
        for entry in status:
            path = entry.split(" ", {"1": 8, "u": 10}.get(entry[0], 1))[-1]
            if entry.startswith("1 .M SC.. ") and await self._is_left_behind(path):
                continue
            found.append(path)
            if len(found) == 20:
                break
        return tuple(found)

    async def _is_left_behind(self, submodule: str) -> bool:
        """Tell whether a submodule is at a revision that it was brought to here, and only waits for its update."""
        if not self.repository.submodules:
            return False
        at = await self.read("-C", submodule, "rev-parse", "--verify", "HEAD")
        for revision in (GOOD, FAILED, "ORIG_HEAD"):
            recorded = f"{revision}:{submodule}"
            if (await self.run("rev-parse", "--quiet", "--verify", recorded, ok=(0, 1, 128)))[1].strip() == at:
                return True
        return False

    def refuse_what_is_not_ours(self, state: State) -> None:
        """Raise `ReconcileRefusedError` unless the clone is on its branch with nothing uncommitted."""
        wanted = self.repository.branch
        if state.branch is None:
            raise ReconcileRefusedError(
                f"the clone {self.path} is on no branch (detached HEAD): `git switch {wanted}` there"
            )
        if state.branch != wanted:
            raise ReconcileRefusedError(
                f"the clone {self.path} is on branch {state.branch}, not {wanted}: `git switch {wanted}` there"
            )
        if state.head is None:
            raise ReconcileRefusedError(f"the branch {wanted} in {self.path} has no commit yet")
        if state.dirty:
            some = ", ".join([*map(ascii, state.dirty[:5]), *(["…"] if len(state.dirty) > 5 else [])])
            raise ReconcileRefusedError(
                f"the clone {self.path} has changes that are not committed ({some}): "
                "commit and push them, or put them away with `git stash --include-untracked`; nothing was changed"
            )
        if state.under_way:
            raise ReconcileRefusedError(f"a {state.under_way} is under way in {self.path}: finish or abort it")

    async def folders(self) -> list[Path]:
        """Return the clone's git directory, and the one that it shares with other work trees, if it is another."""
        if not self._folders:
            await self._look_where()
        return self._folders

    async def _look_where(self) -> str:
        """Find the git directories. Returns where the path is in the work tree: the empty string at its top."""
        # The prefix comes first: its line is there, if empty, at the top.
        said = await self.read("rev-parse", "--show-prefix", "--path-format=absolute", "--git-dir", "--git-common-dir")
        prefix, *folders = said.split("\n")
        self._folders = list(dict.fromkeys(map(Path, folders)))
        return prefix

    async def notes(self) -> Path:
        """Return the folder in the git directory that the hub keeps its notes on the clone in."""
        folder = (await self.folders())[0] / "obs-hub"
        folder.mkdir(exist_ok=True)
        return folder

    async def credentials(self) -> list[str]:
        """Return the credentials that the clone's settings hold in the open: in addresses and in headers."""
        return _credentials_in(await self._addresses())

    async def _addresses(self) -> list[tuple[str, str]]:
        """Return keys and values of the settings that say where remotes are, and what is sent to them."""
        keys = r"^(remote\..*\.(push)?url|http\.(.*\.)?extraheader)$"
        said = (await self.run("config", "--null", "--get-regexp", keys, ok=(0, 1)))[1]
        return [(key, value) for key, _, value in (entry.partition("\n") for entry in said.split("\0"))]

    # -- changing ------------------------------------------------------------------------------------------------

    async def clone(self) -> None:
        """Make a clone that is missing. One that is half done never stands at the path."""
        url = self.repository.url
        assert url is not None
        parent = self.path.parent
        if not parent.is_dir():
            raise GitError(f"the directory {parent} for the clone is missing: make it, writable for this user")
        fresh = parent / f".{self.path.name}.obs-hub-clone"
        if fresh.exists():  # of a hub that was killed
            await asyncio.to_thread(shutil.rmtree, fresh)
        arguments = ["clone", "--template=", "--no-tags", "--origin", self.repository.remote]
        arguments += ["--branch", self.repository.branch, "--", url, str(fresh)]
        await self.run(*arguments, cwd=parent, at_most=self.repository.fetch_timeout)
        fresh.rename(self.path)

    async def fetch(self, *, maintain: bool) -> None:
        """Fetch the branch. Changes nothing but the remote-tracking branch.

        With ``maintain`` git tidies the clone, should it be time for that.
        """
        source, remote = self.repository, self.repository.remote
        arguments = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules")
        tidying = "--auto-maintenance" if maintain else "--no-auto-maintenance"
        wanted = ("--end-of-options", remote, f"+refs/heads/{source.branch}:{self.upstream}")
        await self.run(*arguments, tidying, *wanted, at_most=source.fetch_timeout)

    async def verify_signature(self, revision: str) -> None:
        """Raise `ReconcileRefusedError` unless the commit has a good signature of somebody who may sign."""
        signers = self.repository.allowed_signers
        hint = "nothing was rolled out; sign the commit (git commit -S), or add the signer"
        if signers is not None:
            if not signers.is_file():
                raise ReconcileRefusedError(f"the file of allowed signers {signers} is missing")
            header = (await self.read("cat-file", "commit", revision)).partition("\n\n")[0]
            if not re.search(r"^gpgsig(-sha256)? -----BEGIN SSH SIGNATURE-----$", header, re.MULTILINE):
                raise ReconcileRefusedError(f"the revision {revision} has no SSH signature; {hint}")
        options = () if signers is None else ("-c", f"gpg.ssh.allowedSignersFile={signers}", *_SSH_SIGNATURES_ONLY)
        try:
            await self.run(*options, "verify-commit", revision)
        except GitError:
            raise ReconcileRefusedError(
                f"the revision {revision} has no good signature of somebody who may sign; {hint}"
            ) from None

    async def fast_forward(self, state: State) -> None:
        """Bring the branch to the remote's revision. Raises `ReconcileRefusedError` when that is no fast-forward."""
        assert state.upstream is not None
        if state.ahead:
            raise ReconcileRefusedError(await self._why_no_fast_forward(state))
        await self._move(state.upstream, *_FORWARD, then={SEEN: state.upstream})

    async def update_submodules(self) -> None:
        """Bring submodules, where they are wanted, to what the revision says."""
        if self.repository.submodules:
            await self.run("submodule", "update", "--init", "--recursive", at_most=self.repository.fetch_timeout)

    async def _why_no_fast_forward(self, state: State) -> str:
        remote, branch, head = self.repository.remote, self.repository.branch, state.head
        assert head is not None
        if state.seen is not None and await self.is_ancestor(head, state.seen):
            return (
                f"{remote}/{branch} was force-pushed: {head[:12]}, which was rolled out here, is no longer in it; "
                f"nothing was changed. To accept what is there now: `git -C {self.path} reset --keep {remote}/{branch}`"
            )
        if not state.behind:
            return (
                f"the clone {self.path} has commits that are not in {remote}/{branch}: push them, or move them to a "
                "branch of their own"
            )
        return (
            f"the branch {branch} in {self.path} and {remote}/{branch} have diverged: rebase and push the commits that "
            f"are here only (`git log {remote}/{branch}..{branch}`), or move them to a branch of their own"
        )

    async def go_back(self, revision: str) -> None:
        """Move the branch back to a revision, keeping whatever is not committed. Git refuses where both cannot be."""
        await self._move(revision, *_ANYWHERE)
        await self.update_submodules()

    async def _move(self, revision: str, *how: str, then: Mapping[str, str | None] | None = None) -> None:
        await self.set_refs({MOVING: revision})
        # Filters may fetch, as that of Git LFS does.
        await self.run(*how, revision, at_most=max(_TIMEOUT, self.repository.fetch_timeout))
        await self.set_refs({MOVING: None, **(then or {})})

    async def finish_move(self, state: State) -> bool:
        """Finish a move of the branch that was cut off in the middle; return whether there was one.

        Git writes the files first, then the index, then the branch. So each file that differs from the branch has to be
        gone, or as in the revision that was being checked out. Anything else is the owner's, and then nothing is done.
        """
        target = state.moving
        if target is None or state.head in (None, target) or not state.dirty:
            return False
        folder = await self.notes()
        there = Git(self.repository, {**self._env, "GIT_INDEX_FILE": str(folder / "index")})
        await there.run("read-tree", "--reset", target)
        names = set((await there.read("ls-files", "-z")).split("\0"))
        other = set((await there.read("diff", "--name-only", "--no-renames", "-z")).split("\0"))
        moved = []
        status = await self.read("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
        for entry in filter(None, status.split("\0")):
            kind, path = entry[:2], entry[3:]
            if kind == " D":
                continue  # to be removed, or to be written next; and what it held is in the repository
            if path in names and path not in other:
                moved.append(path)
            elif kind != "??" or path in names or not self.repository.allow_untracked:
                return False
        listed = folder / "moved"
        listed.write_bytes("\0".join(moved).encode("utf-8", "surrogateescape"))
        arguments = (f"--pathspec-from-file={listed}", "--pathspec-file-nul")
        await self.run("--literal-pathspecs", "add", "--all", "--force", *arguments)
        forward = await self.is_ancestor(state.head, target)
        await self._move(target, *(_FORWARD if forward else _ANYWHERE))
        return True

    async def changed(self, before: str, after: str, paths: Sequence[str]) -> bool:
        """Tell whether a file that matches one of the pathspecs differs between two revisions."""
        arguments = ("diff", "--quiet", "--no-ext-diff", "--no-textconv", before, after, "--")
        return not await self.test(*arguments, *paths)

    async def touching(self, one: str, other: str, paths: Sequence[str]) -> list[str]:
        """Return the commits that are in one revision's history only and touch a file that matches a pathspec."""
        return (await self.read("rev-list", "--full-history", f"{one}...{other}", "--", *paths)).split()

    async def is_content_of(self, content: bytes, path: str, revisions: Sequence[str]) -> bool:
        """Tell whether a file is, or was, of this content in one of the revisions."""
        there = await self.objects([f"{revision}:{path}" for revision in revisions])
        as_blob = b"blob %d\0" % len(content) + content
        hashes = (hashlib.sha1(as_blob, usedforsecurity=False), hashlib.sha256(as_blob))
        return not {each.hexdigest() for each in hashes}.isdisjoint(filter(None, there.values()))

    async def prune_branches(self) -> list[tuple[str, str]]:
        """Remove local branches that are merged into the branch. Returns their names and where they stood."""
        listing = await self.read(
            *("for-each-ref", "--format=%(symref) %(refname) %(objectname) %(worktreepath)"),
            *("--merged=HEAD", "refs/heads/"),
        )
        removed: list[tuple[str, str]] = []
        for line in filter(None, listing.split("\n")):
            alias, ref, revision, worktree = [*line.split(" ", 3), ""][:4]
            if alias or worktree or ref == f"refs/heads/{self.repository.branch}" or not is_object_id(revision):
                continue
            removed.append((ref, revision))
        await self._update_refs(f"delete {ref} {revision}" for ref, revision in removed)
        return [(ref.removeprefix("refs/heads/"), revision) for ref, revision in removed]


def _credentials_in(addresses: Iterable[tuple[str, str]]) -> list[str]:
    found: list[str] = []
    for key, value in addresses:
        if key.endswith("extraheader"):
            found += value.split()[-1:]
        elif (url := _HTTP_USER.match(value)) is not None:
            user, _, password = url[1].partition(":")
            found += [url[1], password or user, unquote(password or user)]
    return list(dict.fromkeys(found))


def _explained(path: Path, command: str, code: int, said: str) -> str:
    """Say what git said, and what to do about it where that is known. A git that a signal ended may say nothing."""
    text = " ".join(said.split())[-600:]
    if code < 0 or not text:
        text = f"it ended with {ended_with(code)}" + (f": {text}" if text else "")
    hint = next((hint.format(path=path) for sign, hint in _HINTS if sign in said), None)
    return f"git {command} in {path} failed: {text}" + (f" — {hint}" if hint else "")


# A commit may have a second signature in its header, and git chooses which it looks at.
_SSH_SIGNATURES_ONLY = ("-c", "gpg.program=false", "-c", "gpg.openpgp.program=false", "-c", "gpg.x509.program=false")

_HINTS = (
    (
        "dubious ownership",
        "the clone belongs to another user: run the hub as its owner, give it to the hub's user with chown -R, or, as "
        "the hub's user, `git config --global --add safe.directory {path}`",
    ),
    ("could not read Username", "the remote asks for credentials: set up a credential helper for the hub's user"),
    ("terminal prompts disabled", "the remote asks for credentials: set up a credential helper for the hub's user"),
    ("Authentication failed", "the remote does not take the credentials of the hub's user"),
    ("Permission denied (publickey", "the remote does not take the SSH key: set ssh_key to a deploy key's file"),
    ("Host key verification failed", "add the host to ~/.ssh/known_hosts of the hub's user, after checking its key"),
    ("couldn't find remote ref", "the branch is not at the remote: see branch and remote in the configuration"),
    ("Remote branch", "the branch is not at the remote: see branch in the configuration"),
    (
        ".lock': File exists",
        "another git works on the clone: wait for it; one that was killed is cleared away after by itself",
    ),
    ("would be overwritten", "files that are not committed stand in the way: move them"),
    ("not a git repository", "clone the repository there"),
    ("Permission denied", "make it readable and writable for the hub's user"),
)
