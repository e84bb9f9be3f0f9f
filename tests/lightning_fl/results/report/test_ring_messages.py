from lightning_fl.results.report.ring_messages import (
    FIRST_MESSAGES,
    LAST_MESSAGES,
    last_ring,
    message_lines,
)
from lightning_fl.wire.records import TranscriptRow


def row(ring: str, step: int, sender: str = "A", recipient: str = "B") -> TranscriptRow:
    digest = f"{step:064x}"[::-1]
    return TranscriptRow(
        2, ring, step, "ring_pass", sender, "out", sender, recipient, 1234567, digest, 0.5
    )


def test_last_ring_ends_before_what_came_after_it() -> None:
    rows = [row("one", 0), row("two", 0), row("two", 1), row("", 0)]
    assert last_ring(rows) == rows[1:3]
    assert last_ring(rows[3:]) == []


def test_a_message_is_a_line() -> None:
    header, line = message_lines([row("two", 3)]).splitlines()
    assert header.split() == ["site", "operation", "block", "from", "->", "to", "bytes", "SHA-256"]
    assert line.split() == [
        "A",
        "out",
        "ring_pass",
        "3",
        "A",
        "->",
        "B",
        "1,234,567",
        "3" + 11 * "0",
    ]


def test_columns_stand_below_each_other() -> None:
    _, first, second = message_lines([row("", 1), row("", 10, "Aachen", "")]).splitlines()
    assert first.index("A ->") == second.index("Aachen ->")
    assert first.index("1,234,567") == second.index("1,234,567")
    assert "Aachen -> all" in second


def test_a_long_ring_is_cut_in_the_middle() -> None:
    shown = FIRST_MESSAGES + LAST_MESSAGES
    assert len(message_lines([row("", n) for n in range(shown)]).splitlines()) == 1 + shown
    lines = message_lines([row("", n) for n in range(shown + 1500)]).splitlines()
    assert len(lines) == 1 + shown + 1
    assert lines[1 + FIRST_MESSAGES] == "... 1,500 more in transcript.csv ..."
    assert lines[FIRST_MESSAGES].split()[3] == str(FIRST_MESSAGES - 1)
    assert lines[-LAST_MESSAGES].split()[3] == str(1500 + FIRST_MESSAGES)
