"""A hospital's budget is counted where its data are, survives a restart and ends its part."""

import fcntl
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.errors import ConfigError
from lightning_fl.privacy import SampleLevelDP, SiteLevelDP
from lightning_fl.privacy.accountant import GaussianStep, epsilon
from lightning_fl.privacy.budget import LOCK, Budget, epsilon_of
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.sample_level import FILE
from lightning_fl.site.local_state import SITE_RELEASES
from lightning_fl.site.terms import SiteTerms
from tests.lightning_fl.aggregation.hosts import ROUND, RingByHand, make_hosts, random_updates
from tests.lightning_fl.site.lab import Lab

DELTA = 1e-5
STEP = (2.0, 0.5, 3)


def cost(count: int) -> float:
    return epsilon([GaussianStep(2.0, 0.5)] * 3 * count, DELTA)


def limit(lab: Lab, site: str, most: float) -> None:
    """Give a hospital a budget that its file would give it."""
    vars(lab.sites[site].setup)["terms"] = SiteTerms(epsilon=most)


def test_a_budget_ends_when_it_is_spent_and_says_since_when(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent.json", most=1.01 * cost(2))
    for _ in range(2):
        budget.spend(STEP)
    words = rf"Spent are {cost(2):.4g} in 2 releases, the last on 20\d\d-\d\d-\d\d at \d\d:\d\d"
    with pytest.raises(ConfigError, match=words):
        budget.spend(STEP)
    with pytest.raises(ConfigError, match="takes no further part"):
        Budget(tmp_path / "spent.json", most=1.01 * cost(2)).check(STEP)
    assert budget.entries() == [STEP, STEP]


def test_runs_of_a_hospital_share_its_budget(tmp_path: Path) -> None:
    for run in ("first", "second"):
        (tmp_path / run / "sites").mkdir(parents=True)
    files = [tmp_path / run / "sites" / "spent.json" for run in ("first", "second")]
    first, second = (Budget(file, 1.01 * cost(1), tmp_path) for file in files)
    first.spend(STEP)
    with pytest.raises(ConfigError, match="over all runs"):
        second.spend(STEP)
    Budget(files[1], 1.01 * cost(1)).spend(STEP)  # alone it would do


def test_runs_at_the_same_time_spend_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two could read what is spent before either of them writes."""
    locked = []

    def write(file: Path, text: str) -> None:
        with (tmp_path / LOCK).open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked.append(file)

    monkeypatch.setattr("lightning_fl.privacy.budget.write_text", write)
    budget = Budget(tmp_path / "run" / "spent.json", 1.01 * cost(1), tmp_path)
    budget.spend(STEP)
    assert locked == [budget.file]
    with (tmp_path / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_run_s_own_delta_makes_the_budget_no_larger(tmp_path: Path) -> None:
    """A coordinator that chooses the delta could otherwise make any epsilon look small."""
    privacy = SampleLevelDP(noise_multiplier=2.0, delta=0.99)
    lab = Lab(tmp_path, aggregator=Plain(), privacy=privacy).begin()
    state = lab.sites["A"].state
    lab.ask("A", "train", 1)
    told = state.setup.privacy.spent(state.budget(FILE))["epsilon"]  # type: ignore[union-attr]
    spent = epsilon_of(state.budget(FILE).entries(), DELTA)
    assert told < spent / 2
    limit(lab, "B", 0.99 * spent)
    with pytest.raises(ConfigError, match="at delta 1e-05"):
        lab.ask("B", "train", 1)


def test_training_ends_with_the_budget_and_a_restart_does_not_refill_it(tmp_path: Path) -> None:
    privacy = SampleLevelDP(noise_multiplier=2.0, delta=DELTA)
    lab = Lab(tmp_path, aggregator=Plain(), privacy=privacy).begin()
    state = lab.sites["A"].state
    lab.ask("A", "train", 1)
    spent = state.setup.privacy.spent(state.budget(FILE))["epsilon"]  # type: ignore[union-attr]
    lab.ask("A", "train", 1)  # the answer is kept; nothing is trained and nothing spent
    assert state.setup.privacy.spent(state.budget(FILE))["epsilon"] == spent  # type: ignore[union-attr]
    lab.restart()
    limit(lab, "A", 1.01 * spent)
    lab.train()
    lab.advance()
    with pytest.raises(ConfigError, match="The privacy budget of this hospital is epsilon"):
        lab.ask("A", "train", 2)
    lab.ask("A", "describe", 0)  # the run can go on without it, and can be resumed
    lab.ask("B", "train", 2)


@pytest.mark.parametrize(
    "privacy",
    [
        SampleLevelDP(noise_multiplier=0.5, delta=DELTA),
        SiteLevelDP(noise_multiplier=0.5, delta=DELTA),
    ],
)
def test_a_run_whose_first_release_is_too_much_is_refused_before_training(
    tmp_path: Path, privacy: SampleLevelDP | SiteLevelDP
) -> None:
    lab = Lab(tmp_path, privacy=privacy)
    limit(lab, "A", 0.5)
    with pytest.raises(ConfigError, match="in 0 releases; another one would make it"):
        lab.ask("A", "describe", 0)
    lab.ask("B", "describe", 0)


def test_a_hospital_with_a_budget_takes_part_in_no_run_without_privacy(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    limit(lab, "A", 8.0)
    with pytest.raises(ConfigError, match="has no differential privacy"):
        lab.ask("A", "describe", 0)


def test_noise_of_others_counts_for_a_budget_only_with_pins(tmp_path: Path) -> None:
    """Else a coordinator plays the others and knows their noise."""
    noisy = SiteLevelDP(noise_multiplier=9.0, delta=DELTA)
    lab = Lab(tmp_path, aggregator=CyclicCKKS(), privacy=noisy)
    limit(lab, "A", 100.0)
    with pytest.raises(ConfigError, match="without pins a coordinator could play the other sites"):
        lab.ask("A", "describe", 0)


def test_a_site_counts_its_releases_as_the_coordinator_does(tmp_path: Path) -> None:
    names = "ABCD"
    pins = {name: make(tmp_path / f"{name}{SUFFIX}") for name in names}
    noisy = SiteLevelDP(clip=1.0, noise_multiplier=3.0, delta=DELTA)
    ring = CyclicCKKS(pins=pins, identities=str(tmp_path), weights="equal")
    (tmp_path / "lab").mkdir()
    lab = Lab(tmp_path / "lab", aggregator=ring, privacy=noisy).rounds(2)
    account = lab.run.blueprint.privacy.account(tmp_path)
    for round_ in (1, 2):
        account.begin(round_, names, 4)
        account.settle(4)
    entries = lab.sites["A"].state.budget(SITE_RELEASES).entries()
    own = epsilon([GaussianStep(z) for z, _, _ in entries], DELTA)
    assert own == account.summary()["epsilon"]
    limit(lab, "A", 1.01 * own)
    for site in names:
        lab.ask(site, "train", 3)
    lost = lab.averaging.ask(lab.channel, lab.state, dict.fromkeys(names, 1))
    assert [*lost] == ["A"]
    assert "The privacy budget of this hospital is epsilon" in lost["A"].detail


def test_a_sum_that_is_asked_for_again_has_the_same_noise() -> None:
    """Fifty noises of one update would average away; see the control below."""
    sums = repeated_sums(50)
    assert torch.equal(sums.std(0), torch.zeros(20))


def test_a_site_that_forgot_its_noise_would_add_another_each_time() -> None:
    sums = repeated_sums(50, forget=True)
    assert float(sums.std(0).mean()) > 0.1


def repeated_sums(count: int, *, forget: bool = False) -> torch.Tensor:
    """Sums of one round over the same sites, as a coordinator gets them that asks again."""
    noise = SiteNoise(1.0, 1.0, DELTA, 0, 3)
    aggregator = CyclicCKKS(weights="equal")
    aggregator.noise = noise
    hosts = make_hosts(aggregator, random_updates(3, 20, largest=0.1), round_=ROUND)
    sums = []
    for number in range(count):
        ring = RingByHand(hosts, "ABC", ring=f"ring-{number}").begin()
        members: list[Any] = [host.operations["ring_pass"] for host in hosts.values()]
        closed = ring.ask("ring_close", "A", ring.due(3))
        sums.append(ring.sums(closed))
        if forget:
            for member in members:
                member.__self__._releases.clear()
    releases = {len(host.releases) for host in hosts.values()}
    assert releases == {count if forget else 1}
    return torch.stack(sums)
