"""Serves a Hub by hand, to try the command line and other clients against: `python -m tests.hub`."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.hub.server import Hub
from tests.hub.store import RepoExistsError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the repositories are kept; without it, until the end")
    parser.add_argument("--port", type=int, default=0, help="0 is any that is free")
    parser.add_argument("--page-size", type=int, default=1000)
    seeds = "a repository to make first, from a folder of files: models/alice/net=FOLDER, or empty without it"
    parser.add_argument("--seed-repo", action="append", default=[], metavar="KEY[=FOLDER]", help=seeds)
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-")))
        hub = stack.enter_context(Hub(folder, asked.page_size, asked.port))
        for seed in asked.seed_repo:
            key, _, source = seed.partition("=")
            with suppress(RepoExistsError):
                hub.store.create(key)
            if source:
                paths = [path for path in sorted(Path(source).rglob("*")) if path.is_file()]
                hub.store.commit(key, {path.relative_to(source).as_posix(): path.read_bytes() for path in paths})
        print(f"{hub.endpoint} serves {folder}")
        for token, user in hub.tokens.items():
            print(f"token of {user}: {token}")
        print(f"export HF_ENDPOINT={hub.endpoint} HF_TOKEN={hub.token('alice')} HF_HUB_DISABLE_XET=1", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                hub.closing.wait(3600)


if __name__ == "__main__":
    main()
