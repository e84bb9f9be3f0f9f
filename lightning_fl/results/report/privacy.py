"""The report's section on differential privacy: what the run promises, and to whom."""

from collections.abc import Mapping
from typing import Any

from lightning_fl.results.report import page
from lightning_fl.results.run_folder import RunFolder

NO_BOUND = "no bound"
ABOUT = {
    "site": "Whatever one site's training data are, any outcome of this run is at most e^epsilon"
    " times as likely with that site's updates as with zeros in their place, but for a probability"
    " of delta. This is about the global models of all rounds; scores, counts of samples and the"
    " sites' personal models are not covered.",
    "sample": "Any sequence of updates of a site is at most e^epsilon times as likely with one"
    " training sample as without it, but for a probability of delta. A patient with k samples has"
    " about k times this epsilon. Scores and the sites' personal models are not covered.",
}
OBSERVERS = {
    "epsilon": "to somebody who knows which sites took part",
    "to_another_site": "to one more site, which knows its own noise",
    "replaced": "for a site whose data become any other data",
    "secret_sampling": "to somebody who cannot know which sites took part",
}


def differential_privacy(run: RunFolder) -> str:
    """A sentence with the run's epsilon, and how it grew; "" where there is none."""
    privacy = run.results.get("privacy")
    if not privacy:
        return ""
    return page.section(
        "Differential privacy",
        page.paragraph(sentence(privacy)),
        page.paragraph(ABOUT[privacy["protects"]], "soft"),
        _observers(privacy),
        _sites(privacy),
        _rounds(privacy),
    )


def sentence(privacy: Mapping[str, Any]) -> str:
    """E.g. "After 8 rounds each site has epsilon 14.2 at delta 1e-05 (SiteLevelDP ...)"."""
    rounds = len(privacy["rounds"])
    epsilon, delta = privacy["epsilon"], privacy["delta"]
    norm = privacy.get("clip", privacy.get("max_grad_norm"))
    whom = "each site" if privacy["protects"] == "site" else "each training sample"
    how = f"{privacy['name']}, clipped to {norm:g}"
    if "noise_multiplier" in privacy:
        how += f", noise multiplier {privacy['noise_multiplier']:.4g}"
    if epsilon is None:
        return f"There is no bound, because a step had no noise ({how})."
    counted = f"{rounds} round{'s' * (rounds != 1)}"
    return f"After {counted}, {whom} has epsilon {epsilon:.3g} at most, at delta {delta:g} ({how})."


def epsilon_text(value: float | None) -> str:
    """Three digits, or that there is no bound."""
    return NO_BOUND if value is None else f"{value:.3g}"


def _observers(privacy: Mapping[str, Any]) -> str:
    rows = [
        [words, epsilon_text(privacy[key])] for key, words in OBSERVERS.items() if key in privacy
    ]
    if len(rows) < 2:
        return ""
    caption = (
        "The same run for other observers and another comparison. The last row assumes that each"
        " site is drawn by itself and in secret, which here depends on nobody knowing the seed."
    )
    return page.table(["epsilon", "at most"], rows, caption)


def _sites(privacy: Mapping[str, Any]) -> str:
    sites: Mapping[str, Mapping[str, Any]] = privacy.get("sites", {})
    if not sites:
        return ""
    rows = [
        [
            name,
            f"{said['noise_multiplier']:.4g}",
            f"{said['sample_rate']:.3g}",
            str(said["steps"]),
            epsilon_text(said["epsilon"]),
        ]
        for name, said in sites.items()
    ]
    caption = "What each site says of its own training; steps of repeated rounds are among them."
    return page.table(["site", "noise", "sampling rate", "steps", "epsilon"], rows, caption)


def _rounds(privacy: Mapping[str, Any]) -> str:
    lines = [
        f"round {entry['round']}: epsilon {epsilon_text(entry['epsilon'])}"
        + (f", {entry['sums']} sums" if entry.get("sums", 1) > 1 else "")
        for entry in privacy["rounds"]
    ]
    return page.folded("Epsilon, round by round", "\n".join(lines)) if lines else ""
