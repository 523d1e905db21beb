"""An iteration from its claim to its end: the stages in order, under the learner lease."""

import logging
import os
import shutil
import socket
from pathlib import Path

from feedback import datasets, policy_weights, rater_watch
from feedback.errors import InvalidRequest, LeaseLost, RecordUnavailable, StorageUnavailable, TandemError
from feedback.settings import LearnerSettings, Settings
from feedback.store import Store, iterations, leases, policies
from learner.hardware import prepare_training
from learner.iteration.candidate import TRAINING_STATE, Judges, improve, judge, load, publish, starting_point
from learner.iteration.fitting import fit_to
from learner.iteration.frontier import measure_frontier
from learner.iteration.preferences import (
    PREFERENCE,
    PRETRAINED,
    STATE,
    WATCH,
    note_unsure_pairs,
    train_preferences,
    train_watch,
)
from learner.iteration.run import Run
from learner.lease import Heartbeat
from learner.progress import Progress
from learner.tracking import open_trackers

log = logging.getLogger(__name__)


def run(store: Store, settings: Settings, iteration_id: str) -> None:
    """Begin the iteration or go on with it; nothing happens when it has ended or another process works on it."""
    holder = f"{socket.gethostname()}:{os.getpid()}"
    claimed = store.write(iterations.claim, iteration_id, holder, settings.loop.lease_ttl_s, settings.loop.max_attempts)
    if claimed is None:
        log.info("nothing to do for %s", iteration_id)
        return
    row, epoch = claimed
    folder = settings.home / "iterations" / iteration_id
    folder.mkdir(parents=True, exist_ok=True)
    this = Run(
        store,
        settings,
        fit_to(LearnerSettings.model_validate(row.settings), policy_weights.folder_of(store, settings, 0)),
        iteration_id,
        row.seed,
        epoch,
        folder,
        Progress(store, iteration_id, epoch),
    )
    prepare_training(this.learner.threads)
    with Heartbeat(store, epoch, settings.loop.lease_ttl_s), this.progress.traced():
        try:
            this.progress.tracking = open_trackers(this.learner.trackers, folder, iteration_id, row.settings)
            version = _all_stages(this)
            store.write(iterations.succeed, iteration_id, epoch, version)
        except (LeaseLost, RecordUnavailable, StorageUnavailable):
            # Without them this process cannot go on; the iteration can, in the next one.
            raise
        except TandemError as error:
            store.write(iterations.fail, iteration_id, epoch, error.message)
            raise
        except Exception as error:
            # Left as running, an iteration that cannot end would be begun again for ever.
            store.write(iterations.fail, iteration_id, epoch, f"{type(error).__name__}: see the learner's log")
            raise
        finally:
            this.progress.tracking.close()
            # On SIGTERM too: the next process may go on at once.
            store.write(leases.release, leases.LEARNER, epoch)
    _tidy(this)


def _all_stages(this: Run) -> int:
    """Every stage in order. Returns the candidate's version number."""
    dataset = freeze(this)
    start = load(this, this.store.read(policies.get, 0).version)
    preference_model, preference_report = train_preferences(this, dataset, start)
    note_unsure_pairs(this, start, preference_model)
    watch, watch_report = train_watch(this, dataset, start)
    judges = Judges(preference_model, watch)
    candidate, parent = starting_point(this)
    steps, end = improve(this, dataset, start, judges, candidate, parent)
    evaluation = judge(this, dataset, start, judges, candidate, preference_report["anchor"])
    evidence = {
        "preference": preference_report,
        "watch": watch_report,
        this.learner.trainer: steps,
        "guard": end,
        "evaluation": evaluation,
        "frontier": measure_frontier(this, dataset, start, judges, candidate),
    }
    return publish(this, candidate, parent, dataset, evidence)


def freeze(this: Run) -> Path:
    """Freeze the counted votes into a dataset, or find the one that was frozen before. Returns its folder."""
    this.progress.enter("freeze")
    folder = this.settings.home / "datasets"
    known = this.store.read(iterations.get, this.iteration_id).dataset_digest
    if known is not None:
        return folder / known
    # Whoever votes unlike the others is set apart before anything learns from them.
    for rater_id, reason in rater_watch.watch(this.store, this.settings.feedback).items():
        this.progress.tell("quarantined", {"rater": rater_id, "reason": reason})
    frozen = this.store.read(datasets.freeze, folder, this.settings.feedback)
    counts = frozen.summary["counts"]
    for split, what in (("train", "learn from"), ("heldout", "measure on")):
        if not counts.get(split):
            raise InvalidRequest(f"no counted vote to {what}: {frozen.summary['examples']} votes in all; gather more")
    this.store.write(
        iterations.freeze,
        this.iteration_id,
        this.epoch,
        digest=frozen.digest,
        path=frozen.folder.relative_to(this.settings.home).as_posix(),
        summary=frozen.summary,
        votes=frozen.votes(),
    )
    this.progress.tell("dataset", frozen.summary)
    return frozen.folder


def _tidy(this: Run) -> None:
    """Remove training states, which are large, and keep the preference model and the reports, which are evidence."""
    for name in (PRETRAINED + STATE, PREFERENCE + STATE, WATCH + STATE, *TRAINING_STATE.values()):
        (this.folder / name).unlink(missing_ok=True)
    shutil.rmtree(this.folder / PRETRAINED, ignore_errors=True)
    for leftover in this.settings.policies_dir.glob(".*.unfinished"):
        shutil.rmtree(leftover, ignore_errors=True)
