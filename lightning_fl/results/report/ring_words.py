"""What results.json says about the rings of secure aggregation, in plain words."""

from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]
"""What came of one round: its "round", "sites", "rings" and counts such as "clipped"."""

PROTOCOL = (
    "The updates were added up in a ring of sites: each adds its own encrypted update to what it"
    " receives and passes the sum on. By this protocol the coordinator relays ciphertexts without"
    " a key to them, and learns the sum when the ring is closed. The initiator, another site from"
    " ring to ring, has the key and sees the sum; the other sites see ciphertexts, and later the"
    " new global weights."
)
_COULD = (
    "with its key and the messages between other sites, the initiator could work out single updates"
)
MASKING = {
    "pairwise": "every two sites share masks that cancel in the sum of all; a message on its way"
    " holds masked values, even for the initiator, who has the key",
    "initiator": f"the initiator alone adds a mask and takes it off the sum; {_COULD}",
    "none": f"nothing but the encryption hides an update; {_COULD}",
}
WEIGHTS = {
    "samples": "a site weighs by its training samples; the coordinator knows these numbers, and"
    " every site in a ring learns the largest",
    "equal": "all sites weigh the same",
    "hidden": "a site weighs by its training samples; the ring gave out their total only",
}
UNKNOWN = "see the documentation"


def settings_words(aggregator: Mapping[str, Any], rounds: Iterable[Facts]) -> list[str]:
    """The settings and what each of them means."""
    masking, weights = str(aggregator.get("masking")), str(aggregator.get("weights"))
    words = [
        f"bits {aggregator.get('bits')}: {_grid_words(rounds)}.",
        f"masking “{masking}”: {MASKING.get(masking, UNKNOWN)}.",
        f"weights “{weights}”: {WEIGHTS.get(weights, UNKNOWN)}.",
    ]
    return [*words, _pin_words(aggregator)] if masking == "pairwise" else words


def restart_words(rounds: Iterable[Facts]) -> str:
    """Which rounds took more than one ring; "" before the first round is done."""
    rounds = list(rounds)
    entries = [
        f"round {facts.get('round')} took {facts['rings']} rings and ended with"
        f" {facts.get('sites')} sites"
        for facts in rounds
        if facts.get("rings", 1) > 1
    ]
    if entries:
        return f"A ring that lost a site was dropped and started again: {'; '.join(entries)}."
    return "Each round took one ring." if rounds else ""


def two_site_words(rounds: Iterable[Facts]) -> str:
    """Which rings had no more than two sites."""
    pairs = [str(facts.get("round")) for facts in rounds if facts.get("sites") == 2]
    if not pairs:
        return ""
    return (
        "From a sum of two sites each can work out the other's update; that is so in"
        f" {'rounds' if len(pairs) > 1 else 'round'} {', '.join(pairs)}."
    )


def clipped_words(rounds: Iterable[Facts], values: int) -> str:
    """How many values were clipped in all; "" where nothing is ever clipped."""
    counted = [facts for facts in rounds if "clipped" in facts]
    if not counted:
        return ""
    clipped = sum(int(facts["clipped"]) for facts in counted)
    if not clipped:
        return "No value was clipped."
    contributed = values * sum(int(facts.get("sites", 0)) for facts in counted)
    return f"Clipped, and carried to the site's next update: {_share(clipped, contributed)}."


def clipped_lines(rounds: Iterable[Facts], values: int) -> str:
    """A line for each round that clipped."""
    return "\n".join(
        f"round {facts.get('round')}: "
        + _share(int(facts["clipped"]), values * int(facts.get("sites", 0)))
        for facts in rounds
        if facts.get("clipped")
    )


def _grid_words(rounds: Iterable[Facts]) -> str:
    """Only the compact grid counts what it clips."""
    if any("clipped" in facts for facts in rounds):
        return (
            "values are rounded to whole numbers of so many bits, on a range for each tensor that"
            " follows from the last mean update (in the first round, which has none, to"
            " binary places after the point, in more bytes); what is clipped or rounded off"
            " is carried to the site's next update"
        )
    return "values are rounded to so many binary places after the point"


def _pin_words(aggregator: Mapping[str, Any]) -> str:
    """Whether the sites could tell a mask key that the coordinator made up."""
    pinned = aggregator.get("pinned") or []
    if pinned:
        return f"Mask keys were checked against the pinned identities of {', '.join(pinned)}."
    return (
        "No identities were pinned: the sites relied on the coordinator to hand their mask keys on"
        " unchanged."
    )


def _share(clipped: int, contributed: int) -> str:
    """E.g. "12 of 1,200 values (1 %)"; the share only where the number of values is known."""
    if not contributed:
        return f"{clipped:,} values"
    return f"{clipped:,} of {contributed:,} values ({100 * clipped / contributed:.2g} %)"
