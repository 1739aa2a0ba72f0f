#!/usr/bin/env bash
# Builds the images of Passbook's programs, passbook/account-service and so on, at the
# workspace's version. The first of docker, podman and buildah that works is used, or the
# one in PASSBOOK_IMAGE_TOOL. Arguments are passed on to the build:
#
#   deploy/images.sh --build-arg BASE=registry.example.org/distroless/cc-debian12:nonroot
set -euo pipefail
cd "$(dirname "$0")/.."

programs='account-service transaction-service report-service webhook-service report-renderer passbook'

works() { # succeeds if the tool $1 can build: docker's client alone can't, without its engine
    command -v "$1" >/dev/null || return 1
    case $1 in
    docker) timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ;;
    podman | buildah) timeout 20 "$1" info >/dev/null 2>&1 ;;
    *) return 1 ;;
    esac
}

for tool in ${PASSBOOK_IMAGE_TOOL:-docker podman buildah} ''; do
    if [ -z "$tool" ]; then
        echo "no working image builder found; tried: ${PASSBOOK_IMAGE_TOOL:-docker, podman, buildah}." >&2
        echo "Start docker's engine (\`docker version\` shows whether it runs), or install podman." >&2
        exit 1
    fi
    if works "$tool"; then break; fi
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
# Uncommitted changes add -dirty.
revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
# By default buildah caches no layers, and would compile everything once per image.
layers=()
if [ "$tool" = buildah ]; then layers=(--layers); fi

# All images are built from one copy of the sources (the files that .dockerignore lets
# through). Otherwise, an edit during the build would end up in some images only.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
sed -n 's/^!//p' .dockerignore | xargs cp --parents -rpt "$context" Dockerfile .dockerignore

# Kubelets and docker complete passbook/… to docker.io/passbook/…. podman and buildah
# would name the images localhost/passbook/…, and no kubelet looks there.
repository=docker.io/passbook

echo "building version $version, revision $revision, with $tool" >&2
for program in $programs; do
    "$tool" build "${layers[@]}" --target "$program" --tag "$repository/$program:$version" \
        --build-arg VERSION="$version" --build-arg REVISION="$revision" "$@" "$context"
done

# docker lists images without the name of its own registry.
if [ "$tool" = docker ]; then repository=passbook; fi
echo "built by $tool (sizes include the base image):"
for program in $programs; do
    printf '  %s/%s:%s  %s\n' "$repository" "$program" "$version" \
        "$("$tool" images --format '{{.Size}}' "$repository/$program:$version" | head -n 1)"
done
