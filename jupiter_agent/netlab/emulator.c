/* User-space packet emulator behind jupiter_agent.netlab (Lab).
 *
 * Usage: emulator SHM_FD TUN_FD...      (one TUN descriptor per node)
 *
 * The lab creates one TUN device in every node's network namespace
 * and hands the descriptors to this single-threaded program.
 * Each packet read from node i is sent over the directed link (i, next hop),
 * whose delay, jitter, rate, loss and queue live in a shared-memory block that
 * the lab may rewrite at any moment: a change acts on the next packet.
 *
 * Model of a hop, in virtual time (no packet is ever copied between queues):
 *   1. the sender's uplink (tx_kbps) and the link (rate_kbps) are FIFO servers;
 *      a packet that would wait longer than the queue limit is tail-dropped;
 *   2. with `shared_radio`, a transmission also occupies the medium of the
 *      sender and of every node in the sender's range;
 *   3. the packet is lost with probability loss_ppm (it still used air time);
 *   4. it arrives after delay + uniform(-jitter, +jitter), order preserved;
 *   5. the receiver's downlink (rx_kbps) is one more FIFO server;
 *   6. if this is not the destination, the packet takes its next hop.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VNET sizeof(struct virtio_net_hdr)
#define NOBODY UINT32_MAX
#define SPIN_NS 15000 /* busy-wait rather than sleep when a packet is due this soon */
#define LAG_BUCKETS 32

/* --- shared memory: the header, then the arrays, in the order of shared.py -- */
struct header {
    uint32_t nodes, ip_base, multicast, shared_radio, node_queue_us, seed, ready, spare;
    uint64_t lag_hist[LAG_BUCKETS]; /* [k]: events handled late by < 2^k us */
    uint64_t no_route, max_in_flight;
};
static struct header *hdr;
static uint64_t *st_packets, *st_bytes, *st_lost, *st_queue_drops; /* per link */
static uint32_t *delay_us, *jitter_us, *rate_kbps, *loss_ppm, *queue_us, *up, *next_hop;
static uint32_t *tx_kbps, *rx_kbps; /* per node; 0 = no limit */

/* --- private state ---------------------------------------------------------- */
static uint32_t N;
static int *fds;
static uint64_t *link_free, *last_arrival, *tx_free, *rx_free, *medium_free;

struct packet {
    uint32_t dst;     /* final node, NOBODY for a one-hop broadcast */
    uint32_t at;      /* node that the pending event happens at */
    uint32_t received; /* the downlink of `at` has already been paid for */
    uint32_t len;     /* bytes in data[], with the virtio header */
    uint32_t wire;    /* bytes on the wire, counting the headers of every GSO segment */
    uint8_t data[];
};
struct event { uint64_t due, seq; struct packet *p; };
static struct event *heap;
static size_t heap_len, heap_cap;
static uint64_t next_seq, rng;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
static uint64_t max64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint32_t random_below(uint32_t bound) { /* xorshift64*, scaled */
    rng ^= rng >> 12; rng ^= rng << 25; rng ^= rng >> 27;
    return (uint32_t)(((rng * 2685821657736338717ull >> 32) * bound) >> 32);
}
static uint64_t airtime(uint32_t wire, uint32_t kbps) { return (uint64_t)wire * 8000000ull / kbps; }

/* --- event queue: a binary heap on (due, seq) ------------------------------- */
static int before(const struct event *a, const struct event *b) {
    return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}
static void push(uint64_t due, struct packet *p) {
    if (heap_len == heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 4096;
        heap = realloc(heap, heap_cap * sizeof *heap);
        if (!heap) { perror("emulator: realloc"); exit(1); }
    }
    struct event e = {due, next_seq++, p};
    size_t i = heap_len++;
    while (i > 0 && before(&e, &heap[(i - 1) / 2])) { heap[i] = heap[(i - 1) / 2]; i = (i - 1) / 2; }
    heap[i] = e;
    if (heap_len > hdr->max_in_flight) hdr->max_in_flight = heap_len;
}
static struct event pop(void) {
    struct event top = heap[0], e = heap[--heap_len];
    size_t i = 0, c;
    while ((c = 2 * i + 1) < heap_len) {
        if (c + 1 < heap_len && before(&heap[c + 1], &heap[c])) c++;
        if (!before(&heap[c], &e)) break;
        heap[i] = heap[c];
        i = c;
    }
    heap[i] = e;
    return top;
}

/* --- one hop ---------------------------------------------------------------- */
/* Reserve the wire from `from` to `to`; `air_kbps` is the rate used, 0 = infinite.
 * Returns the time the last bit leaves, or 0 if the queue is full. */
static uint64_t reserve(uint32_t from, uint64_t *free_at, uint32_t air_kbps, uint32_t limit_us,
                        uint32_t wire, uint64_t now) {
    uint64_t start = now, done = now;
    if (tx_kbps[from]) {
        start = max64(now, tx_free[from]);
        if (start - now > (uint64_t)hdr->node_queue_us * 1000) return 0;
        tx_free[from] = done = start + airtime(wire, tx_kbps[from]);
    }
    if (air_kbps) {
        uint64_t s = max64(start, *free_at);
        if (hdr->shared_radio) s = max64(s, medium_free[from]);
        if (s - start > (uint64_t)limit_us * 1000) return 0;
        *free_at = s + airtime(wire, air_kbps);
        done = max64(done, *free_at);
        if (hdr->shared_radio) /* carrier sense: everyone in range stays silent */
            for (uint32_t k = 0; k < N; k++)
                if (k == from || up[from * N + k]) medium_free[k] = max64(medium_free[k], *free_at);
    }
    return done;
}

/* The packet has left `from` at `sent`: lose it, or schedule its arrival at `to`. */
static void propagate(struct packet *p, uint32_t from, uint32_t to, uint64_t sent) {
    size_t l = (size_t)from * N + to;
    st_packets[l]++;
    st_bytes[l] += p->wire;
    if (loss_ppm[l] && random_below(1000000) < loss_ppm[l]) { st_lost[l]++; free(p); return; }
    int64_t due = (int64_t)sent + (int64_t)delay_us[l] * 1000;
    if (jitter_us[l]) due += ((int64_t)random_below(2 * jitter_us[l] + 1) - jitter_us[l]) * 1000;
    last_arrival[l] = max64(max64((uint64_t)due, sent), last_arrival[l]);
    p->at = to;
    p->received = 0;
    push(last_arrival[l], p);
}

static void unicast(struct packet *p, uint32_t from, uint64_t now) {
    uint32_t to = next_hop[(size_t)from * N + p->dst];
    size_t l = (size_t)from * N + to;
    if (to >= N || !up[l]) { hdr->no_route++; free(p); return; }
    uint64_t sent = reserve(from, &link_free[l], rate_kbps[l], queue_us[l], p->wire, now);
    if (!sent) { st_queue_drops[l]++; free(p); return; }
    propagate(p, from, to, sent);
}

/* One hop to everybody in range. On a shared radio this is one transmission, at
 * the lowest rate of the neighbours; otherwise one copy per link. */
static void broadcast(struct packet *p, uint32_t from, uint64_t now) {
    uint64_t sent = 0;
    if (hdr->shared_radio) {
        uint32_t slowest = 0, limit = 0;
        for (uint32_t k = 0; k < N; k++) {
            size_t l = (size_t)from * N + k;
            if (k == from || !up[l] || !rate_kbps[l] || (slowest && rate_kbps[l] >= slowest)) continue;
            slowest = rate_kbps[l];
            limit = queue_us[l];
        }
        sent = reserve(from, &link_free[(size_t)from * N + from], slowest, limit, p->wire, now);
        if (!sent) { st_queue_drops[(size_t)from * N + from]++; free(p); return; }
    }
    for (uint32_t k = 0; k < N; k++) {
        size_t l = (size_t)from * N + k;
        if (k == from || !up[l]) continue;
        uint64_t t = sent;
        if (!hdr->shared_radio && !(t = reserve(from, &link_free[l], rate_kbps[l], queue_us[l], p->wire, now))) {
            st_queue_drops[l]++;
            continue;
        }
        struct packet *copy = malloc(sizeof *p + p->len);
        if (!copy) break;
        memcpy(copy, p, sizeof *p + p->len);
        propagate(copy, from, k, t);
    }
    free(p);
}

static void arrive(struct packet *p, uint64_t now) {
    uint32_t at = p->at;
    if (rx_kbps[at] && !p->received) { /* cut-through: an idle downlink adds no delay */
        uint64_t cost = airtime(p->wire, rx_kbps[at]);
        uint64_t start = max64(now - cost, rx_free[at]);
        if (start > now + (uint64_t)hdr->node_queue_us * 1000) { free(p); return; }
        rx_free[at] = start + cost;
        p->received = 1;
        if (rx_free[at] > now) { push(rx_free[at], p); return; }
    }
    if (p->dst == at || p->dst == NOBODY) {
        if (write(fds[at], p->data, p->len) < 0 && errno != EAGAIN && errno != EIO && errno != EINVAL)
            perror("emulator: write");
        free(p);
        return;
    }
    unicast(p, at, now);
}

/* --- packets from the nodes ------------------------------------------------- */
/* Bytes that the packet takes on the wire: a TCP super-frame (GSO) stands for
 * several packets, each with its own headers. */
static uint32_t wire_bytes(const uint8_t *frame, uint32_t len) {
    struct virtio_net_hdr v;
    memcpy(&v, frame, VNET);
    uint32_t l3 = len - VNET;
    if (v.gso_type == VIRTIO_NET_HDR_GSO_NONE || !v.gso_size) return l3;
    const uint8_t *ip = frame + VNET;
    uint32_t iphdr = ip[0] >> 4 == 4 ? (ip[0] & 15) * 4u : 40u;
    uint32_t headers = (uint32_t)(ip - frame - VNET) + iphdr + (ip[iphdr + 12] >> 4) * 4u;
    uint32_t segments = (l3 - headers + v.gso_size - 1) / v.gso_size;
    return l3 + (segments ? segments - 1 : 0) * headers;
}

static void ingress(uint32_t from, const uint8_t *frame, uint32_t len, uint64_t now) {
    const uint8_t *f = frame + VNET;
    uint32_t dst, group;
    if (len < VNET + 20) return;
    if (f[0] >> 4 != 4) return;
    uint32_t ip = (uint32_t)f[16] << 24 | (uint32_t)f[17] << 16 | (uint32_t)f[18] << 8 | f[19];
    dst = ip - hdr->ip_base - 1;
    group = ip >> 28 == 14 || ip == UINT32_MAX || ip == (hdr->ip_base | 0xffff);
    if (group ? !hdr->multicast : dst >= N) return;
    struct packet *p = malloc(sizeof *p + len);
    if (!p) return;
    p->dst = group ? NOBODY : dst;
    p->len = len;
    p->wire = wire_bytes(frame, len);
    memcpy(p->data, frame, len);
    if (group) broadcast(p, from, now); else unicast(p, from, now);
}

int main(int argc, char **argv) {
    struct stat sb;
    prctl(PR_SET_PDEATHSIG, 9);
    prctl(PR_SET_TIMERSLACK, 1);
    if (argc < 3 || fstat(atoi(argv[1]), &sb)) { fprintf(stderr, "usage: emulator SHM_FD TUN_FD...\n"); return 2; }
    uint8_t *m = mmap(NULL, (size_t)sb.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
    if (m == MAP_FAILED) { perror("emulator: mmap"); return 1; }
    hdr = (struct header *)m;
    N = hdr->nodes;
    if (N != (uint32_t)argc - 2) { fprintf(stderr, "emulator: %u nodes but %d descriptors\n", N, argc - 2); return 2; }
    size_t nn = (size_t)N * N;
    uint64_t **stats[] = {&st_packets, &st_bytes, &st_lost, &st_queue_drops};
    uint32_t **links[] = {&delay_us, &jitter_us, &rate_kbps, &loss_ppm, &queue_us, &up, &next_hop};
    m += sizeof *hdr;
    for (size_t i = 0; i < 4; i++, m += nn * 8) *stats[i] = (uint64_t *)m;
    for (size_t i = 0; i < 7; i++, m += nn * 4) *links[i] = (uint32_t *)m;
    tx_kbps = (uint32_t *)m;
    rx_kbps = tx_kbps + N;
    rng = hdr->seed * 0x9e3779b97f4a7c15ull + 1;
    link_free = calloc(nn, 8); last_arrival = calloc(nn, 8);
    tx_free = calloc(N, 8); rx_free = calloc(N, 8); medium_free = calloc(N, 8);
    fds = calloc(N, sizeof *fds);

    struct sched_param rt = {.sched_priority = 1}; /* be on time while the nodes load the CPU */
    if (sched_setscheduler(0, SCHED_RR, &rt)) setpriority(PRIO_PROCESS, 0, -20);
    int ep = epoll_create1(0);
    for (uint32_t i = 0; i < N; i++) {
        fds[i] = atoi(argv[i + 2]);
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e)) { perror("emulator: epoll"); return 1; }
    }
    hdr->ready = 1;

    static uint8_t buf[VNET + 65536 + 64];
    struct epoll_event ready[64];
    for (;;) {
        uint64_t now = now_ns();
        while (heap_len && heap[0].due <= now) {
            struct event e = pop();
            uint64_t late = (now - e.due) / 1000;
            hdr->lag_hist[late ? 64 - __builtin_clzll(late) < LAG_BUCKETS ? 64 - __builtin_clzll(late) : LAG_BUCKETS - 1 : 0]++;
            arrive(e.p, e.due); /* virtual time: lateness does not add up over hops */
            now = now_ns();
        }
        struct timespec wait = {1, 0};
        if (heap_len) {
            uint64_t d = heap[0].due - now;
            if (d < SPIN_NS) d = 0;
            wait.tv_sec = (time_t)(d / 1000000000);
            wait.tv_nsec = (long)(d % 1000000000);
        }
        int n = epoll_pwait2(ep, ready, 64, &wait, NULL);
        for (int i = 0; i < n; i++) {
            uint32_t from = ready[i].data.u32;
            for (int burst = 0; burst < 32; burst++) {
                ssize_t len = read(fds[from], buf, sizeof buf);
                if (len <= 0) break;
                ingress(from, buf, (uint32_t)len, now_ns());
            }
        }
    }
}
