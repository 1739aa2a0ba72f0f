#!/usr/bin/env bash
# Builds the images without any registry of images, looks into them, and runs the
# system from them with the settings of k8s/overlays/dev: test-images.py.
#
#   deploy/test-images.sh             compiled with little optimization: much faster
#   deploy/test-images.sh --release   compiled as `make images` does it
#
# Needs root, and podman, runc and mmdebstrap (Debian's packages); the Rust
# toolchain of this machine; kubectl, as deploy/check-manifests.sh installs it;
# PostgreSQL and nats-server, as the development stack finds or installs them.
# The images of the two bases and the build's cache stay.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
'') kind=quick ;;
--release) kind=release ;;
*) echo "unknown: $1" >&2; exit 2 ;;
esac

missing=
for program in podman runc mmdebstrap; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
    echo "missing:$missing. On Debian: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "this needs root: for mmdebstrap, and for memory limits of containers" >&2
    exit 1
fi
if [ ! -x .tools/manifests/bin/kubectl ]; then
    echo "kubectl is missing: \`make check-manifests\` installs it" >&2
    exit 1
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/passbook-images-XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# For machines without systemd: crun and the limits that podman sets by itself
# need more than there is.
cat >"$scratch/containers.conf" <<'CONF'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
CONF
export CONTAINERS_CONF=$scratch/containers.conf

done_after() { printf 'ok %4d s  %s\n' $((SECONDS - $1)) "$2"; }

# What distroless/cc has: libraries, and neither a shell nor any other program
# that the services could lean on.
base=localhost/passbook-test-base:bookworm
if ! podman image exists "$base"; then
    begun=$SECONDS
    mmdebstrap --quiet --variant=extract --include=base-files,libc6,libgcc-s1,netbase,tzdata bookworm "$scratch/base.tar"
    podman import --quiet "$scratch/base.tar" "$base" >/dev/null
    done_after "$begun" "base made: $base"
fi

# The toolchain is mounted: as a layer it would be a gigabyte.
rust=localhost/passbook-test-rust:$kind
if ! podman image exists "$rust"; then
    begun=$SECONDS
    profile=()
    if [ "$kind" = quick ]; then
        # In the base's environment: the Dockerfile knows nothing of it.
        profile=(--change 'ENV CARGO_PROFILE_RELEASE_OPT_LEVEL=0'
            --change 'ENV CARGO_PROFILE_RELEASE_LTO=off'
            --change 'ENV CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16')
    fi
    mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$scratch/rust.tar"
    podman import --quiet --change 'ENV CARGO_HOME=/usr/local/cargo' \
        --change 'ENV PATH=/usr/local/rust/bin:/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        "${profile[@]}" "$scratch/rust.tar" "$rust" >/dev/null
    done_after "$begun" "base made: $rust"
fi

begun=$SECONDS
authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
if ! PASSBOOK_IMAGE_TOOL=podman deploy/images.sh --pull=never --network=host \
    --build-arg RUST="$rust" --build-arg BASE="$base" \
    --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
    --volume "$authorities:/etc/ssl/certs/ca-certificates.crt:ro" >"$scratch/build.log" 2>&1; then
    tail -n 40 "$scratch/build.log" >&2
    echo "the images could not be built" >&2
    exit 1
fi
done_after "$begun" "images built, $kind"

PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH=.tools/manifests python3 deploy/test-images.py "$base"
