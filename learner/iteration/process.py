"""An iteration from its claim to its end: the stages in order, under the learner lease."""

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from feedback import datasets, policy_weights, rater_watch
from feedback.erasure import Erasures
from feedback.errors import InvalidRequest, LeaseLost, RecordUnavailable, StorageUnavailable, TandemError
from feedback.judges import PREFERENCE, WATCH
from feedback.saved_settings import read_saved
from feedback.settings import Settings
from feedback.store import Store, iterations, leases, policies, raters
from learner.hardware import prepare_training
from learner.iteration.candidate import TRAINING_STATE, Judges, improve, judge, publish
from learner.iteration.examples import Votes
from learner.iteration.fitting import fit_to
from learner.iteration.frontier import measure_frontier
from learner.iteration.harm import learn_harm
from learner.iteration.preferences import (
    PRETRAINED,
    STATE,
    WATCH_PRETRAINED,
    note_unsure_pairs,
    train_preferences,
    train_watch,
)
from learner.iteration.refusals import refuse
from learner.iteration.rehearsing import choose_rehearsal
from learner.iteration.rejection import train_rejection
from learner.iteration.run import Run
from learner.iteration.versions import load, starting_point
from learner.lease import Heartbeat
from learner.number_format import forward_format, forward_passes
from learner.processes import ALONE, Processes, other_is_gone
from learner.progress import Progress
from learner.tracking import open_trackers

log = logging.getLogger(__name__)

RECORD_AGAIN_S = 1.0


def run(store: Store, settings: Settings, iteration_id: str, processes: Processes = ALONE) -> None:
    """Begin the iteration or go on with it; nothing happens when it has ended or another process works on it.

    Of several `processes` this is the first; the others `follow`.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}"
    claimed = store.write(iterations.claim, iteration_id, holder, settings.loop.lease_ttl_s, settings.loop.max_attempts)
    if claimed is None:
        log.info("nothing to do for %s", iteration_id)
        processes.tell(None)
        return
    row, epoch = claimed
    # The lease is renewed no more when it is given back: else it may be held by nobody until it runs out.
    with _its_end_is_told(store, settings, iteration_id, epoch), Heartbeat(store, epoch, settings.loop.lease_ttl_s):
        this = open_run(store, settings, iteration_id, epoch, processes)
        processes.tell({"iteration": iteration_id, "epoch": epoch})
        with this.progress.traced():
            try:
                this.progress.tracking = open_trackers(this.learner.trackers, this.folder, iteration_id, row.settings)
                version = _all_stages(this)
                store.write(iterations.succeed, iteration_id, epoch, version)
            finally:
                this.progress.tracking.close()
    processes.tell(None)
    _tidy(this)


@contextmanager
def _its_end_is_told(store: Store, settings: Settings, iteration_id: str, epoch: int) -> Iterator[None]:
    """What breaks the iteration off is in its row, unless the next process can go on; the lease is given back."""
    try:
        yield
    except (LeaseLost, StorageUnavailable):
        # Without them this process cannot go on; the iteration can, in the next one.
        raise
    except RecordUnavailable as error:
        log.warning("%s; this process ends when it is back", error.message)
        _tell_when_the_record_is_back(store, settings, iteration_id, epoch, error.__cause__)
        raise
    except SystemExit:
        with suppress(LeaseLost, RecordUnavailable):
            store.write(iterations.stopped, iteration_id, epoch)
        raise
    except TandemError as error:
        store.write(iterations.fail, iteration_id, epoch, error.message)
        raise
    except Exception as error:
        if other_is_gone(error):
            log.warning("another process of the learner is gone; the next ones go on")
            raise
        # Left as running, an iteration that cannot end would be begun again for ever.
        what = _refusal(error) if isinstance(error, DBAPIError) else f"{type(error).__name__}: see the learner's log"
        store.write(iterations.fail, iteration_id, epoch, what)
        raise
    finally:
        # On SIGTERM too: the next process may go on at once.
        store.write(leases.release, leases.LEARNER, epoch)


def _tell_when_the_record_is_back(
    store: Store, settings: Settings, iteration_id: str, epoch: int, cause: BaseException | None
) -> None:
    """A process that ends because the record was away has not died; should the next one be at work by then, it has.

    A record that was not away refused what was written, and may for ever, as a statement that takes longer than it
    lets any: that attempt counts. One that could not be connected to was told no statement.
    """
    if isinstance(cause, DBAPIError) and cause.statement is not None and not cause.connection_invalidated:
        with suppress(RecordUnavailable):
            store.write(iterations.refused, iteration_id, epoch, _refusal(cause), settings.loop.max_attempts)
            return
    while True:
        try:
            store.write(iterations.stopped, iteration_id, epoch)
        except RecordUnavailable:
            time.sleep(RECORD_AGAIN_S)
        except LeaseLost:
            return
        else:
            return


def _refusal(error: DBAPIError) -> str:
    # What follows Postgres' first line may hold the row itself.
    words, *_ = str(error.orig).split("\n")
    return f"the record refused what was written: {words}"


def open_run(store: Store, settings: Settings, iteration_id: str, epoch: int, processes: Processes) -> Run:
    """What the stages share, in this process, which may use so many threads from now on."""
    row = store.read(iterations.get, iteration_id)
    folder = settings.home / "iterations" / iteration_id
    folder.mkdir(parents=True, exist_ok=True)
    learner = fit_to(read_saved(row.settings), policy_weights.folder_of(store, settings, 0))
    prepare_training(learner.threads)
    progress = Progress(store, iteration_id, epoch)
    return Run(store, settings, learner, iteration_id, row.seed, epoch, folder, progress, processes)


def _all_stages(this: Run) -> int:
    """Every stage in order. Returns the candidate's version number."""
    votes = Votes(freeze(this), nobody=this.store.read(raters.nobody))
    start = load(this, this.store.read(policies.get, 0).version)
    device = start.model.device
    refuse(this, votes, start)
    with forward_passes(forward_format(this.learner.precision, device), device):
        preference_model, preference_report = train_preferences(this, votes, start)
        note_unsure_pairs(this, start, preference_model)
        watch, watch_report = train_watch(this, votes, start, preference_model.shape.objectives)
        judges = Judges(preference_model, watch)
        candidate = starting_point(this, start)
        this.progress.enter(this.learner.trainer)
        harm_test, votes = learn_harm(this, votes, start, preference_model)
        rehearse_on, rehearsal_report = choose_rehearsal(this, votes, harm_test)
        steps, end = improve(this, votes, start, judges, candidate, rehearse_on)
        evaluation = judge(this, votes, start, judges, candidate.policy, preference_report["anchor"])
        frontier = measure_frontier(this, votes, start, judges, candidate.policy, rehearse_on)
    evidence = {
        "preference": preference_report,
        "watch": watch_report,
        this.learner.trainer: steps,
        "guard": end,
        "evaluation": evaluation,
        "strange_prompts": train_rejection(this, votes, start),
        "rehearsal": rehearsal_report,
        "frontier": frontier,
    }
    return publish(this, candidate, votes.dataset.name, evidence)


def freeze(this: Run) -> Path:
    """Freeze the counted votes into a dataset, or find the one that was frozen before. Returns its folder."""
    this.progress.enter("freeze")
    folder = this.settings.home / "datasets"
    known = this.store.read(iterations.get, this.iteration_id).dataset_digest
    if known is not None:
        return datasets.find(this.store, this.settings.home, known)
    # Whoever votes unlike the others is set apart before anything learns from them.
    for rater_id, reason in rater_watch.watch(this.store, this.settings.feedback).items():
        this.progress.tell("quarantined", {"rater": rater_id, "reason": reason})
    frozen = this.store.read(datasets.freeze, folder, this.settings.feedback)
    counts = frozen.summary["counts"]
    for split, what in (("train", "learn from"), ("heldout", "measure on")):
        if not counts.get(split):
            raise InvalidRequest(f"no counted vote to {what}: {frozen.summary['examples']} votes in all; gather more")
    datasets.keep(this.store, this.iteration_id, this.epoch, frozen, this.settings.home)
    # Who was erased while it was frozen is in it.
    Erasures(this.store, this.settings.home).look()
    this.progress.tell("dataset", frozen.summary)
    return frozen.folder


def _tidy(this: Run) -> None:
    """Remove training states, which are large, and keep the preference model and the reports, which are evidence."""
    trained = (PRETRAINED, WATCH_PRETRAINED, PREFERENCE, WATCH)
    for name in (*(model + STATE for model in trained), *TRAINING_STATE.values()):
        (this.folder / name).unlink(missing_ok=True)
    for name in (PRETRAINED, WATCH_PRETRAINED):
        shutil.rmtree(this.folder / name, ignore_errors=True)
