"""A fork server that is warm before any test is timed."""

from __future__ import annotations

import pytest

from lightning_nas.experiment.runners import ProcessRunner, Work
from lightning_nas.testing.runners import Evaluates, job, run


@pytest.fixture(scope="session")
def warm_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Starts the server of the process runner, which imports torch for seconds."""
    directory = tmp_path_factory.mktemp("warm")
    runner = ProcessRunner(Work(Evaluates(lambda candidate, report: 1.0)), 1, directory)
    run(runner, [job(directory, 0)])
    runner.close()
