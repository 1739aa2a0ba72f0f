"""Checks that docs/openapi.json is compatible with the document of the last release."""
