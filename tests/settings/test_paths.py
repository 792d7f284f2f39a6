"""Paths as people type them: a home, a name in either Unicode form, a string or a path."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

import lottery_hub as lh
from lottery_hub.errors import ConfigError
from lottery_hub.networks.tickets import Ladder
from lottery_hub.settings.paths import path_of, place_of
from lottery_hub.sharing.pulling import pull
from lottery_hub.storage.folder import load_ticket, save_backbone, save_ladder, save_ticket


def test_a_tilde_is_a_home_and_every_other_name_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_of("~/nets") == path_of(Path("~/nets")) == tmp_path / "nets"
    for name in ("nets", "nets/", "~nobody-of-that-name/nets", "a\0b", "x" * 5000):
        assert path_of(name) == path_of(Path(name)) == Path(name)


def test_an_address_is_no_place_to_write_to_but_a_folder_may_be_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/net", "file:///net", Path("hf://user/net"), ""):
        with pytest.raises(ConfigError, match=r"is an address; give a file or folder|is empty"):
            place_of(address)
    (tmp_path / "odd:").mkdir()
    assert place_of("odd:/net") == Path("odd:/net")
    assert place_of("12:30") == Path("12:30")


@pytest.mark.parametrize(("there", "typed"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_a_name_in_the_other_unicode_form_is_the_same_name(tmp_path: Path, there: str, typed: str) -> None:
    folder = tmp_path / unicodedata.normalize(there, "réseaux")
    folder.mkdir()
    assert path_of(tmp_path / unicodedata.normalize(typed, "réseaux")) == folder
    new = tmp_path / unicodedata.normalize(typed, "été")  # one that is not there stays as it is typed
    assert str(path_of(new)) == str(new)


def test_a_string_and_a_path_do_the_same_everywhere(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for kind in (str, Path):
        home = f"~/{kind.__name__.lower()}"
        ticket = lh.save_ticket(ladder.ticket(2), kind(f"{home}/ticket"))
        masks = save_ladder(ladder, kind(f"{home}/ladder/"))
        net = save_backbone(ladder.backbone, kind(f"{home}/net"))
        assert {path.parent for path in (ticket, masks, net)} == {tmp_path / kind.__name__.lower()}
        assert lh.load_ticket(kind(f"{home}/ticket/")).level == 2
        assert lh.load_ladder(kind(f"{home}/ladder")).levels == 6
        assert lh.load_backbone(kind(f"{home}/net/")).fingerprint() == ladder.backbone.fingerprint()
        assert lh.load_backbone(f"adv:{home}/net").fingerprint() == ladder.backbone.fingerprint()
        assert lh.pull(kind(home), local_dir=kind(f"{home}/copy")).folder == tmp_path / home[2:] / "copy"
        (tmp_path / home[2:] / "images" / "train" / "a").mkdir(parents=True)
        with pytest.raises(lh.LotteryHubError, match="train/a has no image file"):
            lh.load_dataset(kind(f"{home}/images/"))
    assert not (tmp_path / "~").exists()


def test_the_working_folder_may_be_replaced_by_what_is_fetched(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = save_ticket(ladder.ticket(2), tmp_path / "ticket")
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    folder = pull(str(ticket), local_dir=".").folder
    assert folder == tmp_path / "copy"
    assert load_ticket(folder).fingerprint() == ladder.ticket(2).fingerprint()
