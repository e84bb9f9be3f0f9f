import re
from typing import Any

import pytest

from lightning_fl.results.report.cost_section import cost_frame, last_ring, ring_values
from lightning_fl.results.report.rendering import render
from lightning_fl.wire.records import CostRow, TranscriptRow
from tests.lightning_fl.results.page_text import cells, text_of

AGGREGATOR: dict[str, Any] = {
    "name": "CyclicCKKS",
    "bits": 24,
    "masking": "pairwise",
    "weights": "samples",
    "pinned": [],
    "values": 1000,
    "rounds": [{"round": 1, "sites": 3, "rings": 2}],
}
COSTS = [
    CostRow(1, "A", "train", 5, 5, 6.0),
    CostRow(1, "A", "ring_pass: encrypt", 0, 0, 0.5),
    CostRow(1, "A", "ring_pass", 8000, 6000, 0.25),
    CostRow(1, "B", "ring_pass: add", 0, 0, 0.25),
    CostRow(1, "B", "ring_pass", 16000, 2000, 1.0),
]
WIDE = [{"round": 1, "sites": 4, "rings": 1}, {"round": 2, "sites": 3, "rings": 2}]
COMPACT = [
    {"round": 1, "sites": 4, "rings": 1, "clipped": 0},
    {"round": 2, "sites": 4, "rings": 1, "clipped": 6},
    {"round": 3, "sites": 2, "rings": 3, "clipped": 4},
]


def section(
    costs: list[CostRow] = COSTS, messages: list[TranscriptRow] | None = None, **aggregator: Any
) -> str:
    """The section of a run whose aggregator says this, too."""
    results = {"aggregator": AGGREGATOR | aggregator}
    ring = ring_values(cost_frame(costs), messages or [])
    return render("secure_aggregation.html", run={"results": results}, ring=ring)


def words(**aggregator: Any) -> str:
    return text_of(section(**aggregator))


def test_table_by_hand() -> None:
    html, none = section(), "–"  # noqa: RUF001  an en dash
    # an update of 1000 values has 4000 bytes
    a = ("8 kB", "2.00", "6 kB", "1.50", none, "0.5 s", none, none, "0.2 s")
    b = ("16 kB", "4.00", "2 kB", "0.50", none, none, "0.2 s", none, "1.0 s")
    mean = ("12 kB", "3.00", "4 kB", "1.00", none, "0.2 s", "0.1 s", none, "0.6 s")
    for row in (("A", *a), ("B", *b), ("mean", *mean)):
        assert cells(*row) in html
    text = text_of(html)
    assert "1,000 values of an update as float32, 4 kB" in text
    assert "The rings took 25.0 % of the sites' time" in text
    assert "round 1 took 2 rings and ended with 3 sites" in text


def test_settings_are_told_in_words() -> None:
    text = words()
    assert "bits 24: values are rounded to so many binary places after the point." in text
    assert "masking “pairwise”: every two sites share masks that cancel" in text
    assert "weights “samples”: a site weighs by its training samples; the coordinator" in text
    assert "No identities were pinned" in text


def test_compact_grid_is_known_by_what_it_counts() -> None:
    assert "a range for each tensor" in words(bits=12, rounds=COMPACT)
    assert "a range for each tensor" not in words(rounds=WIDE)


def test_pins_are_named_where_mask_keys_are_exchanged() -> None:
    assert "pinned identities of A, B." in words(pinned=["A", "B"])
    html = section(masking="none")
    assert html.count("<li>") == 3
    assert "pinned" not in html


def test_settings_that_are_not_known_are_shown_all_the_same() -> None:
    assert "weights “by age”: see the documentation." in words(weights="by age", rounds=[])


@pytest.mark.parametrize("masking", ["pairwise", "initiator", "none"])
@pytest.mark.parametrize("weights", ["samples", "equal", "hidden"])
def test_every_setting_of_the_aggregator_has_words(masking: Any, weights: Any) -> None:
    from lightning_fl.aggregation import CyclicCKKS

    described = CyclicCKKS(masking=masking, weights=weights).describe()
    assert "see the documentation" not in words(**described, rounds=WIDE)


def test_restarted_rings_are_told_by_round() -> None:
    assert "Each round took one ring." in words(rounds=WIDE[:1])
    told = words(rounds=WIDE)
    assert "started again: round 2 took 2 rings and ended with 3 sites." in told
    before_the_first_round = words(rounds=[])
    assert "took one ring" not in before_the_first_round
    assert "started again" not in before_the_first_round


def test_rings_of_two_are_told() -> None:
    assert "that is so in round 3." in words(rounds=COMPACT)
    assert "From a sum of two sites" not in words(rounds=WIDE)


def test_clipped_values_by_hand() -> None:
    # 6 + 4 of 5 values x (4 + 4 + 2) sites
    html = section(values=5, rounds=COMPACT)
    assert "next update: 10 of 50 values (20 %)." in text_of(html)
    assert ("<pre>round 2: 6 of 20 values (30 %)\nround 3: 4 of 10 values (40 %)</pre>") in html


def test_nothing_clipped_and_a_grid_that_never_clips_differ() -> None:
    unclipped, wide = words(rounds=COMPACT[:1]), words(rounds=WIDE)
    assert "No value was clipped." in unclipped
    assert "clipped." not in wide
    assert "Clipped values, round by round" not in unclipped + wide


def test_text_is_escaped() -> None:
    html = section(pinned=["<b>"], weights="<i>")
    assert "&lt;b&gt;" in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html


def test_run_without_rings_has_no_section() -> None:
    assert section(costs=COSTS[:1]).strip() == ""


def message(ring: str, step: int, sender: str = "A", recipient: str = "B") -> TranscriptRow:
    digest = f"{step:064x}"[::-1]
    return TranscriptRow(
        2, ring, step, "ring_pass", sender, "out", sender, recipient, 1234567, digest, 0.5
    )


def test_last_ring_ends_before_what_came_after_it() -> None:
    rows = [message("one", 0), message("two", 0), message("two", 1), message("", 0)]
    assert last_ring(rows) == rows[1:3]
    assert last_ring(rows[3:]) == []
    assert "Messages of the last ring" not in section(messages=rows[3:])


def test_a_message_is_a_row() -> None:
    html = section(messages=[message("two", 3)])
    assert "Messages of the last ring, in round 2" in html
    names = ("site", "", "operation", "block", "from -&gt; to", "bytes", "SHA-256")
    assert "".join(f"<th>{name}</th>" for name in names) in html
    digest = "3" + 11 * "0"
    assert cells("A", "out", "ring_pass", "3", "A -&gt; B", "1,234,567", digest) in html
    assert "Aachen -&gt; all" in section(messages=[message("two", 10, "Aachen", "")])


def test_a_long_ring_is_cut_in_the_middle() -> None:
    def blocks(count: int) -> list[tuple[str, str]]:
        """The blocks of a ring with so many messages, as far as they are shown."""
        table = section(messages=[message("two", n) for n in range(count)]).split("log")[1]
        return re.findall(r"<td>ring_pass</td><td>(\d+)</td>|>\.\.\. (\S+) more", table)

    assert blocks(50) == [(str(n), "") for n in range(50)]
    shown = blocks(1550)
    assert shown[39:42] == [("39", ""), ("", "1,500"), ("1540", "")]
    assert len(shown) == 51
