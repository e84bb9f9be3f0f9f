"""The messages of a run's last ring, as preformatted text."""

from collections.abc import Sequence

from lightning_fl.wire.records import TranscriptRow

FIRST_MESSAGES, LAST_MESSAGES = 40, 10
"""How much of a long ring the excerpt shows."""
DIGEST_DIGITS = 12


def last_ring(transcript: Sequence[TranscriptRow]) -> list[TranscriptRow]:
    """The messages of the last ring, in the order in which they were written down."""
    ring = next((row.ring for row in reversed(transcript) if row.ring), "")
    return [row for row in transcript if ring and row.ring == ring]


def message_lines(rows: Sequence[TranscriptRow]) -> str:
    """One line for each message; of many only the first and the last ones."""
    lines = [("site", "", "operation", "block", "from -> to", "bytes", "SHA-256")]
    lines += [
        (
            row.site,
            row.direction,
            row.operation,
            str(row.step),
            f"{row.sender} -> {row.recipient or 'all'}",
            f"{row.bytes:,}",
            row.digest[:DIGEST_DIGITS],
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    left_out = len(rows) - FIRST_MESSAGES - LAST_MESSAGES
    if left_out > 0:
        text[1 + FIRST_MESSAGES : -LAST_MESSAGES] = [f"... {left_out:,} more in transcript.csv ..."]
    return "\n".join(text)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Cells padded to the width of their columns, numbers to the right."""
    numbers = (3, 5)
    return [
        cell.rjust(width) if column in numbers else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
