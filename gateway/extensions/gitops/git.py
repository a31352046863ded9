"""A clone, handled with care: nothing of its owner's is thrown away, and nothing that was pushed is executed.

Git runs without hooks, without asking anybody, and without the variables that would point it elsewhere. What came over
the network reaches its command line only as full object ids. Everything else there is from the configuration.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
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

_FORWARD = ("merge", "--ff-only", "--quiet", "--no-autostash")
_ANYWHERE = ("reset", "--quiet", "--keep")
_TIMEOUT = timedelta(minutes=2)
_MOST_OUTPUT = 4 * 2**20
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
    as it was last fetched; ``upstream`` is None when it never was. ``dirty`` are the first paths that differ.
    """

    head: str | None
    branch: str | None
    upstream: str | None
    good: str | None
    failed: str | None
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

    async def run(
        self, *arguments: str, ok: tuple[int, ...] = (0,), cwd: Path | None = None, at_most: timedelta = _TIMEOUT
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
            )
        except process.ProgramError as error:
            raise GitError(f"git {arguments[0]} in {self.path}: {error}") from None
        if code not in ok:
            said = codecs.decode(bytes(errors or out), "utf-8", "replace")
            raise GitError(_explained(self.path, arguments[0], code, without_credentials(said)))
        return code, codecs.decode(bytes(out), "utf-8", "surrogateescape")

    async def read(self, *arguments: str) -> str:
        """Run git and return its standard output, without the last line's end."""
        return (await self.run(*arguments))[1].rstrip("\n")

    async def test(self, *arguments: str) -> bool:
        """Run a git command that answers yes or no by its exit code."""
        return (await self.run(*arguments, ok=(0, 1)))[0] == 0

    async def revision(self, ref: str) -> str | None:
        """Return the commit that a ref stands for, or None where there is no such ref."""
        code, out = await self.run(
            "rev-parse", "--quiet", "--verify", "--end-of-options", f"{ref}^{{commit}}", ok=(0, 1)
        )
        identity = out.strip()
        if code:
            return None
        if not is_object_id(identity):
            raise GitError(f"{ref} in {self.path} is no commit: git says {identity[:100]!r}")
        return identity

    async def set_ref(self, ref: str, revision: str | None) -> None:
        """Let a ref stand for a commit, or for nothing."""
        if revision is None:
            await self.run("update-ref", "-d", ref)
        else:
            await self.run("update-ref", ref, revision)

    async def is_ancestor(self, ancestor: str, of: str) -> bool:
        """Tell whether a commit is in another's history, or is that commit."""
        return await self.test("merge-base", "--is-ancestor", ancestor, of)

    # -- looking -------------------------------------------------------------------------------------------------

    async def check_clone(self) -> None:
        """Check that the path is a whole clone whose remote leads where it should.

        Raises `ReconcileRefusedError` when it is not, `GitError` when git cannot say.
        """
        if not self.path.is_dir():
            raise ReconcileRefusedError(
                f"there is no clone at {self.path}: clone it there, or set url so that the hub does"
            )
        if await self.read("rev-parse", "--show-prefix"):
            top = await self.read("rev-parse", "--show-toplevel")
            raise ReconcileRefusedError(f"{self.path} is inside the clone {top}: set path to that")
        remote, url = self.repository.remote, self.repository.url
        found = (await self.run("config", "--get", f"remote.{remote}.url", ok=(0, 1)))[1].strip()
        if not found:
            raise ReconcileRefusedError(f"the clone {self.path} has no remote {remote}: `git remote add {remote} URL`")
        if url is not None and found != url:
            raise ReconcileRefusedError(
                f"the remote {remote} of {self.path} leads to {without_credentials(found)}, and url says "
                f"{without_credentials(url)}: make them the same"
            )

    async def state(self) -> State:
        """Look at the clone as it is, without asking the remote. Raises `GitError`."""
        head, upstream = await self.revision("HEAD"), await self.revision(self.upstream)
        code, branch = await self.run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1))
        ahead = behind = 0
        if head and upstream:
            counts = await self.read("rev-list", "--left-right", "--count", f"{head}...{upstream}")
            ahead, behind = (int(count) for count in counts.split())
        return State(
            head,
            None if code else branch.strip().removeprefix("refs/heads/"),
            upstream,
            await self.revision(GOOD),
            await self.revision(FAILED),
            ahead,
            behind,
            await self._dirty(),
        )

    async def reclaim(self) -> list[Path]:
        """Remove what a git that was killed has left locked, and return it. The caller holds the clone."""
        return await asyncio.to_thread(stale_locks.reclaim, self.path, await self.folders())

    async def _dirty(self) -> tuple[str, ...]:
        untracked = "no" if self.repository.allow_untracked else "normal"
        status = await self.read("status", "--porcelain=v2", "-z", "--no-renames", f"--untracked-files={untracked}")
        found = []
        for entry in filter(None, status.split("\0")):
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

    async def refuse_what_is_not_ours(self, state: State) -> None:
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
        for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD"):
            if await self.revision(name):
                raise ReconcileRefusedError(
                    f"a {name.partition('_')[0].lower()} is under way in {self.path}: finish or abort it"
                )

    async def folders(self) -> list[Path]:
        """Return the clone's git directory, and the one that it shares with other work trees, if it is another."""
        said = await self.read("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir")
        return list(dict.fromkeys(Path(line) for line in said.split("\n")))

    async def notes(self) -> Path:
        """Return the folder in the git directory that the hub keeps its notes on the clone in."""
        folder = (await self.folders())[0] / "obs-hub"
        folder.mkdir(exist_ok=True)
        return folder

    async def credentials(self) -> list[str]:
        """Return the credentials that the clone's settings hold in the open: in addresses and in headers."""
        keys = r"^(remote\..*\.(push)?url|http\.(.*\.)?extraheader)$"
        found: list[str] = []
        for entry in (await self.run("config", "--null", "--get-regexp", keys, ok=(0, 1)))[1].split("\0"):
            key, _, value = entry.partition("\n")
            if key.endswith("extraheader"):
                found += value.split()[-1:]
            elif (url := _HTTP_USER.match(value)) is not None:
                user, _, password = url[1].partition(":")
                found += [url[1], password or user, unquote(password or user)]
        return list(dict.fromkeys(found))

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

    async def fetch(self) -> str:
        """Fetch the branch and return the remote's revision. Changes nothing but the remote-tracking branch."""
        source, remote = self.repository, self.repository.remote
        arguments = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--end-of-options", remote)
        await self.run(*arguments, f"+refs/heads/{source.branch}:{self.upstream}", at_most=source.fetch_timeout)
        revision = await self.revision(self.upstream)
        assert revision is not None, "a fetch that succeeds makes the ref"
        return revision

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

    async def fast_forward(self, state: State, target: str) -> None:
        """Bring the branch to the remote's revision. Raises `ReconcileRefusedError` when that is no fast-forward."""
        assert state.head is not None
        if not await self.is_ancestor(state.head, target):
            raise ReconcileRefusedError(await self._why_no_fast_forward(state.head, target))
        if state.head != target:
            await self._move(target, *_FORWARD)

    async def update_submodules(self) -> None:
        """Bring submodules, where they are wanted, to what the revision says."""
        if self.repository.submodules:
            await self.run("submodule", "update", "--init", "--recursive", at_most=self.repository.fetch_timeout)

    async def _why_no_fast_forward(self, head: str, target: str) -> str:
        remote, branch = self.repository.remote, self.repository.branch
        seen = await self.revision(SEEN)
        if seen is not None and await self.is_ancestor(head, seen):
            return (
                f"{remote}/{branch} was force-pushed: {head[:12]}, which was rolled out here, is no longer in it; "
                f"nothing was changed. To accept what is there now: `git -C {self.path} reset --keep {remote}/{branch}`"
            )
        if await self.is_ancestor(target, head):
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

    async def _move(self, revision: str, *how: str) -> None:
        await self.set_ref(MOVING, revision)
        # Filters may fetch, as that of Git LFS does.
        await self.run(*how, revision, at_most=max(_TIMEOUT, self.repository.fetch_timeout))
        await self.set_ref(MOVING, None)

    async def finish_move(self, state: State) -> bool:
        """Finish a move of the branch that was cut off in the middle; return whether there was one.

        Git writes the files first, then the index, then the branch. So each file that differs from the branch has to be
        gone, or as in the revision that was being checked out. Anything else is the owner's, and then nothing is done.
        """
        target = await self.revision(MOVING)
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

    async def content(self, revision: str, path: str) -> bytes | None:
        """Return a file as it is in a revision, or None where it is not there."""
        if not await self.test("rev-parse", "--quiet", "--verify", "--end-of-options", f"{revision}:{path}"):
            return None
        out = (await self.run("cat-file", "blob", f"{revision}:{path}"))[1]
        return out.encode("utf-8", "surrogateescape")

    async def prune_branches(self) -> list[tuple[str, str]]:
        """Remove local branches that are merged into the branch. Returns their names and where they stood."""
        listing = await self.read(
            *("for-each-ref", "--format=%(symref) %(refname) %(objectname) %(worktreepath)"),
            *("--merged=HEAD", "refs/heads/"),
        )
        removed = []
        for line in filter(None, listing.split("\n")):
            alias, ref, revision, worktree = [*line.split(" ", 3), ""][:4]
            if alias or worktree or ref == f"refs/heads/{self.repository.branch}" or not is_object_id(revision):
                continue
            await self.run("update-ref", "-d", ref, revision)
            removed.append((ref.removeprefix("refs/heads/"), revision))
        return removed


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
