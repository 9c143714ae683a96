"""The example app: its data, its verdicts, and that they are the same bytes everywhere."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[2] / "app_specific_files" / "example"
ATTACKS = {
    "synscan": "port scan",
    "dns_exfiltration": "dns tunnel",
    "bad-dns-traffic": "dns tunnel",
    "dns-tunnel-iodine": "dns tunnel",
    "ip_fragmented_garbage": "fragment flood",
}
MISSED = "log4j-webapp-exploit"  # an attack that packet headers do not show


def load_reference():
    spec = importlib.util.spec_from_file_location("example_reference", APP / "reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


reference = load_reference()


@pytest.fixture(autouse=True)
def import_path(monkeypatch):
    """The reference adds each app's folder to the import path; no test hands it to the next."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def capture(item):
    """The upstream capture that an item was cut from."""
    return item.rpartition("-")[0]


def run_reference(out, seed, samples=()):
    """reference.py in a process of its own, with its own hash seed."""
    command = [sys.executable, str(APP / "reference.py"), *map(str, samples), "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"})


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("reference")
    run_reference(out, "1")
    return tree(out)


@pytest.fixture(scope="module")
def reports(results):
    return {name.split("/")[0]: json.loads(data) for name, data in results.items() if name.endswith("/report/report")}


def test_there_are_at_least_thirty_samples_and_they_stay_small():
    samples = reference.sample_files()
    assert len(samples) >= 30
    assert sum(path.stat().st_size for path in samples) <= 1_500_000
    assert all(gzip.decompress(path.read_bytes())[:4] == b"\xd4\xc3\xb2\xa1" for path in samples)


def test_every_attack_that_headers_show_is_named_for_what_it_is(reports):
    attacks = {item: report for item, report in reports.items() if capture(item) in ATTACKS}
    assert len(attacks) == 10
    assert {item: (r["verdict"], r["kind"]) for item, r in attacks.items()} == {
        item: ("alert", ATTACKS[capture(item)]) for item in attacks
    }


def test_no_window_of_ordinary_use_raises_an_alarm(reports):
    ordinary = {item: r["score"] for item, r in reports.items() if capture(item) not in {*ATTACKS, MISSED}}
    assert len(ordinary) == 42
    assert max(ordinary.values()) < 0.35  # an alert needs 0.7


def test_the_scanner_itself_is_accused_not_its_victim(reports):
    for index in (0, 1):
        assert reports[f"synscan-{index}.pcap.gz"]["hosts"][0]["host"] == "172.16.0.8"


def test_evidence_is_given_for_alerts_alone(results, reports):
    with_evidence = {name.split("/")[0] for name in results if name.endswith("/evidence/flows.csv")}
    assert with_evidence == {item for item, report in reports.items() if report["verdict"] == "alert"}
    assert len(results) == len(reports) + len(with_evidence)


def test_detectors_that_got_nothing_are_absent_from_the_verdict(reports):
    heard = {item: set(report["detectors"]) for item, report in reports.items()}
    always = {"volume", "beacon", "entropy", "astute"}
    assert heard["dns_exfiltration-0.pcap.gz"] == always | {"dns"}  # no TCP: scan is not routed to
    assert heard["anyconnect-vpn-1.pcap.gz"] == always  # TCP without a new connection: scan returns None
    assert heard["ip_fragmented_garbage-0.pcap.gz"] == always | {"scan", "fragments"}


def test_results_match_the_checked_in_hashes(results):
    expected = json.loads((APP / "expected.json").read_text())
    flat = {f"{i}/{s}/{n}": h for i, sinks in expected.items() for s, files in sinks.items() for n, h in files.items()}
    found = {name: reference.hashlib.sha256(data).hexdigest() for name, data in results.items()}
    assert found == flat


@pytest.mark.slow
def test_another_hash_seed_gives_the_same_bytes(results, tmp_path):
    chosen = [path for path in reference.sample_files() if capture(path.name) in {*ATTACKS, "anyconnect-vpn", "zoom"}]
    run_reference(tmp_path, "2", chosen)
    names = {path.name for path in chosen}
    assert tree(tmp_path) == {name: data for name, data in results.items() if name.split("/")[0] in names}


def write_app(folder, dag, scripts):
    (folder / "app_config.yaml").write_text(json.dumps({"application": {"tasks": {"dag_tasks": dag}}}))
    for name, text in scripts.items():
        (folder / name).write_text(text)
    (folder / "one").write_bytes(b"x")
    return reference.expected(folder, [folder / "one"])["one"]


def test_the_reference_skips_a_task_whose_parents_all_sent_nothing_and_tells_its_children(tmp_path):
    dag = [
        {"name": "a", "base_script": "route.py", "children": ["b", "c"]},
        {"name": "b", "base_script": "names.py", "children": ["d"]},
        {"name": "c", "base_script": "names.py", "children": "d"},
        {"name": "d", "base_script": "names.py"},
    ]
    scripts = {
        "route.py": "def process(inputs, ctx):\n    return {'c': inputs['input']}\n",
        "names.py": "def process(inputs, ctx):\n    return (ctx.task + ':' + ','.join(sorted(inputs))).encode()\n",
    }
    assert write_app(tmp_path, dag, scripts) == {"d": {"d": b"d:c"}}


def test_the_reference_names_bytes_after_the_task_and_lets_a_path_keep_its_name(tmp_path):
    dag = [
        {"name": "a", "base_script": "both.py", "children": ["home", "b"]},
        {"name": "b", "base_script": "file.py", "children": ["home"]},
    ]
    scripts = {
        "both.py": "def process(inputs, ctx):\n    return b'seen ' + inputs['input']\n",
        "file.py": (
            "def process(inputs, ctx):\n"
            "    path = ctx.scratch / 'b.txt'\n"
            "    path.write_bytes(ctx.path('a').read_bytes())\n"
            "    return path\n"
        ),
    }
    assert write_app(tmp_path, dag, scripts) == {"a": {"a": b"seen x"}, "b": {"b.txt": b"seen x"}}


def test_the_reference_refuses_a_value_for_a_task_that_is_no_child(tmp_path):
    dag = [{"name": "a", "base_script": "wrong.py", "children": ["home"]}]
    scripts = {"wrong.py": "def process(inputs, ctx):\n    return {'elsewhere': b''}\n"}
    with pytest.raises(ValueError, match="elsewhere"):
        write_app(tmp_path, dag, scripts)
