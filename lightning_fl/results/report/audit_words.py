"""What the report says of an audit in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

Records = Sequence[Mapping[str, Any]]

ABOUT = (
    "The trials are rounds of their own, beside the run: sites with one image each made one round"
    " of FedAvg from first weights, the run's own or others of the same settings, and what was said"
    " was recorded, in the clear and in rings with each kind of mask. The run's method and its"
    " differential privacy play no part in them, and the run itself was not recorded: what it takes"
    " to look into a ring must not be there in an ordinary run. From every party's view the"
    " attacker worked out its best guess of a site's update and looked for the image that gives"
    " such an update (iDLG). One image and one step is the worst case for a hospital: updates of"
    " many steps and images give less away."
)
COINS = (
    "The attacker chooses two updates, learns from examples, and is to tell which of the two"
    " is behind the bytes of a view. A coin is right in 50 %. Intervals are Wilson's of 95 %,"
    " so one in twenty misses 50 % by chance. Updates have 64 values, and the ring has the run's"
    " bits and number of sites; what a party could learn from many blocks or rounds, from message"
    " times or from a site that departs from the protocol is not tested."
)
OLDER = (
    "This audit was made by an older version, whose verdicts missed leaks that the attack made no"
    " image of. Make it again."
)


def headline(views: Records, outcomes: Records, run: Mapping[str, Any]) -> str:
    """Say who reads updates in this run, whether the attack works, and what protection holds.

    Args:
        views: of audit.json, none where there were no trials.
        outcomes: of the distinguishing test, none where there was none.
        run: what hides updates in the run.
    """
    said, works = [run["words"]], True
    if views:
        control = next(view for view in views if view["view"] == "plain")
        works = control["verdict"] == "comes back"
        said.append(_control(works, control["psnr"]))
    if leaks := _leaks(views, outcomes):
        said.append(f"Views that should be protected show something: {'; '.join(leaks)}.")
    elif works and (views or outcomes):
        said.append(_nothing_seen(views, outcomes, hides=run["hides"]))
    return " ".join(said)


def _control(works: bool, psnr: float) -> str:
    if works:
        return f"From an update in the clear the image comes back ({psnr:.1f} dB)."
    return (
        f"From an update in the clear the image does not come back ({psnr:.1f} dB): the attack is"
        " too weak for this task, and the table below does not show that anything is safe."
    )


def _leaks(views: Records, outcomes: Records) -> list[str]:
    """Titles of protected views that gave something away."""
    seen = [v["title"] for v in _protected(views) if v["verdict"] != "no better than guessing"]
    told = [o["title"] for o in outcomes if o["protected"] and o["sees"]]
    return [*seen, *(f"{title} (tells two updates apart)" for title in told)]


def _nothing_seen(views: Records, outcomes: Records, *, hides: bool) -> str:
    """That protected views gave nothing away, and whether the run has that protection."""
    count = len(_protected(views))
    coins = sum(outcome["protected"] for outcome in outcomes)
    parts = [f"of {count} views none is better than guessing"] if views else []
    parts += [f"of {coins} tests which of two updates it was, none was passed"] if coins else []
    lacks = "" if hides else " This run does without that protection."
    return f"Behind encryption and pairwise masks, {' and '.join(parts)}.{lacks}"


def _protected(views: Records) -> Records:
    return [view for view in views if view["protected"] and view["view"] != "noise"]


def views_caption(view: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What the table of views says, column by column.

    Args:
        view: any of them.
        settings: of the audit, with its facts.
    """
    return (
        f"{spread(view)} In this run: whether somebody has that view in this run, as it is set."
        " A guess is flat grey or random pixels, whichever is nearer. An image is identified if of"
        f" {settings['candidates']} training images it is the nearest to its reconstruction; in"
        " brackets what luck gives, which is more for several images, since reconstructions are"
        f" lined up with the true ones. {100 * settings['common_label']:.0f} % of the images have"
        " the more common label. Correlation is that of the guessed update with the true one; in"
        " brackets the size that chance does not reach (four standard deviations for one trial)."
        " A view is no better than guessing where nothing is seen: no correlation, no gain over a"
        " blind guess or over the same attack on noise in the same trial (Student's t, 1 %), no"
        " more images identified or labels read than luck explains at 1 %. These tests are many,"
        " so about one audit in ten sees something by chance; run again with another seed. Where"
        " several images are attacked together the attacker was told their labels, and scores are"
        " means."
    )


def spread(view: Mapping[str, Any]) -> str:
    """Over what means and standard deviations are."""
    trials, seeds = view["trials"], view["seeds"]
    if seeds == 1:
        if trials == 1:
            return "One trial, so there is no spread."
        return (
            f"Mean and standard deviation over {trials} trials with other images and the same first"
            " weights, which they share: with other weights they may lie further apart."
        )
    return (
        f"Mean over {trials} trials with other images, {trials // seeds} for each of {seeds} first"
        " weights, and standard deviation of the weights' means."
    )
