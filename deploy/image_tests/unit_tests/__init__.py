"""Tests of the parts that need no container. deploy/test-images.sh runs them first."""
