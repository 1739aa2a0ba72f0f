"""The options for a container's manifest."""

import unittest

from ..podman import memory_options, security_options


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
