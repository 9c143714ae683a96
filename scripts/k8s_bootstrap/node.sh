# What is done on one machine, as root. `bootstrap` sends this to bash there, with VERB and the rest in the environment.
# ROOT is for tests: the folder that stands for /.
set -euo pipefail
shopt -s inherit_errexit
ROOT=${ROOT:-}
MARK=$ROOT/etc/jupiter-k3s
STAMP=$ROOT/etc/jupiter-k3s.installed
CONFIG=$ROOT/etc/rancher/k3s/config.yaml
UNIT=$ROOT/etc/systemd/system/jupiter-network.service
BIN=$ROOT/usr/local/bin
SENT=$PWD/.jupiter-bootstrap # ssh begins in the user's home, and sudo stays there

fail() { echo "$(hostname): error: $1" >&2; exit 1; }
say() { echo "$(hostname): $1" >&2; }
installed() { [ -x "$BIN/k3s" ] && "$BIN/k3s" --version | sed -n 's/^k3s version \([^ ]*\).*/\1/p'; }

# What pods may not use: all there is, without what they may. Prints "cpu=...m,memory=...Mi", or nothing.
reserved() {
    local parts=() have want
    if [ -n "${CPUS:-}" ]; then
        have=$(($(nproc) * 1000)); want=$(awk "BEGIN {printf \"%d\", $CPUS * 1000}")
        [ "$want" -le "$have" ] || fail "cpus=$CPUS, and it has $(nproc)"
        parts+=("cpu=$((have - want))m")
    fi
    if [ -n "${MEMORY:-}" ]; then
        have=$(awk '/^MemTotal:/ {printf "%d", $2 / 1024}' "$ROOT/proc/meminfo")
        case $MEMORY in *Gi) want=$((${MEMORY%Gi} * 1024)) ;; *) want=${MEMORY%Mi} ;; esac
        [ "$want" -le "$have" ] || fail "memory=$MEMORY, and it has ${have}Mi"
        parts+=("memory=$((have - want))Mi")
    fi
    (IFS=,; echo "${parts[*]}")
}

configuration() {
    echo "node-name: \"$HOST\""
    if [ "$ROLE" = server ]; then
        printf 'disable: [traefik, servicelb, metrics-server]\nwrite-kubeconfig-mode: "0600"\ntls-san: ["%s"]\n' "$HOST"
    fi
    local kept; kept=$(reserved)
    [ -z "$kept" ] || printf 'kubelet-arg: ["system-reserved=%s"]\n' "$kept"
}

# What an install depends on, as a digest: the token is in it, and it tells nothing of the token.
stamp() { printf '%s\n' "$ROLE" "$K3S" "$1" "${URL:-}" "${TOKEN:-}" | sha256sum | cut -d ' ' -f 1; }

# Limits what this machine sends, now and after each boot: `tc` on the device of the default route.
network() {
    local dev=${DEV:-} limits=""
    [ -z "${RATE:-}" ] || limits+=" rate $RATE"
    [ -z "${DELAY:-}" ] || limits+=" delay $DELAY"
    [ -z "${LOSS:-}" ] || limits+=" loss $LOSS"
    if [ -z "$limits" ]; then no_network; return; fi
    [ -n "$dev" ] || dev=$(ip route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p;q')
    [ -n "$dev" ] || fail "no default route: name the device with dev="
    local text
    text=$(printf '%s\n' '[Unit]' 'After=network-online.target' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' \
        "ExecStart=$(command -v tc) qdisc replace dev $dev root netem limit 100000$limits" \
        "ExecStop=-$(command -v tc) qdisc del dev $dev root" '[Install]' 'WantedBy=multi-user.target')
    if [ "$(cat "$UNIT" 2>/dev/null)" != "$text" ]; then
        no_network
        mkdir -p "$(dirname "$UNIT")"; echo "$text" > "$UNIT"
        systemctl daemon-reload; systemctl enable --now jupiter-network.service
        say "$dev:$limits"
    fi
}
no_network() {
    [ -e "$UNIT" ] || return 0
    systemctl disable --now jupiter-network.service || true
    rm -f "$UNIT"; systemctl daemon-reload
}

case $VERB in
up)
    if [ -x "$BIN/k3s" ] && [ ! -e "$MARK" ]; then fail "k3s is here already, and not by us: it stays as it is"; fi
    if [ -e "$MARK" ] && [ "$(cat "$MARK")" != "$ROLE" ]; then fail "it is a $(cat "$MARK") of a cluster, not a $ROLE"; fi
    network
    wanted=$(configuration)
    # The stamp is written last: where an install failed half way, whatever it left is not taken for what is wanted.
    if [ "$(cat "$STAMP" 2>/dev/null)" = "$(stamp "$wanted")" ] && [ "$(installed)" = "$K3S" ] &&
        [ "$(cat "$CONFIG" 2>/dev/null)" = "$wanted" ]; then say "unchanged"; exit 0; fi
    mkdir -p "$(dirname "$MARK")" "$(dirname "$CONFIG")"
    rm -f "$STAMP"
    echo "$ROLE" > "$MARK"
    echo "$wanted" > "$CONFIG"
    export INSTALL_K3S_VERSION=$K3S INSTALL_K3S_EXEC=$ROLE
    if [ "$ROLE" = agent ]; then export K3S_URL=$URL K3S_TOKEN=$TOKEN; fi
    if [ -n "${AIRGAP:-}" ]; then
        mkdir -p "$BIN" "$ROOT/var/lib/rancher/k3s/agent/images"
        install -m 755 "$SENT/k3s" "$BIN/k3s"
        for images in "$SENT"/k3s-airgap-images*; do
            [ ! -e "$images" ] || cp "$images" "$ROOT/var/lib/rancher/k3s/agent/images/"
        done
        INSTALL_K3S_SKIP_DOWNLOAD=true bash "$SENT/install.sh" >&2
    else
        installer=$(mktemp)
        curl -sfL "https://raw.githubusercontent.com/k3s-io/k3s/${K3S/+/%2B}/install.sh" -o "$installer" || fail "no download"
        bash "$installer" >&2
        rm -f "$installer"
    fi
    stamp "$wanted" > "$STAMP"
    say "k3s $K3S, $ROLE" ;;
token) cat "$ROOT/var/lib/rancher/k3s/server/node-token" ;;
kubeconfig) cat "$ROOT/etc/rancher/k3s/k3s.yaml" ;;
wait)
    for _ in $(seq 180); do
        # The API may be away for a moment. Ready,SchedulingDisabled: somebody has cordoned it, and it is up.
        ready=$("$BIN/k3s" kubectl get nodes --no-headers 2>/dev/null | awk '$2 ~ /^Ready(,|$)/' | wc -l) || ready=0
        [ "$ready" -lt "$NODES" ] || exit 0
        sleep 1
    done
    fail "$ready of $NODES nodes are ready after 180 s" ;;
image) "$BIN/k3s" ctr images import "$SENT/$TAR" >&2; rm -f "$SENT/$TAR" ;;
status)
    if [ -e "$MARK" ]; then echo "$(cat "$MARK"), k3s $(installed)$([ ! -e "$UNIT" ] || echo ', network limited')"
    elif [ -x "$BIN/k3s" ]; then echo "k3s, not by us"
    else echo "nothing"; fi ;;
down)
    no_network
    if [ ! -e "$MARK" ]; then say "nothing of ours"; exit 0; fi
    for script in k3s-uninstall.sh k3s-agent-uninstall.sh; do
        [ ! -x "$BIN/$script" ] || "$BIN/$script" >&2
    done
    rm -f "$CONFIG" "$STAMP" "$MARK"
    say "removed" ;;
*) fail "unknown verb $VERB" ;;
esac
