#!/usr/bin/env bash
# Builds the images passbook/account-service, passbook/transaction-service and
# passbook/passbook at the workspace's version, with docker, podman or buildah,
# whichever works here; PASSBOOK_IMAGE_TOOL chooses. Arguments go to the build:
#
#   deploy/images.sh --build-arg BASE=registry.example.org/distroless/cc-debian12:nonroot
set -euo pipefail
cd "$(dirname "$0")/.."

works() { # whether $1 is there and can build: a docker client may be there without its engine
    command -v "$1" >/dev/null || return 1
    case $1 in
    docker) timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ;;
    podman | buildah) timeout 20 "$1" info >/dev/null 2>&1 ;;
    *) return 1 ;;
    esac
}

for tool in ${PASSBOOK_IMAGE_TOOL:-docker podman buildah} ''; do
    if [ -z "$tool" ]; then
        echo "none of these works here: ${PASSBOOK_IMAGE_TOOL:-docker, podman, buildah}." >&2
        echo "Start docker's engine (\`docker version\` says whether it runs), or install podman." >&2
        exit 1
    fi
    if works "$tool"; then break; fi
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
# With -dirty behind it, if this is not what was committed.
revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
# Without, buildah keeps no layers and would compile all of it once for each image.
layers=()
if [ "$tool" = buildah ]; then layers=(--layers); fi

# A copy of what .dockerignore lets through: an edit while the first image compiles
# would give the others another program.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
sed -n 's/^!//p' .dockerignore | xargs cp --parents -rpt "$context" Dockerfile .dockerignore

# The names in full, as a kubelet and docker read passbook/…. podman and buildah
# would put localhost/ before the short ones, where no kubelet looks.
home=docker.io/passbook

echo "building version $version, revision $revision, with $tool" >&2
for program in account-service transaction-service passbook; do
    "$tool" build "${layers[@]}" --target "$program" --tag "$home/$program:$version" \
        --build-arg VERSION="$version" --build-arg REVISION="$revision" "$@" "$context"
done

# docker leaves its own registry out where it lists names.
if [ "$tool" = docker ]; then home=passbook; fi
echo "built by $tool, with their base:"
for program in account-service transaction-service passbook; do
    printf '  %s/%s:%s  %s\n' "$home" "$program" "$version" \
        "$("$tool" images --format '{{.Size}}' "$home/$program:$version" | head -n 1)"
done
