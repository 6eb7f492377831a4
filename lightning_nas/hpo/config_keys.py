"""The keys of NNI's experiment files, by what they mean here, and its durations."""

from __future__ import annotations

import math
import re
from typing import Any

# Keys are told apart without case and underscores, as NNI does: so one table reads all three versions.
MEANING = {
    "experimentname": "name",
    "maxexecduration": "max_duration",
    "maxexperimentduration": "max_duration",
    "maxtrialnum": "max_trials",
    "maxtrialnumber": "max_trials",
    "maxtrialduration": "trial_duration",
    "searchspacepath": "space_file",
    "searchspacefile": "space_file",
    "searchspace": "space",
    "trialconcurrency": "concurrency",
    "trial": "trial",
    "trialcommand": "command",
    "trialcodedirectory": "code",
    "trialgpunumber": "gpus",
    "tuner": "tuner",
    "assessor": "assessor",
    "advisor": "advisor",
    "trainingserviceplatform": "platform",
    "trainingservice": "service",
    "localconfig": "service",
    "machinelist": "machines",
    "remoteconfig": "reuse",
    "logdir": "working_directory",
    "experimentworkingdirectory": "working_directory",
    "useannotation": "annotation",
    "multiphase": "multiphase",
    "sharedstorage": "shared_storage",
}
WITHOUT_EFFECT = {
    "authorname", "description", "multithread", "versioncheck", "logcollection", "debug", "loglevel",
    "tunergpuindices", "nnimanagerip", "experimenttype",
}  # fmt: skip
TRIAL = {"command": "command", "codedir": "code", "gpunum": "gpus"}
SERVICE = {
    "platform": "platform",
    "gpuindices": "gpu_indices",
    "maxtrialnumpergpu": "trials_per_gpu",
    "maxtrialnumberpergpu": "trials_per_gpu",
    "useactivegpu": "use_active",
    "trialcommand": "command",
    "trialcodedirectory": "code",
    "trialgpunumber": "gpus",
    "debug": "ignored",
    "nnimanagerip": "ignored",
    "machinelist": "machines",
    "reusemode": "ignored",
}
ALGORITHM = {
    "name": "name",
    "builtintunername": "name",
    "builtinassessorname": "name",
    "builtinadvisorname": "name",
    "classargs": "args",
    "codedir": "code",
    "codedirectory": "code",
    "classfilename": "file",
    "classname": "class",
    "gpuindices": "ignored",
    "includeintermediateresults": "ignored",
}
PLATFORMS = (
    "pai", "openpai", "aml", "dlc", "kubeflow", "frameworkcontroller", "adl", "hybrid", "paiyarn",
)  # fmt: skip
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s(value: Any) -> int:
    """A duration of NNI's in seconds, rounded up: a whole number, or a number with s, m, h or d.

    Raises:
        ValueError: for anything else.

    >>> duration_s("0.5h"), duration_s(90)
    (1800, 90)
    """
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd])\s*", value)):
        return math.ceil(float(found[1]) * _UNITS[found[2]])
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(
            f"a duration is a number with s, m, h or d, such as '90s' or '1.5h', but got {value!r}."
        )
    return value
