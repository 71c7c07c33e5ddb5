"""The manifest of `examples/ray-job.yaml`, against what KubeRay and Kubernetes take.

``ray_job.schema.json`` has the fields of KubeRay's RayJob (ray.io/v1) and of pods that a search needs,
with their types and which are required, and refuses others as the API server does.
"""

import copy
import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from nasnet_zoo.cli import command_function
from nasnet_zoo.cli.options import UsageError, read

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "ray_job.schema.json").read_text())


@pytest.fixture
def job():
    return yaml.safe_load((ROOT / "examples" / "ray-job.yaml").read_text())


def test_the_manifest_is_valid(job):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(job, SCHEMA)


def cluster(job):
    return job["spec"]["rayClusterSpec"]


def pod(group):
    return group["template"]["spec"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda job: job.update(apiVersion="ray.io/v1alpha1"),
        lambda job: job["spec"].update(entryPoint="ls"),
        lambda job: job["spec"].update(backoffLimit="10"),
        lambda job: cluster(job).pop("headGroupSpec"),
        lambda job: cluster(job)["authOptions"].update(mode="password"),
        lambda job: cluster(job)["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda job: cluster(job)["workerGroupSpecs"][0].update(replicas=-1),
        lambda job: cluster(job)["workerGroupSpecs"][0].pop("groupName"),
        lambda job: pod(cluster(job)["headGroupSpec"]).update(containers=[]),
        lambda job: pod(cluster(job)["headGroupSpec"])["containers"][0]["resources"]["limits"].update(
            memory="8GiB"
        ),
    ],
)
def test_a_spoilt_manifest_is_refused(job, spoil):
    spoilt = copy.deepcopy(job)
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, SCHEMA)


def test_what_is_mounted_is_a_volume_of_the_pod(job):
    groups = [cluster(job)["headGroupSpec"], *cluster(job)["workerGroupSpecs"]]
    for group in groups:
        volumes = {volume["name"] for volume in pod(group).get("volumes", ())}
        for container in pod(group)["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes


def test_its_command_is_one_of_ours(job):
    program, command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("nasnet-zoo", "search")
    search = command_function(command)
    read(search, arguments, program)  # of another option or value it says so
    with pytest.raises(UsageError):
        read(search, [*arguments, "--machines", "32"], program)
