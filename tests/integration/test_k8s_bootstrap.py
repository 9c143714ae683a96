"""`scripts/k8s_bootstrap` against stand-ins: ssh runs here what it is sent, a machine is a folder, k3s a few files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "scripts" / "k8s_bootstrap"
VERSION = "v1.36.1+k3s1"

SSH = """#!/bin/bash
port=22
while [[ $1 == -* ]]; do [ "$1" = -p ] && port=$2; shift 2; done
host=${1#*@}; shift
echo "ssh $host:$port $(tr -d '\\n' <<< "$*" | cut -c1-40)" >> "$LOG"
[ "$host" != down.example ] || { echo "ssh: connect to host $host: No route" >&2; exit 255; }
export ROOT=$HOSTS/$host HOME=$HOSTS/$host/root HOST_NAME=$host
mkdir -p "$ROOT/proc" "$HOME"; echo "MemTotal: 8388608 kB" > "$ROOT/proc/meminfo"
cd "$HOME" && exec bash -c "$*"
"""
SCP = """#!/bin/bash
while [[ $1 == -* ]]; do case $1 in -q) shift ;; *) shift 2 ;; esac; done
host=${@: -1}; host=${host#*@}; host=${host%%:*}
echo "scp $host ${*%% *}" >> "$LOG"
cp "${@:1:$#-1}" "$HOSTS/$host/root/.jupiter-bootstrap/"
"""
INSTALLER = """
echo "install $HOST_NAME $INSTALL_K3S_EXEC $INSTALL_K3S_VERSION ${K3S_URL:-} ${K3S_TOKEN:+with token}" >> "$LOG"
[ "$INSTALL_K3S_EXEC" = server ] || [ "$K3S_TOKEN" = secret-token ] || exit 1
[ ! -e "$HOSTS/broken-$HOST_NAME" ] || exit 1
mkdir -p "$ROOT/usr/local/bin" "$ROOT/var/lib/rancher/k3s/server" "$ROOT/etc/rancher/k3s"
printf '#!/bin/bash\\ncase $1 in --version) echo "k3s version %s (x)" ;;\\n
kubectl) [ ! -e "$HOSTS/away" ] || { rm "$HOSTS/away"; exit 1; }\n
for h in "$HOSTS"/*/etc/jupiter-k3s; do echo n $(cat "$HOSTS/state" || echo Ready); done ;;
*) echo "k3s $HOST_NAME $*" >> "$LOG" ;; esac\\n' "$INSTALL_K3S_VERSION" > "$ROOT/usr/local/bin/k3s"
un=k3s-uninstall.sh; [ "$INSTALL_K3S_EXEC" = server ] || un=k3s-agent-uninstall.sh
printf '#!/bin/bash\\nrm "$ROOT/usr/local/bin/k3s" "$0"\\n' > "$ROOT/usr/local/bin/$un"
chmod +x "$ROOT"/usr/local/bin/*
echo secret-token > "$ROOT/var/lib/rancher/k3s/server/node-token"
echo "server: https://127.0.0.1:6443" > "$ROOT/etc/rancher/k3s/k3s.yaml"
"""
CURL = f"""#!/bin/bash
echo "curl $HOST_NAME $2" >> "$LOG"
cat > "${{@: -1}}" <<'EOF'
{INSTALLER}
EOF
"""
LOGGED = '#!/bin/bash\necho "$(basename "$0") $HOST_NAME $*" >> "$LOG"\n'
STUBS = {
    "ssh": SSH, "scp": SCP, "curl": CURL, "systemctl": LOGGED, "tc": LOGGED,
    "sudo": '#!/bin/bash\n[ "$1" = -n ] && shift\nexec "$@"\n',
    "nproc": "#!/bin/bash\necho 4\n",
    "hostname": '#!/bin/bash\necho "$HOST_NAME"\n',
    "ip": "#!/bin/bash\necho default via 10.0.0.254 dev ens3 proto dhcp\n",
}  # fmt: skip


class Site:
    """Machines that are folders."""

    def __init__(self, folder: Path, machines: str) -> None:
        self.folder, self.log = folder, folder / "log"
        self.machines = folder / "machines"
        self.machines.write_text(machines)
        (folder / "bin").mkdir()
        for name, text in STUBS.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def bootstrap(self, verb: str, *args: object) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "LOG": str(self.log), "HOME": str(self.folder)}
        env["HOSTS"] = str(self.folder / "hosts")
        command = [FOLDER / "bootstrap", verb, "--hosts", self.machines, *args]
        return subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, env=env, cwd=self.folder,
            stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    def done(self, what: str) -> list[str]:
        """Of the last run."""
        return sorted(line for line in self.log.read_text().splitlines() if line.startswith(what))

    def file(self, host: str, path: str) -> str:
        return (self.folder / "hosts" / host / path).read_text()


THREE = "root@one\n# a comment\nadmin@two:2222 cpus=1.5 memory=2Gi\n\nthree rate=20mbit delay=40ms  # far away\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, THREE)


@pytest.mark.parametrize("name", ["bootstrap", "node.sh"])
def test_its_syntax_is_right(name: str) -> None:
    done = subprocess.run(["bash", "-n", FOLDER / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.smoke
def test_the_first_machine_is_the_server_and_the_others_join_it(site: Site) -> None:
    done = site.bootstrap("up")
    assert done.returncode == 0, done.stderr
    assert site.done("install") == [
        f"install one server {VERSION}  ",
        f"install three agent {VERSION} https://one:6443 with token",
        f"install two agent {VERSION} https://one:6443 with token",
    ]
    assert (site.folder / "kubeconfig").read_text() == "server: https://one:6443\n"
    assert (site.folder / "kubeconfig").stat().st_mode & 0o777 == 0o600
    assert "secret-token" not in site.log.read_text(), "no secret is an argument"
    assert any(line.startswith("ssh two:2222") for line in site.done("ssh"))


def test_limits_are_what_a_machine_has_beyond_them(site: Site) -> None:
    assert site.bootstrap("up", "--loss", "0.5%").returncode == 0
    assert 'kubelet-arg: ["system-reserved=cpu=2500m,memory=6144Mi"]' in site.file("two", "etc/rancher/k3s/config.yaml")
    assert "kubelet-arg" not in site.file("three", "etc/rancher/k3s/config.yaml")
    unit = "etc/systemd/system/jupiter-network.service"
    assert "qdisc replace dev ens3 root netem limit 100000 rate 20mbit delay 40ms loss 0.5%\n" in site.file(
        "three", unit
    )
    assert "root netem limit 100000 loss 0.5%\n" in site.file("one", unit), "an option is for all"


def test_again_it_changes_only_what_is_different(site: Site) -> None:
    assert site.bootstrap("up").returncode == 0
    again = site.bootstrap("up")
    assert (again.returncode, site.done("install"), site.done("systemctl")) == (0, [], [])
    assert again.stderr.count("unchanged") == 3
    site.machines.write_text(THREE.replace("memory=2Gi", "memory=1Gi").replace("rate=20mbit delay=40ms", ""))
    assert site.bootstrap("up").returncode == 0
    assert [line.split()[1] for line in site.done("install")] == ["two"]
    assert {line.split()[1] for line in site.done("systemctl")} == {"three"}
    assert site.bootstrap("up", "--k3s", "v1.37.0+k3s1").returncode == 0
    assert len(site.done("install")) == 3, "another version for all"


def test_an_api_that_is_away_for_a_moment_and_a_cordoned_node_fail_no_wait(site: Site) -> None:
    (site.folder / "hosts").mkdir()
    (site.folder / "hosts" / "away").touch()
    (site.folder / "hosts" / "state").write_text("Ready,SchedulingDisabled\n")
    done = site.bootstrap("up")
    assert done.returncode == 0, done.stderr
    assert not (site.folder / "hosts" / "away").exists(), "it was asked while it was away"


def test_a_machine_whose_install_failed_is_done_again_the_next_time(site: Site) -> None:
    assert site.bootstrap("up").returncode == 0
    broken = site.folder / "hosts" / "broken-two"
    broken.touch()
    site.machines.write_text(THREE.replace("memory=2Gi", "memory=1Gi"))
    failed = site.bootstrap("up")
    assert (failed.returncode, "failed on: admin@two" in failed.stderr) == (1, True)
    broken.unlink()
    assert site.bootstrap("up").returncode == 0
    assert [line.split()[1] for line in site.done("install")] == ["two"]
    broken.touch()
    site.machines.write_text(THREE)
    assert site.bootstrap("up").returncode == 1
    broken.unlink()
    site.machines.write_text(THREE.replace("memory=2Gi", "memory=1Gi"))
    assert site.bootstrap("up").returncode == 0
    assert [line.split()[1] for line in site.done("install")] == ["two"], "what was before the failure is not there"
    assert (site.bootstrap("up").returncode, site.done("install")) == (0, [])


def test_a_machine_joins_another_server_when_the_first_of_the_file_is_another_one(site: Site) -> None:
    assert site.bootstrap("up").returncode == 0
    site.machines.write_text(THREE.replace("root@one", "root@other"))
    assert site.bootstrap("up").returncode == 0
    assert site.done("install") == [
        f"install other server {VERSION}  ",
        f"install three agent {VERSION} https://other:6443 with token",
        f"install two agent {VERSION} https://other:6443 with token",
    ]


def test_the_stamp_of_an_install_holds_no_secret(site: Site) -> None:
    assert site.bootstrap("up").returncode == 0
    assert re.fullmatch(r"[0-9a-f]{64}\n", site.file("two", "etc/jupiter-k3s.installed"))


def test_only_the_first_machines_are_taken_when_so_many_are_wanted(site: Site) -> None:
    assert site.bootstrap("up", "--nodes", 2).returncode == 0
    assert [line.split()[1] for line in site.done("install")] == ["one", "two"]
    more = site.bootstrap("up", "--nodes", 4)
    assert (more.returncode, more.stderr.startswith("error: --nodes 4, and")) == (2, True)


def test_a_k3s_that_it_did_not_install_is_left_alone(site: Site) -> None:
    there = site.folder / "hosts" / "two" / "usr" / "local" / "bin" / "k3s"
    there.parent.mkdir(parents=True)
    there.write_text("#!/bin/bash\necho 'k3s version v1.30.0+k3s1 (x)'\n")
    there.chmod(0o755)
    done = site.bootstrap("up")
    assert done.returncode == 1
    assert "two: error: k3s is here already, and not by us: it stays as it is" in done.stderr
    assert "error: failed on: admin@two" in done.stderr
    assert site.bootstrap("down").returncode == 0
    assert there.exists()


def test_down_leaves_nothing_of_ours_and_can_be_said_twice(site: Site) -> None:
    assert site.bootstrap("up").returncode == 0
    assert site.bootstrap("status").stdout.splitlines() != []
    assert site.bootstrap("down").returncode == 0
    assert site.done("systemctl") == [
        "systemctl three daemon-reload", "systemctl three disable --now jupiter-network.service"
    ]  # fmt: skip
    for host in ("one", "two", "three"):
        left = [path.name for path in (site.folder / "hosts" / host).rglob("*") if path.is_file()]
        assert set(left) <= {"meminfo", "node-token", "k3s.yaml"}, "the last two go with the real uninstaller"
    again = site.bootstrap("down")
    assert (again.returncode, again.stderr.count("nothing of ours")) == (0, 3)


def test_the_state_of_each_machine_is_said(site: Site) -> None:
    assert site.bootstrap("up", "--nodes", 1).returncode == 0
    assert sorted(site.bootstrap("status").stdout.splitlines()) == [
        "admin@two: nothing", f"root@one: server, k3s {VERSION}", "three: nothing"
    ]  # fmt: skip


def test_an_image_goes_to_every_machine(site: Site) -> None:
    assert site.bootstrap("up").returncode == 0
    (site.folder / "agent.tar").write_bytes(b"image")
    assert site.bootstrap("image", "agent.tar").returncode == 0
    assert [line.split()[:4] for line in site.done("k3s")] == [
        ["k3s", host, "ctr", "images"] for host in ("one", "three", "two")
    ]


def test_without_internet_there_the_release_comes_from_here(site: Site) -> None:
    release = site.folder / "release"
    release.mkdir()
    (release / "install.sh").write_text(f"set -e; [ $INSTALL_K3S_SKIP_DOWNLOAD = true ]\n{INSTALLER}")
    (release / "k3s").write_text("#!/bin/bash\n")
    (release / "k3s-airgap-images-amd64.tar.zst").write_bytes(b"images")
    done = site.bootstrap("up", "--nodes", 2, "--airgap", release)
    assert done.returncode == 0, done.stderr
    assert (len(site.done("install")), site.done("curl")) == (2, [])
    assert site.file("two", "var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst") == "images"


@pytest.mark.parametrize(
    ("machines", "args", "complaint"),
    [
        ("one reboot\n", [], "reboot=reboot is not understood"),
        ("$(reboot)\n", [], "is not [USER@]HOST[:PORT]"),
        ("one cpus=`id`\n", [], "cpus=`id` is not understood"),
        ("one\n", ["--rate", "1mbit;id"], "rate=1mbit;id is not understood"),
        ("one\n", ["--nodes", "x"], "--nodes x is no number"),
        ("# none\n", [], "names no machine"),
        ("one\n", ["--what"], "unknown option --what"),
        ("one\n", ["--k3s"], "--k3s needs a value"),
    ],
)
def test_what_is_not_understood_reaches_no_machine(
    tmp_path: Path, machines: str, args: list[str], complaint: str
) -> None:
    site = Site(tmp_path, machines)
    done = site.bootstrap("up", *args)
    assert (done.returncode, site.done("ssh")) == (2, [])
    assert complaint in done.stderr


def test_a_machine_that_cannot_be_reached_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    site = Site(tmp_path, "one\ndown.example\nthree\n")
    done = site.bootstrap("up")
    assert done.returncode == 1
    assert "error: failed on: down.example" in done.stderr
    assert [line.split()[1] for line in site.done("install")] == ["one", "three"]


def test_more_than_a_machine_has_is_refused_there(tmp_path: Path) -> None:
    done = Site(tmp_path, "one cpus=8\n").bootstrap("up")
    assert (done.returncode, "one: error: cpus=8, and it has 4" in done.stderr) == (1, True)
