#!/usr/bin/env bash
# Builds the images without an image registry, inspects them, and runs the system from
# them with the settings of k8s/overlays/dev. The steps are in image_tests/.
#
#   deploy/test-images.sh             takes the programs that cargo builds here without
#                                     optimization: minutes faster
#   deploy/test-images.sh --release   builds the images from the sources, as `make images` does
#
# Requirements:
# - root; podman, runc and mmdebstrap (Debian's packages)
# - this machine's Rust toolchain
# - kubectl, as installed by deploy/check-manifests.sh
# - PostgreSQL and nats-server, as found or installed by the development stack
#
# The base images and the build cache are kept for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
'') kind=quick ;;
--release) kind=release ;;
*) echo "unknown argument: $1. Usage: $0 [--release]" >&2; exit 2 ;;
esac

# A program of this machine's Debian does not start on an older one's libraries.
suite=bookworm
if [ "$kind" = quick ]; then suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-$suite}"); fi

missing=
for program in podman runc mmdebstrap; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
    echo "missing programs:$missing. On Debian: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "this test needs root, for mmdebstrap and for the memory limits of containers" >&2
    exit 1
fi
if [ ! -x .tools/manifests/bin/kubectl ]; then
    echo "kubectl is missing: \`make check-manifests\` installs it" >&2
    exit 1
fi

# Python writes no files beside the sources, and uses no packages of the user.
python() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH=deploy:.tools/manifests python3 "$@"
}
# The unit tests come first: they take seconds, and the build takes minutes.
python -m unittest discover --quiet --top-level-directory deploy --start-directory deploy/image_tests/unit_tests

scratch=$(mktemp -d "${TMPDIR:-/tmp}/passbook-images-XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# For machines without systemd: crun and podman's default limits require more than
# such a machine has.
cat >"$scratch/containers.conf" <<'CONF'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
CONF
export CONTAINERS_CONF=$scratch/containers.conf

report_step() { # $1: $SECONDS at the start of the step, $2: its description
    printf 'ok %4d s  %s\n' $((SECONDS - $1)) "$2"
}

authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

# The content of distroless/cc: libraries and root certificates, without a shell or any
# other program for the services to rely on.
base=localhost/passbook-test-base:$suite-certificates
if ! podman image exists "$base"; then
    started=$SECONDS
    mmdebstrap --quiet --variant=extract --include=base-files,libc6,libgcc-s1,netbase,tzdata \
        --extract-hook='mkdir -p "$1/etc/ssl/certs"' \
        --extract-hook="upload '$authorities' /etc/ssl/certs/ca-certificates.crt" \
        "$suite" "$scratch/base.tar"
    podman import --quiet "$scratch/base.tar" "$base" >/dev/null
    report_step "$started" "base image created: $base"
fi

# Prints the arguments to `cargo build` of the Dockerfile.
build_arguments() {
    sed -n '/^RUN cargo build /,/[^\\]$/p' Dockerfile | tr -d '\\\n' | sed 's/^RUN cargo build --release //; s/ && .*//'
}

# Fails if a program was built from a file that .dockerignore keeps out of the build.
check_ignored() { # $@: the programs
    local kept
    kept=$(sed -n 's/^!//p' .dockerignore | paste -sd '|')
    if sed 's/^[^:]*: //' "${@/%/.d}" | tr ' ' '\n' | grep "^$PWD/" | grep -vE "^$PWD/($kept)(/|$)" | sort -u; then
        echo "the images need these files: add them to .dockerignore" >&2
        exit 1
    fi
}

started=$SECONDS
arguments=(--pull=never --build-arg BASE="$base")
if [ "$kind" = quick ]; then
    # A folder of this name takes the place of the Dockerfile's stage `build`.
    mkdir -p "$scratch/build/programs"
    read -ra selected <<<"$(build_arguments)"
    # The Dockerfile builds these programs alone: then a dependency may lack a feature that another
    # program of the workspace asks for.
    cargo check --quiet "${selected[@]}"
    # With the whole workspace, the dependencies are those of the tests, which are compiled.
    cargo build --quiet --locked --no-default-features --workspace --bins
    programs=()
    for word in "${selected[@]}"; do
        case $word in --*) ;; *) programs+=("${CARGO_TARGET_DIR:-$PWD/target}/debug/$word") ;; esac
    done
    check_ignored "${programs[@]}"
    cp "${programs[@]}" "$scratch/build/programs/"
    strip --strip-debug "$scratch"/build/programs/*
    # The programs with every feature again, for the tests.
    cargo build --quiet --workspace --bins
    arguments+=(--build-context build="$scratch/build")
else
    # The toolchain is mounted. As a layer it would take a gigabyte.
    rust=localhost/passbook-test-rust:$suite
    if ! podman image exists "$rust"; then
        mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$scratch/rust.tar"
        podman import --quiet --change 'ENV CARGO_HOME=/usr/local/cargo' \
            --change 'ENV PATH=/usr/local/rust/bin:/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            "$scratch/rust.tar" "$rust" >/dev/null
        report_step "$started" "base image created: $rust"
        started=$SECONDS
    fi
    arguments+=(--network=host --build-arg RUST="$rust"
        --volume "$(rustc --print sysroot):/usr/local/rust:ro"
        --volume "$authorities:/etc/ssl/certs/ca-certificates.crt:ro")
fi
if ! PASSBOOK_IMAGE_TOOL=podman deploy/images.sh "${arguments[@]}" >"$scratch/build.log" 2>&1; then
    tail -n 40 "$scratch/build.log" >&2
    echo "building the images failed: the last lines of its log are above" >&2
    exit 1
fi
report_step "$started" "images built, $kind"

python -m image_tests "$base"
