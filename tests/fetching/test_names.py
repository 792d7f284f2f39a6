"""What comes from outside becomes a name that can only be what it should, or one line."""

from __future__ import annotations

import subprocess

import pytest

from lottery_hub.errors import ConfigError, DownloadError, LotteryHubError
from lottery_hub.fetching import names

SHA1, SHA256 = "0123456789abcdef0123456789abcdef01234567", "0123456789abcdef" * 4

# What no kind of name is, however it is spelled.
NEVER = ["", "/etc/passwd", "/", "..", "../up", "a/../b", "a/..", "a\x00b", "a\nb", "a\\..\\b", "\ud800", "x" * 3000]
NO_TEXT = [None, 7, True, b"main", ["main"], {"sha": SHA1}, 1e400]

GOOD = {
    names.commit: [SHA1, "f" * 40],
    names.digest: [SHA1, SHA256],
    names.revision: [
        "main",
        "v1.0",
        "seed/1",
        "refs/pr/1",
        "refs/convert/parquet",
        SHA1,
        "zürich",
        "a-b_c.d",
        "x" * 200,
    ],
    names.repo_id: ["alice/digits", "uoft-cs/cifar10", "a/b", "A1/resnet18.tv_in1k", "a/b_", "x" * 96 + "/" + "y" * 96],
    names.dataset_id: ["org/name", "org/name/config", "uoft-cs/cifar10/plain_text"],
    names.path: ["config.json", "trained/a b/config.json", ".gitattributes", "data/train-0.parquet", "ä/…", "x" * 255],
}
BAD = {
    names.commit: [SHA1[:-1], SHA1 + "0", SHA1.upper(), "g" * 40, SHA1 + "\n", SHA256, "main", "/" + SHA1],
    names.digest: [SHA1 + "0", SHA256[:-1], SHA256.upper(), '"' + SHA1 + '"', "W/" + SHA1, SHA1 + "\n", "../" + SHA1],
    names.revision: [
        *[
            ".hidden",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "a/",
            "/a",
            "a//b",
            "-a",
            "@",
            "a@{1}",
            "a b",
            "a\tb",
            "a\x7fb",
        ],
        *["a~1", "a^", "a:b", "a?", "a*", "a[b", "C:\\x", "a\\b", "x" * 201, "ä" * 101],
    ],
    names.repo_id: [
        *["alice", "a/b/c", "alice/", "/digits", ".a/b", "a/.b", "-a/b", "a/b-", "a/b.", "a--b/c", "a/b--c", "a/b..c"],
        *["a/b.git", "a b/c", "a/b@v1", "äb/c", "x" * 97 + "/y", "y/" + "x" * 97, "~/x", "./x", "../x", "a/b\n"],
    ],
    names.dataset_id: ["digits", "org/name/a/b", "org/name/", "org/name/..", "org/name/.a", "./folder", "~/folder"],
    names.path: [
        *[
            "./a",
            "a/.",
            "a//b",
            "a/",
            "a/../../b",
            "a\\b",
            "C:\\a",
            "a\tb",
            "a\x1b[2Jb",
            "a\x9bb",
            "x" * 256,
            "ä" * 128,
        ],
        "/".join(["x" * 100] * 10),
    ],
}


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_a_name_is_returned_as_it_is(kind):
    assert [kind(text) for text in GOOD[kind]] == GOOD[kind]
    assert all(names.fits(kind, text) for text in GOOD[kind])


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.__name__)
def test_what_is_no_such_name_is_refused_in_one_line(kind):
    for text in [*BAD[kind], *NEVER, *NO_TEXT]:
        assert not names.fits(kind, text), text
        with pytest.raises(LotteryHubError) as refused:
            kind(text)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 200


def test_the_caller_chooses_the_error():
    for error in (DownloadError, ConfigError):
        with pytest.raises(error, match="main is not a commit: it has 40 hex digits"):
            names.commit("main", error)


@pytest.mark.parametrize("text", [*GOOD[names.revision], *BAD[names.revision]])
def test_git_would_take_every_revision_that_is_taken(text):
    if names.fits(names.revision, text):
        subprocess.run(["git", "check-ref-format", "--branch", text], check=True, stdout=subprocess.DEVNULL)


def test_the_hub_s_client_takes_every_repository_id_that_is_taken():
    from huggingface_hub.utils import validate_repo_id

    for text in [*GOOD[names.repo_id], *BAD[names.repo_id]]:
        if names.fits(names.repo_id, text):
            validate_repo_id(text)


class TestBelow:
    def test_a_place_below_is_returned_also_where_nothing_is_yet(self, tmp_path):
        (tmp_path / "a").mkdir()
        assert names.below(tmp_path, "a") == tmp_path / "a"
        assert names.below(tmp_path, "a/new/file") == tmp_path / "a/new/file"

    def test_a_link_that_stays_inside_is_followed(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "link").symlink_to("a")
        assert names.below(tmp_path, "link/file") == tmp_path / "link/file"

    @pytest.mark.parametrize("target", ["..", "../beside", "/etc", "/nowhere/at/all"])
    def test_a_link_that_leads_out_is_refused(self, tmp_path, target):
        root = tmp_path / "root"
        root.mkdir()
        (tmp_path / "beside").mkdir()
        (root / "link").symlink_to(target)
        for relative in ("link", "link/file"):
            with pytest.raises(DownloadError, match="leads out of"):
                names.below(root, relative, DownloadError)

    def test_links_in_a_circle_are_refused(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(DownloadError, match="cannot follow"):
            names.below(tmp_path, "a/file", DownloadError)

    def test_a_root_that_is_itself_behind_a_link_is_a_root(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert names.below(tmp_path / "link", "file") == tmp_path / "link/file"
