#!/usr/bin/env bash
# The rules of migrations, which let two neighbouring releases work side by side
# on one database:
#
# - What was released is never changed: migrations/SHA256SUMS has every file.
#   A new one is added by: (cd migrations && sha256sum */*.sql > SHA256SUMS)
# - A migration only expands what the release before knows, or loosens it. One
#   that contracts says in a line `-- contracts: …` which release was the last
#   to need what it takes away, and comes no earlier than the one after.
# - Their names begin with a time and say what they do, in this order.
set -euo pipefail
cd "${1:-"$(dirname "$0")/../migrations"}"

failed=0
fail() {
    echo "migrations/$1" >&2
    failed=1
}

sha256sum --check --quiet --strict SHA256SUMS ||
    fail "SHA256SUMS: an applied migration never changes; write a new one"
for file in */*.sql; do
    grep -q " $file\$" SHA256SUMS || fail "$file: is not in SHA256SUMS; this script says how it gets there"
    [[ $file =~ ^[a-z]+/[0-9]{14}_[a-z]+(_[a-z]+)+\.sql$ ]] ||
        fail "$file: the name has to be like 20260101000001_create_accounts.sql"
    # Without comments, in one line, to be read statement by statement.
    statements=$(sed 's/--.*//' "$file" | tr -s ' \n' ' ' | tr ';' '\n')
    if ! grep -q '^-- contracts: ' "$file" && found=$(grep -iE -m 1 \
        'DROP (TABLE|COLUMN|VIEW|TYPE)|RENAME|ALTER COLUMN [a-z_]+ (TYPE|SET NOT NULL|DROP DEFAULT)|TRUNCATE|DELETE FROM' <<<"$statements"); then
        fail "$file: takes away what the release before may need:$found"
    fi
    # A table that is made here is empty, and nobody uses it yet.
    made=$(grep -ioE 'CREATE TABLE [a-z_]+' <<<"$statements" | awk '{ print $3 }' | paste -sd '|' || true)
    rest=$(grep -ivE "(CREATE TABLE|ALTER TABLE|ON) (${made:-nothing is made here})\b" <<<"$statements" || true)
    if found=$(grep -iE 'ADD COLUMN [^,]*NOT NULL' <<<"$rest" | grep -ivm 1 DEFAULT); then
        fail "$file: the release before writes rows without that column:$found"
    fi
    if found=$(grep -iE 'ADD (CONSTRAINT|CHECK|UNIQUE|FOREIGN)' <<<"$rest" | grep -ivm 1 'NOT VALID'); then
        fail "$file: looks through the whole table under a lock, and may refuse what the release before writes:$found"
    fi
    if found=$(grep -iE 'CREATE (UNIQUE )?INDEX' <<<"$rest" | grep -ivm 1 CONCURRENTLY); then
        fail "$file: nobody can write while the index is made; CONCURRENTLY, in a migration without a transaction:$found"
    fi
done
exit "$failed"
