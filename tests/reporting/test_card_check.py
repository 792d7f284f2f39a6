"""A card is believed where it shows what the records render; whatever else it says or hides is not verified."""

from __future__ import annotations

import time

import pytest

from lottery_hub.reporting.card_check import compare_card
from lottery_hub.storage.signing import signed

METADATA = """---
library_name: lottery-hub
license: mit
tags:
- lottery-ticket
- sparsity:20-30
lottery_hub:
  level: 1
  sparsity: 0.2
  double_win: false
model-index:
- name: net
  results:
  - metrics:
    - type: accuracy
      name: RA after adversarial transfer
      value: 0.4167
      args:
        samples: 12
---
"""
TEXT = """
# net at 20.00 % sparsity

**NOT a double-win ticket: best level tried.** It fails to match the dense backbone.

## Ticket against dense

| transfer | figure | dense | ticket | matching |
|---|---|---:|---:|---|
| standard | SA | 33.33 % | 45.83 % | yes |
| adversarial | RA | 50.00 % | 41.67 % | no |

Each figure is the mean over seeds on 12 test images.

- RA: robust accuracy, under PGD-20.
- Caveat: dense RA is 50.00 %.

<details>
<summary>Kept weights by layer</summary>

| layer | kept |
|---|---:|
| conv1.weight | 99 |

</details>

## Limits

- The sparsity is unstructured.
"""
CARD = signed(METADATA + TEXT)
VERDICT = "**NOT a double-win ticket: best level tried.** It fails to match the dense backbone."
ROW = "| adversarial | RA | 50.00 % | 41.67 % | no |"
LIE = "| adversarial | RA | 50.00 % | 91.67 % | yes |"
TABLE = TEXT[TEXT.index("| transfer") : TEXT.index("\n\nEach figure")]


def answer(card: str) -> str:
    return compare_card(card, [CARD])[0]


def test_a_card_that_nobody_touched_is_verified() -> None:
    assert compare_card(CARD, ["another", CARD]) == ("verified", "it says what the records say, to the letter")
    assert answer(CARD.replace("\n", "\r\n")) == "verified"


HONEST = {
    "a paragraph": CARD.replace("## Limits", "## About us\n\nMade by our group; **thanks** to everybody.\n\n## Limits"),
    "a list": CARD.replace("## Limits", "- for cats\n- and dogs\n\n## Limits"),
    "a link": CARD.replace("## Limits", "See [our page](https://example.org/us).\n\n## Limits"),
    "more empty lines": CARD.replace("## Limits", "\n\n## Limits"),
    "a tag": CARD.replace("- lottery-ticket\n", "- lottery-ticket\n- vision\n"),
    "a language": CARD.replace("license: mit\n", "license: mit\nlanguage: en\n"),
    "keys in another order": CARD.replace(
        "library_name: lottery-hub\nlicense: mit\n", "license: mit\nlibrary_name: lottery-hub\n"
    ),
    "without its signature": CARD[: CARD.index("\n<!-- rendered by")],
    "a harmless comment": CARD.replace("## Limits", "<!-- written by hand -->\n\n## Limits"),
}


@pytest.mark.parametrize("card", HONEST.values(), ids=HONEST.keys())
def test_words_that_state_nothing_may_be_added(card: str) -> None:
    assert card != CARD
    assert compare_card(card, [CARD])[0] == "verified", compare_card(card, [CARD])


def put(old: str, new: str) -> str:
    assert old in CARD
    return CARD.replace(old, new, 1)


def after(line: str, text: str) -> str:
    """The card with a paragraph of its own after one of its lines."""
    return put(line, f"{line}\n\n{text}\n")


FALSE = {
    "a picture for the metadata": put("license: mit", "license: mit\nthumbnail: https://example.org/x.png"),
    "a comparison with the backbone": after(VERDICT, "It is no worse than the backbone."),
    # The metadata
    "another figure": put("value: 0.4167", "value: 0.9167"),
    "the figure as a word": put("value: 0.4167", "value: '0.4167'"),
    "a whole number for a share": put("samples: 12", "samples: 12.0"),
    "another verdict": put("double_win: false", "double_win: true"),
    "one for false": put("double_win: false", "double_win: 0"),
    "a key twice": put("      value: 0.4167\n", "      value: 0.9167\n      value: 0.4167\n"),
    "octal here, decimal there": put("samples: 12", "samples: 014"),
    "minutes here, words there": put("samples: 12", "samples: 0:12"),
    "digits with a line between": put("value: 0.4167", "value: 0.41_67"),
    "an alias": put("value: 0.4167", "value: &a 0.4167\n      other: *a"),
    "a tag of YAML": put("value: 0.4167", "value: !!float '0.4167'"),
    "a figure more": put("license: mit", "license: mit\naccuracy: 0.99"),
    "a second metric": put(
        "    - type: accuracy\n", "    - {type: accuracy, name: RA, value: 0.99}\n    - type: accuracy\n"
    ),
    "a second result": put("model-index:\n", "model-index:\n- name: other\n  results: []\n"),
    "a tag that states a verdict": put("- lottery-ticket\n", "- lottery-ticket\n- double-win-lottery-ticket\n"),
    "a tag that states a sparsity": put("- sparsity:20-30\n", "- sparsity:20-30\n- sparsity:90-100\n"),
    "a tag less": put("- sparsity:20-30\n", ""),
    "none": TEXT,
    "none, and the figures in a comment": f"<!--\n{METADATA}-->\n{TEXT}",
    "a comment of YAML": put("license: mit\n", "license: mit # RA 99 %\n"),
    "other metadata before": "---\nlicense: mit\n" + CARD,
    "no YAML at all": put("license: mit", "license: ["),
    "deep YAML": put("license: mit", "license: " + "[" * 5000),
    "endless YAML": put("license: mit", "license: mit\nlanguage: " + "x" * 100_000),
    # What is gone, or elsewhere
    "the verdict turned round": put(VERDICT, "**Double win**: it matches the dense backbone."),
    "the verdict turned round, the true one in a comment": put(VERDICT, f"**Double win**.\n\n<!-- {VERDICT} -->"),
    "a row replaced": put(ROW, LIE),
    "a row replaced, the true table in a comment": put(ROW, LIE) + f"\n<!--\n{TABLE}\n-->\n",
    "a row gone": put(ROW + "\n", ""),
    "the table in a comment": put(TABLE, f"<!--\n{TABLE}\n-->"),
    "all after a comment that never ends": put("## Ticket against dense", "<!--\n## Ticket against dense"),
    "a comment that ends before it begins": put(TABLE, f"<!-->\n<!--\n{TABLE}\n-->"),
    "the rows in another order": put(
        f"| standard | SA | 33.33 % | 45.83 % | yes |\n{ROW}", f"{ROW}\n| standard | SA | 33.33 % | 45.83 % | yes |"
    ),
    "the caveat gone": put("- Caveat: dense RA is 50.00 %.\n", ""),
    "another attack": put("under PGD-20", "under AutoAttack"),
    "a homoglyph of a digit": put("41.67 %", "４1.67 %"),
    "a homoglyph of a letter": put("| adversarial | RA", "| аdversarial | RA"),
    "a character that is not seen": put("41.67 %", "4\u200b1.67 %"),
    "text from right to left": put("41.67 %", "\u202e76.14\u202c %"),
    "an entity for a digit": put("41.67 %", "&#57;1.67 %"),
    "markup inside a row": put("41.67 %", "<b>9</b>1.67 %"),
    # What was added
    "a figure": after(VERDICT, "RA is 99 %."),
    "a figure in words": after(VERDICT, "It has ninety percent accuracy: 9 of ten."),
    "a verdict": after(VERDICT, "This is a double win."),
    "a verdict in parts": after(VERDICT, "This is a d**ou**ble\nw_i_n."),
    "a verdict in entities": after(VERDICT, "This is a double&#32;w&#105;n."),
    "a verdict with escapes": after(VERDICT, "It is a double\\-win."),
    "a verdict with what is not seen": after(VERDICT, "It is a dou\u00adble w\u200bin."),
    "a verdict from right to left": after(VERDICT, "\u202eniw elbuod\u202c"),
    "a match": after(VERDICT, "It matches the backbone."),
    "a contradiction": after(VERDICT, "The figures of RA above are wrong."),
    "a row": put(ROW, f"{ROW}\n{LIE}"),
    "a row before the true one": put(ROW, f"{LIE}\n{ROW}"),
    "full-width digits": after(VERDICT, "RA ９９"),
    "a figure in a comment": after(VERDICT, "<!-- RA 99 % -->"),
    "a figure as the words of a picture": after(VERDICT, "![RA 99 %](https://example.org/x.png)"),
    "a figure as a title": after(VERDICT, '[here](https://example.org "RA 99 %")'),
    "a figure in a definition": after(VERDICT, '[here]: https://example.org "RA 99 %"'),
    "a figure in what can be folded": after(VERDICT, "<details><summary>more</summary>RA 99 %</details>"),
    "a figure in small letters": after(VERDICT, '<font size="1">RA 99 %</font>'),
    "a figure in an attribute": after(VERDICT, '<img alt="RA 99 %" src="x">'),
    "a figure that is hidden": after(VERDICT, '<p style="display:none">RA 99 %</p>'),
    "a fence named like a figure": after(VERDICT, "```RA 99 %\n```"),
}


def test_words_that_were_added_are_shown() -> None:
    told = compare_card(HONEST["a paragraph"], [CARD])
    assert told == ("verified", "its figures are those of the records; words were added: ## About us")


@pytest.mark.parametrize("card", FALSE.values(), ids=FALSE.keys())
def test_a_figure_or_a_verdict_of_its_own_is_not_verified(card: str) -> None:
    assert answer(card) == "not verified", compare_card(card, [CARD])


UNCLEAR = {
    "an amount in words": after(VERDICT, "Ninety per cent of us like it."),
    "a comparison": after(VERDICT, "It is as good as the other."),
    "the table hidden": put(TABLE, f'<div style="display:none">\n\n{TABLE}\n\n</div>'),
    "the table folded": put(TABLE, f"<details>\n\n{TABLE}\n\n</details>"),
    "the table as the title of a link": put(TABLE, f'[x]: /u "\n{TABLE}\n"'),
    "the table as the words of a picture": put(TABLE, f"![\n{TABLE}\n](x.png)"),
    "the table as code": put(TABLE, f"```\n\n{TABLE}\n\n```"),
    "the verdict struck through": put(VERDICT, f"~~\n{VERDICT}\n~~"),
    "a picture": after(VERDICT, "![curve](https://example.org/x.png)"),
    "mathematics": after(VERDICT, "$\\text{so}$"),
    "a number": after(VERDICT, "Made in 2026."),
    "another alphabet": after(VERDICT, "Двойная победа"),
    "another script": after(VERDICT, "双赢"),
    "a picture of a number": after(VERDICT, "💯"),
    "what turns it round": after("# net at 20.00 % sparsity", "The following is untrue:"),
    "a verdict letter by letter": after(VERDICT, "It is a d o u b l e w i n."),
    "another page made of it": after("# net at 20.00 % sparsity", "What follows was a draft."),
    "a claim without a figure": after(VERDICT, "Nobody has broken it yet."),
    "a word before the sentence": put(VERDICT, f"Hardly so:\n{VERDICT}"),
    "praise": after(VERDICT, "Its accuracy is great."),
    "a document type": after(VERDICT, "<!DOCTYPE x>"),
    "very many words": after(VERDICT, "so " * 50_000),
}


@pytest.mark.parametrize("card", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_cannot_be_judged_is_said_to_be_so(card: str) -> None:
    assert answer(card) == "cannot tell", compare_card(card, [CARD])


@pytest.mark.parametrize(
    "filling", ["<!--", "<", "[", "`", "double ", "x", "\n", "x\n", "&#57;", "\u200b", "<!-- x -->"], ids=repr
)
def test_a_card_of_any_making_is_judged_in_seconds(filling: str) -> None:
    began = time.monotonic()
    assert answer(after(VERDICT, filling * (2**18 // len(filling)))) != "verified" or filling == "\n"
    assert answer(filling * (2**18 // len(filling))) == "not verified"
    assert time.monotonic() - began < 5


def test_why_is_one_line_whatever_the_card_says() -> None:
    for card in (after(VERDICT, "RA \x1b[31m 99 %"), put("license: mit", "license: \x1b"), put(ROW, "\u202e")):
        assert compare_card(card, [CARD])[1].isprintable()
