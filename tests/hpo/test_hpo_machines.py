"""NNI's remote machines become a cluster file of Ray's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_nas import cli
from lightning_nas.experiment import Ray
from lightning_nas.hpo import load_experiment, read_config
from lightning_nas.hpo.documents import ConfigError
from lightning_nas.hpo.machines import FILE, cluster_file, read_machines

HEAD = {"host": "10.0.0.1", "user": "bob", "sshKeyFile": "~/.ssh/lab"}
WORKER = {
    "host": "worker-2.lab",
    "user": "bob",
    "port": 2222,
    "password": "secret",
    "maxTrialNumberPerGpu": 2,
}
V2 = {
    "experimentName": "far away",
    "searchSpace": {"x": {"_type": "uniform", "_value": [0, 1]}},
    "trialCommand": "echo",
    "trialConcurrency": 3,
    "maxTrialNumber": 4,
    "tuner": {"name": "Random"},
    "trainingService": {"platform": "remote", "reuseMode": True, "machineList": [HEAD, WORKER]},
}
V1 = {
    "experimentName": "far away",
    "searchSpacePath": "space.json",
    "trial": {"command": "echo", "codeDir": ".", "gpuNum": 1},
    "trialConcurrency": 3,
    "maxTrialNum": 4,
    "trainingServicePlatform": "remote",
    "tuner": {"builtinTunerName": "Random"},
    "remoteConfig": {"reuse": True},
    "machineList": [{"ip": "10.0.0.1", "username": "bob", "passwd": "x", "maxTrialNumPerGpu": 4}],
}


def written(directory: Path, config: dict[str, Any]) -> Path:
    (directory / "space.json").write_text(json.dumps(V2["searchSpace"]))
    path = directory / "config.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def with_machines(*machines: Any) -> dict[str, Any]:
    return {**V2, "trainingService": {"platform": "remote", "machineList": list(machines)}}


@pytest.fixture(autouse=True)
def no_cluster_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_create_writes_the_cluster_file_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, V2)
    assert cli.main(["create", "--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / FILE} is written" in err
    assert "`ray up ray-cluster.yaml`" in err
    assert "RAY_ADDRESS=ray://10.0.0.1:10001" in err
    assert err.count("\n") == 1
    (tmp_path / FILE).write_text("mine")
    assert cli.main(["create", "--config", str(path)]) == 2
    assert f"{tmp_path / FILE} is there" in capsys.readouterr().err
    assert (tmp_path / FILE).read_text() == "mine"


def test_validate_finds_such_a_file_right_and_writes_nothing(tmp_path: Path) -> None:
    for config in (V1, V2):
        assert cli.main(["validate", str(written(tmp_path, config))]) == 0
    assert not (tmp_path / FILE).exists()


def test_the_cluster_file_is_what_ray_wants() -> None:
    text = cluster_file("far away", read_machines([HEAD, WORKER]))
    cluster = yaml.safe_load(text)
    assert cluster["cluster_name"] == "far-away"
    assert cluster["provider"] == {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["worker-2.lab"]}
    assert cluster["auth"] == {"ssh_user": "bob", "ssh_private_key": "~/.ssh/lab"}
    assert "secret" not in text
    assert "`ssh-copy-id -p 2222 bob@worker-2.lab`" in text
    assert "`Port 2222` under its Host" in text
    commands = pytest.importorskip("ray.autoscaler._private.commands", reason="Ray is not installed")
    commands.validate_config(commands.prepare_config(cluster))


def test_a_folder_with_a_space_in_its_name_is_one_word_for_the_shell() -> None:
    (machine,) = read_machines([{"host": "a", "user": "b", "pythonPath": "/opt/my python/bin"}])
    cluster = yaml.safe_load(cluster_file("far", [machine]))
    assert cluster["head_start_ray_commands"][0] == "PATH='/opt/my python/bin':$PATH ray stop"


def test_what_differs_from_the_head_is_noted() -> None:
    other = {"host": "b", "user": "ann", "ssh_key_file": "k", "python_path": "/opt/bin", "gpuIndices": [0]}
    text = cluster_file("x", read_machines([{"host": "a", "user": "bob"}, other]))
    for note in (
        "Ray logs in as bob everywhere: b has ann",
        "`IdentityFile k`",
        "all its GPUs",
        "its Python elsewhere",
    ):
        assert note in text
    assert "PATH=/opt/bin:$PATH ray stop" in cluster_file("x", read_machines([other]))


def test_with_a_cluster_the_same_file_runs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    one = load_experiment(written(tmp_path, V1), tmp_path / "one")
    assert one._arguments["runner"] == Ray(gpus_per_trial=0.25)
    two = load_experiment(written(tmp_path, V2), tmp_path / "two")
    assert two._arguments["runner"] == Ray(gpus_per_trial=None)
    three = load_experiment(written(tmp_path, V2), tmp_path / "three", runner="processes")
    assert three._arguments["runner"] == "processes"
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {**V2, "trainingService": {"platform": "remote"}},
            "'trainingService.platform': .* needs a machineList",
        ),
        (with_machines(), "'trainingService.machineList': it must be a list of machines"),
        (with_machines("a"), "'trainingService.machineList.0': it must be a mapping"),
        (
            with_machines({"host": "a"}),
            "'trainingService.machineList.0': it must have a user, a word, but has None",
        ),
        (
            with_machines(HEAD, {**HEAD, "sshKey": "k"}),
            "'trainingService.machineList.1.sshKey': there is no such key",
        ),
        (with_machines({**HEAD, "port": "x"}), "machineList.0.port': it must be a whole number"),
        (with_machines({**HEAD, "host": "a; rm"}), "it must have a host, a word, but has 'a; rm'"),
        (with_machines(HEAD, HEAD), r"10\.0\.0\.1 is in the list twice"),
    ],
)
def test_wrong_machines_are_named_with_their_line(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(written(tmp_path, config))
    assert "line " in str(caught.value)
