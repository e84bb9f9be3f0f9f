"""What each party can and cannot learn; docs/secure_aggregation.md cites these by name."""

import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from tenseal import sealapi

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring import ckks
from lightning_fl.aggregation.ring.ckks import RingContext, RingKey
from lightning_fl.aggregation.ring.fixed_point import Integers, to_limbs
from lightning_fl.aggregation.ring.masks import mask_words
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.member_state import MemberState
from lightning_fl.aggregation.ring.packing import pack, to_reals
from lightning_fl.aggregation.ring.packing_parameters import LIMBS
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.aggregation.ring.ring_settings import RingSettings
from lightning_fl.errors import OutOfRangeError
from lightning_fl.wire.messages import Message
from tests.lightning_fl.aggregation.hosts import (
    ROUND,
    Host,
    Hosts,
    RingByHand,
    altered,
    join_hosts,
    make_hosts,
    random_updates,
)
from tests.toy import toy_experiment, toy_run

SITES = 4


def member(host: Host) -> RingMember:
    found: RingMember = host.operations["ring_pass"].__self__  # type: ignore[attr-defined]
    return found


class Attacked:
    """A ring whose initiator hands everything it holds to the attacker, who hears all messages.

    Attributes:
        hosts: after the ring.
        integers: of each site, as they were: the truth.
        words: of each site: what the attacker gets by decrypting the difference of two hops.
        states: of each site, masks and all, to play colluding sites.
    """

    def __init__(self, masking: Any) -> None:
        aggregator = CyclicCKKS(masking=masking)
        updates = random_updates(SITES, 4096 - 2 * LIMBS, largest=30.0)
        self.hosts = join_hosts(aggregator, make_hosts(aggregator, updates))
        self.states: dict[str, MemberState] = {}
        self.hosts.transport.on_answer = self.listen
        self.hosts.mean()
        first = next(m for m in self.states.values() if m.key is not None)
        assert first.key is not None
        ring = first.ring
        self.order, self.key, self.parameters = ring.order, first.key, ring.plan.parameters
        grid = ring.plan.grid
        self.integers = {
            name: np.concatenate(
                [grid.to_integers(host.vector.double().numpy(), 0)[0], to_limbs(1), to_limbs(1)]
            )
            for name, host in self.hosts.hosts.items()
        }
        self.words = self._words()

    def listen(self, op: str, site: str, answer: bytes) -> bytes:
        found = member(self.hosts.hosts[site]).state
        if found is not None:
            self.states[site] = found
        return answer

    def _words(self) -> dict[str, Integers]:
        running = np.zeros(4096)
        words = {}
        for place, site in enumerate(self.order):
            [payload] = [
                a
                for a in self.hosts.transport.answers("ring_pass", site)
                if Message.decode(a).tensors
            ]
            data = bytes(Message.decode(payload).tensors["block"].numpy())
            total = self.key.decrypt(self.key.context.from_bytes([data], seeded=place == 0))
            half = 2 ** (self.parameters.word_bits - 1)
            words[site] = np.rint(total - running).astype(np.int64) + half
            running = np.rint(total)
        return words

    def guess(self, site: str) -> Integers:
        """The site's integers, if nothing were masked."""
        guess: Integers = self.words[site] - self.parameters.limit
        return guess

    def looks_uniform(self, words: Integers) -> bool:
        """Chi-square of the highest and of the lowest five bits; false once in 10^6 by chance."""
        shift = self.parameters.word_bits - 5
        parts = [words >> shift & 31, words & 31]
        counts = [np.bincount(part, minlength=32) for part in parts]
        return all(stats.chisquare(count).pvalue > 1e-6 for count in counts)


def test_without_masks_the_key_and_the_messages_give_every_update() -> None:
    attacked = Attacked("none")
    for site in attacked.order:
        np.testing.assert_array_equal(attacked.guess(site), attacked.integers[site])
        assert not attacked.looks_uniform(attacked.words[site])


def test_pairwise_masks_hide_every_update_from_the_key_with_all_messages() -> None:
    attacked = Attacked("pairwise")
    for site in attacked.order:
        assert attacked.looks_uniform(attacked.words[site])
        agree = np.mean(attacked.guess(site) == attacked.integers[site])
        assert agree < 0.01


def test_pairwise_masks_leave_the_sum() -> None:
    attacked = Attacked("pairwise")
    modulus = 2**attacked.parameters.word_bits
    total = sum(attacked.words.values()) % modulus - SITES * attacked.parameters.limit
    np.testing.assert_array_equal(total, sum(attacked.integers.values()))


def test_key_holder_and_another_site_together_learn_only_the_sum_of_the_rest() -> None:
    attacked = Attacked("pairwise")
    initiator, accomplice, one, two = attacked.order
    modulus = 2**attacked.parameters.word_bits
    rest = np.zeros(4096, dtype=np.int64)
    for site in (one, two):
        words = attacked.words[site]
        for traitor in (initiator, accomplice):  # they know the masks they share with the site
            key = attacked.states[traitor].masks[site]
            mask = mask_words(key, 0, 4096, attacked.parameters.word_bits)
            words = words - mask if site < traitor else words + mask
        assert attacked.looks_uniform(words % modulus)
        rest = rest + words
    truth = attacked.integers[one] + attacked.integers[two]
    np.testing.assert_array_equal(rest % modulus - 2 * attacked.parameters.limit, truth)


def test_the_initiators_mask_hides_its_update_from_a_leaked_key_and_no_other_update() -> None:
    attacked = Attacked("initiator")
    initiator, *others = attacked.order
    assert attacked.looks_uniform(attacked.words[initiator])
    for site in others:
        np.testing.assert_array_equal(attacked.guess(site), attacked.integers[site])


def test_neighbours_without_the_key_decrypt_noise() -> None:
    attacked = Attacked("none")
    site = attacked.order[1]
    [payload] = [
        a for a in attacked.hosts.transport.answers("ring_pass", site) if Message.decode(a).tensors
    ]
    data = bytes(Message.decode(payload).tensors["block"].numpy())
    stranger = RingKey(attacked.parameters)
    noise = stranger.decrypt(stranger.context.from_bytes([data]))
    truth = pack(attacked.integers[site], attacked.parameters).astype(float)
    assert float(np.median(np.abs(noise))) > 100 * float(truth.max())  # not of the right size
    assert abs(float(np.corrcoef(noise, truth)[0, 1])) < 0.1


def update_read_by_swapping_the_public_key(masking: Any) -> torch.Tensor:
    """B's update, as a lying coordinator reads it that sends B a public key of its own."""
    ring = attacked_by_hand(masking)
    hers = RingKey(plan_of(ring).parameters)
    tensors = {"public_key": torch.frombuffer(bytearray(hers.public_key), dtype=torch.uint8)}
    context = hers.context.fingerprint
    ring.ask("ring_start", "B", altered(ring.opening("B"), tensors=tensors, context=context))
    nothing = hers.encrypt(np.zeros(4096))[0]
    block = {"block": torch.frombuffer(bytearray(nothing), dtype=torch.uint8)}
    message = ring.message("B", sender="A", tensors=block, context=context)
    answer = ring.ask("ring_pass", "B", ring.tagged(message))
    return read(ring, hers, bytes(answer.tensors["block"].numpy()))


def update_read_by_closing_early(masking: Any) -> torch.Tensor:
    """A's update, as a lying coordinator reads it that lets A close what only A has added to.

    B and C pass A's block on, so they give their shares of the key to what A then decrypts.

    It stands in for B and C with integers that it knows: zero updates of one sample each. It has
    made up the mask keys, so it can tag its blocks.
    """
    ring = attacked_by_hand(masking)
    parameters = plan_of(ring).parameters
    due = ring.start().due(1)
    own = bytes(Message.decode(due).tensors["block"].numpy())
    for site in "BC":
        due = ring.hosts[site].handle("ring_pass", due)
    public = bytes(ring.public_key["public_key"].numpy())
    context = RingContext(parameters, public)
    total = context.from_bytes([own], seeded=True)
    for _ in "BC":
        counts = np.append(to_limbs(1), to_limbs(1))
        words = pack(np.append(np.zeros(plan_of(ring).length, int), counts), parameters)
        context.add(total, context.encrypt(to_reals(words, 0, parameters)))
    block = torch.frombuffer(bytearray(context.to_bytes(total)[0]), dtype=torch.uint8)
    early = ring.tagged(ring.message("A", sender="C", tensors={"block": block}))
    closed = ring.ask("ring_close", "A", early)
    return ring.sums(closed)


def attacked_by_hand(masking: Any) -> RingByHand:
    aggregator = CyclicCKKS(masking=masking)
    hosts = make_hosts(aggregator, random_updates(3, 100), round_=ROUND)
    return RingByHand(hosts, "ABC").join().open()


def plan_of(ring: RingByHand) -> RingPlan:
    found = member(ring.hosts["A"]).state
    assert found is not None
    return found.ring.plan


def read(ring: RingByHand, key: RingKey, block: bytes) -> torch.Tensor:
    plan = plan_of(ring)
    words = np.rint(key.decrypt(key.context.from_bytes([block]))).astype(np.int64)
    integers = words + 2 ** (plan.parameters.word_bits - 1) - plan.parameters.limit
    return torch.from_numpy(plan.grid.to_values(integers[: plan.length], 0)).float()


@pytest.mark.parametrize("masking", ["none", "initiator"])
def test_without_pairwise_masks_a_lying_coordinator_reads_updates(masking: Any) -> None:
    """Why pairwise masks are the default: a relay that follows the protocol must be trusted."""
    updates = random_updates(3, 100)
    for place, attack in enumerate(
        (update_read_by_closing_early, update_read_by_swapping_the_public_key)
    ):
        torch.testing.assert_close(attack(masking), updates[place], rtol=0, atol=2**-24)


def test_with_pairwise_masks_the_same_lies_give_nothing() -> None:
    with pytest.raises(OutOfRangeError, match=r"some site did not|do not add up"):
        update_read_by_closing_early("pairwise")
    found = update_read_by_swapping_the_public_key("pairwise")
    truth = random_updates(3, 100)[1]
    assert abs(float(np.corrcoef(found.numpy(), truth.numpy())[0, 1])) < 0.5
    assert float((found - truth).abs().median()) > 10


# ---------------------------------------------------------------------- keys


class SpyGenerator:
    """Stands in for SEAL's KeyGenerator; remembers what secret keys looked like, who holds them."""

    windows: tuple[bytes, ...] = ()
    raw = b""
    alive: tuple[weakref.ref[Any], ...] = ()

    def __init__(self, context: Any) -> None:
        self.generator = sealapi.KeyGenerator(context)

    def secret_key(self) -> Any:
        secret = self.generator.secret_key()
        coefficients = [secret.data().data(i) for i in range(96)]
        raw = np.array(coefficients, dtype="<u8").tobytes()
        SpyGenerator.raw = raw
        SpyGenerator.windows += tuple(raw[i : i + 24] for i in range(0, len(raw) - 24, 8))
        SpyGenerator.alive += (weakref.ref(secret), weakref.ref(self))
        return secret

    def create_public_key(self, public: Any) -> None:
        self.generator.create_public_key(public)


class SpySeal:
    KeyGenerator = SpyGenerator

    def Encryptor(self, context: Any, key: Any) -> Any:  # noqa: N802
        encryptor = sealapi.Encryptor(context, key)
        return self.watch(encryptor) if isinstance(key, sealapi.SecretKey) else encryptor

    def Decryptor(self, context: Any, key: Any) -> Any:  # noqa: N802
        return self.watch(sealapi.Decryptor(context, key))

    def watch(self, holder: Any) -> Any:
        SpyGenerator.alive += (weakref.ref(holder),)
        return holder

    def __getattr__(self, name: str) -> Any:
        return getattr(sealapi, name)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> type[SpyGenerator]:
    monkeypatch.setattr(ckks, "sealapi", SpySeal())
    monkeypatch.setattr(SpyGenerator, "windows", ())
    monkeypatch.setattr(SpyGenerator, "alive", ())
    return SpyGenerator


def ring_of(count: int = SITES) -> Hosts:
    aggregator = CyclicCKKS()
    return join_hosts(aggregator, make_hosts(aggregator, random_updates(count, 100)))


def test_only_the_initiator_ever_holds_a_secret_key() -> None:
    hosts = ring_of()
    holders: set[str] = set()

    def watch(op: str, site: str, answer: bytes) -> bytes:
        for name, host in hosts.hosts.items():
            me = member(host).state
            if me is not None and me.key is not None:
                holders.add(name)
            assert me is None or me.key is not None or not hasattr(me.context, "_decryptor")
        return answer

    hosts.transport.on_answer = watch
    hosts.mean()
    [initiator] = holders
    assert hosts.transport.answers("ring_open", initiator)


def test_no_message_holds_a_secret_key(spied: type[SpyGenerator]) -> None:
    hosts = ring_of()
    hosts.mean()
    assert len(spied.windows) > 50
    traffic = b"".join(e.request + (e.answer or b"") for e in hosts.transport.exchanges)
    assert not any(window in traffic for window in spied.windows)


def test_the_search_for_keys_would_find_one(spied: type[SpyGenerator]) -> None:
    RingKey(RingSettings().check_sites(3))
    assert any(window in b"something" + spied.raw for window in spied.windows)


def test_the_secret_key_is_gone_after_the_ring(spied: type[SpyGenerator]) -> None:
    hosts = ring_of()
    hosts.mean()
    gc.collect()
    assert len(spied.alive) >= 4  # the key, its generator, a decryptor and an encryptor
    assert all(holder() is None for holder in spied.alive)
    assert all(member(host).state is None for host in hosts.hosts.values())


def test_the_secret_key_is_gone_after_a_ring_that_broke(spied: type[SpyGenerator]) -> None:
    hosts = ring_of()
    seen: list[str] = []

    def lose_one(op: str, site: str, request: bytes) -> list[bytes]:
        if op == "ring_pass" and not seen and site == "D":
            seen.append(site)
            return []
        return [request]

    hosts.transport.on_request = lose_one
    hosts.mean()
    gc.collect()
    assert len(hosts.transport.answers("ring_open")) == 2
    assert len(spied.alive) >= 8
    assert all(holder() is None for holder in spied.alive)


def test_a_secret_key_cannot_be_pickled() -> None:
    key = RingKey(RingSettings().check_sites(3))
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_no_file_of_a_run_holds_a_secret_key(spied: type[SpyGenerator], tmp_path: Path) -> None:
    toy_run(tmp_path, toy_experiment(aggregator=CyclicCKKS())).start()
    assert len(spied.windows) > 100
    for file in tmp_path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(window in content for window in spied.windows), file


def test_the_coordinator_relays_no_update_in_the_clear() -> None:
    hosts = ring_of()
    hosts.mean()
    traffic = b"".join(e.answer or b"" for e in hosts.transport.exchanges)
    for host in hosts.hosts.values():
        raw = host.vector.numpy().tobytes()
        assert not any(raw[i : i + 8] in traffic for i in range(0, len(raw) - 8, 4))


def test_mask_keys_are_made_once_a_run_and_their_private_halves_stay() -> None:
    hosts = ring_of()
    hosts.mean()
    first = {name: member(host)._mask_key for name, host in hosts.hosts.items()}
    for host in hosts.hosts.values():
        host.train(2, torch.zeros(100))
    hosts.mean()
    assert {name: member(host)._mask_key for name, host in hosts.hosts.items()} == first
    traffic = b"".join(e.request + (e.answer or b"") for e in hosts.transport.exchanges)
    for key in first.values():
        assert key is not None
        private = key._private.private_bytes_raw()
        assert private not in traffic
        assert private.hex().encode() not in traffic
        assert key.public.hex().encode() in traffic


def test_what_a_site_holds_for_a_ring_is_not_printed() -> None:
    ring = attacked_by_hand("pairwise")
    found = member(ring.hosts["A"]).state
    assert found is not None
    for secret in (*found.masks.values(), found.seal):
        assert repr(secret)[2:-1] not in repr(found)
    assert "ring-1" in repr(found)
