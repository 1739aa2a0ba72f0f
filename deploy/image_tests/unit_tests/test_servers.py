"""The configuration and the versions of the servers."""

import pathlib
import unittest

from manifest_checks.workspace import K8S

from ..report import Failed
from ..servers import localize_nats_config, parse_version

NATS_CONF = (K8S / "components/nats/nats.conf").read_text()


class Nats(unittest.TestCase):
    def localize(self, text: str) -> str:
        return localize_nats_config(text, 4333, 8333, pathlib.Path("/scratch/data"))

    def test_the_manifests_configuration_gets_local_addresses(self) -> None:
        localized = self.localize(NATS_CONF)
        for line in ('listen: "127.0.0.1:4333"', 'http: "127.0.0.1:8333"', "store_dir: /scratch/data"):
            self.assertIn(line, localized)

    def test_a_configuration_without_a_port_fails(self) -> None:
        with self.assertRaises(Failed):
            self.localize(NATS_CONF.replace("port:", "ports:"))


class Versions(unittest.TestCase):
    def test_versions_are_read_from_the_servers_output(self) -> None:
        self.assertEqual(parse_version("nats-server: v2.12.9"), ((2, 12, 9), "2.12.9"))
        self.assertEqual(parse_version("postgres (PostgreSQL) 18.6 (Debian 18.6-1)"), ((18, 6, 0), "18.6"))
        self.assertIsNone(parse_version("unknown"))
