"""Checks the manifests in k8s/, as `kubectl kustomize` renders them.

Each overlay is rendered, and every rule in `rules/` runs on all of its objects.
`--self-test` shows that each rule works: every rule declares breaks beside it, and
each break must be reported by its own rule and by no other.

To add a rule, write a generator in the file of its family and decorate it with
`@rule(...)` and at least one break. A new family is a new file, which
`rules/__init__.py` imports.
"""
