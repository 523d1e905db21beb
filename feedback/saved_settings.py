"""The learner's settings as an iteration or a version keeps them, which an earlier release may have written."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from feedback.errors import SettingsInvalid
from feedback.learning_settings import OF_NO_EFFECT
from feedback.settings import LearnerSettings

log = logging.getLogger(__name__)

UNKNOWN = "extra_forbidden"


def read_saved(saved: Mapping[str, Any]) -> LearnerSettings:
    """The settings in `saved`. A setting that there is no longer is passed over with a warning, as is one that did
    nothing in the release that took it; one that is new since has its default.

    Raises SettingsInvalid for a value that can no longer be had: to pass that over would be to do something else.
    """
    known = copy.deepcopy(dict(saved))
    while True:
        try:
            return LearnerSettings.model_validate(known)
        except ValidationError as error:
            passed_over = list(_to_pass_over(error))
            if not passed_over:
                wrong = "; ".join(f"learner.{_dotted(problem['loc'])}: {problem['msg']}" for problem in error.errors())
                raise SettingsInvalid(
                    f"the saved settings are of another release: {wrong}. Go back to that one, or train anew: a new "
                    "iteration learns from the same votes"
                ) from error
        # What they do together is looked at when each is known.
        for path in passed_over:
            log.warning("the saved setting learner.%s is of another release and is passed over", _dotted(path))
            _drop(known, path)


def _to_pass_over(error: ValidationError) -> Iterator[tuple[int | str, ...]]:
    """The paths of settings that are not known, or did nothing."""
    for problem in error.errors():
        if problem["type"] == UNKNOWN:
            yield problem["loc"]
        elif problem["type"] == OF_NO_EFFECT:
            yield from ((*problem["loc"], name) for name in problem["ctx"]["names"])


def _drop(settings: Any, path: Sequence[int | str]) -> None:
    *above, name = path
    for part in above:
        settings = settings[part]
    del settings[name]


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))
