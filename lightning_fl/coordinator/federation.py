"""The loop of rounds: train, aggregate, broadcast, evaluate, save; then personalise and test."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from lightning_fl.coordinator.answers import (
    check_description,
    check_final,
    check_scores,
    check_training,
    checked,
)
from lightning_fl.coordinator.averaging import Averaging
from lightning_fl.coordinator.broadcast import Broadcast
from lightning_fl.coordinator.checkpoint import Checkpoints, RunState
from lightning_fl.coordinator.plan import Plan
from lightning_fl.coordinator.recorder import Recorder
from lightning_fl.errors import ConfigError, SiteError, TooFewSitesError
from lightning_fl.results.case_statistics import received_cases
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message
from lightning_fl.wire.records import TRAINING, MetricRow


class Federation:
    """The coordinator: calls the rounds, and never sees an image.

    Args:
        plan: who does what.
        averaging: makes new global weights of the sites' updates.
        evaluation: how scores are compared.
        channel: to the sites.
        checkpoints: where the state of each round goes.
        recorder: where numbers go.
    """

    def __init__(
        self,
        plan: Plan,
        averaging: Averaging,
        evaluation: Evaluation,
        channel: Channel,
        checkpoints: Checkpoints,
        recorder: Recorder,
    ) -> None:
        self.plan = plan
        self.averaging = averaging
        self.evaluation = evaluation
        self.channel = channel
        self.checkpoints = checkpoints
        self.recorder = recorder
        self.monitor = channel.monitor
        self.broadcast = Broadcast(channel)
        self.survivors = self.broadcast.survivors
        self.trains_alone = averaging.algorithm.trains_alone

    def run(self, state: RunState) -> dict[str, Any]:
        """Train from `state` to the last round, personalise, and test once.

        Args:
            state: fresh (round 0) or from the last checkpoint.

        Returns:
            What results.json holds.

        Raises:
            TooFewSitesError: a round was left with fewer than `min_sites` updates; everything up
                to the round before is saved.
        """
        plan = self.plan
        sites = [*plan.evaluating, *plan.unseen]
        self.monitor.on_run_start(sites=sites, first_round=state.round + 1, rounds=plan.rounds)
        self.broadcast.load(state, dict.fromkeys(self._receiving, state.round))
        if not state.best:  # a fresh run: the untrained weights are the first to beat
            self._finish_round(state)
        while state.round < plan.rounds and not self._is_enough(state):
            if state.outcome is None:  # a resumed run may have the mean of the round already
                self._aggregate(state, self._train(state))
                self._save(state)  # sites that get the mean must not know more than the coordinator
            self._advance(state)
            self._finish_round(state)
        if state.round < plan.rounds:
            self.monitor.on_early_stop(round_=state.round, best_round=_best_round(state))
        return self._personalise(state)

    def check(self) -> dict[str, Message]:
        """Let every site check its data and make one training step, before anything else.

        Any failure here ends the run: wrong settings and files show in seconds, not in the night.

        Returns:
            What each site says about itself.

        Raises:
            SiteError: a site cannot take part.
            ConfigError: a site has another network than the coordinator.
        """
        names, layout = self.plan.everyone, self.averaging.layout
        self.monitor.on_operation(operation="describe", total=len(names))
        message = self.channel.message(0)
        answers = self.channel.ask_all("describe", dict.fromkeys(names, message))
        for error in checked("describe", answers, check_description).values():
            if isinstance(error, SiteError):
                raise error
        for site, answer in answers.items():
            if answer.info.get("layout") != layout.fingerprint:
                raise ConfigError(
                    f"Site {site!r} has another network than the coordinator (layout "
                    f"{answer.info.get('layout')!r:.60}, expected {layout.fingerprint})."
                )
            if "samples" in answer.info:
                self.averaging.samples[site] = int(answer.info["samples"]["train"])
        counts = {
            site: n for site, n in self.averaging.samples.items() if site in self.plan.training
        }
        self.averaging.aggregator.check_samples(counts)
        return answers

    def _train(self, state: RunState) -> dict[str, int]:
        """Let sites train the coming round.

        Returns:
            Training samples, 0 where hidden, of each site that has an update.
        """
        round_ = state.round + 1
        chosen = self.plan.chosen(round_)
        self.monitor.on_operation(round_=round_, operation="train", total=len(chosen))
        # the checkpoint before the last must stay usable too, should the last be damaged
        keep = sorted({round_ - 2, *state.best.values(), *state.best_before.values()})
        message = self.channel.message(round_, info={"keep": keep})
        answers = self.channel.ask("train", dict.fromkeys(chosen, message))
        answers = checked("train", answers, check_training)
        trained = self.survivors(state, answers, "train")
        state.count_gradients([answer.info.get("gradients") for answer in trained.values()])
        self.recorder.add_training(round_, trained)
        self.averaging.account.hear(round_, {site: answer.info for site, answer in trained.items()})
        return {site: int(answer.info.get("samples", 0)) for site, answer in trained.items()}

    def _aggregate(self, state: RunState, samples: Mapping[str, int]) -> None:
        """Make the mean of the coming round."""
        round_ = state.round + 1
        self._require(round_, samples, state)
        lost = self.averaging.ask(self.channel, state, samples)
        self.survivors(state, lost, "aggregate")

    def _advance(self, state: RunState) -> None:
        """Move to the coming round, here and at every site that trains or is evaluated."""
        outcome, mean = state.outcome or {}, state.mean
        self.averaging.apply(state)
        self.broadcast.apply(state, mean, outcome, self._receiving)

    @property
    def _receiving(self) -> list[str]:
        """The sites that get the weights of each round."""
        return sorted({*self.plan.training, *self.plan.evaluating})

    def _require(self, round_: int, sites: Collection[str], state: RunState) -> None:
        if len(sites) < self.plan.min_sites:
            reasons = [d["reason"] for d in state.dropped if d["round"] == round_]
            raise TooFewSitesError(
                f"Round {round_} has {len(sites)} updates, but `min_sites` is "
                f"{self.plan.min_sites}; round {state.round} is saved and the run can be resumed. "
                f"Dropped: {'; '.join(reasons) or 'none'}"
            )

    def _is_enough(self, state: RunState) -> bool:
        """Return whether no site has had a better score for `evaluation.patience` rounds."""
        return self.evaluation.is_enough(state.round, _best_round(state))

    def _finish_round(self, state: RunState) -> None:
        """Evaluate the round's weights, remember the best, and save everything."""
        due = self.evaluation.is_due(state.round) or state.round == self.plan.rounds
        scores, undefined = self._evaluate(state) if due else ({}, set())
        self._remember_best(state, scores, undefined)
        state.forget_attested()
        self._save(state)
        self.monitor.on_round_end(round_=state.round, metric=self.evaluation.metric, scores=scores)

    def _save(self, state: RunState) -> None:
        """Write the state and all numbers so far."""
        scored = [r for r in self.recorder.metrics if r.model != TRAINING]
        rows = [r for r in scored if r.round == state.best.get(r.site)]
        self.recorder.write(state, rows, {})
        state.rows = self.recorder.rows
        self.checkpoints.save(state)

    def _evaluate(self, state: RunState) -> tuple[dict[str, float], set[str]]:
        """Score the global model at each site.

        Returns:
            Each site's score, and the sites on whose validation data it is not defined.
        """
        names = self.plan.evaluating
        self.monitor.on_operation(round_=state.round, operation="evaluate", total=len(names))
        message = self.channel.message(state.round)
        answers = self.channel.ask("evaluate", dict.fromkeys(names, message))
        answers = checked("evaluate", answers, check_scores)
        scored = self.survivors(state, answers, "evaluate")
        model = "local" if self.trains_alone else "global"
        self.recorder.add(
            [
                MetricRow(state.round, site, model, "val", metric, value)
                for site, answer in scored.items()
                for metric, value in answer.info["val"].items()
            ]
        )
        metric = self.evaluation.metric
        scores = {s: float(a.info["val"].get(metric, math.nan)) for s, a in scored.items()}
        # a model that gives NaN is no matter of the data, and its site has a say
        undefined = {
            site
            for site, answer in scored.items()
            if math.isnan(scores[site]) and answer.info.get("undefined") is True
        }
        return scores, undefined

    def _remember_best(
        self, state: RunState, scores: Mapping[str, float], undefined: Collection[str]
    ) -> None:
        """Remember the best round: one for all by the mean score, or one a site that trains alone.

        Sites where the score is not defined, e.g. AUROC with cases of one class only, have no say.
        A round that a site could not score is no candidate: without its hardest site the mean looks
        better than it is.
        """
        if self.trains_alone:
            groups = {site: [site] for site in scores}
        else:
            groups = {"mean": [*self.plan.evaluating]} if scores else {}
        for name, members in groups.items():
            if not set(members) <= set(scores):
                continue
            defined = [scores[site] for site in members if site not in undefined]
            score = math.fsum(defined) / len(defined) if defined else math.nan
            best = state.best_scores.get(name)
            # of equal scores the later round wins, or a task that starts at 0 keeps random weights
            if best is None or not self.evaluation.is_better(best, score):
                state.best_scores[name] = score
                state.best_before.update({m: state.best.get(m, 0) for m in members})
                state.best.update(dict.fromkeys(members, state.round))
                state.best_weights = state.weights

    def _personalise(self, state: RunState) -> dict[str, Any]:
        """Let every site, unseen ones too, personalise the best weights and test once."""
        default = max(state.best.values(), default=state.round)
        rounds = {s: state.best.get(s, default) for s in (*self.plan.evaluating, *self.plan.unseen)}
        self.broadcast.load(state, rounds, best=True)
        self.monitor.on_operation(operation="personalise", total=len(rounds))
        messages = {site: self.channel.message(round_) for site, round_ in rounds.items()}
        answers = checked("personalise", self.channel.ask("personalise", messages), check_final)
        finished = self.survivors(state, answers, "personalise")
        final = [
            MetricRow(rounds[site], site, model, split, metric, value)
            for site, answer in finished.items()
            for model, splits in answer.info["scores"].items()
            for split, metrics in splits.items()
            for metric, value in metrics.items()
        ]
        recorded = {row[:5] for row in self.recorder.metrics}
        self.recorder.add([row for row in final if row[:5] not in recorded])
        choices = {
            site: {**answer.info["personalisation"], "round": rounds[site]}
            for site, answer in finished.items()
        }
        curves = {
            site: answer.info["new_hospital"]
            for site, answer in finished.items()
            if "new_hospital" in answer.info
        }
        cases = received_cases({site: a.info.get("cases", {}) for site, a in finished.items()})
        results = self.recorder.write(state, final, choices, curves, cases)
        missing = sorted(set(self.plan.evaluating) - set(finished))
        if missing:
            reasons = "; ".join(d["reason"] for d in state.dropped[-len(missing) :])
            raise TooFewSitesError(
                f"The final evaluation failed at {missing}: {reasons}. All rounds are saved; "
                "resume the run to evaluate again."
            )
        self.recorder.log_results(results)
        return results


def _best_round(state: RunState) -> int:
    """Return the last round that is the best one of a site."""
    return max(state.best.values(), default=0)
