"""The options for a container's manifest, and the state of a container."""

import subprocess
import unittest
from unittest.mock import patch

from ..podman import container_state, memory_options, security_options
from ..report import Failed


class Options(unittest.TestCase):
    def test_a_restricted_container_gets_every_restriction(self) -> None:
        pod = {"securityContext": {"runAsUser": 65532, "runAsGroup": 65532}}
        container = {"securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                                         "capabilities": {"drop": ["ALL"]}}}
        self.assertEqual(security_options(pod, container), [
            "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges",
            "--user=65532:65532"])

    def test_a_container_without_restrictions_gets_none(self) -> None:
        self.assertEqual(security_options({}, {}), [])

    def test_the_containers_user_overrides_the_pods(self) -> None:
        pod = {"securityContext": {"runAsUser": 1, "runAsGroup": 1}}
        container = {"securityContext": {"runAsUser": 2}}
        self.assertEqual(security_options(pod, container), ["--user=2:1"])

    def test_a_memory_limit_allows_no_swap(self) -> None:
        container = {"resources": {"limits": {"memory": "128Mi"}}}
        self.assertEqual(memory_options(container), ["--memory=128m", "--memory-swap=128m"])
        self.assertEqual(memory_options({}), [])


def answer(code: int, output: str = "", error: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, output, error)


RUNNING = answer(0, '[{"State": {"Status": "running"}}]')
BUSY = answer(125, "[]", "Error: the lock was not taken")


@patch("image_tests.podman.time.sleep")
@patch("image_tests.podman.print", create=True)
@patch("image_tests.podman.subprocess.run")
class State(unittest.TestCase):
    def test_a_failure_of_podman_is_no_missing_container(self, run, *_) -> None:
        run.side_effect = [BUSY, BUSY, RUNNING]
        self.assertEqual(container_state("one"), {"Status": "running"})

    def test_a_failure_that_stays_is_reported_with_its_cause(self, run, *_) -> None:
        run.side_effect = [BUSY] * 5
        with self.assertRaisesRegex(Failed, "the lock was not taken"):
            container_state("one")

    def test_a_missing_container_has_no_state(self, run, *_) -> None:
        run.side_effect = [answer(125, "[]", "Error: inspecting object: no such container one")]
        self.assertIsNone(container_state("one"))
