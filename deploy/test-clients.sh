#!/usr/bin/env bash
# Makes clients from docs/openapi.json with the generators that most people use, compiles them,
# and uses the API of a running system through each: test-clients.sh [LANGUAGE…]
#
#   typescript   openapi-typescript and openapi-fetch; needs node 20 and npm
#   python       openapi-python-client; needs Python 3.11
#   java         openapi-generator, library `native`; needs a JDK, 17 or newer
#
# Without a language, all. The generators are installed into .tools/clients if needed, at the
# versions pinned in client_tests/. It uses the system at PASSBOOK_URL with PASSBOOK_TOKEN. If they
# are not set, it starts a stack of its own from the programs in target/debug, and stops it.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=$PWD/deploy/client_tests
tools=$PWD/.tools/clients
document=$PWD/docs/openapi.json
passbook=${PASSBOOK_BIN:-${CARGO_TARGET_DIR:-target}/debug/passbook}
[ $# -gt 0 ] || set -- typescript python java

need() { # fails unless there is a program $1
    command -v "$1" >/dev/null || {
        echo "the client of $language needs $1: install it, or name the other languages" >&2
        exit 1
    }
}

# Installs the tools of a language, unless they are those of its pins. A copy of the pins is stored
# beside the tools.
install_tools() { # PINS COMMAND…, which gets the folder as its last argument
    local pins=$1 folder=$tools/$language partial
    shift
    cmp -s "$pins" "$folder/$(basename "$pins")" && return
    mkdir -p "$tools"
    partial=$(mktemp -d "$tools/$language.partial-XXXXXX")
    echo "installing the generator for $language into $folder" >&2
    cp "$pins" "$partial"
    "$@" "$partial" >&2 || {
        rm -rf "$partial"
        return 1
    }
    chmod 755 "$partial"
    rm -rf "$folder"
    mv "$partial" "$folder"
}

npm_install() {
    cp "$tests/typescript/package.json" "$1"
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel error
}

typescript() {
    need node
    need npm
    install_tools "$tests/typescript/package-lock.json" npm_install
    cp "$tests"/typescript/{client.ts,package.json,tsconfig.json} .
    ln -s "$tools/typescript/node_modules" node_modules
    node node_modules/openapi-typescript/bin/cli.js "$document" --output api.d.ts >/dev/null
    node node_modules/typescript/bin/tsc
    node build/client.js
}

# Python writes no files beside the sources, and uses no packages of the user.
python() {
    need python3
    install_tools "$tests/python/requirements.txt" pip_install "$tests/python/requirements.txt"
    export PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH=$PWD:$tools/python
    python3 -m openapi_python_client generate --path "$document" --meta none \
        --config "$tests/python/config.yaml" --output-path passbook_client >generator.log 2>&1 ||
        { cat generator.log >&2 && return 1; }
    python3 "$tests/python/client.py"
}

java() {
    need javac
    install_tools "$tests/java/requirements.txt" pip_install "$tests/java/requirements.txt"
    local jar=$tools/java/openapi_generator_cli/openapi-generator.jar
    # Unknown values of an enum are read, too. The rest makes the client smaller.
    local options=invokerPackage=passbook,apiPackage=passbook.api,modelPackage=passbook.model
    options+=,enumUnknownDefaultCase=true,hideGenerationTimestamp=true,useJakartaEe=true,openApiNullable=false
    command java -XX:TieredStopAtLevel=1 -jar "$jar" generate --generator-name java --library native \
        --input-spec "$document" --output . --additional-properties "$options" \
        --global-property models,apis,supportingFiles,modelDocs=false,apiDocs=false,modelTests=false,apiTests=false \
        >generator.log 2>&1 || { cat generator.log >&2 && return 1; }
    find src/main "$tests/java" -name '*.java' >sources
    javac -J-XX:TieredStopAtLevel=1 -proc:none -nowarn -Xlint:none -d classes -cp "$jar" @sources 2>compiler.log ||
        { cat compiler.log >&2 && return 1; }
    command java -XX:TieredStopAtLevel=1 -cp "classes:$jar" ClientTest
}

pip_install() {
    "$tests/../pip-install.sh" "$@"
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/passbook-clients-XXXXXX")
# PostgreSQL may run as another user, who must be able to enter the folder.
chmod 711 "$scratch"
stop() {
    [ ! -e "$scratch/stack" ] || "$passbook" dev down --dir "$scratch/stack" >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap stop EXIT

field() { # prints a field of the stack's file
    python3 -c 'import functools, json, sys
print(functools.reduce(dict.get, sys.argv[2:], json.load(open(sys.argv[1]))))' "$scratch/stack/stack.json" "$@"
}
if [ -z "${PASSBOOK_URL:-}" ]; then
    "$passbook" dev up --detach --port 0 --dir "$scratch/stack" >/dev/null
    PASSBOOK_URL=$(field api) PASSBOOK_TOKEN=$(field tokens teller)
fi
export PASSBOOK_URL PASSBOOK_TOKEN NO_PROXY=127.0.0.1

for language; do
    case $language in
    typescript | python | java) ;;
    *)
        echo "no client of $language: typescript, python or java" >&2
        exit 2
        ;;
    esac
    mkdir "$scratch/$language"
    # A subshell of its own: `set -e` does not hold in the condition of an `if` or `||`.
    (cd "$scratch/$language" && "$language")
done
