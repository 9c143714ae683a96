"""How `samples/` was made: windows of real packet captures, cut down to their headers.

    python prepare_data.py ndpi_4.2.orig.tar.gz [--out samples] [--check]

The argument is the source tarball of Debian's `ndpi` 4.2-2 (`apt-get source --download-only ndpi`, sha256 below). It
holds the captures with which the nDPI project tests its protocol detection. Nothing is generated, mixed or relabelled:

1. a capture's packets are read in order; what is not IPv4 or IPv6 is dropped, and the link layer is taken off,
   which removes MAC addresses and leaves a pcap of LINKTYPE_RAW;
2. each packet is cut to its headers: IP, then 20 bytes of TCP or 8 of anything else. The payload is kept of DNS
   alone (UDP port 53, 280 bytes at most). The true length stays in the record;
3. the stretches that `WINDOWS` names are written as one gzip file each: an item is one of them.

`--check` writes nothing and compares what it would write with the samples, decompressed (gzip bytes depend on the
zlib at hand, the packets do not).
"""

import argparse
import gzip
import hashlib
import struct
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

SHA256 = "e54ce8fe13adc5d747be7553513657fae78f796e0bd459e122c280cc06ce4daf"
LINKTYPE_RAW = 101
DNS_BYTES = 280

# capture -> windows (first packet, packets). What each capture holds is its upstream name.
WINDOWS: dict[str, list[tuple[int, int]]] = {
    # ordinary use: browsers, messengers, calls, films, games, office and home networks
    "443-firefox": [(0, 2048)],
    "KakaoTalk_chat": [(0, 2048)],
    "KakaoTalk_talk": [(0, 2048)],
    "android": [(0, 2048)],
    "anyconnect-vpn": [(0, 1500), (1500, 1500)],
    "chrome": [(0, 2048)],
    "ethereum": [(0, 2048)],
    "exe_download": [(0, 2048)],
    "firefox": [(0, 2048)],
    "fix": [(0, 2048)],
    "forticlient": [(0, 2048)],
    "ftp": [(0, 2048)],
    "googledns_android10": [(0, 2048)],
    "http_ipv6": [(0, 2048)],
    "iphone": [(0, 2048)],
    "netbios": [(0, 2048)],
    "netflix": [(0, 2048)],
    "nintendo": [(0, 2048)],
    "ocs": [(0, 2048)],
    "rdp": [(0, 2048)],
    "reddit": [(0, 2048)],
    "safari": [(0, 2048)],
    "signal": [(0, 2048)],
    "skype": [(0, 1600), (1600, 1600)],
    "skype_no_unknown": [(0, 2100)],
    "ssh": [(0, 2048)],
    "starcraft_battle": [(0, 2048)],
    "teams": [(0, 1400), (1400, 1400)],
    "telegram": [(0, 2048)],
    "tls_certificate_too_long": [(0, 2048)],
    "viber": [(0, 2048)],
    "wa_video": [(0, 2048)],
    "wa_voice": [(0, 2048)],
    "waze": [(0, 2048)],
    "webex": [(0, 2048)],
    "wechat": [(0, 2048)],
    "weibo": [(0, 2048)],
    "whatsapp_login_call": [(0, 2048)],
    "zoom": [(0, 2048)],
    # attacks and covert channels
    "bad-dns-traffic": [(0, 190), (190, 192)],
    "dns-tunnel-iodine": [(0, 220), (220, 220)],
    "dns_exfiltration": [(0, 150), (150, 150)],
    "ip_fragmented_garbage": [(0, 1500), (1500, 1500)],
    "log4j-webapp-exploit": [(0, 2048)],
    "synscan": [(0, 1000), (1000, 1011)],
}


def records(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(seconds, microseconds, length on the wire, captured bytes) of a classic pcap, with its link type first."""
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}[data[:4]]
    at = 24
    while at + 16 <= len(data):
        seconds, micros, captured, length = struct.unpack_from(f"{order}IIII", data, at)
        at += 16
        yield seconds, micros, length, data[at : at + captured]
        at += captured


def link_type(data: bytes) -> int:
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}[data[:4]]
    return struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF


def link_header(kind: int, frame: bytes) -> int | None:
    """Bytes before the IP header; None if the frame carries no IP."""
    if kind == LINKTYPE_RAW:
        return 0
    if kind == 0:  # BSD loopback
        return 4
    at = {1: 12, 113: 14}[kind]  # Ethernet, Linux cooked
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return at + 2 if frame[at : at + 2] in (b"\x08\x00", b"\x86\xdd") else None


def headers_only(packet: bytes) -> bytes:
    """The packet cut to IP and transport header, plus the payload if it is DNS."""
    if packet[0] >> 4 == 4:
        size, protocol = (packet[0] & 15) * 4, packet[9]
        if struct.unpack_from(">H", packet, 6)[0] & 0x1FFF:  # a later fragment has no transport header
            return packet[:size]
    else:
        size, protocol = 40, packet[6]
    if protocol == 6:
        return packet[: size + 20]
    if protocol == 17 and 53 in struct.unpack_from(">HH", packet.ljust(size + 4, b"\0"), size):
        return packet[: size + 8 + DNS_BYTES]
    return packet[: size + 8]


def windows(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """(item name, pcap) of every window cut from the capture called `name`."""
    kind = link_type(data)
    packets = []
    for seconds, micros, length, frame in records(data):
        skip = link_header(kind, frame)
        if skip is not None and len(frame) >= skip + 20 and frame[skip] >> 4 in (4, 6):
            cut = headers_only(frame[skip:])
            packets.append(struct.pack("<IIII", seconds, micros, len(cut), length - skip) + cut)
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW)
    for index, (first, count) in enumerate(WINDOWS[name]):
        yield f"{name.lower()}-{index}.pcap.gz", head + b"".join(packets[first : first + count])


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the sample windows out of the nDPI source tarball.")
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    if hashlib.sha256(args.source.read_bytes()).hexdigest() != SHA256:
        print(f"error: {args.source} is not the tarball this was written for (sha256 {SHA256})", file=sys.stderr)
        return 2
    args.out.mkdir(exist_ok=True)
    differing = 0
    with tarfile.open(args.source) as tar:
        for member in tar:
            path = Path(member.name)
            if path.parent.name != "pcap" or path.suffix != ".pcap" or path.stem not in WINDOWS:
                continue
            for item, pcap in windows(path.stem, tar.extractfile(member).read()):
                target = args.out / item
                if not args.check:
                    target.write_bytes(gzip.compress(pcap, 9, mtime=0))
                elif not target.exists() or gzip.decompress(target.read_bytes()) != pcap:
                    print(f"differs: {item}", file=sys.stderr)
                    differing += 1
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
