"""The environment of a container."""

import unittest

from ..overlay import Overlay
from ..report import Failed

OBJECTS = [
    {"kind": "ConfigMap", "metadata": {"name": "addresses"}, "data": {"nats": "nats:4222"}},
    {"kind": "ConfigMap", "metadata": {"name": "service"}, "data": {"PASSBOOK_LISTEN": "0.0.0.0:8080", "LEVEL": "info"}},
    {"kind": "Job", "metadata": {"name": "migrate-0-1-0"}},
]
SECRETS = {"nats-operator": {"password": "correct horse"}}


class Environment(unittest.TestCase):
    def setUp(self) -> None:
        self.overlay = Overlay(OBJECTS, SECRETS, {"nats:4222": 14222})

    def environment(self, **container: object) -> dict[str, str]:
        return self.overlay.environment(container, "pod-0", {8080: 18080})

    def test_references_are_resolved_and_expanded_in_order(self) -> None:
        variables = self.environment(env=[
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "nats-operator", "key": "password"}}},
            {"name": "ADDRESS", "valueFrom": {"configMapKeyRef": {"name": "addresses", "key": "nats"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "URL", "value": "nats://operator:$(PASSWORD)@$(ADDRESS)/$(LATER)"},
            {"name": "LATER", "value": "unused"},
        ])
        self.assertEqual(variables["URL"], "nats://operator:correct horse@127.0.0.1:14222/$(LATER)")
        self.assertEqual(variables["POD"], "pod-0")

    def test_listening_addresses_get_the_local_port(self) -> None:
        variables = self.environment(envFrom=[{"configMapRef": {"name": "service"}}])
        self.assertEqual(variables["PASSBOOK_LISTEN"], "127.0.0.1:18080")

    def test_a_variable_overrides_its_config_map(self) -> None:
        variables = self.environment(envFrom=[{"configMapRef": {"name": "service"}}],
                                     env=[{"name": "LEVEL", "value": "debug"}])
        self.assertEqual(variables["LEVEL"], "debug")

    def test_a_variable_of_a_missing_optional_secret_is_not_set(self) -> None:
        reference = {"name": "report-bucket", "key": "access-key-id", "optional": True}
        variables = self.environment(env=[{"name": "KEY", "valueFrom": {"secretKeyRef": reference}}])
        self.assertEqual(variables, {})
        with self.assertRaises(KeyError):
            self.environment(env=[{"name": "KEY", "valueFrom": {"secretKeyRef": reference | {"optional": False}}}])

    def test_a_job_is_found_without_the_version_in_its_name(self) -> None:
        self.assertEqual(self.overlay.find("Job", "migrate")["metadata"]["name"], "migrate-0-1-0")
        with self.assertRaises(Failed):
            self.overlay.find("Job", "streams")
