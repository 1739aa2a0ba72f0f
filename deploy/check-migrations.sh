#!/usr/bin/env bash
# Checks the migrations. Two successive releases must be able to run on one database at
# the same time, during a rollout. Hence these rules:
#
# - A released migration never changes. migrations/SHA256SUMS has every file; to add a
#   new one: (cd migrations && sha256sum */*.sql > SHA256SUMS)
# - A migration expands the schema or loosens a constraint. A migration that contracts
#   the schema must ship later than the last release that needs the removed part, and
#   must name this release in a line `-- contracts: …`.
# - A migration without a transaction may be interrupted, and is applied again. So the
#   file before the creation of an index drops this index; `passbook migrate` repeats
#   both.
# - A file name is a timestamp, then a verb and a noun.
set -euo pipefail
cd "${1:-"$(dirname "$0")/../migrations"}"

failed=0
# The last file and its statements.
before=
dropping=
fail() {
    echo "migrations/$1" >&2
    failed=1
}

sha256sum --check --quiet --strict SHA256SUMS ||
    fail "SHA256SUMS: an applied migration never changes; write a new one"
for file in */*.sql; do
    grep -q " $file\$" SHA256SUMS || fail "$file: is not in SHA256SUMS; the top of deploy/check-migrations.sh has the command that adds it"
    [[ $file =~ ^[a-z]+/[0-9]{14}_[a-z]+(_[a-z]+)+\.sql$ ]] ||
        fail "$file: the name must have the form 20260101000001_create_accounts.sql"
    # One statement per line, without comments.
    statements=$(sed 's/--.*//' "$file" | tr -s ' \n' ' ' | tr ';' '\n')
    if ! grep -q '^-- contracts: ' "$file" && found=$(grep -iE -m 1 \
        'DROP (TABLE|COLUMN|VIEW|TYPE)|RENAME|ALTER COLUMN [a-z_]+ (TYPE|SET NOT NULL|DROP DEFAULT)|(^ *|BEGIN )TRUNCATE|DELETE FROM' <<<"$statements"); then
        fail "$file: removes or changes something that the previous release may need:$found"
    fi
    # The remaining rules are for existing tables. A table created by this file is empty
    # and not in use yet.
    created=$(grep -ioE 'CREATE TABLE [a-z_]+' <<<"$statements" | awk '{ print $3 }' | paste -sd '|' || true)
    rest=$(grep -ivE "(CREATE TABLE|ALTER TABLE|ON) (${created:-no table is created})\b" <<<"$statements" || true)
    if found=$(grep -iE 'ADD COLUMN [^,]*NOT NULL' <<<"$rest" | grep -ivm 1 DEFAULT); then
        fail "$file: the previous release inserts rows without the new column; make it nullable or give it a default:$found"
    fi
    if found=$(grep -iE 'ADD (CONSTRAINT|CHECK|UNIQUE|FOREIGN)' <<<"$rest" | grep -ivm 1 'NOT VALID'); then
        fail "$file: validates the whole table under a lock, and may reject rows of the previous release; add NOT VALID:$found"
    fi
    if found=$(grep -iE 'CREATE (UNIQUE )?INDEX' <<<"$rest" | grep -ivm 1 CONCURRENTLY); then
        fail "$file: blocks writes while the index is created; use CONCURRENTLY in a migration without a transaction:$found"
    fi
    if grep -qi CONCURRENTLY <<<"$statements" || grep -q '^-- no-transaction' "$file"; then
        only=$(tr -d '\n' <<<"$statements" | sed -E 's/^ +| +$//g')
        index=$(sed -nE 's/^CREATE (UNIQUE )?INDEX CONCURRENTLY ([a-z_0-9]+) ON .*/\2/p' <<<"$only")
        if [[ $(wc -w <<<"$(tr -d ' ' <<<"$statements")") != 1 || $(head -n 1 "$file") != "-- no-transaction" ]]; then
            fail "$file: must have one statement and begin with -- no-transaction"
        elif [[ -z $index && ! $only =~ ^DROP\ INDEX\ CONCURRENTLY\ IF\ EXISTS\ [a-z_0-9]+$ ]]; then
            fail "$file: may be interrupted; only CREATE [UNIQUE] INDEX CONCURRENTLY name ON … and DROP INDEX CONCURRENTLY IF EXISTS name can be repeated"
        elif [[ -n $index && "${before%/*} $dropping" != "${file%/*} DROP INDEX CONCURRENTLY IF EXISTS $index" ]]; then
            fail "$file: an interrupted attempt leaves an invalid index; the migration before must be DROP INDEX CONCURRENTLY IF EXISTS $index, alone"
        fi
        dropping=$only
    else
        dropping=
    fi
    before=$file
done
exit "$failed"
