"""What can go wrong in learning, each under the project's one root."""

from feedback.errors import InvalidRequest, PolicyInvalid, TandemError


class CodeRefused(PolicyInvalid):
    """A model folder that cannot be loaded without running code that comes with it."""

    code = "code_refused"


class ModelNotSupported(PolicyInvalid):
    """A model of a kind that cannot be trained here."""

    code = "model_not_supported"


class TrainingDataInvalid(InvalidRequest):
    """Comparisons or prompts that nothing can be learnt from."""

    code = "training_data_invalid"


class TrainingDiverged(TandemError):
    """A loss or gradient that is not finite, or a sampler that disagrees with the trainer. The last checkpoint is
    intact."""

    code = "training_diverged"


class CheckpointInvalid(TandemError):
    """A checkpoint that is incomplete or belongs to another run."""

    code = "checkpoint_invalid"


class ProcessesDisagree(TandemError):
    """Processes that are to train one model together, on different things."""

    code = "processes_disagree"


class TrackerMissing(InvalidRequest):
    """A tracker that the settings name and that is not installed."""

    code = "tracker_missing"
