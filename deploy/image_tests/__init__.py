"""Inspects the images, and runs the system from them as k8s/overlays/dev describes it.

The test acts as the kubelet of one node. Each container gets the image, arguments,
environment, user and limits that `kubectl kustomize` renders. Only addresses and ports
are replaced, because all pods share this machine's network. PostgreSQL and nats-server
run as processes beside them, with the settings of the manifests.

`scenario.py` has the steps in order. deploy/test-images.sh builds the images and runs it.
"""
