#!/usr/bin/env bash
# Checks the files in this folder (rules, their tests, configuration, dashboards) and the runbook.
#
#   check.sh [FILE…]
#
# Each FILE has the text of /metrics: of both services, and of the pushes of verify and doctor. With
# files, the script checks that each metric used here is in one of them, with all its labels, and
# leaves out the tests of the rules, which do not depend on them and take half a minute. Some counters
# appear with their first event, so take the files from a system after some faults.
#
# PROMTOOL is the path of promtool; the default is promtool on PATH.
set -euo pipefail

for file in "$@"; do
    [ -r "$file" ] || { echo "check.sh: can't read $file" >&2; exit 2; }
done
dumps=()
for file in "$@"; do dumps+=("$(realpath "$file")"); done
cd "$(dirname "$0")"

promtool=${PROMTOOL:-promtool}
if ! command -v "$promtool" >/dev/null; then
    echo "check.sh: $promtool is missing: install Debian's package prometheus, or set PROMTOOL" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Shows the output of a command only if it fails.
quietly() {
    "$@" >"$work/output" 2>&1 || { cat "$work/output" >&2; exit 1; }
}
quietly "$promtool" check config prometheus/prometheus.yml
quietly "$promtool" check rules prometheus/rules.yaml
# promtool takes one processor: two of it take half the time.
test_rules() {
    python3 - "$work" <<'PYTHON'
import pathlib, re, sys

work = pathlib.Path(sys.argv[1])
folder = pathlib.Path("prometheus")
(work / "rules.yaml").write_bytes((folder / "rules.yaml").read_bytes())
head, *tests = re.split(r"(?m)^(?=  - name: )", (folder / "rules.test.yaml").read_text())
for half in (0, 1):
    (work / f"half-{half}.yaml").write_text(head + "".join(tests[half::2]))
PYTHON
    printf '%s\n' "$work"/half-*.yaml | xargs -P 2 -n 1 "$promtool" test rules
}
if [ $# = 0 ]; then quietly test_rules; fi

summary=$(python3 - "$work/queries.yaml" "${dumps[@]}" <<'PYTHON'
import json, pathlib, re, sys

here = pathlib.Path(".")
queries_file, dumps = sys.argv[1], sys.argv[2:]
wrong = []

# The labels added by Prometheus or the Pushgateway.
TARGET = {"job", "instance"}
# Grafana's variables, with a value for the check.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h"}


def rules():
    """Name, kind and fields of each rule. The file is indented by two spaces a level."""
    text = (here / "prometheus/rules.yaml").read_text()
    for block in re.split(r"\n(?=      - (?:alert|record): )", text)[1:]:
        # A less indented line belongs to the next group.
        block = re.split(r"\n {0,4}(?=\S)", block)[0]
        lines = [line for line in block.splitlines() if not line.lstrip().startswith("#")]
        kind, name = re.match(r"      - (alert|record): (\S+)", lines[0]).groups()
        fields, path = {}, ()
        for line in lines[1:]:
            found = re.match(r"( {8}| {10})([a-z_]+):(?: (.*))?$", line)
            if found and not (path and path[0] == "expr" and len(found[1]) > 8):
                parent = () if len(found[1]) == 8 else path[:1]
                path = parent + (found[2],)
                fields[path] = "" if found[3] in (None, "|", ">-") else found[3]
            elif path:
                fields[path] = (fields[path] + " " + line.strip()).strip()
        yield name, kind, fields


def queries():
    """Every expression, with its place."""
    for name, _, fields in rules():
        yield f"rules.yaml, {name}", fields[("expr",)]
    for path in sorted(here.glob("grafana/dashboards/*.json")):
        board = json.loads(path.read_text())
        panels = board["panels"] + [panel for row in board["panels"] for panel in row.get("panels", [])]
        for panel in panels:
            for target in panel.get("targets", []):
                yield f"{path.name}, {panel['title']}", target["expr"]
        for annotation in board["annotations"]["list"]:
            if "expr" in annotation:
                yield f"{path.name}, {annotation['name']}", annotation["expr"]


def literal(query):
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def balanced(text, at):
    """The text between the parenthesis at `at` and its closing one."""
    depth = 0
    for end in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[at + 1 : end]
    return text[at + 1 :]


SELECTOR = re.compile(r"\b((?:passbook|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
AGGREGATION = re.compile(r"\b(?:sum|min|max|count|avg|group|topk|bottomk) by \(([^)]*)\)\s*(?=\()")
ON = re.compile(r"\b(?:on|ignoring) \(([^)]*)\)")


def bare(query):
    """The query without label names in parentheses: SELECTOR would take them for metrics."""
    return re.sub(r"\b(by|on|without|ignoring|group_left|group_right) \([^)]*\)", "", query)


def asked(query):
    """Each metric of a query, with its matchers and its required labels."""
    for metric, matchers in SELECTOR.findall(bare(query)):
        yield metric, MATCHER.findall(matchers), set()
    for found in AGGREGATION.finditer(query):
        labels = {label.strip() for label in found[1].split(",") if label.strip()}
        for metric, _ in SELECTOR.findall(bare(balanced(query, found.end()))):
            yield metric, [], labels
    for found in ON.finditer(query):
        labels = {label.strip() for label in found[1].split(",") if label.strip()}
        for metric, _ in SELECTOR.findall(bare(query)):
            yield metric, [], labels


def series(files):
    """The label sets of each metric in the files."""
    known = {}
    line_form = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+")
    label_form = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
    for file in files:
        for line in pathlib.Path(file).read_text().splitlines():
            found = not line.startswith("#") and line_form.match(line)
            if found:
                labels = dict(label_form.findall(found[2] or ""))
                known.setdefault(found[1], []).append(labels)
    return known


def matches(labels, matchers):
    for label, how, value in matchers:
        # A healthy system has no 5xx responses. Prometheus sets the target's labels.
        if label in TARGET or how in ("!=", "!~") or value == "5..":
            continue
        value = value.replace("\\\\", "\\")
        has = labels.get(label, "")
        if not (has == value if how == "=" else re.fullmatch(value, has)):
            return False
    return True


found = list(queries())
known = series(dumps)
recorded = {name for name, kind, _ in rules() if kind == "record"}
for place, query in found:
    unknown = re.findall(r"\$\w+", literal(query))
    if unknown:
        wrong.append(f"{place}: VARIABLES has no value for {', '.join(unknown)}")
    for name in re.findall(r"\bpassbook:[a-z0-9_:]+", query):
        if name not in recorded:
            wrong.append(f"{place}: {name} is not recorded by any rule")
    if not dumps:
        continue
    for metric, matchers, labels in asked(query):
        if metric not in known:
            wrong.append(f"{place}: {metric} is in none of the files")
            continue
        labels = (labels | {label for label, _, _ in matchers}) - TARGET
        missing = sorted(label for label in labels if not any(label in has for has in known[metric]))
        if missing:
            wrong.append(f"{place}: {metric} has no label {', '.join(missing)}")
        elif not any(matches(has, matchers) for has in known[metric]):
            wrong.append(f"{place}: no {metric} in the files matches {matchers}")

# promtool parses rules only, so each query becomes a rule.
with open(queries_file, "w") as file:
    file.write("groups:\n  - name: queries\n    rules:\n")
    for number, (place, query) in enumerate(found):
        file.write(f"      # {place}\n      - record: query:{number}\n")
        file.write(f"        expr: {json.dumps(literal(query))}\n")

# An anchor is the heading in lower case, with letters, digits, - and spaces only.
def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


RUNBOOK = "docs/runbook.md"
runbook = (here / "../.." / RUNBOOK).read_text()
headings = re.findall(r"^#+ (.+?)\s*$", runbook, re.M)
anchors = {anchor(heading) for heading in headings}
alerts = {name: fields for name, kind, fields in rules() if kind == "alert"}
for name, fields in alerts.items():
    url = fields.get(("annotations", "runbook_url"), "")
    if url != f"{RUNBOOK}#{anchor(name)}":
        wrong.append(f"rules.yaml, {name}: its runbook_url is {url!r}, not {RUNBOOK}#{anchor(name)}")
    if name not in headings:
        wrong.append(f"{RUNBOOK} has no entry {name}")
    if fields.get(("labels", "severity")) not in ("page", "ticket"):
        wrong.append(f"rules.yaml, {name}: its severity is neither page nor ticket")
    for field in ("summary", "description"):
        if not fields.get(("annotations", field)):
            wrong.append(f"rules.yaml, {name} has no {field}")
for heading in headings:
    if heading.startswith("Passbook") and " " not in heading and heading not in alerts:
        wrong.append(f"{RUNBOOK} has an entry {heading}, but rules.yaml has no such alert")
for link in re.findall(r"\]\(#([^)]+)\)", runbook):
    if link not in anchors:
        wrong.append(f"{RUNBOOK} has no heading for its link #{link}")

tests = (here / "prometheus/rules.test.yaml").read_text()
for name in alerts:
    if name not in tests:
        wrong.append(f"rules.test.yaml has no test of {name}")

for path in sorted(here.glob("grafana/dashboards/*.json")):
    board = json.loads(path.read_text())
    for link in re.findall(re.escape(RUNBOOK) + r"#([\w-]+)", path.read_text()):
        if link not in anchors:
            wrong.append(f"{path.name}: {RUNBOOK} has no heading for the link #{link}")
    for annotation in board["annotations"]["list"]:
        if annotation["datasource"]["uid"] not in ("${datasource}", "-- Grafana --"):
            wrong.append(f"{path.name}, {annotation['name']} has a fixed data source")
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        wrong.append(f"{path.name}: two panels have the same id")
    for panel in board["panels"]:
        place = f"{path.name}, {panel['title']}"
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            wrong.append(f"{place} has no description")
        if not panel["fieldConfig"]["defaults"].get("unit"):
            wrong.append(f"{place} has no unit")
        for source in [panel["datasource"]] + [target["datasource"] for target in panel["targets"]]:
            if source["uid"] != "${datasource}":
                wrong.append(f"{place} has a fixed data source")

for line in dict.fromkeys(wrong):
    print(f"check.sh: {line}", file=sys.stderr)
if wrong:
    sys.exit(1)
against = f", against {len(dumps)} files of metrics" if dumps else ""
print(f"{len(alerts)} alerts, {len(found)} queries{against}")
PYTHON
)
if ! "$promtool" check rules "$work/queries.yaml" >"$work/output" 2>&1; then
    cat "$work/output" >&2
    # The rule's name leads to the place of the query.
    for rule in $(grep -o 'query:[0-9]*' "$work/output" | sort -u); do
        echo "check.sh: $rule is of$(grep -B 1 -w "record: $rule" "$work/queries.yaml" | sed -n 's/ *#//p')" >&2
    done
    exit 1
fi
echo "$summary"
